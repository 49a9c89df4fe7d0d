"""Points of rows that give none: published sets of pairs have pictures of faces and say nothing of where they are."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from models.columns import Columns
from models.faces.align import five_points
from models.landmarks.detect import Detector, load_detector


def fill_points(rows: Columns, folder: Path) -> np.ndarray:
    """Return points float32 [B, 70, 2] px: those of rows (`landmarks_70`), and where a face cannot be aligned on them what the
    landmarker in `folder` finds in the visible picture, which a registered thermal one shares; NaN where it finds no face."""
    points = np.array(rows["landmarks_70"], np.float32).reshape(-1, 70, 2)
    for k in np.flatnonzero(~can_align(five_points(points))):
        found = find_points(rows["visible"][k], folder)
        points[k] = np.nan if found is None else found
    return points


def find_points(picture: np.ndarray, folder: Path) -> np.ndarray | None:
    """Return the points [70, 2] px of the face that the landmarker in `folder` finds in a picture uint8 [H, W, 3], or None."""
    faces = _detector(folder).find(picture, "pixel", most=1)
    return faces[0].points if faces else None


def can_align(points: np.ndarray) -> np.ndarray:
    """Return bool [B], whether faces can be aligned on five points [B, 5, 2]: all are known."""
    return np.asarray(np.isfinite(points).all(axis=(1, 2)))


@lru_cache(maxsize=1)
def _detector(folder: Path) -> Detector:
    return load_detector(folder / "70")
