"""Committed Parquet shards as rows by index: what training reads.

The rows of a data set are numbered in the order of its partitions, so an index means the same row in every process and
after every restart. What fits is decoded once into memory; a data set that does not fit is decoded as it is asked for,
from uncompressed Arrow files that the system maps and pages.
"""

import hashlib
import logging
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import UserError
from models.temperature import from_centikelvin
from pipelines.commits import Commit, committed, made_anew
from pipelines.pictures.codecs import decode
from pipelines.storage import Storage

log = logging.getLogger(__name__)

Rows = dict[str, np.ndarray]

PICTURES = ("visible", "apparent", "kinetic", "valid", "classes")
TEMPERATURES = ("apparent", "kinetic")
POINTS = ("landmarks_5", "landmarks_70", "landmarks_72", "landmarks_478")
CHUNK = 256
"""Rows that are decoded and prepared together: fixed, so that what is kept does not depend on what is asked first."""


class Drawn:
    """The rows of a task that reads no data set: numbers alone, from which the task draws what it needs."""

    digest = "drawn"

    def __len__(self) -> int:
        return 2**16

    def rows(self, indices: np.ndarray) -> Rows:
        """Return no columns."""
        return {}


class Shards:
    """Decoded rows of the data set at `uri`, or of several, one after the other: URIs with commas between them.

    visible uint8 [B, S, S, 3]; classes uint8 [B, S, S]; valid bool [B, S, S]; apparent, kinetic float32 [B, S, S] degC;
    landmarks_70 float32 [B, 70, 2] px, landmarks_478 [B, 478, 2]; other lists as [B, n]; text as objects.

    optional: those of `columns` that are left out where not every row has a value. prepare: applied to decoded rows, once
    when they are kept (see `models/tasks`). memory: bytes that decoded rows may
    take. A shard that cannot be read, and a row that cannot be decoded, are named in `skipped` and survived: the shard's
    rows are not counted, the next good row stands in for the row.
    """

    def __init__(
        self,
        uri: str,
        columns: Sequence[str],
        *,
        optional: Sequence[str] = (),
        prepare: Callable[[Rows], Rows] | None = None,
        memory: int = 6 * 2**30,
        threads: int = 2,
        limit: int | None = None,
    ):
        self.uri, self.columns, self._optional = uri, tuple(columns), set(optional)
        self.skipped: list[str] = []
        self._prepare = prepare
        self._pool = ThreadPoolExecutor(threads, "decode")
        self._shards = self._open([Storage(part) for part in uri.split(",")], limit)
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])
        self._count = min(int(self._starts[-1]), limit or int(self._starts[-1]))
        self._kept: Rows | None = None
        if self._count * self._row_bytes() <= memory:
            self._kept = self._keep()

    def __len__(self) -> int:
        return self._count

    def rows(self, indices: np.ndarray) -> Rows:
        """Return the rows of `indices` (int [B], each below `len`), decoded and prepared."""
        indices = np.asarray(indices, np.int64)
        rows = self._load(indices) if self._kept is None else {k: v[indices] for k, v in self._kept.items()}
        return rows if self._prepare else _degrees(rows)

    def _load(self, indices: np.ndarray) -> Rows:
        """Decode rows, and prepare them if that is asked for; else temperatures stay counts (half the memory)."""
        decoded = list(self._pool.map(self._row, indices.tolist()))
        rows = {name: np.stack([row[name] for row in decoded]) for name in self.columns}
        return self._prepare(_degrees(rows)) if self._prepare else rows

    def _row(self, index: int) -> dict[str, Any]:
        """Return row `index`, or the next one that can be decoded."""
        for candidate in range(index, index + 64):
            row = candidate % self._count
            shard = int(np.searchsorted(self._starts, row, "right")) - 1
            place = row - int(self._starts[shard])
            try:
                return {name: _value(name, self._shards[shard].column(name)[place]) for name in self.columns}
            except UserError as error:
                self._skip(f"row {place} of shard {shard}: {error}")
        raise UserError(f"{self.uri}: 64 rows in sequence from row {index} cannot be decoded; last: {self.skipped[-1]}")

    def _open(self, storages: list[Storage], limit: int | None) -> list[pa.Table]:
        """Read every committed shard's encoded rows; the bad ones are skipped."""
        commits = list[tuple[Storage, int, Commit]]()
        for storage in storages:
            commits += [(storage, part, commit) for part, commit in records(storage).items() if commit.rows]
        facts = hashlib.sha256()
        tables, sizes = list[pa.Table](), dict[int, str]()
        with tempfile.TemporaryDirectory(prefix="shards-") as scratch:
            for number, (storage, part, commit) in enumerate(commits):
                try:
                    table = self._read(storage, commit, sizes)
                except (pa.ArrowException, OSError, ValueError) as error:
                    self._skip(f"shard {storage.path(commit.file)}: {error}{made_anew(part)}")
                    continue
                facts.update(f"{part} {commit.rows} {commit.digest}\n".encode())
                tables.append(_mapped(table, Path(scratch) / f"{number}.arrow"))
                if limit and sum(len(t) for t in tables) >= limit:
                    break
        if not tables:
            raise UserError(f"no shard of {self.uri} can be read; first: {self.skipped[0]}")
        self.digest = facts.hexdigest()[:16]
        self.columns = tuple(name for name in self.columns if name not in self._optional or _whole(tables, name))
        return tables

    def _read(self, storage: Storage, commit: Commit, sizes: dict[int, str]) -> pa.Table:
        """Read a shard whole and compare it with its record: a flipped bit in a picture would decode to something.

        sizes: side of the pictures seen so far, and where.
        """
        content = storage.read(commit.file)
        if hashlib.sha256(content).hexdigest() != commit.digest:
            raise ValueError(f"damaged: its {len(content)} bytes are not those that were committed")
        parquet = pq.ParquetFile(pa.BufferReader(content))
        have = set(parquet.schema_arrow.names)
        missing = sorted(set(self.columns) - have - self._optional)
        if missing:
            there = ", ".join(parquet.schema_arrow.names)
            raise UserError(f"{storage.path(commit.file)} has no column {', '.join(missing)}; it has: {there}")
        if "size" in have and set(PICTURES) & set(self.columns):
            for side in parquet.read(columns=["size"])["size"].unique().to_pylist():
                sizes.setdefault(side, storage.uri)
        if len(sizes) > 1:
            seen = ", ".join(f"{side} px in {where}" for side, where in sorted(sizes.items()))
            raise UserError(f"pictures of different sizes make no batch ({seen}): make them anew with one --size")
        table = parquet.read(columns=[name for name in self.columns if name in have])
        if len(table) != commit.rows:
            raise ValueError(f"{len(table)} rows where the commit record says {commit.rows}")
        return table.combine_chunks()

    def _skip(self, what: str) -> None:
        if what not in self.skipped:
            self.skipped.append(what)
            log.warning("skipped %s", what)

    def _row_bytes(self) -> int:
        return sum(values.nbytes for values in self._load(np.arange(1)).values())

    def _keep(self) -> Rows:
        kept: Rows = {}
        for begin in range(0, self._count, CHUNK):
            for name, values in self._load(np.arange(begin, min(begin + CHUNK, self._count))).items():
                if name not in kept:
                    kept[name] = np.empty((self._count, *values.shape[1:]), values.dtype)
                kept[name][begin : begin + len(values)] = values
        return kept


def _whole(tables: list[pa.Table], name: str) -> bool:
    """Return whether every row has a value in a column."""
    return all(name in table.column_names and not table.column(name).null_count for table in tables)


def records(storage: Storage) -> dict[int, Commit]:
    """Return the commit records of a data set; raises UserError where there is no row."""
    found = committed(storage)
    if not any(commit.rows for commit in found.values()):
        raise UserError(
            f"{storage.uri} holds no committed shard; make them with `thermapair world --out {storage.uri}`"
        )
    return found


def _value(name: str, scalar: pa.Scalar) -> Any:
    """Decode one cell."""
    if not scalar.is_valid:
        raise UserError(f"column {name} is empty")
    if pa.types.is_binary(scalar.type) or pa.types.is_large_binary(scalar.type):
        try:
            values = decode(scalar.as_py())
        except UserError as error:
            raise UserError(f"column {name}: {error}") from None
        return values > 127 if name == "valid" else values
    if isinstance(scalar, pa.ListScalar):
        values = scalar.values.to_numpy(zero_copy_only=False)
        return values.reshape(-1, 2) if name in POINTS else values
    value = scalar.as_py()
    return np.array(value, object) if isinstance(value, str) else np.array(value)


def _degrees(rows: Rows) -> Rows:
    return {k: from_centikelvin(v) if k in TEMPERATURES and v.dtype == np.uint16 else v for k, v in rows.items()}


def _mapped(table: pa.Table, path: Path) -> pa.Table:
    """Return `table` as a mapping of an uncompressed file: its memory is the system's page cache.

    The file may be deleted afterwards, the mapping keeps its bytes until the process ends.
    """
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
