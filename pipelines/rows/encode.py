"""How rendered and gathered rows become rows of a file: ids, encoded pictures, flat lists."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.synthworld.sampling.environment import Environment
from models.temperature import to_centikelvin
from pipelines.pictures.codecs import encode_jpeg, encode_png
from pipelines.rows.ids import hash_id, split_of, split_of_world
from pipelines.rows.schema import SEEN

VISIBLE_BYTES = "visible_bytes"
"""A column beside the vocabulary's: the visible picture as it came, where it fits and is stored so; else empty."""
ROW_GROUP = 64
"""Small row groups keep random access and previews cheap."""


def name_rendered(
    domain: str, gap: float, world_split: str, person: int, view: int, condition: str, attributes: Mapping[str, str]
) -> dict[str, Any]:
    """Return the columns that say which picture of the world a row is, and what is to be seen in it."""
    sample = hash_id("world", domain, f"{gap:g}", person, view)
    return {
        "pair_id": hash_id("pair", sample, condition, 0),
        "sample_id": sample,
        "identity_id": str(person),
        "view": view,
        "draw": 0,
        "condition": condition,
        "thermal_draw": 0,
        "split": split_of_world(world_split),
        "domain": domain,
        "gap": gap,
        "world_identity": person,
        "world_split": world_split,
        "attributes": json.dumps(attributes),
        "attributes_source": json.dumps(dict.fromkeys(attributes, "rendered")),
    }


def tell_room(environment: Environment) -> dict[str, float]:
    """Return the columns that say in which surroundings a row was rendered, as far as anybody could measure them."""
    return {"ambient_c": environment.ambient_c, "sun_wm2": environment.sun_wm2, "wind_ms": environment.wind_ms}


def encode_rendered(name: str, arrays: dict[str, np.ndarray], thermal: str) -> dict[str, Any]:
    """Return the pictures and points of one rendered picture, by their names in `models.synthworld.render.render.Rendering`.

    name: the pair's id. thermal: what the domain's camera delivers; "none" leaves the thermal pictures empty.
    """
    # What every domain has.
    columns: dict[str, Any] = {
        "visible": picture(name, "visible", encode_jpeg(arrays["rgb"]), "jpg"),
        "visible_kind": "rgb",
        "thermal_kind": "" if thermal == "none" else "apparent",
        "valid": picture(name, "valid", encode_png(arrays["valid"].astype(np.uint8) * 255)),
        "classes": picture(name, "classes", encode_png(arrays["classes"])),
        "size": arrays["rgb"].shape[0],
    }
    # Temperatures, where the domain has a thermal camera.
    if thermal != "none":
        columns["thermal"] = picture(name, "thermal", encode_png(to_centikelvin(arrays["apparent"])))
        columns["kinetic"] = picture(name, "kinetic", encode_png(to_centikelvin(arrays["kinetic"])))
    return columns | {name: arrays[name].ravel() for name in ("landmarks_70", "landmarks_478", "bbox", "pose", *SEEN)}


def encode_gathered(row: dict[str, Any], visible: Callable[[np.ndarray], bytes], suffix: str = "jpg") -> dict[str, Any]:
    """Return a row of `readers.read_rows` with its ids, its pictures encoded; `visible` encodes the visible one as `suffix`,
    unless its file fits as it came.
    """
    # Ids hash the name in the data set, so they stay when rows are added.
    sample = hash_id(row["domain"], row["name"])
    name = hash_id("pair", sample, row["condition"], 0)
    # The thermal picture: grey levels as they are, degrees as centikelvin.
    thermal, came = row["thermal"], row[VISIBLE_BYTES]
    if thermal is not None:
        thermal = encode_png(thermal if thermal.dtype == np.uint8 else to_centikelvin(thermal))
    return {
        **{column: value.ravel() if isinstance(value, np.ndarray) else value for column, value in row.items()},
        "pair_id": name,
        "sample_id": sample,
        "draw": 0,
        "thermal_draw": 0,
        "split": row["split"] or split_of(row["identity_id"]),
        "attributes_source": json.dumps(dict.fromkeys(json.loads(row["attributes"]), "given")),
        "visible": picture_as_it_came(name, came)
        if came
        else picture(name, "visible", visible(row["visible"]), suffix),
        "thermal": picture(name, "thermal", thermal),
        "valid": picture(name, "valid", encode_png(row["valid"].astype(np.uint8) * 255)),
        "classes": picture(name, "classes", encode_png(row["classes"])),
    }


def picture_as_it_came(name: str, content: bytes) -> dict[str, Any]:
    """Return a visible picture whose file is kept, a JPEG or a PNG."""
    suffix = "png" if content.startswith(b"\x89PNG") else "jpg"
    return {"bytes": content, "path": f"{name}-visible.{suffix}"}


def picture(name: str, kind: str, content: bytes | None, suffix: str = "png") -> dict[str, Any] | None:
    """Return an encoded picture as a file holds it, None for none."""
    return None if content is None else {"bytes": content, "path": f"{name}-{kind}.{suffix}"}


def encode_parquet(table: pa.Table) -> bytes:
    """Return `table` as the bytes of a shard; the pictures in it are compressed already."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="none", row_group_size=ROW_GROUP)
    return sink.getvalue().to_pybytes()
