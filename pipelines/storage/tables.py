"""Parquet files that somebody else wrote: opened with care, and what is wrong with one is one message."""

import contextlib
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import UserError
from pipelines.storage.errors import fault, remote
from pipelines.storage.uri import Storage

MAX_GROUP = 4 * 2**30
"""Bytes of the columns that are read of one row group, which is held whole."""
MOST_BARE = 10**6
"""Rows that a column may have without a bit for each: more are no pictures, but a file that would fill memory."""
ENCRYPTED = b"PARE"
"""A Parquet file with an encrypted footer ends with this in place of PAR1."""


class BadTableError(UserError):
    """A Parquet file that cannot be read."""


@contextlib.contextmanager
def explain_damage(path: str, kind: type[UserError] = BadTableError, way_out: str = "") -> Iterator[None]:
    """Raise whatever the reading of the Parquet file `path` raises inside the block as one message of the class `kind`.

    Messages of ours, a storage's faults and a file that is not there pass. way_out: the end of the message.
    """
    try:
        yield
    except (UserError, FileNotFoundError):
        raise
    except Exception as error:  # damaged bytes lead a reader anywhere: OSError, KeyError, IndexError, MemoryError
        if remote(error):
            raise fault(error, path, "read") from error
        whole = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = whole[:300]
        if "crypt" in whole.lower():
            reason = "it is encrypted; write it without encryption"
        elif "duplicate field names" in whole:
            reason = "it has a column 2 times; rename all but one"
        raise kind(f"{path} is no readable Parquet file: {reason}{way_out}") from None


@contextlib.contextmanager
def open_table(storage: Storage, name: str) -> Iterator[pq.ParquetFile]:
    """Open the Parquet file `name`; what its reading raises inside the block is one message, too.

    Pages are read as they are needed, and let go: a row group may hold all of a large file.

    Raises:
        BadTableError: it is damaged, encrypted, or no Parquet at all.
        FileNotFoundError: it is not there.
    """
    path = storage.path(name)
    with explain_damage(path), storage.arrow.open_input_file(path) as source:
        size = source.size()
        if size >= 4 and source.read_at(4, size - 4) == ENCRYPTED:
            raise BadTableError(f"{path} is no readable Parquet file: it is encrypted; write it without encryption")
        yield pq.ParquetFile(source, buffer_size=2**20, pre_buffer=False)


def require_columns(file: pq.ParquetFile, wanted: Sequence[str], where: str, ask: str = "") -> None:
    """Raise a UserError where a column is missing from a table, or there twice. ask: what names the column, as `--person`."""
    have = file.schema_arrow.names
    for column in wanted:
        name, by = (repr(column), f" ({ask})") if ask else (column, "")
        if column not in have:
            raise UserError(f"{where} has no column {name}{by}; it has: {', '.join(have)}")
        if have.count(column) > 1:
            raise UserError(f"{where} has the column {name} {have.count(column)} times{by}: rename all but one")


def require_groups(file: pq.ParquetFile, columns: Sequence[str], where: str) -> None:
    """Raise a BadTableError for row groups whose `columns` cannot be held: too many bytes, or rows by the hundred million
    that hold next to nothing (all empty, or one value over and over)."""
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        sizes = [
            group.column(k).total_uncompressed_size
            for k in range(group.num_columns)
            if group.column(k).path_in_schema.split(".")[0] in columns
        ]
        if sum(sizes) > MAX_GROUP:
            raise BadTableError(
                f"{where}: row group {number} holds {sum(sizes) / 2**30:.1f} GB in {', '.join(columns)}, and it would be read "
                "whole; write the file again with smaller ones, as in row_group_size=1000"
            )
        if group.num_rows > MOST_BARE and group.num_rows > 8 * sum(sizes):
            raise BadTableError(
                f"{where}: row group {number} says that it has {group.num_rows} rows, in {sum(sizes)} bytes of "
                f"{', '.join(columns)}: they are empty, or the file is damaged"
            )


def read_group(file: pq.ParquetFile, number: int, columns: Sequence[str]) -> pa.Table:
    """Return `columns` of a row group, each once."""
    return file.read_row_group(number, columns=list(dict.fromkeys(columns)))
