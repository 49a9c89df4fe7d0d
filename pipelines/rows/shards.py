"""Committed Parquet shards as rows by index: what training reads.

The rows of a data set are numbered in the order of its partitions, so an index means the same row in every process and
after every restart. What fits is decoded once into memory; a data set that does not fit is decoded as it is asked for,
from uncompressed Arrow files that the system maps and pages.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from models.columns import COLUMNS, Columns
from models.errors import UserError
from models.temperature import from_centikelvin
from pipelines.pictures.codecs import decode
from pipelines.rows.selection import Selection

TEMPERATURE_COLUMNS = tuple(name for name, column in COLUMNS.items() if column.codec == "centikelvin")
CHUNK = 256
"""Rows that are decoded and prepared together: fixed, so that what is kept does not depend on what is asked first."""


class NoData:
    """In place of `Shards` for a task that reads no data set: rows without a column, as many as it likes to draw."""

    digest = "drawn"

    def __len__(self) -> int:
        return 2**16

    def rows(self, indices: np.ndarray) -> Columns:
        """Return no columns."""
        return {}


class Shards:
    """Decoded rows of the data set at `uri`, or of several, one after the other: URIs with commas between them.

    Any output of ours (of world, gather, generate, thermalize) holds such rows. `columns` are names of `models.columns`;
    pictures come as that says, temperatures in degrees Celsius float32 [B, S, S] (NaN without a reading; 8-bit grey stays
    uint8), points float32 [B, N, 2] px, other lists as [B, n], text as objects.

    Which rows: those of `split` (None: all); of rows that share a sample the first alone, unless a column that is asked for
    differs from layer to layer; with `colour`, none whose visible picture is the thermal one in grey, nor (without
    `translated`) what a translator made of it; none without a value in a column of `columns`, those of `optional` excepted,
    which are left out where not every row has a value, and those of `found`, points that the reader looks for itself, which
    are NaN there.
    prepare: applied to decoded rows, once when they are kept (see `models/tasks`). memory: bytes that decoded rows may take.
    limit: at most so many rows. reader: who asks ("task parser") and option: what chooses the split, both for messages.
    A shard that cannot be read, and a row that cannot be decoded, are named in `skipped` and survived: the shard's rows are
    not counted, the next good row stands in for the row.
    Raises UserError when a column is in no row, or no row is left.
    """

    def __init__(
        self,
        uri: str,
        columns: Sequence[str],
        *,
        optional: Sequence[str] = (),
        found: Sequence[str] = (),
        split: str | None = None,
        colour: bool = False,
        translated: bool = False,
        prepare: Callable[[Columns], Columns] | None = None,
        memory: int = 6 * 2**30,
        threads: int = 2,
        limit: int | None = None,
        reader: str = "",
        option: str = "another split:",
    ):
        self.uri, self._prepare = uri, prepare
        # The encoded rows, mapped from disk.
        chosen: dict[str, Any] = {
            "optional": optional,
            "found": found,
            "split": split,
            "colour": colour,
            "translated": translated,
        }
        selection = Selection(uri, columns, reader=reader, option=option, **chosen)
        self._shards = selection.read(limit)
        self.columns, self.digest = selection.columns, selection.digest
        self.skipped, self._skip = selection.skipped, selection.skip
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])
        self._count = min(int(self._starts[-1]), limit or int(self._starts[-1]))
        # Decoded ones are kept where they fit.
        self._pool = ThreadPoolExecutor(threads, "decode")
        self._kept = keep_rows(self._count, self._load, memory) if memory else None

    def __len__(self) -> int:
        return self._count

    def rows(self, indices: np.ndarray) -> Columns:
        """Return the rows of `indices` (int [B], each below `len`), decoded and prepared."""
        indices = np.asarray(indices, np.int64)
        rows = self._load(indices) if self._kept is None else {k: v[indices] for k, v in self._kept.items()}
        return rows if self._prepare else _to_celsius(rows)

    def values(self, name: str) -> np.ndarray:
        """Return a column of texts or numbers of all rows; no picture is decoded for it."""
        return np.concatenate([shard.column(name).to_numpy(zero_copy_only=False) for shard in self._shards])[
            : self._count
        ]

    def lists(self, name: str) -> np.ndarray:
        """Return a column of lists of numbers of all rows, float32 [N, length]; no picture is decoded for it."""
        found = [shard.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False) for shard in self._shards]
        return np.concatenate(found).astype(np.float32).reshape(sum(map(len, self._shards)), -1)[: self._count]

    def _load(self, indices: np.ndarray) -> Columns:
        """Decode rows, and prepare them if that is asked for; else temperatures stay counts (half the memory)."""
        decoded = list(self._pool.map(self._row, indices.tolist()))
        rows = {name: np.stack(self._alike(name, [row[name] for row in decoded])) for name in self.columns}
        return self._prepare(_to_celsius(rows)) if self._prepare else rows

    def _alike(self, name: str, cells: list[np.ndarray]) -> list[np.ndarray]:
        """Return the cells of a column. Raises UserError where some are grey levels and others temperatures."""
        if name in TEMPERATURE_COLUMNS and len({cell.dtype for cell in cells}) > 1:
            raise UserError(
                f"{self.uri}: column {name} holds 8-bit grey levels in some rows and temperatures in others, which do not go "
                "together: gather and read them apart"
            )
        return cells

    def _row(self, index: int) -> dict[str, Any]:
        """Return row `index`, or the next one that can be decoded."""
        for candidate in range(index, index + 64):
            row = candidate % self._count
            shard = int(np.searchsorted(self._starts, row, "right")) - 1
            place = row - int(self._starts[shard])
            try:
                return {name: _decode_cell(name, self._shards[shard].column(name)[place]) for name in self.columns}
            except UserError as error:
                self._skip(f"row {place} of shard {shard}: {error}")
        raise UserError(f"{self.uri}: 64 rows in sequence from row {index} cannot be decoded; last: {self.skipped[-1]}")


def keep_rows(count: int, load: Callable[[np.ndarray], Columns], memory: int) -> Columns | None:
    """Return rows 0 to `count` as `load` gives those of indices, None where they take more than `memory` bytes."""
    if count * sum(values.nbytes for values in load(np.arange(1)).values()) > memory:
        return None
    # Chunk by chunk into arrays of the whole length, which exist once.
    kept: Columns = {}
    for begin in range(0, count, CHUNK):
        for name, values in load(np.arange(begin, min(begin + CHUNK, count))).items():
            if name not in kept:
                kept[name] = np.empty((count, *values.shape[1:]), values.dtype)
            kept[name][begin : begin + len(values)] = values
    return kept


def _decode_cell(name: str, scalar: pa.Scalar) -> Any:
    """Decode one cell."""
    # Pictures are structs of bytes and a path, or bare bytes.
    if pa.types.is_struct(scalar.type):
        scalar = scalar["bytes"]
    if not scalar.is_valid:
        raise UserError(f"column {name} is empty")
    if pa.types.is_binary(scalar.type) or pa.types.is_large_binary(scalar.type):
        try:
            values = decode(scalar.as_py())
        except UserError as error:
            raise UserError(f"column {name}: {error}") from None
        return values > 127 if name == "valid" else values
    # Lists are flat on disk.
    if isinstance(scalar, pa.ListScalar):
        values = scalar.values.to_numpy(zero_copy_only=False)
        return values.reshape(COLUMNS[name].shape) if name in COLUMNS else values
    value = scalar.as_py()
    return np.array(value, object) if isinstance(value, str) else np.array(value)


def _to_celsius(rows: Columns) -> Columns:
    return {k: from_centikelvin(v) if k in TEMPERATURE_COLUMNS and v.dtype == np.uint16 else v for k, v in rows.items()}
