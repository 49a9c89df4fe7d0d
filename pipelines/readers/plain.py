"""Any other data set: a folder whose file names follow patterns, or Parquet files with columns, as `Patterns` says."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa

from models.errors import UserError
from pipelines.config.gather import GatherJob
from pipelines.pictures.open import FORMATS, BadPicture, open_classes
from pipelines.pictures.thermal import EXTENSIONS
from pipelines.plan.photos import file_name
from pipelines.readers.item import Item, Sample, one_sample, open_samples, stem
from pipelines.readers.points import check_points, read_points
from pipelines.readers.sets.pairs import check_proportions
from pipelines.storage.tables import BadTableError, open_table, read_group, require_columns, require_groups
from pipelines.storage.uri import Storage

NAME = "NAME"
ROLES = ("visible", "thermal", "mask", "landmarks")


def list_items(job: GatherJob, files: dict[str, int], out: Storage | None) -> Iterator[Item]:
    """Yield a row for every name that fits a pattern, or for every row of the Parquet files."""
    patterns = {role: pattern for role in ROLES if (pattern := getattr(job.columns, role))}
    if not patterns.keys() & {"visible", "thermal"}:
        raise UserError(
            "plain: say where pictures are, as in --set columns.visible=NAME.jpg, or --set columns.thermal=NAME.png "
            "(NAME is what the files of a row share; of Parquet files name columns)"
        )
    tables = [name for name in files if name.endswith(".parquet") and not name.startswith(("rejects/", "_"))]
    yield from _table_items(Storage(job.images), tables, patterns, job) if tables else _file_items(patterns, files, job)


def _file_items(patterns: dict[str, str], files: dict[str, int], job: GatherJob) -> Iterator[Item]:
    """Yield a row for every name that fits a pattern."""
    found: dict[str, dict[str, str]] = {}
    for role, pattern in patterns.items():
        if NAME not in pattern and not (role == "landmarks" and pattern in files):
            raise UserError(f"columns.{role}: {pattern!r} lacks the word NAME, for which the pictures' names stand")
    # name -> role -> file; a name that two files have in one role is noted.
    for file in sorted(files):
        for role, name in _match_roles(file, patterns):
            if role in found.setdefault(name, {}):
                found[name]["twice"] = file
            found[name].setdefault(role, file)
    if not any(have.keys() & {"visible", "thermal"} for have in found.values()):
        raise UserError(f"{job.images} holds no file like {' or '.join(patterns.values())}")
    # A row needs a file in every role; one file of landmarks may be of all rows.
    shared = patterns.get("landmarks", NAME)
    for name, have in sorted(found.items()):
        if NAME not in shared:
            have["landmarks"] = shared
        lacking = [role for role in patterns if role not in have]
        reason = f"no {lacking[0]}: no file like {patterns[lacking[0]]}" if lacking else ""
        if "twice" in have:
            reason = f"duplicated: {have['twice']} fits like another file"
        own = {"points" if role == "landmarks" else role: have.get(role, "") for role in ROLES}
        yield Item(name, name, job.condition, **own, reason=reason)  # type: ignore[arg-type]


def _match_roles(file: str, patterns: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (role, name) of the pattern that a file fits; of several the most particular: NAME_seg.png before NAME.png."""
    # All patterns that the file fits, with how many letters they name.
    fitting = []
    for role, pattern in patterns.items():
        before, there, after = pattern.partition(NAME)
        if not there:
            continue
        text = file if PurePath(pattern).suffix else stem(file)
        known = EXTENSIONS if role == "thermal" else FORMATS
        if not PurePath(pattern).suffix and PurePath(file).suffix.lower() not in known:
            continue
        ends = text.lower().endswith(after.lower())  # a camera's extensions may be capitals
        if text.startswith(before) and ends and len(text) > len(before) + len(after):
            fitting.append((len(before) + len(after), role, text[len(before) : len(text) - len(after)]))
    longest = max((length for length, *_ in fitting), default=0)
    yield from ((role, name) for length, role, name in fitting if length == longest)


def _table_items(images: Storage, tables: list[str], columns: dict[str, str], job: GatherJob) -> Iterator[Item]:
    """Yield a row for every row of the Parquet files, and one with a reason for a file that cannot be read."""
    any_row = False
    for table in sorted(tables):
        try:
            for item in _rows_of(images, table, list(columns.values()), job):
                any_row = True
                yield item
        except BadTableError as error:
            any_row = True
            yield Item(table, reason=f"not Parquet: {error}")
    if not any_row:
        raise UserError(f"{images.uri} holds no row: its Parquet files are empty.")


def _rows_of(images: Storage, table: str, columns: list[str], job: GatherJob) -> Iterator[Item]:
    """Yield the rows of one Parquet file."""
    with open_table(images, table) as file:
        # What is wanted of it is there, once, and can be held.
        require_columns(file, columns, images.path(table))
        given = [name for name in GIVEN_COLUMNS if name in file.schema_arrow.names]
        require_columns(file, given, images.path(table))
        require_groups(file, columns, images.path(table))
        number = 0
        for group in range(file.num_row_groups):
            cells = read_group(file, group, given).to_pydict() if given else {}
            for row in range(file.metadata.row_group(group).num_rows):
                person, condition = (cells[name][row] if name in cells else None for name in GIVEN_COLUMNS)
                name = f"{table}#{number}"
                who = name if person is None else str(person)
                yield Item(name, who, condition or job.condition, table, group=group, row=row)
                number += 1


GIVEN_COLUMNS = ("identity_id", "condition")
"""Columns that are taken over where a Parquet file has them."""


def read_samples(item: Item, job: GatherJob, out: Storage | None) -> list[Sample]:
    """Return what an item's files, or its row's cells, hold, page by page."""
    # The encoded files or cells by their role, and of them the pictures, which have to be of one view.
    images = Storage(job.images)
    cells = _read_cells(images, item, job) if item.row >= 0 else _read_files(images, item)
    samples = open_samples(cells.get("visible"), cells.get("thermal"), job.unit)
    for sample in samples:
        check_proportions(sample)
    # What lies on them belongs to one page.
    if cells.keys() & {"mask", "landmarks"}:
        _add_labels(one_sample(samples), cells, job, item.visible or item.thermal)
    return samples


def _add_labels(sample: Sample, cells: dict[str, tuple[Any, str]], job: GatherJob, picture: str) -> None:
    """Add the mask and the points of an item to its picture, the file `picture`."""
    if "mask" in cells:
        sample.classes = open_classes(cells["mask"][0], sample.frame_shape)
    if "landmarks" in cells:
        content, name = cells["landmarks"]
        standards = (68, 70) if job.standard == 70 else (job.standard,)  # iBUG's 68 are the 70 without the pupils
        known = isinstance(content, np.ndarray)
        height, width = sample.frame_shape
        points = (
            check_points(content, *standards)
            if known
            else read_points(content, name, *standards, size=(width, height), picture=picture)
        )
        sample.points[len(points)] = points


def _read_files(images: Storage, item: Item) -> dict[str, tuple[Any, str]]:
    names = {"visible": item.visible, "thermal": item.thermal, "mask": item.mask, "landmarks": item.points}
    return {role: (images.read(name), name) for role, name in names.items() if name}


def _read_cells(images: Storage, item: Item, job: GatherJob) -> dict[str, tuple[Any, str]]:
    """Return the cells of a Parquet row: encoded pictures, bare or in a struct, and lists of numbers."""
    columns = {role: column for role in ROLES if (column := getattr(job.columns, role))}
    # Pictures are bytes, bare or in a struct; landmarks may be a flat list of numbers.
    table = _read_row_group(images.uri, item.visible, item.group, tuple(columns.values()))
    cells = dict[str, tuple[Any, str]]()
    for role, column in columns.items():
        value = table.column(column)[item.row].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if role == "landmarks" and isinstance(content, list):
            cells[role] = _parse_points(content), column
        elif isinstance(content, bytes):
            cells[role] = content, "landmarks.txt" if role == "landmarks" else file_name(content)
        else:
            raise BadPicture(f"empty: column {column} holds nothing that is encoded")
    return cells


def _parse_points(values: list[Any]) -> np.ndarray:
    try:
        return np.array(values, np.float32).reshape(-1, 2)
    except ValueError as error:
        raise BadPicture(f"landmarks: {error}") from None


@lru_cache(4)
def _read_row_group(images: str, table: str, group: int, columns: tuple[str, ...]) -> pa.Table:
    with open_table(Storage(images), table) as file:
        return read_group(file, group, columns)
