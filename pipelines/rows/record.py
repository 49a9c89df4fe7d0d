"""The record: one row is one pair, a visible picture and the same moment in thermal, in one layer.

Jobs and service make it by the same function of a finished row of the chain.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from models.columns import COLUMNS, Columns
from models.layers import Layer
from models.temperature import from_centikelvin, to_levels
from models.visible.angles import beyond_training
from pipelines.config.chain import ChainSpec
from pipelines.config.generate import POSE, TERMS
from pipelines.pictures.codecs import encode_jpeg, encode_png, encode_png_rgb
from pipelines.rows.encode import VISIBLE_BYTES, picture, picture_as_it_came
from pipelines.rows.ids import hash_id, planned_id, split_of
from pipelines.rows.schema import RECORD, arrow_schema

PREDICTED = "predicted"
"""The kind of a thermal picture that a network made."""
AGC = "agc"
"""The kind of one that came as a camera's grey levels."""
NUMBERS = ("view", "draw", "seed", "attempt")
TEXTS = ("name", "caption", "caption_source", "attributes", "attributes_source", "scores", "reject")


SELDOM = (POSE, "beyond_rooms", *TERMS)
"""Columns of the record that a job has only where they say something."""


@dataclass(frozen=True)
class RecordSpec:
    """What rows of the record need to know of the run that made them."""

    run: str
    """Digest of its recipe."""
    layers: tuple[Layer, ...]
    licence: str
    chain: ChainSpec
    visible: str = "jpeg"
    """How visible pictures are encoded: jpeg or png."""
    split: str = ""
    """The one split of all rows, where nobody says who is shown; by person otherwise."""

    grey: tuple[float, float] = (0.0, 0.0)
    """Degrees Celsius for which grey levels 0 and 255 were taken, where thermal pictures came as such."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of its rows: of those that not every job has, the ones that its source brings or a stage writes."""
        there = {*self.chain.given, *self.chain.tracked}
        return tuple(name for name in RECORD if name not in SELDOM or name in there)


def pair_id(sample: str, layer: Layer) -> str:
    """Return the id of one visible and thermal pair: 20 hex digits."""
    return hash_id("pair", sample, layer.condition, layer.draw)


def encode_pairs(spec: RecordSpec, columns: Columns, chosen: np.ndarray, threads: Executor) -> pa.Table:
    """Return the pairs of the samples at indices `chosen` of `columns`, one row a layer, encoded in `threads`."""
    encoded = list(threads.map(lambda row: pairs_of(spec, columns, int(row)), chosen))
    return pa.Table.from_pylist([pair for pairs in encoded for pair in pairs], schema=arrow_schema(spec.columns))


def pairs_of(spec: RecordSpec, columns: Columns, row: int) -> list[dict[str, Any]]:
    """Return the pairs of one sample as rows of the record.

    Columns that no stage filled (the row failed before), and pictures without a pixel, come out empty.
    """
    # What all layers of the sample share: ids, texts, its visible picture.
    value = _Row(spec.chain, columns, row)
    sample, person = str(value["sample_id"]), str(value["identity_id"])
    shared = {
        "sample_id": sample,
        "identity_id": person,
        "split": spec.split or split_of(person),
        **{name: int(value[name]) for name in NUMBERS},
        **{name: str(value[name]) for name in TEXTS if name in columns},
        **_pictures(spec, value, sample),
        "visible_kind": "rgb" if "visible" in columns else "translated",
        "licence": spec.licence,
        "provenance": json.dumps(_provenance(spec, value)),
    }
    # The other numbers and lists of the sample.
    for name in spec.columns:
        if name not in shared and COLUMNS[name].codec == "" and COLUMNS[name].per != "layer":
            shared[name] = _to_value(value.get(name))
    # A pair for each layer, with the numbers and the thermal picture that are its own.
    pairs = []
    for index, layer in enumerate(spec.layers):
        name = pair_id(sample, layer)
        own = {column: _to_value(value.get(column), index) for column in spec.columns if _per_layer(column)}
        thermal, kind = value.get("thermal"), str(value.get("thermal_kind") or PREDICTED)
        pairs.append(
            {
                **shared,
                **own,
                "pair_id": name,
                "condition": layer.condition,
                "thermal_draw": layer.draw,
                **thermal_pictures(name, None if thermal is None else thermal[index], kind, spec.grey),
            }
        )
    return pairs


def thermal_pictures(
    name: str, layer: np.ndarray | None, kind: str = PREDICTED, grey: tuple[float, float] = (0.0, 0.0)
) -> dict[str, Any]:
    """Return `thermal`, its kind and `valid` of `layer` uint16 [H, W] centikelvin; all empty without one. Of kind agc `thermal`
    are the 8-bit grey levels that came, taken for degrees between `grey`."""
    if layer is None or not layer.size:
        return {"thermal": None, "thermal_kind": "", "valid": None}
    mask = ((layer > 0) & (layer < 65535)).astype(np.uint8) * 255
    if kind == AGC:
        layer = to_levels(from_centikelvin(layer), grey)
    return {
        "thermal": picture(name, "thermal", encode_png(layer)),
        "thermal_kind": kind,
        "valid": picture(name, "valid", encode_png(mask)),
    }


def visible_picture(name: str, pixels: np.ndarray, encoding: str) -> dict[str, Any] | None:
    """Return `visible` of uint8 [H, W, 3] RGB, encoded as jpeg or png."""
    if encoding == "jpeg":
        return picture(name, "visible", encode_jpeg(pixels), "jpg")
    return picture(name, "visible", encode_png_rgb(pixels))


class _Row:
    """One row of columns; `get` is None where a stage was not reached."""

    def __init__(self, chain: ChainSpec, columns: Columns, row: int) -> None:
        self.columns, self.row = columns, row
        reached = int(columns["reached"][row]) if "reached" in columns else -1
        self.lacking = {name for bit, name in enumerate(chain.tracked) if not reached >> bit & 1}

    def __getitem__(self, name: str) -> Any:
        return self.columns[name][self.row]

    def get(self, name: str) -> Any:
        return self.columns[name][self.row] if name in self.columns and name not in self.lacking else None


def _pictures(spec: RecordSpec, value: _Row, sample: str) -> dict[str, Any]:
    """Return the visible picture, as it came where it is kept so, the classes, and how large both are."""
    made = "visible" if "visible" in value.columns else "translated"
    visible, classes, came = value.get(made), value.get("classes"), value.get(VISIBLE_BYTES)
    found: dict[str, Any] = {"visible": None, "classes": None, "size": None}
    if visible is not None and visible.size:
        found["size"] = int(visible.shape[0])
        found["visible"] = visible_picture(sample, visible, spec.visible)
        if came:
            found["visible"] = picture_as_it_came(sample, bytes(came))
    if classes is not None and classes.size:
        found["classes"] = picture(sample, "classes", encode_png(classes))
    return found


def _provenance(spec: RecordSpec, value: _Row) -> dict[str, Any]:
    """Return which run made the row, where, and what was particular: smaller batches, a caption's cut end, its source."""
    found: dict[str, Any] = {"recipe": spec.run, "partition": int(value["partition"])}
    if value.get("shrunk") is not None and value["shrunk"].any():
        sizes = zip(spec.chain.stages, value["shrunk"].tolist(), strict=True)
        found["smaller_batches"] = {stage: size for stage, size in sizes if size}
    # Angles that nothing like them was seen of in training.
    if value.get(POSE) is not None and (beyond := beyond_training(value[POSE])):
        found["beyond_training"] = beyond
    # What a text encoder's window left out of the caption, in tokens.
    if value.get("caption_cut"):
        found["caption_cut"] = int(value["caption_cut"])
    # Where a face that was cut out lies in the upright picture that it is of, in pixels.
    if value.get("source_box") is not None and np.isfinite(value["source_box"]).all():
        found |= {"parent_id": planned_id(str(value["sample_id"])), "source_box": value["source_box"].tolist()}
    return found


def _per_layer(name: str) -> bool:
    return COLUMNS[name].per == "layer" and COLUMNS[name].codec == "" and COLUMNS[name].dtype != "text"


def _to_value(values: Any, layer: int | None = None) -> Any:
    """Return a value as the schema holds it: lists flat, texts as texts."""
    if values is None:
        return None
    found = np.asarray(values if layer is None else values[layer])
    return found.ravel() if found.ndim else found.item()


def reasons(columns: Mapping[str, np.ndarray], chosen: np.ndarray) -> Iterator[str]:
    """Yield the kinds of the reject reasons at `chosen`, what stands before their colon, to be counted."""
    for row in chosen:
        yield str(columns["reject"][row]).split(":")[0][:60]
