"""What a thermalize job lists: every picture of a folder, or of Parquet files, as a row with its id."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import UserError
from pipelines.config.persons import COLUMN, parse_person, person_of
from pipelines.config.thermalize import ThermalizeJob
from pipelines.pictures.open import FORMATS
from pipelines.rows.ids import hash_id
from pipelines.storage.uri import Storage

SEGMENTS = "_seg.png"
"""FaceSynthetics' name of the class picture beside `ID.png`."""
PICTURES = ("visible", "image", "picture")
"""Columns of a Parquet file that are looked at, in this order."""
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


def say_person(job: ThermalizeJob, rows: Sequence[dict[str, Any]]) -> str:
    """Return what says who is shown, empty for nothing."""
    return job.person or (f"column:{COLUMN}" if any(row["person"] for row in rows) else "")


def list_photos(job: ThermalizeJob) -> list[dict[str, Any]]:
    """Return the pictures of a job as rows of `PHOTO_SCHEMA`."""
    images = Storage(job.images)
    if not images.exists():
        raise UserError(f"{images.uri} does not exist (--images names a folder of pictures or of Parquet files).")
    files = sizes(images)
    tables = [name for name in files if name.endswith(".parquet") and not name.startswith(("rejects/", "_"))]
    if tables:
        if job.masks:
            raise UserError("--masks: pictures in Parquet bring theirs as the column `classes`")
        rows = list(_table_rows(images, tables, job))
        if not rows:
            raise UserError(f"{images.uri} holds no picture: its Parquet files have no row.")
        return rows
    if parse_person(job.person)[0] == "column":
        raise UserError(
            f"--person {job.person}: a folder of pictures has no columns; say folder:LEVEL or pattern:REGEX."
        )
    names = [name for name in files if PurePath(name).suffix.lower() in FORMATS and not name.endswith(SEGMENTS)]
    if not names:
        raise UserError(f"{images.uri} holds no picture; extensions looked for: {', '.join(FORMATS)}, .parquet.")
    masks = sizes(Storage(job.masks)) if job.masks else {}
    rows = [_file_row(name, files[name], _mask_of(name, masks, job), masks, job) for name in names]
    if job.masks and all(row["mask"] == MISSING for row in rows):
        looked = f"{PurePath(names[0]).stem}{SEGMENTS} or {PurePath(names[0]).stem}.png"
        raise UserError(f"{Storage(job.masks).uri} has no mask for any picture; looked for names like {looked}")
    if job.layout == "tfake":
        name, count = Counter(row["name"] for row in rows).most_common(1)[0]
        if count > 1:
            raise UserError(
                f"{images.uri}: {name} comes with {count} extensions; T-FAKE's layout takes one picture a name"
            )
    return rows


def sizes(storage: Storage) -> dict[str, int]:
    """Return the size of every file below a folder by its name, sorted."""
    found = storage.fsspec.find(storage.path(), detail=True)
    return {name.removeprefix(storage.path()).lstrip("/"): int(found[name]["size"]) for name in sorted(found)}


def _mask_of(name: str, masks: dict[str, int], job: ThermalizeJob) -> str:
    if not job.masks:
        return ""
    stem = str(PurePath(name).with_suffix(""))
    own = [] if Storage(job.masks).uri == Storage(job.images).uri else [f"{stem}.png"]
    return next((mask for mask in (f"{stem}{SEGMENTS}", *own) if mask in masks), MISSING)


def _file_row(name: str, size: int, mask: str, masks: dict[str, int], job: ThermalizeJob) -> dict[str, Any]:
    return {
        "sample_id": hash_id("picture", name),
        "picture": name,
        "name": str(PurePath(name).with_suffix("")),
        "person": person_of(job.person, name) or "",
        "mask": mask,
        "group": 0,
        "row": -1,
        "bytes": size,
        "mask_bytes": masks.get(mask, 0),
    }


def _table_rows(images: Storage, tables: list[str], job: ThermalizeJob) -> Iterator[dict[str, Any]]:
    """Yield a row for every row of Parquet files; they must agree on whether classes are given."""
    kind, column = parse_person(job.person)
    masked = None
    for name in tables:
        with images.arrow.open_input_file(images.path(name)) as source:
            try:
                file = pq.ParquetFile(source)
            except pa.ArrowException as error:
                raise UserError(f"{images.path(name)} cannot be read: {error}") from None
            have = file.schema_arrow.names
            own = "classes" in have
            picture_column(file, name)  # refuses a file without one
            if masked not in (None, own):
                raise UserError(
                    f"{images.uri}: some files have the column `classes`, {name} {'has' if own else 'has not'}"
                )
            masked = own
            if kind == "column" and column not in have:
                raise UserError(f"{name} has no column {column!r} (--person); it has: {', '.join(have)}")
            who = column if kind == "column" else COLUMN if not kind and COLUMN in have else ""
            number = 0
            for group in range(file.num_row_groups):
                people = file.read_row_group(group, columns=[who])[who].to_pylist() if who else []
                for row in range(file.metadata.row_group(group).num_rows):
                    picture = f"{name}#{number}"
                    person = people[row] if who else person_of(job.person, picture)
                    yield {
                        "sample_id": hash_id("picture", picture),
                        "picture": picture,
                        "name": f"{PurePath(name).with_suffix('')}-{number:06d}",
                        "person": "" if person is None else str(person),
                        "mask": "classes" if own else "",
                        "group": group,
                        "row": row,
                        "bytes": file.metadata.row_group(group).total_byte_size,
                        "mask_bytes": 0,
                    }
                    number += 1


def file_name(data: bytes) -> str:
    """Return a name with the extension that the first bytes call for: cells have none of their own."""
    starts = {b"\x89PNG": "png", b"\xff\xd8": "jpg", b"RIFF": "webp", b"BM": "bmp", b"GIF8": "gif"}
    return f"cell.{next((end for start, end in starts.items() if data.startswith(start)), 'tiff')}"


def picture_column(file: pq.ParquetFile, name: str) -> str:
    """Return the column that holds the pictures of a Parquet file."""
    found = [column for column in PICTURES if column in file.schema_arrow.names]
    if not found:
        raise UserError(f"{name} has no column {', '.join(PICTURES)}; it has: {', '.join(file.schema_arrow.names)}")
    return found[0]
