"""Read a landmarker on people it was not trained on: errors, calibration, and faces found in crowded frames."""

import json
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from models.classes import BACKGROUND
from models.faces.canvas import texture
from models.landmarks.calibration import read_calibration, scale_factor, summary, write_calibration
from models.landmarks.detect import Detector, shared
from models.landmarks.metrics import nme
from models.landmarks.network import load_landmarker
from models.tasks import Rows
from models.tasks.landmarker import modalities

COLUMNS = ("visible", "classes", "landmarks_70", "landmarks_478", "bbox", "apparent", "valid", "visible_70_rgb",
           "visible_70_thermal", "visible_478_rgb", "visible_478_thermal")  # fmt: skip
FACELESS_IN_THERMAL = (*range(17, 27), 68, 69)
"""Of the 70: brows and pupils, which have little thermal contrast."""
FRAME = (480, 640)
MOST = 6


def detector(folder: Path) -> Detector:
    """Return the detector of `folder` (`landmarker.safetensors` and `detection.json`)."""
    path = folder / "detection.json"
    threshold = json.loads(path.read_text())["threshold"] if path.is_file() else 6e-4
    return Detector(load_landmarker(folder / "landmarker.safetensors"), threshold=float(threshold))


def answers(finder: Detector, test: Iterable[Rows], thermalizer: str) -> dict[str, dict[str, np.ndarray]]:
    """Return modality (rgb, thermal, true) -> truth, found [N, L, 2] px, variance [N, L] px^2, seen bool [N, L].

    One look into the true box, as the landmark stage looks into the detector's.
    """
    standard = finder.config.standard
    collected: dict[str, dict[str, list[np.ndarray]]] = {}
    for rows in test:
        for name, pictures in modalities(rows, thermalizer).items():
            faces = [finder.at_boxes(p, box[None])[0] for p, box in zip(pictures, rows["bbox"], strict=True)]
            part = {
                "truth": np.asarray(rows[f"landmarks_{standard}"]),
                "found": np.stack([face.points for face in faces]),
                "variance": np.stack([face.variance for face in faces]),
                "seen": rows[f"visible_{standard}_{'rgb' if name == 'rgb' else 'thermal'}"],
            }
            for key, values in part.items():
                collected.setdefault(name, {}).setdefault(key, []).append(values)
    return {name: {k: np.concatenate(v) for k, v in parts.items()} for name, parts in collected.items()}


def calibrate(folder: Path, validation: Iterable[Rows], thermalizer: str) -> dict[str, float]:
    """Fit the factors on the variances on validation people, write them beside the weights and return them.

    `thermal` is fitted on the thermalizer's pictures: a data set that is generated holds such pictures.
    """
    found = answers(detector(folder), validation, thermalizer)
    factors = {
        stored: scale_factor(_distance(found[name]), found[name]["variance"])
        for stored, name in (("visible", "rgb"), ("thermal", "thermal"))
    }
    write_calibration(folder, factors)
    return factors


def evaluate_landmarker(folder: Path, test: Iterable[Rows], thermalizer: str) -> dict[str, float]:
    """Return, by modality, "NME W/H" of all and of seen points and the figures of `calibration.summary`, recalibrated as stored.

    `thermal_contrast`: how many times the variance grows from visible to thermal on brows and pupils, over how many times it
    grows on the other points; above 1 the landmarker knows what thermal does not show (70 landmarks alone).
    """
    factors = read_calibration(folder)
    found, metrics = answers(detector(folder), test, thermalizer), dict[str, float]()
    for name, values in found.items():
        variance = values["variance"] * factors.get("visible" if name == "rgb" else "thermal", 1.0)
        metrics[f"{name}_nme"] = float(nme(values["found"], values["truth"]).mean())
        metrics[f"{name}_nme_seen"] = float(nme(values["found"], values["truth"], values["seen"]).mean())
        metrics |= {f"{name}_{key}": value for key, value in summary(_distance(values), variance).items()}
    if "thermal" in found and found["rgb"]["variance"].shape[1] == 70:
        ratio = np.median(found["thermal"]["variance"] / found["rgb"]["variance"], axis=0)
        weak = np.isin(np.arange(70), FACELESS_IN_THERMAL)
        metrics["thermal_contrast"] = float(np.median(ratio[weak]) / np.median(ratio[~weak]))
    return metrics


def detection(folder: Path, test: Iterable[Rows], frames: int, seed: int = 0) -> dict[str, float]:
    """Return recall and false faces on `frames` textured 640 x 480 frames with 1 to 6 faces, and on as many with none.

    A face is recalled when a found box shares half of the smaller of the two with it and their middles are within a quarter
    of its size.
    """
    finder, rng = detector(folder), np.random.default_rng(seed)
    pool = [
        (rows["visible"][k], rows["classes"][k], rows["landmarks_70"][k])
        for rows in test
        for k in range(len(rows["visible"]))
    ]
    there = recalled = extra = empty = 0
    for _ in range(frames):
        picture, boxes = crowd(pool, rng)
        found = [face.box for face in finder.find(picture)]
        hits = [any(_same(box, other) for other in found) for box in boxes]
        there, recalled = there + len(boxes), recalled + sum(hits)
        extra += sum(not any(_same(box, other) for box in boxes) for other in found)
        empty += len(finder.find(texture(FRAME[1], rng)[: FRAME[0]]))
    return {"recall": recalled / max(there, 1), "false_per_crowd": extra / frames, "false_per_texture": empty / frames}


def crowd(
    pool: list[tuple[np.ndarray, np.ndarray, np.ndarray]], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a textured frame uint8 [480, 640, 3] with 1 to 6 people that do not overlap, and the boxes of their 70 points."""
    frame, boxes = texture(FRAME[1], rng)[: FRAME[0]].copy(), list[np.ndarray]()
    cells = rng.permutation(MOST)[: int(rng.integers(1, MOST + 1))]
    for cell in cells:
        picture, classes, points = pool[int(rng.integers(len(pool)))]
        side = int(rng.integers(130, 214))
        left = int(cell % 3 * 213 + rng.integers(0, 214 - side))
        top = int(cell // 3 * 240 + rng.integers(0, 240 - side))
        small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        alpha = cv2.resize((classes != BACKGROUND).astype(np.float32), (side, side))[..., None]
        under = frame[top : top + side, left : left + side]
        under[:] = (under * (1 - alpha) + small * alpha).astype(np.uint8)
        placed = points * (side / picture.shape[0]) + (left, top)
        boxes.append(np.concatenate([placed.min(axis=0), placed.max(axis=0)]))
    return frame, np.array(boxes)


def _same(box: np.ndarray, other: np.ndarray) -> bool:
    apart = np.abs((box[:2] + box[2:]) / 2 - (other[:2] + other[2:]) / 2).max()
    return shared(box, other) > 0.5 and bool(apart < (box[2:] - box[:2]).max() / 4)


def _distance(values: dict[str, np.ndarray]) -> np.ndarray:
    return np.linalg.norm(values["found"] - values["truth"], axis=-1)
