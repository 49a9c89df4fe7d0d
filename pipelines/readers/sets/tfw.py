"""TFW: {train,val,test}/{indoor,outdoor}.csv, a line for each face: file, box, five points; pictures in indoor_gray and so on.

The pictures in the iron palette (indoor, outdoor) are not read: a palette cannot be undone. A picture with several faces is a row
for each. Names of indoor pictures begin with SpeakingFaces' subject; outdoors nobody says who is who.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import PurePath

import numpy as np

from models.errors import UserError
from pipelines.config.gather import GatherJob
from pipelines.readers.item import Item, Sample, one_sample, open_samples
from pipelines.storage.uri import Storage

SPLITS = {"train": "train", "val": "validation", "valid": "validation", "test": "test"}
TABLE = re.compile(r"(indoor|outdoor)\.csv", re.IGNORECASE)
SUBJECT = re.compile(r"(\d+)_\d+_\d+_\d+_")
NUMBERS = 14
"""Of a line after the file's name: box (4) and points (10): right eye, left eye, nose, right and left corner of the mouth."""


def list_items(job: GatherJob, files: dict[str, int], out: Storage | None) -> Iterator[Item]:
    """Yield a row for every face of the tables."""
    tables = sorted(name for name in files if TABLE.fullmatch(PurePath(name).name))
    if not tables:
        raise UserError(f"{job.images} holds no TFW: no train/indoor.csv, val/outdoor.csv or the like")
    # Grey pictures by split, place and name; a copy without splits has them once.
    grey = dict[tuple[str, str], list[str]]()
    for name in files:
        place = PurePath(name).parent.name.lower()
        if place.endswith(("_gray", "_grey")):
            grey.setdefault((place[:-5], PurePath(name).stem.lower()), []).append(name)
    for table in tables:
        yield from _read_table(table, grey, job)


def _read_table(table: str, grey: dict[tuple[str, str], list[str]], job: GatherJob) -> Iterator[Item]:
    """Yield the faces of one table; a line that makes no sense has its reason."""
    folder, place = PurePath(table).parent.name.lower(), PurePath(table).stem.lower()
    try:
        lines = list(csv.reader(io.StringIO(Storage(job.images).read(table).decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{job.images}/{table} is no table of text: {error}") from None
    seen = dict[str, int]()
    for line in lines[1:]:  # the first names the columns
        if not line or not line[0].strip():
            continue
        file = PurePath(line[0].strip().replace("\\", "/")).name
        face = seen[file] = seen.get(file, -1) + 1
        match, found = SUBJECT.match(file), grey.get((place, PurePath(file).stem.lower()), [])
        own = [name for name in found if PurePath(name).parent.parent.name.lower() == folder] or found
        name = f"{folder}/{place}/{PurePath(file).stem}" + (f"@{face}" if face else "")
        given, reason = _numbers(line[1:], table)
        if not own:
            reason = f"no picture: {place}_gray/{file} of {table} is not there (palettes are not read)"
        elif len(own) > 1:
            reason = f"duplicated: {own[0]} and {own[1]} are both {place}_gray/{file} of {table}"
        yield Item(
            name, match[1] if match else "", job.condition, thermal=own[0] if own else "", given=given,
            facts=json.dumps({"place": place}), reason=reason, split=SPLITS.get(folder, ""), points=table,
        )  # fmt: skip


def _numbers(cells: list[str], table: str) -> tuple[list[float] | None, str]:
    """Return x, y of the five points, or why there are none."""
    try:
        values = [float(cell) for cell in cells[:NUMBERS]]
    except ValueError as error:
        return None, f"landmarks: {table}: {error}"
    if len(values) < NUMBERS:
        return None, f"landmarks: {table}: {len(values)} numbers where {NUMBERS} are needed"
    return values[4:], ""


def read_samples(item: Item, job: GatherJob, out: Storage | None) -> list[Sample]:
    """Return the picture in grey levels and the face's five points."""
    found = one_sample(open_samples(None, (Storage(job.images).read(item.thermal), item.thermal), "grey"))
    found.points[5] = np.array(item.given, np.float32).reshape(5, 2)
    return [found]
