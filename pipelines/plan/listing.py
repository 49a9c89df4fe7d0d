"""Plans of what is listed, a row for each picture or item of a folder: which rows are new, and how they become a piece."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from models.errors import UserError
from pipelines.plan.pieces import SAMPLES, Pieces

Row = dict[str, Any]


def new_rows(
    pieces: Pieces, rows: Iterable[Row], key: Sequence[str], facts: Sequence[str] | None = None
) -> Iterator[Row]:
    """Yield the rows of a source that are not planned yet, in their order.

    key: columns that tell rows apart. facts: those by which a changed one is noticed, all by default; lists are compared in
    float32, as the plan keeps them.

    Raises:
        UserError: a planned row has changed, or is gone once all rows have been seen.
    """
    # What is planned, by its key.
    planned: dict[tuple[Any, ...], Row] = {}
    for number in range(len(pieces.found)):
        for before in pieces.whole_table(number, SAMPLES).to_pylist():
            planned[tuple(before[name] for name in key)] = before
    # Each row of the source is new, or planned and the same.
    for row in rows:
        before = planned.pop(tuple(row[name] for name in key), None)
        if before is None:
            yield row
        elif any(_plain(before[name]) != _plain(row[name]) for name in facts or before):
            raise UserError(
                f"{pieces.out.uri}: {row[key[0]]} is planned and has changed since (it, or what belongs to it). Put it back as "
                "it was, or choose another --out."
            )
    # What is left over is no longer there.
    if planned:
        raise UserError(
            f"{pieces.out.uri}: {next(iter(planned))[0]} is planned and no longer there: a run can grow, not shrink. Put it "
            "back, or choose another --out."
        )


def _plain(value: Any) -> Any:
    return np.asarray(value, np.float32).tobytes() if isinstance(value, list) else value  # NaN equals itself


def extend_by_rows(
    pieces: Pieces,
    rows: Iterator[Row],
    schema: pa.Schema,
    size: int,
    *,
    note: Callable[[list[Row]], object],
    digest: Callable[[], str],
    extent: Mapping[str, Any] | None = None,
) -> Pieces:
    """Write a piece of `rows`, `size` to a partition, and return all pieces; no more than a partition of rows is held.

    note: is called with the rows of each partition. digest: returns what stands for all of them, once they are written.
    """
    count = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal count
        while group := list(itertools.islice(rows, size)):
            note(group)
            count += len(group)
            yield pa.Table.from_pylist(group, schema=schema)

    start = pieces.items
    return pieces.extend({SAMPLES: tables()}, start=start, stop=lambda: start + count, digest=digest, extent=extent)


class ListDigest:
    """`digest_of` of one list, entry by entry: 16 hex digits."""

    def __init__(self) -> None:
        self._hash, self._between = hashlib.sha256(b"[["), b""

    def add(self, entries: Iterable[object]) -> None:
        """Take further entries of the list."""
        for entry in entries:
            self._hash.update(self._between + json.dumps(entry, sort_keys=True, default=str).encode())
            self._between = b", "

    def hexdigest(self) -> str:
        """Return the digest of the list so far."""
        whole = self._hash.copy()
        whole.update(b"]]")
        return whole.hexdigest()[:16]
