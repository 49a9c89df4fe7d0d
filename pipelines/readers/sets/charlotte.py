"""CHARLOTTE (UNCC-ThermalFace): R<ID>.tiff in centikelvin, N<ID>.jpg (the same frame in grey), S<subject>.csv with points.

A row of a table has the ID, what was noted of the frame, and x0, y0 ... in whole pixels: 72 points of a face seen from the
front, or 43 of a profile, which fill the first slots and leave the others NaN. Nothing says which side a profile shows. An
ID that stands in several rows is dropped: which of them is right is not known.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import PurePath

import numpy as np

from models.errors import UserError
from pipelines.config.gather import GatherJob
from pipelines.pictures.open import BadPicture
from pipelines.readers.item import Item, Sample, one_sample, open_samples
from pipelines.storage.uri import Storage

SLOTS, PROFILE = 72, 43
FRAME = re.compile(r"R(\d+)\.tiff?", re.IGNORECASE)
TABLE = re.compile(r"S\d+\.csv", re.IGNORECASE)
POINT = re.compile(r"([xy])(\d+)", re.IGNORECASE)
GREY = (".jpg", ".JPG", ".jpeg", ".JPEG", ".png", ".PNG")
"""Extensions of the grey view beside a frame."""
CENTRE = 0.5
"""Whole pixels are counted from 0; the middle of one is .5 further."""


def list_items(job: GatherJob, files: dict[str, int], out: Storage | None) -> Iterator[Item]:
    """Yield a row for every ID of a table or a frame."""
    # The frames by their ID; it may be there twice.
    frames: dict[str, list[str]] = {}
    for name in files:
        if found := FRAME.fullmatch(PurePath(name).name):
            frames.setdefault(found[1], []).append(name)
    tables = [name for name in files if TABLE.fullmatch(PurePath(name).name)]
    if not frames or not tables:
        raise UserError(f"{job.images} holds no CHARLOTTE: no R<ID>.tiff with S<subject>.csv")
    # What the tables note of each ID, likewise.
    noted: dict[str, list[Item]] = {}
    for name in tables:
        for item in _read_table(Storage(job.images), name, job):
            noted.setdefault(item.name, []).append(item)
    for number in sorted(noted.keys() | frames.keys()):
        yield _pair_up(number, noted.get(number, []), frames.get(number, []), files, job)


def _pair_up(number: str, rows: list[Item], names: list[str], files: dict[str, int], job: GatherJob) -> Item:
    """Return the row of an ID, refused unless it has exactly one line and one frame."""
    # Of two lines or frames nobody knows which is right.
    if len(rows) > 1 or len(names) > 1:
        where = f"{len(rows)} rows of tables" if len(rows) > 1 else " and ".join(names)
        return Item(number, reason=f"duplicated: {where} have the ID R{number}")
    if not names:
        return Item(number, reason=f"no picture: R{number}.tiff of {rows[0].points} is not there")
    if not rows:
        return Item(number, thermal=names[0], reason=f"no landmarks: no table has the ID R{number}")
    # The grey view lies beside the frame, if there is one.
    beside = [str(PurePath(names[0]).with_name(f"{n}{number}{end}")) for n in "Nn" for end in GREY]
    grey = next((name for name in beside if name in files), "")
    row = rows[0]
    return Item(number, row.identity, row.condition, grey, names[0], points=row.points, given=row.given,
                facts=row.facts, reason=row.reason)  # fmt: skip


def _read_table(images: Storage, name: str, job: GatherJob) -> Iterator[Item]:
    """Yield the rows of one subject's table; a row whose points make no sense has its reason."""
    try:
        lines = csv.DictReader(io.StringIO(images.read(name).decode("utf-8-sig")), skipinitialspace=True)
        columns = [column.strip() for column in lines.fieldnames or []]
        lines.fieldnames = columns
        identifier = next((column for column in columns if column.lower() == "id"), None)
        slots = sorted({int(found[2]) for column in columns if (found := POINT.fullmatch(column))})
        if identifier is None or len(slots) < PROFILE:
            raise UserError(f"{images.shown(name)}: it needs the columns ID, x0, y0 and so on; it has {columns[:8]}")
        for row in lines:
            yield _read_line(row, identifier, slots, name, job)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{images.shown(name)} is no table of text: {error}") from None


def _read_line(row: dict[str, str | None], identifier: str, slots: list[int], table: str, job: GatherJob) -> Item:
    # The ID is a subject's number and four digits; all other columns but the points are facts.
    number = (row[identifier] or "").strip().lstrip("RrNn")
    facts = {k: v.strip() for k, v in row.items() if k and isinstance(v, str) and not POINT.fullmatch(k) and v.strip()}
    found = {(k or "").lower(): v for k, v in row.items()}
    subject = str(int(number[:-4])) if number.isdigit() and len(number) > 4 else ""
    reason, given = "", None
    try:
        if not subject:
            raise ValueError(f"ID {row[identifier]!r} is not R, a subject and four digits")
        given = _points([(found.get(f"x{k}"), found.get(f"y{k}")) for k in slots])
    except ValueError as error:
        reason = f"landmarks: {table}: {error}"
    return Item(number or f"{table}?", subject, job.condition, points=table, given=given,
                facts=json.dumps(facts), reason=reason)  # fmt: skip


def _points(cells: list[tuple[str | None, str | None]]) -> list[float]:
    """Return x, y of the 72 slots, NaN in those that a profile leaves. Raises ValueError for any other number of points."""
    # A face from the front fills all slots, a profile the first ones, and nothing lies between.
    points = [(_number(x), _number(y)) for x, y in cells]
    there = [not (math.isnan(x) or math.isnan(y)) for x, y in points]
    count = sum(there)
    if count not in (SLOTS, PROFILE):
        raise ValueError(f"{count} points where {SLOTS} or {PROFILE} are needed")
    if not all(there[:count]):
        raise ValueError(f"slot {there.index(False)} is empty among the first {count}")
    padded = points[:count] + [(math.nan, math.nan)] * (SLOTS - count)
    return [value + CENTRE for point in padded for value in point]


def _number(cell: str | None) -> float:
    return float(cell) if cell and cell.strip() else math.nan


def read_samples(item: Item, job: GatherJob, out: Storage | None) -> list[Sample]:
    """Return temperature, the grey view if it is there, and the points as 72 slots."""
    images = Storage(job.images)
    beside = (images.read(item.visible), item.visible) if item.visible else None
    found = one_sample(open_samples(beside, (images.read(item.thermal), item.thermal)))
    assert found.celsius is not None
    if item.visible:
        found.visible_kind = "thermal"
        if found.frame_shape != found.celsius.shape:
            (height, width), (high, wide) = found.frame_shape, found.celsius.shape
            raise BadPicture(f"mismatched: {item.visible} is {width} x {height} px, the frame {wide} x {high}")
    found.points[SLOTS] = np.array(item.given, np.float32).reshape(SLOTS, 2)
    return [found]
