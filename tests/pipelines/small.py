"""Stages of plain arithmetic for the tests of partitions, commits, redraws and resumes. They are no models."""

import os
import time
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file

from models.config import apply_edit, check
from models.seeds import seed_of
from models.weights.bundle import Bundle, load_bundle
from models.weights.store import seal
from pipelines.config.job import GenerateJob
from pipelines.config.profile import Profile
from pipelines.generate import KINDS

SIZE = 32
Columns = dict[str, np.ndarray]


class Visible:
    """A coloured disc: colour and grain from the noise's name alone. Rows whose caption holds BAD raise."""

    def __init__(
        self,
        weights: Path,
        *,
        dtype: str,
        threads: int,
        batch: int,
        steps: int,
        guidance: float,
        size: int,
        wait: float = 0,
    ) -> None:
        self.batch, self.size, self.wait = batch, size, wait

    def __call__(self, rows: Columns) -> Columns:
        time.sleep(self.wait)
        if any("BAD" in str(caption) for caption in rows["caption"]):
            raise ValueError("a caption that cannot be drawn")
        pictures = [self.draw(str(name)) for name in rows["noise_id"]]
        return {**rows, "visible": np.stack(pictures)}

    def draw(self, name: str) -> np.ndarray:
        random = np.random.default_rng(seed_of(name))
        y, x = np.mgrid[: self.size, : self.size] / self.size - 0.5
        disc = (x**2 + y**2 < 0.12)[..., None]
        grain = random.integers(0, 40, (self.size, self.size, 3))
        return np.where(disc, random.integers(60, 200, 3) + grain, grain).astype(np.uint8)


class Parser:
    """Bright pixels are skin."""

    def __init__(self, weights: Path, **_: object) -> None: ...

    def __call__(self, rows: Columns) -> Columns:
        return {**rows, "classes": (rows["visible"].mean(-1) > 50).astype(np.uint8)}


class Thermal:
    """34 degC in the warm and 29 in the cold, and a little of the picture."""

    def __init__(self, weights: Path, *, conditions: tuple[str, ...], **_: object) -> None:
        self.conditions = conditions

    def __call__(self, rows: Columns) -> Columns:
        base = np.array([{"warm": 34.0, "cold": 29.0}[name] for name in self.conditions])
        celsius = base[None, :, None, None] + rows["visible"].mean(-1)[:, None] / 255
        thermal = np.rint((celsius + 273.15) * 100).astype(np.uint16)
        return {**rows, "thermal": thermal, "thermal_clipped": np.zeros(thermal.shape[:2], np.float32)}


class Faces:
    """Finds the embedding that was asked for, except in one attempt out of four."""

    def __init__(self, weights: Path, **_: object) -> None: ...

    def __call__(self, rows: Columns) -> Columns:
        count = len(rows["noise_id"])
        wrong = np.array([seed_of("fails", str(name)) % 4 == 0 for name in rows["noise_id"]])
        found = np.where(wrong[:, None], -rows["embedding"], rows["embedding"]).astype(np.float32)
        return {
            **rows,
            "bbox": np.tile(np.array([6, 6, 26, 26], np.float32), (count, 1)),
            "keypoints": np.zeros((count, 5, 2), np.float32),
            "detection_score": np.ones(count, np.float32),
            "found_embedding": found,
            "faces": np.ones(count, np.int32),
        }


STAGES = {
    "visible": f"{__name__}:Visible",
    "parser": f"{__name__}:Parser",
    "thermal": f"{__name__}:Thermal",
    "faces": f"{__name__}:Faces",
    "gates": "models.gates:GateStage",
}


def write_bundle(folder: Path, **options: object) -> Bundle:
    """Write a bundle of sealed part folders below `folder`; `options` go to the visible stage."""
    content: dict[str, object] = {"name": "small", "size": SIZE}
    for name in ("captions", "visible", "parser", "thermal", "faces"):
        part = folder / name
        part.mkdir(parents=True, exist_ok=True)
        (part / "weights.bin").write_bytes(name.encode() * 100)
        content[name] = {"kind": KINDS.get(name, "small"), "weights": name, "licence": "apache-2.0", "batch": 4}
    content["visible"] = {**content["visible"], "options": options}  # type: ignore[dict-item]
    random = np.random.default_rng(0)
    components = np.linalg.qr(random.normal(size=(512, 64)))[0].T
    reference = {
        "mean": random.normal(size=512) * 0.002,
        "components": components,
        "scales": np.full(64, 0.1),
        "probe.sex.weight": components[:2] * 5,
        "probe.sex.bias": np.zeros(2),
    }
    save_file(
        {k: np.ascontiguousarray(v, np.float32) for k, v in reference.items()},
        folder / "faces" / "reference.safetensors",
    )
    for name in ("captions", "visible", "parser", "thermal", "faces"):
        seal(folder / name)
    path = folder / "bundle.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_bundle(str(path))


def job(*edits: str) -> GenerateJob:
    """Return the tests' job with `key=value` edits."""
    content: dict[str, object] = {
        "name": "test",
        "seed": 3,
        "identities": {"source": "reference", "count": 6},
        "views": {"per_identity": 4},
        "captions": "template",
        "gates": {"attempts": 3, "face_area": [0.05, 0.9]},
        "partition_samples": 8,
    }
    for edit in edits:
        apply_edit(content, edit)
    return check(GenerateJob, content, "job")


def profile(*edits: str) -> Profile:
    """Return a profile for the tests' Ray with `key=value` edits."""
    content: dict[str, object] = {
        "name": "test",
        "groups": [{"stages": ["visible", "parser", "thermal", "faces", "gates"], "actors": [1, 2], "cpus": 1}],
        "writer": {"tasks": 2, "cpus": 1, "threads": 2},
        "ray": {"cpus": 8, "object_store_mb": 100},
    }
    for edit in edits:
        apply_edit(content, edit)
    return check(Profile, content, "profile")


def shards(out: Path) -> dict[str, bytes]:
    """Return the committed files of an output with their bytes, by name."""
    found = [path for folder in ("data", "rejects") for path in sorted((out / folder).glob("*"))]
    return {os.path.relpath(path, out): path.read_bytes() for path in found}
