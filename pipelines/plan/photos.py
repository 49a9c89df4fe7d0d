"""What a job lists of pictures: every one of a folder, or of Parquet files, as a row with its id."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import PurePath
from typing import NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import UserError
from pipelines.config.persons import COLUMN, parse_person, person_of
from pipelines.pictures.open import FORMATS, UNREAD
from pipelines.plan.listing import Row
from pipelines.rows.ids import hash_id
from pipelines.storage.listing import list_sizes
from pipelines.storage.tables import BadTableError, open_table, read_group, require_columns, require_groups
from pipelines.storage.uri import Storage

SEGMENTS = "_seg.png"
"""FaceSynthetics' name of the class picture beside `ID.png`."""
PICTURES = ("visible", "image", "picture")
"""Columns of a Parquet file that are looked at, in this order."""
BLOCK = 4096
"""Rows of which who they show is read at a time."""
MISSING = "-"
"""In place of a mask that a picture lacks though others have one."""
PHOTO_SCHEMA = pa.schema(
    {
        "sample_id": pa.string(),
        "picture": pa.string(),
        "name": pa.string(),
        "person": pa.string(),
        "mask": pa.string(),
        "group": pa.int32(),
        "row": pa.int32(),
        "bytes": pa.int64(),
        "mask_bytes": pa.int64(),
    }
)
"""`picture`: path below the images, or FILE#ROW. `name`: what T-FAKE's layout calls it. `row`: in row group, -1 for files.
`bytes`, `mask_bytes`: sizes of the files, or of the row group, that they come from, by which a changed one is noticed:
a Parquet file may grow by further row groups."""
FACTS = ("picture", "person", "mask", "bytes", "mask_bytes")


class PhotoJob(Protocol):
    """What a job says of the pictures that it lists."""

    @property
    def images(self) -> str: ...
    @property
    def masks(self) -> str: ...
    @property
    def person(self) -> str: ...
    @property
    def layout(self) -> str: ...


class Looked(NamedTuple):
    """What counts as a picture: extensions of files, and columns of Parquet files in the order in which they are looked at."""

    extensions: tuple[str, ...]
    columns: tuple[str, ...]


VISIBLE = Looked((*FORMATS, *UNREAD), PICTURES)


class Photos(NamedTuple):
    """The pictures of a job. `rows` of `PHOTO_SCHEMA` are made one by one, as they are asked for."""

    has_classes: bool
    """Whether every picture's classes are given, so that no parser is needed."""
    person: str
    """What says who is shown, empty for nothing."""
    rows: Iterator[Row]


def list_photos(job: PhotoJob, looked: Looked = VISIBLE) -> Photos:
    """Return the pictures of a job, those of Parquet files where there are any.

    Raises:
        UserError: there is no picture or mask, no Parquet file can be read or one lacks a column, or names are not unique
            where they have to be.
    """
    images = Storage(job.images)
    if not images.exists():
        raise UserError(f"{images.uri} does not exist (--images names a folder of pictures or of Parquet files).")
    files = list_sizes(images)
    tables = [name for name in files if name.endswith(".parquet") and not name.startswith(("rejects/", "_"))]
    return (
        _list_tables(images, {name: files[name] for name in tables}, job, looked)
        if tables
        else _list_files(images, files, job, looked)
    )


def _list_files(images: Storage, files: dict[str, int], job: PhotoJob, looked: Looked) -> Photos:
    """Return the pictures among `files` (name -> bytes), and the masks that belong to them."""
    if parse_person(job.person)[0] == "column":
        raise UserError(
            f"--person {job.person}: a folder of pictures has no columns; say folder:LEVEL or pattern:REGEX."
        )
    known = looked.extensions
    names = [name for name in files if PurePath(name).suffix.lower() in known and not name.endswith(SEGMENTS)]
    if not names:
        read = ", ".join(one for one in known if one not in UNREAD)
        raise UserError(f"{images.uri} holds no picture; extensions looked for: {read}, .parquet.")
    # Masks are optional for a single picture, but a folder without any is a mistake.
    masks = list_sizes(Storage(job.masks)) if job.masks else {}
    if job.masks and all(_find_mask(name, masks, job) == MISSING for name in names):
        tried = f"{PurePath(names[0]).stem}{SEGMENTS} or {PurePath(names[0]).stem}.png"
        raise UserError(f"{Storage(job.masks).uri} has no mask for any picture; looked for names like {tried}")
    # T-FAKE's files are named by the picture without its extension.
    if job.layout == "tfake":
        name, count = Counter(_stem(name) for name in names).most_common(1)[0]
        if count > 1:
            raise UserError(
                f"{images.uri}: {name} comes with {count} extensions; T-FAKE's layout takes one picture a name"
            )
    rows = (_file_row(name, files[name], _find_mask(name, masks, job), masks, job) for name in names)
    return Photos(bool(job.masks), job.person, rows)


def _find_mask(name: str, masks: dict[str, int], job: PhotoJob) -> str:
    """Return the mask of a picture: empty where none are given, `MISSING` where this one has none."""
    if not job.masks:
        return ""
    stem = _stem(name)
    own = [] if Storage(job.masks).uri == Storage(job.images).uri else [f"{stem}.png"]
    return next((mask for mask in (f"{stem}{SEGMENTS}", *own) if mask in masks), MISSING)


def _stem(name: str) -> str:
    return str(PurePath(name).with_suffix(""))


def _file_row(name: str, size: int, mask: str, masks: dict[str, int], job: PhotoJob) -> Row:
    return {
        "sample_id": hash_id("picture", name),
        "picture": name,
        "name": _stem(name),
        "person": person_of(job.person, name) or "",
        "mask": mask,
        "group": 0,
        "row": -1,
        "bytes": size,
        "mask_bytes": masks.get(mask, 0),
    }


class _Table(NamedTuple):
    """A Parquet file of pictures. size: its bytes. who: its column that says who is shown, empty for none."""

    name: str
    size: int
    rows: int
    has_classes: bool
    who: str


def _list_tables(images: Storage, files: dict[str, int], job: PhotoJob, looked: Looked) -> Photos:
    """Return the rows of Parquet files (name -> bytes); they must agree on whether classes are given.

    One that cannot be read is a single row, which is not taken: it costs no other. Raises BadTableError where none can.
    """
    if job.masks:
        raise UserError("--masks: pictures in Parquet bring theirs as the column `classes`")
    # What can be read of them; the first reason counts where nothing can.
    tables, damaged = list[_Table](), dict[str, BadTableError]()
    for name, size in files.items():
        try:
            tables.append(_check_table(images, name, size, job, looked))
        except BadTableError as error:
            damaged[name] = error
    if not tables:
        raise next(iter(damaged.values()))
    if not sum(table.rows for table in tables):
        raise UserError(f"{images.uri} holds no picture: its Parquet files have no row.")
    first = tables[0].has_classes
    if other := next((table.name for table in tables if table.has_classes != first), None):
        raise UserError(f"{images.uri}: some files have the column `classes`, {other} {'has not' if first else 'has'}")
    known = job.person or (f"column:{COLUMN}" if _any_person(images, tables) else "")
    whole = {table.name: table for table in tables}
    rows = (
        _rows_or_damage(images, whole[name], job) if name in whole else [_damaged_row(name, size)]
        for name, size in files.items()
    )
    return Photos(first, known, itertools.chain.from_iterable(rows))


def _check_table(images: Storage, name: str, size: int, job: PhotoJob, looked: Looked) -> _Table:
    """Return what a Parquet file holds by its footer. Raises a UserError for one that is damaged or lacks a column."""
    kind, column = parse_person(job.person)
    with open_table(images, name) as file:
        # The columns that are read of it, each of them once.
        pictures = [picture_column(file, name, looked), *(["classes"] if "classes" in file.schema_arrow.names else [])]
        require_columns(file, pictures, name)
        if kind == "column":
            require_columns(file, [column], name, ask="--person")
        who = column if kind == "column" else COLUMN if not kind and COLUMN in file.schema_arrow.names else ""
        if who:
            require_columns(file, [who], name)
        # A row group is held whole when its pictures are read.
        require_groups(file, pictures, name)
        return _Table(name, size, file.metadata.num_rows, "classes" in pictures, who)


def _any_person(images: Storage, tables: Sequence[_Table]) -> bool:
    """Whether any row says who is shown; reads no further than to the first that does."""
    for table in (table for table in tables if table.who):
        with suppress(BadTableError), open_table(images, table.name) as file:
            for batch in file.iter_batches(BLOCK, columns=[table.who]):
                if any(str(person) for person in batch.column(0).to_pylist() if person is not None):
                    return True
    return False


def _rows_or_damage(images: Storage, table: _Table, job: PhotoJob) -> Iterator[Row]:
    """Yield the rows of a Parquet file as far as it can be read, and where it ends too early a row that is not taken."""
    try:
        yield from _table_rows(images, table, job)
    except BadTableError:
        yield _damaged_row(table.name, table.size)


def _damaged_row(name: str, size: int) -> Row:
    """Return the row of a Parquet file that cannot be read."""
    facts = {"person": "", "mask": "", "group": 0, "row": -1, "bytes": size, "mask_bytes": 0}
    return {"sample_id": hash_id("picture", name), "picture": name, "name": _stem(name), **facts}


def find_damage(job: PhotoJob, name: str, looked: Looked = VISIBLE) -> str:
    """Return why a Parquet file cannot be read; empty where it can by now."""
    images = Storage(job.images)
    try:
        for _ in _table_rows(images, _check_table(images, name, 0, job, looked), job):
            pass
    except BadTableError as error:
        return str(error)
    return ""


def _table_rows(images: Storage, table: _Table, job: PhotoJob) -> Iterator[Row]:
    """Yield a row for every row of a Parquet file."""
    number, stem = itertools.count(), _stem(table.name)
    with open_table(images, table.name) as file:
        for group in range(file.num_row_groups):
            facts = file.metadata.row_group(group)
            people = read_group(file, group, [table.who])[table.who].to_pylist() if table.who else []
            for row, place in zip(range(facts.num_rows), number):
                picture = f"{table.name}#{place}"
                person = people[row] if table.who else person_of(job.person, picture)
                yield {
                    "sample_id": hash_id("picture", picture),
                    "picture": picture,
                    "name": f"{stem}-{place:06d}",
                    "person": "" if person is None else str(person),
                    "mask": "classes" if table.has_classes else "",
                    "group": group,
                    "row": row,
                    "bytes": facts.total_byte_size,
                    "mask_bytes": 0,
                }


def file_name(data: bytes) -> str:
    """Return a name with the extension that the first bytes call for: cells have none of their own."""
    starts = {b"\x89PNG": "png", b"\xff\xd8": "jpg", b"RIFF": "webp", b"BM": "bmp", b"GIF8": "gif"}
    return f"cell.{next((end for start, end in starts.items() if data.startswith(start)), 'tiff')}"


def picture_column(file: pq.ParquetFile, name: str, looked: Looked = VISIBLE) -> str:
    """Return the column that holds the pictures of a Parquet file."""
    found = [column for column in looked.columns if column in file.schema_arrow.names]
    if not found:
        raise UserError(
            f"{name} has no column {', '.join(looked.columns)}; it has: {', '.join(file.schema_arrow.names)}"
        )
    return found[0]
