"""A row of training data, in the shards of `world` and of `gather`: its columns, and how a picture fills them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.temperature import to_centikelvin
from pipelines.pictures import encode_jpeg, encode_png

ROW_GROUP = 64
"""Small row groups keep random access and previews cheap."""

VISIBILITY = ("visible_70_rgb", "visible_70_thermal", "visible_478_rgb", "visible_478_thermal")

SCHEMA = pa.schema(
    [
        ("part", pa.int32()),
        ("identity", pa.int64()),
        ("view", pa.int32()),
        ("domain", pa.string()),
        ("split", pa.string()),
        ("condition", pa.string()),
        ("size", pa.int32()),
        ("attributes", pa.string()),
        *((name, pa.binary()) for name in ("visible", "apparent", "kinetic", "valid", "classes")),
        ("landmarks_70", pa.list_(pa.float32(), 140)),
        ("landmarks_478", pa.list_(pa.float32(), 956)),
        *((name, pa.list_(pa.bool_(), 70 if "70" in name else 478)) for name in VISIBILITY),
        ("bbox", pa.list_(pa.float32(), 4)),
        ("pose", pa.list_(pa.float32(), 3)),
    ]
)

GATHERED = pa.schema(
    [
        *(field for field in SCHEMA if field.name != "part"),
        ("name", pa.string()),  # what the data set calls the row
        ("visible_kind", pa.string()),  # rgb | thermal: in grey, for want of a visible picture
        ("thermal_kind", pa.string()),  # measured | minmax: `apparent` holds 8-bit grey levels, no degrees | empty
        ("given", pa.int32()),  # how many points the data set gives
        (
            "face_height",
            pa.float32(),
        ),  # of the points' box, pixels of the thermal picture (else the visible) as it came
        ("landmarks_5", pa.list_(pa.float32(), 10)),
        ("landmarks_72", pa.list_(pa.float32(), 144)),  # NaN behind the 43 of a profile
    ]
)
"""Rows of real data sets: the world's columns, and what is particular to them. Points that are not given are NaN; seen are
those that are given and lie in the picture. Classes are 255 everywhere where there is no mask."""


def encode(arrays: dict[str, np.ndarray], thermal: str) -> dict[str, Any]:
    """Return the columns of one rendered picture; a domain without thermal pictures leaves theirs empty."""
    columns: dict[str, Any] = {
        "visible": encode_jpeg(arrays["rgb"]),
        "valid": encode_png(arrays["valid"].astype(np.uint8) * 255),
        "classes": encode_png(arrays["classes"]),
    }
    if thermal != "none":
        columns |= {name: encode_png(to_centikelvin(arrays[name])) for name in ("apparent", "kinetic")}
    for name in ("landmarks_70", "landmarks_478", "bbox", "pose", *VISIBILITY):
        columns[name] = arrays[name].ravel()
    return columns


def encode_gathered(row: dict[str, Any], visible: Callable[[np.ndarray], bytes]) -> dict[str, Any]:
    """Return a row of `layouts.row_of` with its pictures encoded; `visible` encodes the visible one."""
    apparent = row["apparent"]
    if apparent is not None and apparent.dtype != np.uint8:
        apparent = to_centikelvin(apparent)
    return {
        **{name: value.ravel() if isinstance(value, np.ndarray) else value for name, value in row.items()},
        "visible": visible(row["visible"]),
        "apparent": None if apparent is None else encode_png(apparent),
        "valid": encode_png(row["valid"].astype(np.uint8) * 255),
        "classes": encode_png(row["classes"]),
    }


def parquet(table: pa.Table) -> bytes:
    """Return `table` as the bytes of a shard; the pictures in it are compressed already."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="none", row_group_size=ROW_GROUP)
    return sink.getvalue().to_pybytes()
