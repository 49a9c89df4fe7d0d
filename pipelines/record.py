"""The record: one row is one pair, a visible picture and the same moment in thermal, in one condition.

The schema carries the features of Hugging Face `datasets`, so `load_dataset` shows decoded pictures. `thermal` is a
16-bit PNG in centikelvin, the cameras' own convention: degrees Celsius = value / 100 - 273.15.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from typing import Any

import numpy as np
import pyarrow as pa

from models.attributes import ATTRIBUTES
from models.seeds import seed_of
from models.weights.bundle import Bundle
from pipelines.config.job import GenerateJob
from pipelines.pictures.codecs import encode_jpeg, encode_png
from pipelines.plan.photos import PhotoPlan, ThermalizeJob
from pipelines.plan.samples import Plan, pair_id

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
VALUE = {"string": pa.string(), "int32": pa.int32(), "int64": pa.int64(), "float32": pa.float32(), "bool": pa.bool_()}

COLUMNS: dict[str, pa.DataType] = {
    "pair_id": pa.string(),
    "sample_id": pa.string(),
    "identity_id": pa.string(),
    "view": pa.int32(),
    "draw": pa.int32(),
    "condition": pa.string(),  # warm | cold
    "split": pa.string(),  # train | validation | test, by identity
    "seed": pa.int64(),
    "attempt": pa.int32(),
    "caption": pa.string(),
    "caption_source": pa.string(),  # llm | grammar (in its place) | template (asked for) | given (with a request)
    "attributes": pa.string(),  # JSON: asked | estimated | given -> attribute -> word
    "embedding": pa.list_(pa.float32(), 512),  # the one asked for, unit length
    "visible": PICTURE,
    "thermal": PICTURE,
    "thermal_kind": pa.string(),
    "thermal_clipped": pa.float32(),  # share of the person's pixels at an end of the thermal scale
    "valid": PICTURE,  # 255 where the thermal value means something
    "classes": PICTURE,  # the 19 FaceSynthetics classes
    "bbox": pa.list_(pa.float32(), 4),  # x0, y0, x1, y1 in pixels of the picture
    "keypoints": pa.list_(pa.float32(), 10),  # x, y of the eyes, nose tip and mouth corners, subject's right first
    "landmarks_70": pa.list_(pa.float32(), 140),  # x, y in pixels, pixel centres at .5: iBUG-68 and the pupils
    "variance_70_visible": pa.list_(pa.float32(), 70),  # pixels squared, what this picture says of each point
    "variance_70_thermal": pa.list_(pa.float32(), 70),
    "seen_70_visible": pa.list_(pa.bool_(), 70),  # whether the point's pixel shows the face, or what covers it
    "seen_70_thermal": pa.list_(pa.bool_(), 70),
    "landmarks_478": pa.list_(pa.float32(), 956),  # the same with 478 points (world478)
    "variance_478_visible": pa.list_(pa.float32(), 478),
    "variance_478_thermal": pa.list_(pa.float32(), 478),
    "seen_478_visible": pa.list_(pa.bool_(), 478),
    "seen_478_thermal": pa.list_(pa.bool_(), 478),
    "pose": pa.list_(pa.float32(), 3),  # yaw, pitch, roll in degrees, from the 70 landmarks
    "scores": pa.string(),  # JSON: what the gates measured
    "reject": pa.string(),  # why the row lies under rejects/, empty under data/
    "licence": pa.string(),
    "provenance": pa.string(),  # JSON: run digest, job, bundle, partition
}
SHARED_LANDMARKS = ("pose", *(f"{kind}_{n}{end}" for n in (70, 478) for kind, end in (("landmarks", ""), ("variance", "_visible"),
                    ("seen", "_visible"), ("seen", "_thermal"))))  # fmt: skip
"""Columns of the landmark stage that all conditions of a sample share; the thermal variance is each condition's own."""
THERMAL_VARIANCES = ("variance_70_thermal", "variance_478_thermal")
PICTURES = tuple(name for name, kind in COLUMNS.items() if kind == PICTURE)


def schema() -> pa.Schema:
    """Return the Arrow schema of the record with the features of `datasets` in its metadata."""
    features = {name: _feature(kind) for name, kind in COLUMNS.items()}
    return pa.schema(COLUMNS, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def table_of(
    plan: Plan | PhotoPlan, columns: Mapping[str, np.ndarray], chosen: np.ndarray, threads: Executor
) -> pa.Table:
    """Return the pairs of the samples at indices `chosen` of `columns`, one row per condition, encoded in `threads`."""
    encoded = list(threads.map(lambda row: pairs_of(plan.job, plan.bundle, plan.digest, columns, int(row)), chosen))
    return pa.Table.from_pylist([pair for pairs in encoded for pair in pairs], schema=schema())


def split_of(identity: str) -> str:
    """Return the split of a person: 90 % train, 5 % validation, 5 % test, in every run alike."""
    return {0: "test", 1: "validation"}.get(seed_of("split", identity) % 20, "train")


def origins(words: Mapping[str, str], given: Mapping[str, str], estimated: Mapping[str, str]) -> dict[str, Any]:
    """Return `words` by where they come from: given with the person, estimated from the embedding, else asked for."""
    sources: dict[str, dict[str, str]] = {"asked": {}, "estimated": {}, "given": {}}
    for name in ATTRIBUTES:
        if name in words:
            source = "given" if name in given else "estimated" if name in estimated else "asked"
            sources[source][name] = words[name]
    return sources


def pairs_of(
    job: GenerateJob | ThermalizeJob, bundle: Bundle, run: str, columns: Mapping[str, np.ndarray], row: int
) -> list[dict[str, Any]]:
    """Return the pairs of one sample as rows of the record; `run` is the digest of what made them.

    Columns that no stage filled (the row failed before) come out empty.
    """
    value = _Row(columns, row)
    visible = value.get("visible")
    thermal, clipped = value.get("thermal"), value.get("thermal_clipped")
    sample = str(value["sample_id"])
    pixels = None if visible is None else _visible(visible, job.encoding.visible)
    classes = None if value.get("classes") is None else encode_png(value["classes"])
    shared = {
        "sample_id": sample,
        "identity_id": str(value["identity_id"]),
        "view": int(value["view"]),
        "draw": int(value["draw"]),
        "split": split_of(str(value["identity_id"])),
        "seed": int(value["seed"]),
        "attempt": int(value["attempt"]),
        "caption": str(value["caption"]),
        "caption_source": str(value["caption_source"]),
        "attributes": json.dumps(origins(*(json.loads(value[k]) for k in ("attributes", "given", "estimated")))),
        "embedding": value["embedding"] if "embedding" in columns else None,
        "visible": picture(sample, "visible", pixels, job.encoding.visible),
        "thermal_kind": "predicted",
        "classes": picture(sample, "classes", classes),
        "bbox": value.get("bbox"),
        "keypoints": _flat(value.get("keypoints")),
        **{name: _flat(value.get(name)) for name in SHARED_LANDMARKS},
        "scores": str(value["scores"]) if value.get("scores") is not None else "",
        "reject": str(value["reject"]),
        "licence": bundle.licence,
        "provenance": json.dumps(
            {
                "run": run,
                "job": job.name,
                "bundle": bundle.name,
                "partition": int(value["partition"]),
                **({"marks": str(value["marks"])} if value["marks"] else {}),
            }
        ),
    }
    pairs = []
    for index, condition in enumerate(job.conditions):
        name = pair_id(sample, condition)
        pairs.append(
            {
                **shared,
                "pair_id": name,
                "condition": condition,
                "thermal_clipped": None if clipped is None else float(clipped[index]),
                **thermal_pictures(name, None if thermal is None else thermal[index]),
                **{name: _flat(value.get(name), index) for name in THERMAL_VARIANCES},
            }
        )
    return pairs


def thermal_pictures(name: str, layer: np.ndarray | None) -> dict[str, Any]:
    """Return the `thermal` and `valid` pictures of `layer` uint16 [H, W] centikelvin; both empty without one."""
    mask = None if layer is None else ((layer > 0) & (layer < 65535)).astype(np.uint8) * 255
    return {
        "thermal": picture(name, "thermal", None if layer is None else encode_png(layer)),
        "valid": picture(name, "valid", None if mask is None else encode_png(mask)),
    }


class _Row:
    """One row of columns; `get` is None where a stage was not reached."""

    def __init__(self, columns: Mapping[str, np.ndarray], row: int) -> None:
        self.columns, self.row = columns, row
        self.reached = set(str(columns["reached"][row]).split(",")) if "reached" in columns else set(columns)

    def __getitem__(self, name: str) -> Any:
        return self.columns[name][self.row]

    def get(self, name: str) -> Any:
        return self.columns[name][self.row] if name in self.columns and name in self.reached else None


def _flat(values: np.ndarray | None, layer: int | None = None) -> np.ndarray | None:
    """Return one row's list as the schema holds it."""
    if values is None:
        return None
    return (values if layer is None else values[layer]).ravel()


def _visible(pixels: np.ndarray, encoding: str) -> bytes:
    return encode_jpeg(pixels) if encoding == "jpeg" else encode_png(np.ascontiguousarray(pixels[..., ::-1]))


def picture(name: str, kind: str, content: bytes | None, suffix: str = "png") -> dict[str, Any] | None:
    """Return an encoded picture as the record holds it, None for none."""
    return None if content is None else {"bytes": content, "path": f"{name}-{kind}.{suffix.replace('jpeg', 'jpg')}"}


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == PICTURE:
        return {"_type": "Image"}
    if pa.types.is_fixed_size_list(kind):
        return {"feature": _feature(kind.value_type), "length": kind.list_size, "_type": "List"}
    return {"dtype": next(name for name, known in VALUE.items() if known == kind), "_type": "Value"}


def reasons(columns: Mapping[str, np.ndarray], chosen: np.ndarray) -> Iterator[str]:
    """Yield the kinds of the reject reasons at `chosen`, what stands before their colon, to be counted."""
    for row in chosen:
        yield str(columns["reject"][row]).split(":")[0][:60]
