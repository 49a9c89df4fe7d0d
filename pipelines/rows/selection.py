"""Which rows of committed shards are wanted: read whole, checked against their records, and chosen."""

import hashlib
import logging
import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.columns import COLUMNS
from models.errors import UserError
from pipelines.storage.commits import Commit, read_commits, remake_advice
from pipelines.storage.uri import Storage

log = logging.getLogger(__name__)

PICTURE_COLUMNS = tuple(name for name, column in COLUMNS.items() if column.codec in ("picture", "png", "centikelvin"))
CHOOSING_COLUMNS = ("split", "sample_id", "visible_kind", "size")
"""Columns that decide which rows are taken, beside those that are asked for."""


APART = (
    "Halves that were taken apart are no pairs: `train hfr`, `evaluate hfr` and `evaluate translation` alone read them."
)
COLOUR, TRANSLATED = "rgb", "translated"
"""The one `visible_kind` that networks of colours are trained on, and that of pictures that a translator made of thermal ones."""
KINDS = {"thermal": "the thermal picture in grey", TRANSLATED: "what a translator made of the thermal one"}
"""What visible pictures of other kinds are."""


class Selection:
    """The rows of the data set at `uri`, or of several (see `Shards`, which says what is taken), as they are stored.

    columns: once rows are read without those optional ones that not every row has. digest: of what was read, 16 hex digits.
    skipped: what could not be read, and why.
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
        reader: str = "",
        option: str = "another split:",
    ) -> None:
        self.uri, self.columns, self.digest = uri, tuple(columns), ""
        self.skipped = list[str]()
        self._optional, self._found, self._split = set(optional), found, split
        self._colour, self._translated = colour, translated
        self._reader, self._option = reader, option
        # Rows that differ in their layer alone are the same where no column of a layer is asked for.
        self._once = not any(name in COLUMNS and COLUMNS[name].per == "layer" for name in columns)
        # Rows that a column costs, and rows of each split, for messages.
        self._left_out, self._splits, self._kinds = Counter[str](), Counter[str](), Counter[str]()
        self._filled = set[str]()

    def read(self, limit: int | None = None) -> list[pa.Table]:
        """Return the rows that are wanted of every shard, encoded, in order; no further shard once there are `limit` rows.

        Raises:
            UserError: a data set has no shard, no shard can be read, one lacks a column, or no row is left.
        """
        storages = [Storage(uri) for uri in self.uri.split(",")]
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
                    self.skip(f"shard {storage.shown(commit.file)}: {error}{remake_advice(partition)}")
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
        # Rows that come because somebody looks for their points, or takes translations, are other data than without them.
        if self._filled or self._translated:
            facts.update(f"{sorted(self._filled)} {self._translated}\n".encode())
        self.digest = facts.hexdigest()[:16]
        self.columns = tuple(name for name in self.columns if name not in self._optional or _is_whole(tables, name))
        return tables

    def skip(self, what: str) -> None:
        """Note that something cannot be read, once, and say so."""
        if what not in self.skipped:
            self.skipped.append(what)
            log.warning("skipped %s", what)

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
        missing = sorted(set(self.columns) - have - self._optional - set(self._found))
        if missing:
            there = ", ".join(parquet.schema_arrow.names)
            raise UserError(
                f"{self._name_reader(missing)}, which {storage.uri} has not: {storage.shown(commit.file)} has {there}"
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
        for name in self._found:
            filled = _fill_with_nan(table, name)
            if filled is not table:
                self._filled.add(name)
            table = filled
        keep = np.ones(len(table), bool)
        # People of the wanted split.
        if self._split is not None:
            splits = _texts(table, "split")
            self._splits.update(splits.tolist())
            keep &= splits == self._split
        # Pictures in colour, and a value in every column.
        if self._colour and "visible_kind" in table.column_names:
            kinds = _texts(table, "visible_kind")
            taken = np.isin(kinds.astype(str), [COLOUR, *([TRANSLATED] if self._translated else [])])
            self._kinds.update(kinds[keep & ~taken].tolist())
            keep &= self._count_left(keep, taken, "visible_kind")
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
            log.info("%s: %d rows are left out: they %s", self.uri, count, self._why(name))
        if tables:
            return
        # Nothing is left: because of the split, of grey pictures, of a column that is empty in all rows, or of several reasons.
        if self._split is not None and not self._splits[self._split]:
            there = ", ".join(f"{count} {name or 'without one'}" for name, count in sorted(self._splits.items()))
            others = "|".join([*(name for name in sorted(self._splits) if name), "all"])
            raise UserError(
                f"{self.uri} has no row of split {self._split!r} (rows there: {there}): give {self._option} {others}"
            )
        if len(left) > 1:
            apart = "thermal" in left and not left.keys().isdisjoint(("visible", "visible_kind"))
            raise UserError(
                f"{self._reader or 'this'} takes rows with all that it reads, and {self.uri} has none: "
                + ", ".join(f"{count} {self._why(name)}" for name, count in left.items())
                + (f". {APART}" if apart else "")
            )
        (name,) = left
        if name == "visible_kind":
            raise UserError(
                f"{self._reader or 'this'} takes pictures of a camera for visible light, and {self.uri} has none: all "
                f"{self._why(name)}"
            )
        raise UserError(f"{self._name_reader([name])}, which {self.uri} has not: column {name} is empty in all rows")

    def _why(self, name: str) -> str:
        """Return why rows are left out that column `name` costs."""
        if name == "visible_kind":
            return "show " + " or ".join(KINDS.get(kind, "no colours") for kind in sorted(self._kinds))
        return f"have no {name}"

    def _name_reader(self, names: Sequence[str]) -> str:
        return f"{self._reader + ' reads' if self._reader else 'asked for'} {', '.join(names)}"


def _fill_with_nan(table: pa.Table, name: str) -> pa.Table:
    """Return `table` with a column of lists of one length that has a value in every row: NaN where there was none."""
    shape = (len(table), math.prod(map(int, COLUMNS[name].shape)))
    values = np.full(shape, np.nan, np.float32)
    if name in table.column_names:
        column = table.column(name)
        if not pa.types.is_null(column.type):
            # Of another number of values, none among them, there are no points either.
            whole = pc.equal(pc.list_value_length(column), shape[1]).fill_null(False)
            if pc.all(whole).as_py():
                return table
            there = column.filter(whole).combine_chunks().flatten()
            values[whole.to_numpy()] = there.to_numpy(zero_copy_only=False).reshape(-1, shape[1])
        table = table.drop_columns(name)
    lists = pa.ListArray.from_arrays(np.arange(len(table) + 1, dtype=np.int32) * shape[1], values.reshape(-1))
    return table.append_column(name, lists)


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


def _map_file(table: pa.Table, path: Path) -> pa.Table:
    """Return `table` as a mapping of an uncompressed file: its memory is the system's page cache.

    The file may be deleted afterwards, the mapping keeps its bytes until the process ends.
    """
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
