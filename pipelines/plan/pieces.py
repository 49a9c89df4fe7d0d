"""A plan's pieces: what a run was to make when it began, and what it was extended by, each written once.

    _plan/pieces/00000-samples.parquet one row group per partition, and further tables beside it
    _plan/pieces/00000.json            the piece: its partitions, items and their digest; with it the piece is whole

A run is extended when its old items are unchanged: new ones come in a new piece, after them, in partitions and caption
chunks of their own, so what was there stays byte for byte. Fewer than planned is refused.
"""

import contextlib
import itertools
import json
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.config import parse_json
from models.errors import EnvironmentFault, UserError
from pipelines.storage.commits import list_finished
from pipelines.storage.errors import fault, remote
from pipelines.storage.uri import Storage

PARQUET_OPTIONS = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
"""How tables are written: a row group is small, and read whole: no dictionaries and no bounds."""
FOLDER, SAMPLES = "_plan/pieces", "samples"
OPEN_FILES = 2
"""Tables that a process keeps open, those of one piece: the list of its row groups takes some 15 MB each, so with all of them
open a process would grow with the number of samples. Partitions are made in order, and few tasks lie where two pieces meet."""


@dataclass(frozen=True)
class Piece:
    """One piece of a plan: partitions [first, first + partitions) of the run, made of items [start, stop) of its source."""

    first: int
    partitions: int
    samples: int
    start: int
    stop: int
    digest: str
    """Of what was read for it."""
    first_chunk: int = 0
    chunks: tuple[int, ...] = ()
    """Partitions of each file of captions, in order; none where the plan has no captions."""
    extent: dict[str, Any] = field(default_factory=dict)
    """What was asked for when it was written; nothing is made of it."""

    def chunk_of(self, place: int) -> tuple[int, int]:
        """Return (chunk of the run, place in it) of the partition at `place` of this piece."""
        chunk = bisect_right(self._bounds, place) - 1
        return self.first_chunk + chunk, place - self._bounds[chunk]

    def partitions_of(self, chunk: int) -> range:
        """Return the partitions of the run whose captions are in `chunk` of the run, one of this piece's."""
        place = chunk - self.first_chunk
        return range(self.first + self._bounds[place], self.first + self._bounds[place + 1])

    @cached_property
    def _bounds(self) -> list[int]:
        """Where each chunk begins, counted from the piece's first partition, and where the last ends."""
        return list(itertools.accumulate(self.chunks, initial=0))


class Pieces:
    """The pieces of the plan in `out`. Picklable and small: workers read their partition's tables from storage."""

    def __init__(self, out: Storage, found: Sequence[Piece]) -> None:
        self.out, self.found = out, tuple(found)

    def __getstate__(self) -> dict[str, Any]:
        return {"out": self.out, "found": self.found}

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return sum(piece.partitions for piece in self.found)

    @property
    def samples(self) -> int:
        """Number of samples in all partitions."""
        return sum(piece.samples for piece in self.found)

    @property
    def items(self) -> int:
        """Number of items of the source that are planned."""
        return self.found[-1].stop if self.found else 0

    def home(self, partition: int) -> tuple[int, int]:
        """Return (piece, place in it) of a partition."""
        number = bisect_right([piece.first for piece in self.found], partition) - 1
        return number, partition - self.found[number].first

    def table(self, partition: int, name: str = SAMPLES) -> pa.Table:
        """Return the rows of table `name` of a partition."""
        number, place = self.home(partition)
        with self._read(number, name) as file:
            return file.read_row_group(place)

    def whole_table(self, number: int, name: str) -> pa.Table:
        """Return table `name` of a whole piece."""
        with self._read(number, name) as file:
            return file.read()

    def rows(self, partition: int) -> int:
        """Number of samples of a partition."""
        number, place = self.home(partition)
        with self._read(number, SAMPLES) as file:
            return int(file.metadata.row_group(place).num_rows)

    @cached_property
    def _files(self) -> dict[tuple[int, str], pq.ParquetFile]:
        """What was opened last."""
        return {}

    @contextmanager
    def _read(self, number: int, name: str) -> Iterator[pq.ParquetFile]:
        """Open a table's file, once. Raises an EnvironmentFault, with the way out, for one that is missing or damaged."""
        path = self.out.path(_table_name(number, name))
        try:
            # Of a file of the same size and time of change the process may have the row groups already.
            if (number, name) not in self._files:
                if len(self._files) >= OPEN_FILES:
                    self._files.pop(next(iter(self._files)))
                there = self.out.arrow.get_file_info(path)
                self._files[number, name] = _open(self.out, path, there.size, there.mtime_ns)
            yield self._files[number, name]
        except (pa.ArrowException, OSError) as error:
            if remote(error):
                raise fault(error, path, "read") from error
            raise EnvironmentFault(
                f"{path} is damaged or missing: without it nothing tells what was to be made. Restore it from a copy, or "
                "make the output anew in another --out."
            ) from error

    def extend(
        self,
        tables: Mapping[str, Iterable[pa.Table]],
        *,
        start: int,
        stop: int | Callable[[], int],
        digest: str | Callable[[], str],
        chunk_samples: int = 0,
        extent: Mapping[str, Any] | None = None,
    ) -> "Pieces":
        """Write a further piece and return all of them; the same without a new item.

        tables: name -> a table for every partition, `samples` among them. stop, digest: where they are only known once the
        tables are written, what returns them.

        Raises:
            EnvironmentFault: partitions are finished that no piece plans, so the last one is gone; it is not written over.
        """
        # A piece that has been lost must not be written over.
        check_planned(list_finished(self.out), self)
        number, sizes = len(self.found), list[int]()
        # All tables at once, a row group as it comes: what was read for a partition is let go before the next.
        partitions = zip(*tables.values(), strict=True)
        first = next(partitions, None)
        if first is None:
            return self
        with contextlib.ExitStack() as stack:
            writers = []
            for name, group in zip(tables, first):
                file = stack.enter_context(self.out.stream(_table_name(number, name)))
                writers.append(stack.enter_context(pq.ParquetWriter(file, group.schema, **PARQUET_OPTIONS)))
            for groups in itertools.chain([first], partitions):
                for writer, group in zip(writers, groups):
                    writer.write_table(group, row_group_size=len(group))
                sizes.append(len(groups[list(tables).index(SAMPLES)]))
        # With the piece's own file it is whole: it comes after all others.
        last = self.found[-1] if self.found else Piece(0, 0, 0, 0, 0, "")
        piece = Piece(
            first=self.partitions,
            partitions=len(sizes),
            samples=sum(sizes),
            start=start,
            stop=stop if isinstance(stop, int) else stop(),
            digest=digest if isinstance(digest, str) else digest(),
            first_chunk=last.first_chunk + len(last.chunks),
            chunks=chunk_sizes(len(sizes), chunk_samples // max(sizes)) if chunk_samples else (),
            extent=dict(extent or {}),
        )
        self.out.create(f"{FOLDER}/{number:05d}.json", (json.dumps(asdict(piece), indent=1) + "\n").encode())
        return Pieces(self.out, [*self.found, piece])


def chunk_sizes(partitions: int, most: int) -> tuple[int, ...]:
    """Return how many partitions each chunk of captions holds: 1, 2, 4, ... up to `most`, so that the first is soon there."""
    sizes, left = list[int](), partitions
    while left:
        sizes.append(min(left, 2 ** len(sizes), max(1, most)))
        left -= sizes[-1]
    return tuple(sizes)


def read_pieces(out: Storage) -> Pieces:
    """Return the pieces that lie in `out`.

    Raises:
        EnvironmentFault: one is damaged, missing before another, or missing although its partitions are finished.
    """
    done = list_finished(
        out
    )  # first: a driver that extends the run now writes a piece before it finishes anything of it
    names = [name for name in out.list(FOLDER) if name.endswith(".json")]
    found = []
    for number, name in enumerate(names):
        try:
            if name != f"{FOLDER}/{number:05d}.json":
                raise ValueError(f"piece {number} is missing")
            found.append(_piece(parse_json(out.read(name))))
        except (ValueError, TypeError, KeyError) as error:
            raise EnvironmentFault(
                f"{out.shown(name)}: a piece of the plan is damaged or missing ({error}). Restore it from a copy, or make the "
                "output anew in another --out."
            ) from None
    pieces = Pieces(out, found)
    if found:  # else nobody has looked at whose output this is
        check_planned(done, pieces)
    return pieces


def _piece(read: dict[str, Any]) -> Piece:
    return Piece(**{**read, "chunks": tuple(read["chunks"])})


def read_whole_pieces(out: Storage) -> Pieces:
    """Return the pieces that lie in `out`. Raises what `read_pieces` raises, and a UserError where there is none yet."""
    pieces = read_pieces(out)
    if not pieces.found:
        raise UserError(f"{out.uri} has no whole plan yet: the command that began it was stopped. Run it again.")
    return pieces


def check_planned(done: Collection[int], pieces: Pieces) -> None:
    """Raise an EnvironmentFault where partitions are finished that no piece plans."""
    if done and max(done) >= pieces.partitions:
        raise EnvironmentFault(
            f"{pieces.out.shown(FOLDER)}: partition {max(done)} is finished, and the pieces of the plan end before "
            f"{pieces.partitions}: the last one is missing. Restore it from a copy, or make the output anew in another --out."
        )


@lru_cache(maxsize=OPEN_FILES)
def _open(out: Storage, path: str, size: int | None, changed: int | None) -> pq.ParquetFile:
    """Return a table's file. Its list of row groups is long, so a process reads it once for all of its tasks.

    size, changed: of the file, so that another one in its place is opened anew.
    """
    return pq.ParquetFile(path, filesystem=out.arrow)


def _table_name(number: int, name: str) -> str:
    return f"{FOLDER}/{number:05d}-{name}.parquet"
