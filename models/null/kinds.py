"""Kinds that make every stage in no time and without weights: what tests of the graph and runs of the scale use.

Pictures are noise by the row's name, people are isotropic, the recogniser echoes the identity that was asked for, boxes and
points lie where a portrait has them. Nothing here is a model, and no torch is imported.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from models.columns import Columns
from models.layers import Layer, degrees_of
from models.seeds import seed_of
from models.stages import Files, Flow, NoOptions

EMBEDDING = 512
POINTS = 70
FACE = (0.25, 0.2, 0.75, 0.85)
"""Box of the face in shares of the picture."""


class _Size(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = 64


class _Layers(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: tuple[Layer, ...] = ()


class _Pictures(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    pictures: bool = True
    """False leaves the pictures without pixels: rows alone."""


class Portrait:
    """`identity_id` -> `reference`: an ellipse of the person's own colour."""

    WEIGHTS: Mapping[str, bool] = {}
    Options, Settings = _Pictures, _Size

    @staticmethod
    def columns(options: _Pictures, settings: _Size, files: Mapping[str, Files]) -> Flow:
        return Flow(reads=("identity_id", "embedding"), writes=("reference",))

    class Stage:
        def __init__(self, weights: Mapping[str, Path], options: _Pictures, **_: Any) -> None:
            self.options = options

        def __call__(self, rows: Columns, settings: _Size, batch: int) -> Columns:
            side = settings.size if self.options.pictures else 0
            return {"reference": _pictures_of([f"{person}/portrait" for person in rows["identity_id"]], side)}


class Visible:
    """`noise_id` -> `visible`: an ellipse of one colour on noise, another for every `pose_asked`."""

    WEIGHTS: Mapping[str, bool] = {}
    Options, Settings = _Pictures, _Size

    @staticmethod
    def columns(options: _Pictures, settings: _Size, files: Mapping[str, Files]) -> Flow:
        return Flow(reads=("noise_id",), reads_if_there=("pose_asked",), writes=("visible",))

    @staticmethod
    def takes_pose(files: Mapping[str, Files]) -> bool:
        return True

    class Stage:
        def __init__(self, weights: Mapping[str, Path], options: _Pictures, **_: Any) -> None:
            self.options = options

        def __call__(self, rows: Columns, settings: _Size, batch: int) -> Columns:
            side = settings.size if self.options.pictures else 0
            names = [str(name) for name in rows["noise_id"]]
            if "pose_asked" in rows:
                names = [f"{name}/{pose.tolist()}" for name, pose in zip(names, rows["pose_asked"], strict=True)]
            return {"visible": _pictures_of(names, side)}


class Parser:
    """`visible` -> `classes`: skin in the ellipse, background around it."""

    WEIGHTS: Mapping[str, bool] = {}
    Options, Settings = NoOptions, NoOptions

    @staticmethod
    def columns(options: NoOptions, settings: NoOptions, files: Mapping[str, Files]) -> Flow:
        return Flow(reads=("visible",), writes=("classes",))

    class Stage:
        def __init__(self, weights: Mapping[str, Path], options: NoOptions, **_: Any) -> None: ...

        def __call__(self, rows: Columns, settings: NoOptions, batch: int) -> Columns:
            count, height, width = rows["visible"].shape[:3]
            return {"classes": np.repeat(_ellipse(height, width).astype(np.uint8)[None], count, axis=0)}


class Thermal:
    """`visible`, `noise_id` -> `thermal`: skin of a warm or cold face, or of a room in degrees, and noise of 50 mK."""

    WEIGHTS: Mapping[str, bool] = {}
    Options, Settings = NoOptions, _Layers

    @staticmethod
    def columns(options: NoOptions, settings: _Layers, files: Mapping[str, Files]) -> Flow:
        return Flow(reads=("visible",), reads_if_there=("noise_id",), writes=("thermal", "thermal_clipped"))

    class Stage:
        def __init__(self, weights: Mapping[str, Path], options: NoOptions, **_: Any) -> None: ...

        def __call__(self, rows: Columns, settings: _Layers, batch: int) -> Columns:
            shape = rows["visible"].shape[1:3]
            names = rows["noise_id"] if "noise_id" in rows else [_digest(picture) for picture in rows["visible"]]
            made = [[_degrees(str(name), layer, shape) for layer in settings.layers] for name in names]
            thermal = np.array(made, np.uint16).reshape(len(names), len(settings.layers), *shape)
            return {"thermal": thermal, "thermal_clipped": np.zeros(thermal.shape[:2], np.float32)}


class Translate:
    """`thermal`, `noise_id` -> `translated`: the first layer in a colour by the row's name, told no attributes."""

    WEIGHTS: Mapping[str, bool] = {}
    Options, Settings = NoOptions, NoOptions

    @staticmethod
    def columns(options: NoOptions, settings: NoOptions, files: Mapping[str, Files]) -> Flow:
        return Flow(reads=("thermal", "noise_id"), writes=("translated", "attributes", "attributes_source"))

    class Stage:
        def __init__(self, weights: Mapping[str, Path], options: NoOptions, **_: Any) -> None: ...

        def __call__(self, rows: Columns, settings: NoOptions, batch: int) -> Columns:
            levels = (rows["thermal"][:, 0].astype(np.int64) - 27315) // 16 % 256
            tints = np.array([[seed_of(name, c) % 256 for c in "rgb"] for name in rows["noise_id"]])
            mixed = (levels[..., None] + tints[:, None, None].reshape(-1, 1, 1, 3)) // 2
            untold = np.full(len(mixed), "{}", object)
            return {"translated": mixed.astype(np.uint8), "attributes": untold, "attributes_source": untold}


class Faces:
    """`visible` -> one face in the middle; its embedding is the one that was asked for, else follows from the picture."""

    WEIGHTS: Mapping[str, bool] = {}
    Options, Settings = NoOptions, NoOptions

    @staticmethod
    def columns(options: NoOptions, settings: NoOptions, files: Mapping[str, Files]) -> Flow:
        writes = ("bbox", "keypoints", "detection_score", "found_embedding", "faces")
        return Flow(reads=("visible",), reads_if_there=("embedding",), writes=writes)

    @staticmethod
    def reference(options: NoOptions, weights: Mapping[str, Path]) -> dict[str, np.ndarray]:
        """Return an isotropic distribution of people."""
        components = np.eye(EMBEDDING, dtype=np.float32)
        return {"mean": np.zeros(EMBEDDING, np.float32), "components": components,
                "scales": np.ones(EMBEDDING, np.float32)}  # fmt: skip

    @staticmethod
    def recogniser(weights: Mapping[str, Path]) -> str:
        """Return the space of the embeddings."""
        return "null"

    class Stage:
        def __init__(self, weights: Mapping[str, Path], options: NoOptions, **_: Any) -> None: ...

        def __call__(self, rows: Columns, settings: NoOptions, batch: int) -> Columns:
            pictures = rows["visible"]
            found = self.find(list(pictures), batch)
            points = np.array([one.points[0] for one in found], np.float32).reshape(-1, 5, 2)
            echoed = rows.get("embedding")
            return {
                "bbox": np.array([one.boxes[0] for one in found], np.float32).reshape(-1, 4),
                "keypoints": points,
                "detection_score": np.ones(len(found), np.float32),
                "found_embedding": self.embed(list(pictures), points, batch) if echoed is None else echoed,
                "faces": np.ones(len(found), np.int32),
            }

        def find(self, pictures: Sequence[np.ndarray], batch: int) -> list[Any]:
            """Return one face in the middle of each picture uint8 [H, W, 3]."""
            from models.faces.decode import Detections

            found = []
            for picture in pictures:
                height, width = picture.shape[:2]
                box = np.array([FACE], np.float32) * np.array([width, height, width, height], np.float32)
                found.append(Detections(box, np.ones(1, np.float32), _points(box[0], 5)[None]))
            return found

        def embed(self, pictures: Sequence[np.ndarray], points: np.ndarray, batch: int) -> np.ndarray:
            """Return unit vectors float32 [B, 512] that the pictures' bytes stand for."""
            drawn = [_random(_digest(picture)).standard_normal(EMBEDDING) for picture in pictures]
            vectors = np.array(drawn, np.float32).reshape(-1, EMBEDDING)
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Landmarks:
    """`bbox` -> 70 points on a grid in the face's box, a pixel sure of each; the pose is the one asked for, else frontal."""

    WEIGHTS: Mapping[str, bool] = {}
    Options, Settings = NoOptions, NoOptions

    @staticmethod
    def columns(options: NoOptions, settings: NoOptions, files: Mapping[str, Files]) -> Flow:
        from models.landmarks.settings import writes

        return Flow(reads=("bbox", "thermal"), reads_if_there=("pose_asked",), writes=writes((POINTS,)))

    class Stage:
        def __init__(self, weights: Mapping[str, Path], options: NoOptions, **_: Any) -> None: ...

        def __call__(self, rows: Columns, settings: NoOptions, batch: int) -> Columns:
            count, layers = rows["thermal"].shape[:2]
            points = np.array([_points(box, POINTS) for box in rows["bbox"]], np.float32).reshape(-1, POINTS, 2)
            return {
                "landmarks_70": points,
                "variance_70_visible": np.ones((count, POINTS), np.float32),
                "variance_70_thermal": np.ones((count, layers, POINTS), np.float32),
                "seen_70_visible": np.ones((count, POINTS), bool),
                "seen_70_thermal": np.ones((count, POINTS), bool),
                "apart_70": np.zeros((count, layers), np.float32),
                "pose": np.nan_to_num(rows.get("pose_asked", np.zeros((count, 3)))).astype(np.float32),
            }

        def at_boxes(
            self, pictures: Sequence[np.ndarray], boxes: Sequence[np.ndarray], number: int, batch: int
        ) -> list[list[Any]]:
            """Return `number` points in each of `boxes` [N, 4] of each picture."""
            from models.landmarks.detect import Face, box_window  # imports torch

            ones = np.ones(number, np.float32)
            return [
                [Face(_points(box, number), ones, 0.0, box_window(box, 112)) for box in np.asarray(of_picture)]
                for of_picture in boxes
            ]

        def find_frame(self, celsius: np.ndarray, most: int) -> list[Any]:
            """Return a face in the left and one in the right half of a frame, at most so many; none in one of a single value."""
            height, width = celsius.shape
            boxes = np.array([[0, 0, width // 2, height], [width // 2, 0, width, height]], float)
            return self.at_boxes([celsius], [boxes[: most if np.ptp(celsius) else 0]], POINTS, 1)[0]


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(seed_of("null", name))


def _digest(picture: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()


def _pictures_of(names: Sequence[str], side: int) -> np.ndarray:
    """Return a picture for each name, uint8 [B, side, side, 3]."""
    made = [_picture(name, side) for name in names]
    return np.stack(made) if made else np.zeros((0, side, side, 3), np.uint8)


def _picture(name: str, side: int) -> np.ndarray:
    """Return uint8 [side, side, 3]."""
    random = _random(name)
    noise = random.integers(0, 40, (side, side, 3), np.uint8)
    return np.where(_ellipse(side, side)[..., None], noise + random.integers(80, 200, 3, np.uint8), noise)


def _ellipse(height: int, width: int) -> np.ndarray:
    """Return bool [H, W]: where the face is."""
    y, x = np.mgrid[:height, :width]
    left, top, right, bottom = np.array(FACE) * np.array([width, height, width, height])
    across, down = max((right - left) / 2, 1e-6), max((bottom - top) / 2, 1e-6)
    return np.asarray(((x + 0.5 - left - across) / across) ** 2 + ((y + 0.5 - top - down) / down) ** 2 < 1)


def _degrees(name: str, layer: Layer, shape: tuple[int, int]) -> np.ndarray:
    """Return centikelvin uint16 [H, W] of one layer."""
    room = degrees_of(layer.condition)
    skin = {"cold": 29.0}.get(layer.condition, 34.0) if room is None else 27 + room / 4
    noise = _random(f"{name}/{layer.name}").normal(0, 0.05, shape)
    return np.rint((np.where(_ellipse(*shape), skin, skin - 12) + noise + 273.15) * 100).astype(np.uint16)


def _points(box: np.ndarray, count: int) -> np.ndarray:
    """Return float32 [count, 2] px on a grid in `box` (x0, y0, x1, y1)."""
    across = int(np.ceil(np.sqrt(count)))
    row, column = np.divmod(np.arange(count), across)
    shares = (np.stack([column, row], axis=-1) + 0.5) / across
    return (box[:2] + shares * (box[2:] - box[:2])).astype(np.float32)
