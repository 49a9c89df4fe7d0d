"""Detection in frames of 640 x 480: are the faces of one to six people found, and is anything else taken for a face?

Frames are composed of pictures of the world, visible or thermal, on a texture. A thermal frame is in degrees Celsius; its
texture stands for a room whose things are colder and warmer than the air.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from models.augment.canvas import paint_texture
from models.classes import BACKGROUND
from models.columns import Columns
from models.landmarks.detect import Detector, intersection_over_smaller, load_detector, write_detection

FRAME = (480, 640)
MOST = 6
SIDES = (130, 214)
"""Sides that the pictures of people are scaled to, pixels."""
WIDEST = 4.0
"""The threshold is searched from the trained one divided by this to the trained one times this."""


@dataclass(frozen=True)
class Person:
    """picture uint8 [S, S, 3], or degrees Celsius float32 [S, S]; cover float32 [S, S], 1 on the person; points [L, 2] px."""

    picture: np.ndarray
    cover: np.ndarray
    points: np.ndarray


@dataclass(frozen=True)
class FaceCounts:
    """What a detector found in frames with people and as many without.

    hits: uncertainties of the faces that were found, each once. extra: of what else was found in frames with people; empty:
    in frames without. present: how many faces there were. frames: how many frames with people.
    """

    hits: np.ndarray
    extra: np.ndarray
    empty: np.ndarray
    present: int
    frames: int

    def at(self, threshold: float) -> dict[str, float]:
        """Return recall, and false faces per frame with and without people, if `threshold` is what uncertainty may be."""
        return {
            "recall": float((self.hits < threshold).sum() / max(self.present, 1)),
            "false_per_crowd": float((self.extra < threshold).sum() / self.frames),
            "false_per_texture": float((self.empty < threshold).sum() / self.frames),
        }


def measure_detection(folder: Path, rows: Columns, frames: int, seed: int = 0) -> dict[str, float]:
    """Return recall and false faces of the detector of `folder`, by modality: `frames` frames with people, as many without."""
    finder = load_detector(folder)
    return {
        f"{modality}_{key}": value
        for modality, pool in people_by_modality(rows).items()
        for key, value in count_faces(finder, pool, modality, frames, seed).at(finder.threshold).items()
    }


def fit_threshold(folder: Path, rows: Columns, frames: int, seed: int = 1) -> float:
    """Choose the detection threshold of `folder` on frames with validation people, write and return it.

    The best one maximises recall minus false faces per frame, with and without people, on average over the modalities; of
    equally good ones it is the middle one.
    """
    # Everything is found once, under the widest threshold; narrower ones are then counted.
    finder = load_detector(folder)
    finder.threshold *= WIDEST
    counts = [count_faces(finder, pool, modality, frames, seed) for modality, pool in people_by_modality(rows).items()]
    tried = finder.threshold * np.geomspace(1 / WIDEST**2, 1, 61)

    def gain(threshold: float) -> float:
        rates = [one.at(threshold) for one in counts]
        return float(np.mean([r["recall"] - r["false_per_crowd"] - r["false_per_texture"] for r in rates]))

    gains = np.array([gain(threshold) for threshold in tried])
    best = tried[gains >= gains.max() - 1e-9]
    threshold = float(best[len(best) // 2])
    write_detection(folder, threshold=threshold)
    return threshold


def people_by_modality(rows: Columns) -> dict[str, list[Person]]:
    """Return the people of `rows` by modality; thermal is apparent temperature, where there is any."""
    covers = (np.asarray(rows["classes"]) != BACKGROUND).astype(np.float32)
    sources = {"rgb": rows["visible"]} | ({"thermal": rows["thermal"]} if "thermal" in rows else {})
    return {
        modality: [Person(*one) for one in zip(pictures, covers, rows["landmarks_70"], strict=True)]
        for modality, pictures in sources.items()
    }


def draw_background(modality: str, rng: np.random.Generator) -> np.ndarray:
    """Return a textured frame without people: uint8 [480, 640, 3], or degrees Celsius float32 [480, 640]."""
    picture = paint_texture(FRAME[1], rng)[: FRAME[0]].copy()
    if modality == "rgb":
        return picture
    return picture[..., 0].astype(np.float32) * np.float32(rng.uniform(4, 16) / 255) + np.float32(rng.uniform(12, 24))


def draw_crowd(pool: list[Person], modality: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a textured frame with 1 to 6 people of `pool` that do not overlap, and the boxes [N, 4] of their points."""
    frame, boxes = draw_background(modality, rng), list[np.ndarray]()
    # The frame has 3 x 2 cells of 213 x 240 pixels; each holds at most one person.
    cells = rng.permutation(MOST)[: int(rng.integers(1, MOST + 1))]
    for cell in cells:
        person = pool[int(rng.integers(len(pool)))]
        side = int(rng.integers(*SIDES))
        left = int(cell % 3 * 213 + rng.integers(0, SIDES[1] - side))
        top = int(cell // 3 * 240 + rng.integers(0, 240 - side))
        # Scale the person, and blend them in by their cover.
        small = cv2.resize(person.picture, (side, side), interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(person.cover, (side, side))
        under = frame[top : top + side, left : left + side]
        weight = alpha if frame.ndim == 2 else alpha[..., None]
        under[:] = (under * (1 - weight) + small * weight).astype(frame.dtype)
        points = person.points * (side / person.picture.shape[0]) + (left, top)
        boxes.append(np.concatenate([points.min(axis=0), points.max(axis=0)]))
    return frame, np.array(boxes)


def count_faces(finder: Detector, pool: list[Person], modality: str, frames: int, seed: int = 0) -> FaceCounts:
    """Search `frames` frames with people of `pool` and as many without, and count what is found.

    A face is found when a found box shares half of the smaller of the two with it and their middles are within a quarter of
    its size. A second box on the same face is no face.
    """
    rng = np.random.default_rng(seed)
    hits, extra, empty, present = list[float](), list[float](), list[float](), 0
    for _ in range(frames):
        picture, boxes = draw_crowd(pool, modality, rng)
        # Surest first: each found face takes one of the true boxes away.
        left = list(boxes)
        for face in finder.find(picture):
            index = next((k for k, box in enumerate(left) if is_same_face(box, face.box)), None)
            (extra if index is None else hits).append(face.uncertainty)
            if index is not None:
                left.pop(index)
        present += len(boxes)
        empty += [face.uncertainty for face in finder.find(draw_background(modality, rng))]
    return FaceCounts(np.array(hits), np.array(extra), np.array(empty), present, frames)


def is_same_face(box: np.ndarray, other: np.ndarray) -> bool:
    """Return whether `other` is the face in `box`."""
    apart = np.abs((box[:2] + box[2:]) / 2 - (other[:2] + other[2:]) / 2).max()
    return bool(intersection_over_smaller(box, other) > 0.5 and apart < (box[2:] - box[:2]).max() / 4)
