"""The stages of the small bundle: plain arithmetic, no models. Workers import this file alone, so it needs little."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from safetensors.numpy import load_file

from models.columns import Columns
from models.errors import UserError
from models.layers import Layer, check_words
from models.null import kinds
from models.seeds import seed_of
from models.stages import Files, Flow, NoOptions

KIND = "small"
SIZE = 32
WEIGHTS = {"model": True}


class Visible:
    """A coloured disc: colour and grain from the noise's name alone. Rows whose caption holds BAD raise."""

    WEIGHTS = WEIGHTS

    class Options(BaseModel):
        """How it is loaded."""

        model_config = ConfigDict(extra="forbid", frozen=True)
        wait: float = 0
        """Seconds that a batch takes."""

    class Settings(BaseModel):
        """What a job may choose."""

        model_config = ConfigDict(extra="forbid", frozen=True)
        steps: int = 4
        size: int = SIZE

    @staticmethod
    def columns(options: Options, settings: Settings, files: Mapping[str, Files]) -> Flow:
        return Flow(reads=("noise_id", "caption"), writes=("visible",))

    class Stage:
        def __init__(self, weights: Mapping[str, Path], options: Any, **_: Any) -> None:
            self.wait = options.wait

        def __call__(self, rows: Columns, settings: Any, batch: int) -> Columns:
            time.sleep(self.wait)
            if any("BAD" in str(caption) for caption in rows["caption"]):
                raise ValueError("a caption that cannot be drawn")
            return {"visible": np.stack([disc(str(name), settings.size) for name in rows["noise_id"]])}


class Parser(kinds.Parser):
    """The null parser, with weights."""

    WEIGHTS = WEIGHTS


class Thermal:
    """34 degC in the warm and 29 in the cold, and a little of the picture; without randomness."""

    WEIGHTS = WEIGHTS
    Options = NoOptions

    class Settings(BaseModel):
        """The layers of the job."""

        model_config = ConfigDict(extra="forbid", frozen=True)
        layers: tuple[Layer, ...] = ()

    @staticmethod
    def columns(options: NoOptions, settings: Settings, files: Mapping[str, Files]) -> Flow:
        try:
            check_words(settings.layers, ("warm", "cold"), "the small thermalizer")
        except ValueError as error:
            raise UserError(f"{error}.") from None
        return Flow(reads=("visible", "classes"), writes=("thermal", "thermal_clipped"))

    class Stage:
        def __init__(self, weights: Mapping[str, Path], options: NoOptions, **_: Any) -> None: ...

        def __call__(self, rows: Columns, settings: Any, batch: int) -> Columns:
            base = np.array([{"warm": 34.0, "cold": 29.0}[layer.condition] for layer in settings.layers])
            celsius = base[None, :, None, None] + rows["visible"].mean(-1)[:, None] / 255
            thermal = np.rint((celsius + 273.15) * 100).astype(np.uint16)
            return {"thermal": thermal, "thermal_clipped": np.zeros(thermal.shape[:2], np.float32)}


class Faces:
    """Finds the embedding that was asked for, except in one attempt out of four."""

    WEIGHTS = WEIGHTS
    Options, Settings = NoOptions, NoOptions

    @staticmethod
    def columns(options: NoOptions, settings: NoOptions, files: Mapping[str, Files]) -> Flow:
        writes = ("bbox", "keypoints", "detection_score", "found_embedding", "faces")
        return Flow(reads=("visible", "noise_id", "embedding"), writes=writes)

    @staticmethod
    def reference(options: NoOptions, weights: Mapping[str, Path]) -> dict[str, np.ndarray]:
        """Return a narrow distribution of people, with a probe for one attribute."""
        return dict(load_file(weights["model"] / "reference.safetensors"))

    @staticmethod
    def recogniser(weights: Mapping[str, Path]) -> str:
        """Return the space of the embeddings."""
        return KIND

    class Stage:
        def __init__(self, weights: Mapping[str, Path], options: NoOptions, **_: Any) -> None: ...

        def __call__(self, rows: Columns, settings: NoOptions, batch: int) -> Columns:
            count = len(rows["noise_id"])
            wrong = np.array([seed_of("fails", str(name)) % 4 == 0 for name in rows["noise_id"]])
            found = np.where(wrong[:, None], -rows["embedding"], rows["embedding"]).astype(np.float32)
            return {
                "bbox": np.tile(np.array([6, 6, 26, 26], np.float32), (count, 1)),
                "keypoints": np.zeros((count, 5, 2), np.float32),
                "detection_score": np.ones(count, np.float32),
                "found_embedding": found,
                "faces": np.ones(count, np.int32),
            }


KINDS: dict[str, type] = {"visible": Visible, "parser": Parser, "thermal": Thermal, "faces": Faces}


def disc(name: str, size: int) -> np.ndarray:
    """Return uint8 [size, size, 3]."""
    random = np.random.default_rng(seed_of(name))
    y, x = np.mgrid[:size, :size] / size - 0.5
    inside = (x**2 + y**2 < 0.12)[..., None]
    grain = random.integers(0, 40, (size, size, 3))
    return np.where(inside, random.integers(60, 200, 3) + grain, grain).astype(np.uint8)
