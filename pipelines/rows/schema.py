"""How rows lie on disk: the Arrow types of `models.columns`, and which columns our outputs hold.

A schema carries the features of Hugging Face `datasets`, so `load_dataset` shows decoded pictures. `thermal` is a 16-bit PNG
in centikelvin, the cameras' own convention: degrees Celsius = value / 100 - 273.15.
"""

import json
from collections.abc import Sequence
from math import prod
from typing import Any

import pyarrow as pa

from models.columns import COLUMNS, Column

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""An encoded picture and what a file of it would be called, as `datasets` keeps images."""

VALUES = {
    "string": pa.string(),
    "bool": pa.bool_(),
    **{name: getattr(pa, name)() for name in ("uint8", "uint16", "int32", "uint64", "int64", "float32", "float64")},
}

SEEN = ("seen_70_visible", "seen_70_thermal", "seen_478_visible", "seen_478_thermal")

ROOM = ("ambient_c", "sun_wm2", "wind_ms")
"""What a thermal camera's surroundings are known by."""

IDS = ("pair_id", "sample_id", "identity_id", "view", "draw", "condition", "thermal_draw", "split")
"""Which pair a row is; every output of ours begins with these."""

WORLD = (
    *IDS, "domain", "gap", "world_identity", "world_split", "attributes", "attributes_source", "visible", "visible_kind",
    "thermal", "thermal_kind", "kinetic", *ROOM, "valid", "classes", "size", "bbox", "landmarks_70", "landmarks_478", *SEEN,
    "pose",
)  # fmt: skip
"""Rows of `thermapair world`: everything is true."""

GATHERED = (
    *IDS, "name", "domain", "attributes", "attributes_source", "visible", "visible_kind", "thermal", "thermal_kind", "valid",
    "classes", "size", "bbox", "points_given", "face_height", "landmarks_5", "landmarks_70", "landmarks_72", "landmarks_478",
    *SEEN, "pose",
)  # fmt: skip
"""Rows of `thermapair gather`. Points that are not given are NaN; seen are those that are given and lie in the picture.
Classes are 255 everywhere where there is no mask."""

RECORD = (
    *IDS, "seed", "attempt", "name", "caption", "caption_source", "attributes", "attributes_source", "embedding",
    "visible", "visible_kind", "thermal", "thermal_kind", "thermal_clipped", "beyond_rooms", "valid", "classes", "size",
    "content_box",
    "bbox", "keypoints",
    *(f"{kind}_{number}{end}" for number in (70, 478) for kind, end in (
        ("landmarks", ""), ("variance", "_visible"), ("variance", "_thermal"), ("seen", "_visible"), ("seen", "_thermal"))),
    "pose_asked", "pose", "scores", "reject", "licence", "picture_licence", "consent",
    "provenance",
)  # fmt: skip
"""Rows of `thermapair generate`, `thermapair thermalize` and `thermapair translate`: one is one pair. `pose_asked`
where angles are asked for, `beyond_rooms` where a thermalizer takes rooms in degrees, `picture_licence` and `consent` where the
bundle draws after pictures of people."""


def arrow_type(column: Column) -> pa.DataType:
    """Return what a column is on disk: a picture, a text, a number, or a flat list of numbers."""
    if column.codec in ("picture", "png", "centikelvin"):
        return PICTURE
    value = VALUES[column.dtype.replace("text", "string")]
    if not column.shape:
        return value
    if not all(isinstance(side, int) for side in column.shape):
        raise ValueError(f"a list of unknown length {column.shape} is in no file: {column.meaning}")
    return pa.list_(value, prod(int(side) for side in column.shape))


def arrow_schema(names: Sequence[str]) -> pa.Schema:
    """Return the Arrow schema of a selection of `COLUMNS` with the features of `datasets` in its metadata."""
    types = {name: arrow_type(COLUMNS[name]) for name in names}
    features = {name: _feature(kind) for name, kind in types.items()}
    return pa.schema(types, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """Return a type in the words of `datasets`."""
    if kind == PICTURE:
        return {"_type": "Image"}
    if pa.types.is_fixed_size_list(kind):
        return {"feature": _feature(kind.value_type), "length": kind.list_size, "_type": "List"}
    return {"dtype": next(name for name, known in VALUES.items() if known == kind), "_type": "Value"}
