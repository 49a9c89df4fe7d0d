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
        faces = _detector(folder).find(rows["visible"][k], "pixel", most=1)
        points[k] = faces[0].points if faces else np.nan
    return points


def can_align(points: np.ndarray) -> np.ndarray:
    """Return bool [B], whether faces can be aligned on five points [B, 5, 2]: all are known."""
    return np.asarray(np.isfinite(points).all(axis=(1, 2)))


@lru_cache(maxsize=1)
def _detector(folder: Path) -> Detector:
    return load_detector(folder / "70")
