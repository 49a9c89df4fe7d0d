"""AACHEN (RWTH): irface_subNNN_seqNN_frmNNNNN.jpg_lfb.{npy,png,ljson}: temperature, the same in grey, 68 points.

Matrices are read, in degrees Celsius, and frames without one refused; where the folder has no matrix at all the pictures are, in
grey levels: the two do not go together. Points are menpo's
LJSON, y before x. There is no visible camera. Nothing says a split.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import Literal

import numpy as np

from models.config import parse_json
from models.errors import UserError
from models.temperature import UnitName
from pipelines.config.gather import GatherJob
from pipelines.pictures.open import BadPicture
from pipelines.readers.item import Item, Sample, one_sample, open_samples
from pipelines.readers.points import check_points
from pipelines.storage.uri import Storage

FILE = re.compile(r"(irface_sub(\d+)_seq(\d+)_frm(\d+).*)\.(npy|png|ljson)", re.IGNORECASE)
STANDARD = 68


def list_items(job: GatherJob, files: dict[str, int], out: Storage | None) -> Iterator[Item]:
    """Yield a row for every frame."""
    found, grey = dict[str, Item](), dict[str, str]()
    for name in files:
        if not (match := FILE.fullmatch(PurePath(name).name)):
            continue
        key = match[1]
        facts = json.dumps({"sequence": match[3], "frame": match[4]})
        item = found.get(key) or Item(key, str(int(match[2])), job.condition, facts=facts)
        kind = match[5].lower()
        before = {"png": grey.get(key, ""), "npy": item.thermal, "ljson": item.points}[kind]
        if before:
            item = replace(item, reason=f"duplicated: {before} and {name}")
        if kind == "png":
            grey[key] = name
        found[key] = (
            replace(item, points=name) if kind == "ljson" else replace(item, thermal=name) if kind == "npy" else item
        )
    if not found:
        raise UserError(f"{job.images} holds no AACHEN: no irface_subNNN_seqNN_frmNNNNN.jpg_lfb.npy or .png")
    degrees = any(item.thermal for item in found.values())
    for key, item in sorted(found.items()):
        if item.thermal:
            yield item
        elif key not in grey:
            yield replace(item, reason=f"no picture: {item.points} alone is there")
        elif degrees:
            yield replace(
                item, reason=f"no temperature: {grey[key]} is grey levels, and other frames have degrees (.npy)"
            )
        else:
            yield replace(item, thermal=grey[key])


def read_samples(item: Item, job: GatherJob, out: Storage | None) -> list[Sample]:
    """Return temperature, or grey levels of a set without matrices, and the points."""
    images = Storage(job.images)
    unit: UnitName | Literal["grey"] = "celsius" if item.thermal.lower().endswith(".npy") else "grey"
    found = one_sample(open_samples(None, (images.read(item.thermal), item.thermal), unit))
    if item.points:
        found.points[STANDARD] = read_ljson(images.read(item.points), item.points)
    return [found]


def read_ljson(data: bytes, name: str) -> np.ndarray:
    """Return 68 points float32 [68, 2], x before y, NaN where a point is null. Raises BadPicture that says what is wrong."""
    try:
        listed = parse_json(data)["landmarks"]["points"]
        points = np.array([[np.nan if v is None else float(v) for v in point] for point in listed], np.float32)
        points = points.reshape(len(listed), 2)[:, ::-1]
    except (UserError, ValueError, KeyError, TypeError) as error:
        raise BadPicture(f"landmarks: {name} cannot be read ({error})") from None
    return check_points(points, STANDARD, gaps=True)
