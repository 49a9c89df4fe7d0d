"""Committed Parquet shards as rows by index: what training reads.

The rows of a data set are numbered in the order of its partitions, so an index means the same row in every process and
after every restart. What fits is decoded once into memory; a data set that does not fit is decoded as it is asked for,
from uncompressed Arrow files that the system maps and pages.
"""

import hashlib
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.columns import COLUMNS, Columns
from models.errors import UserError
from models.temperature import from_centikelvin
from pipelines.pictures.codecs import decode
from pipelines.storage.commits import Commit, read_commits, remake_advice
from pipelines.storage.uri import Storage

log = logging.getLogger(__name__)

TEMPERATURE_COLUMNS = tuple(name for name, column in COLUMNS.items() if column.codec == "centikelvin")
PICTURE_COLUMNS = tuple(name for name, column in COLUMNS.items() if column.codec in ("picture", "png", "centikelvin"))
CHUNK = 256
"""Rows that are decoded and prepared together: fixed, so that what is kept does not depend on what is asked first."""
CHOOSING_COLUMNS = ("split", "sample_id", "visible_kind", "size")
"""Columns that decide which rows are taken, beside those that are asked for."""


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
    differs from layer to layer; with `colour`, none whose visible picture is the thermal one in grey; none without a value
    in a column of `columns`, those of `optional` excepted, which are left out where not every row has a value.
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
        split: str | None = None,
        colour: bool = False,
        prepare: Callable[[Columns], Columns] | None = None,
        memory: int = 6 * 2**30,
        threads: int = 2,
        limit: int | None = None,
        reader: str = "",
        option: str = "another split:",
    ):
        self.uri, self.columns, self._optional = uri, tuple(columns), set(optional)
        self.skipped: list[str] = []
        self._split, self._colour, self._reader, self._option = split, colour, reader, option
        self._once = not any(name in COLUMNS and COLUMNS[name].per == "layer" for name in columns)
        self._left_out = Counter[str]()
        self._splits = Counter[str]()
        self._prepare = prepare
        # The encoded rows, mapped from disk; decoded ones are kept where they fit.
        self._pool = ThreadPoolExecutor(threads, "decode")
        self._shards = self._open([Storage(part) for part in uri.split(",")], limit)
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])
        self._count = min(int(self._starts[-1]), limit or int(self._starts[-1]))
        self._kept: Columns | None = None
        if memory and self._count * self._row_bytes() <= memory:
            self._kept = self._keep()

    def __len__(self) -> int:
        return self._count

    def rows(self, indices: np.ndarray) -> Columns:
        """Return the rows of `indices` (int [B], each below `len`), decoded and prepared."""
        indices = np.asarray(indices, np.int64)
        rows = self._load(indices) if self._kept is None else {k: v[indices] for k, v in self._kept.items()}
        return rows if self._prepare else _to_celsius(rows)

    def _load(self, indices: np.ndarray) -> Columns:
        """Decode rows, and prepare them if that is asked for; else temperatures stay counts (half the memory)."""
        decoded = list(self._pool.map(self._row, indices.tolist()))
        rows = {name: np.stack([row[name] for row in decoded]) for name in self.columns}
        return self._prepare(_to_celsius(rows)) if self._prepare else rows

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

    def _open(self, storages: list[Storage], limit: int | None) -> list[pa.Table]:
        """Read the encoded rows that are wanted of every committed shard; the bad shards are skipped."""
        # The shards of all data sets in the order of their partitions, so that an index means the same row everywhere.
        commits = list[tuple[int, Storage, int, Commit]]()
        for source, storage in enumerate(storages):
            found = require_commits(storage).items()
            commits += [(source, storage, partition, commit) for partition, commit in found if commit.rows]
        facts = hashlib.sha256(f"{self._split} {self._once} {self._colour} {sorted(self.columns)}\n".encode())
        tables, sizes, seen, read = list[pa.Table](), dict[int, str](), [set[str]() for _ in storages], 0
        with tempfile.TemporaryDirectory(prefix="shards-") as scratch:
            for number, (source, storage, partition, commit) in enumerate(commits):
                # Read and check a shard, then keep the rows that are wanted of it.
                try:
                    table = self._read(storage, commit, sizes)
                except (pa.ArrowException, OSError, ValueError) as error:
                    self._skip(f"shard {storage.path(commit.file)}: {error}{remake_advice(partition)}")
                    continue
                table, read = self._choose(table, seen[source]), read + 1
                facts.update(f"{partition} {commit.rows} {commit.digest}\n".encode())
                if len(table):
                    tables.append(_map_file(table, Path(scratch) / f"{number}.arrow"))
                if limit and sum(len(t) for t in tables) >= limit:
                    break
        if not read:
            raise UserError(f"no shard of {self.uri} can be read; first: {self.skipped[0]}")
        # What was read decides the digest, and which optional columns there are.
        self._refuse_nothing(tables)
        self.digest = facts.hexdigest()[:16]
        self.columns = tuple(name for name in self.columns if name not in self._optional or _is_whole(tables, name))
        return tables

    def _read(self, storage: Storage, commit: Commit, sizes: dict[int, str]) -> pa.Table:
        """Read a shard whole and compare it with its record: a flipped bit in a picture would decode to something.

        sizes: side of the pictures seen so far, and where.
        """
        # The bytes that were committed, with the columns that are asked for.
        content = storage.read(commit.file)
        if hashlib.sha256(content).hexdigest() != commit.digest:
            raise ValueError(f"damaged: its {len(content)} bytes are not those that were committed")
        parquet = pq.ParquetFile(pa.BufferReader(content))
        have = set(parquet.schema_arrow.names)
        missing = sorted(set(self.columns) - have - self._optional)
        if missing:
            there = ", ".join(parquet.schema_arrow.names)
            raise UserError(
                f"{self._name_reader(missing)}, which {storage.uri} has not: {storage.path(commit.file)} has {there}"
            )
        # As many rows as were committed, their pictures as large as those of all other shards.
        wanted = (*self.columns, *(name for name in CHOOSING_COLUMNS if name not in self.columns))
        table = parquet.read(columns=[name for name in wanted if name in have])
        if len(table) != commit.rows:
            raise ValueError(f"{len(table)} rows where the commit record says {commit.rows}")
        if "size" in have and set(PICTURE_COLUMNS) & set(self.columns):
            for side in table["size"].unique().drop_null().to_pylist():
                sizes.setdefault(side, storage.uri)
        if len(sizes) > 1:
            found = ", ".join(f"{side} px in {where}" for side, where in sorted(sizes.items()))
            raise UserError(f"pictures of different sizes make no batch ({found}): make them anew with one --size")
        return table

    def _choose(self, table: pa.Table, seen: set[str]) -> pa.Table:
        """Return the rows of a shard that are wanted, in order, with the columns that are asked for.

        seen: samples that the data set has brought so far, extended here.
        """
        keep = np.ones(len(table), bool)
        # People of the wanted split.
        if self._split is not None:
            splits = _texts(table, "split")
            self._splits.update(splits.tolist())
            keep &= splits == self._split
        # Pictures in colour, and a value in every column.
        if self._colour and "visible_kind" in table.column_names:
            keep &= self._count_left(keep, _texts(table, "visible_kind") != "thermal", "visible_kind")
        for name in self.columns:
            if name not in self._optional and table.column(name).null_count:
                keep &= self._count_left(keep, table.column(name).is_valid().to_numpy(), name)
        # Each sample once, where its layers would be the same rows.
        if self._once and "sample_id" in table.column_names:
            for row, name in enumerate(table.column("sample_id").to_pylist()):
                keep[row] &= name is None or name not in seen
                if keep[row] and name is not None:
                    seen.add(name)
        return (
            table.select([n for n in self.columns if n in table.column_names]).filter(pa.array(keep)).combine_chunks()
        )

    def _count_left(self, keep: np.ndarray, good: np.ndarray, name: str) -> np.ndarray:
        """Return `good` and count the kept rows that column `name` costs."""
        self._left_out[name] += int((keep & ~good).sum())
        return good

    def _refuse_nothing(self, tables: list[pa.Table]) -> None:
        """Say how many rows were left out and why; raise UserError when none is left."""
        # Whatever is left out is said.
        left = {name: count for name, count in self._left_out.items() if count}
        for name, count in left.items():
            why = "show the thermal picture in grey, no colours" if name == "visible_kind" else f"have no {name}"
            log.info("%s: %d rows are left out: they %s", self.uri, count, why)
        if tables:
            return
        # Nothing is left: because of the split, of grey pictures, or of a column that is empty in all rows.
        if self._split is not None and not self._splits[self._split]:
            there = ", ".join(f"{count} {name or 'without one'}" for name, count in sorted(self._splits.items()))
            others = "|".join([*(name for name in sorted(self._splits) if name), "all"])
            raise UserError(
                f"{self.uri} has no row of split {self._split!r} (rows there: {there}): give {self._option} {others}"
            )
        name = max(left, key=lambda name: left[name])
        if name == "visible_kind":
            raise UserError(
                f"{self._reader or 'this'} takes colours, and {self.uri} has none: its visible pictures are thermal"
            )
        raise UserError(f"{self._name_reader([name])}, which {self.uri} has not: column {name} is empty in all rows")

    def _name_reader(self, names: Sequence[str]) -> str:
        return f"{self._reader + ' reads' if self._reader else 'asked for'} {', '.join(names)}"

    def _skip(self, what: str) -> None:
        if what not in self.skipped:
            self.skipped.append(what)
            log.warning("skipped %s", what)

    def _row_bytes(self) -> int:
        return sum(values.nbytes for values in self._load(np.arange(1)).values())

    def _keep(self) -> Columns:
        # Chunk by chunk into arrays of the whole length, which exist once.
        kept: Columns = {}
        for begin in range(0, self._count, CHUNK):
            for name, values in self._load(np.arange(begin, min(begin + CHUNK, self._count))).items():
                if name not in kept:
                    kept[name] = np.empty((self._count, *values.shape[1:]), values.dtype)
                kept[name][begin : begin + len(values)] = values
        return kept


def _is_whole(tables: list[pa.Table], name: str) -> bool:
    """Return whether every row has a value in a column."""
    return all(name in table.column_names and not table.column(name).null_count for table in tables)


def _texts(table: pa.Table, name: str) -> np.ndarray:
    """Return a column of text as objects, empty text where there is no column or value."""
    if name not in table.column_names:
        return np.full(len(table), "", object)
    return np.array([value or "" for value in table.column(name).to_pylist()], object)


def require_commits(storage: Storage) -> dict[int, Commit]:
    """Return the commit records of a data set; raises UserError where there is no row."""
    found = read_commits(storage)
    if not any(commit.rows for commit in found.values()):
        raise UserError(
            f"{storage.uri} holds no committed shard: give what `thermapair world`, `gather`, `generate` or `thermalize` "
            "wrote, as their --out"
        )
    return found


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


def _map_file(table: pa.Table, path: Path) -> pa.Table:
    """Return `table` as a mapping of an uncompressed file: its memory is the system's page cache.

    The file may be deleted afterwards, the mapping keeps its bytes until the process ends.
    """
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
