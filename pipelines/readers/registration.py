"""How far the halves of pairs are apart: faces that the landmarker finds in either half alone."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from models.landmarks.found import find_points
from models.landmarks.intensity import show_thermal
from models.weights.store import ROOT
from pipelines.readers.item import Sample

LANDMARKER = ROOT / "models" / "starter" / "landmarks"
FAR = 0.1
"""Share of the face's size by which the halves of one moment and view are not apart."""


class Registration(NamedTuple):
    """pairs: with both halves. faces: pairs with a face in both. shift: of each of these, the distance of the middles of both
    faces as a share of the face's size in the visible half (root of its box's area)."""

    pairs: int
    faces: int
    shift: np.ndarray

    def __str__(self) -> str:
        if not self.faces:
            return f"not known: the landmarker finds a face in both halves of none of {self.pairs} pairs"
        far = int((self.shift > FAR).sum())
        of = f"median of {self.faces} faces of {self.pairs} pairs"
        words = f"halves are {np.median(self.shift):.1%} of the face's size apart ({of})"
        return f"{words}; {far} by more than {FAR:.0%}: of another moment or view, or not registered" if far else words


def measure_registration(samples: Sequence[Sample]) -> Registration:
    """Return how far the halves of samples are apart, of those that have both. The landmarker errs by some percent itself."""
    both = [one for one in samples if one.visible is not None and one.thermal is not None]
    shifts = []
    for one in both:
        assert one.visible is not None and one.thermal is not None
        height, width = one.visible.shape[:2]
        warm = cv2.resize(show_thermal(one.thermal), (width, height), interpolation=cv2.INTER_LINEAR)
        seen, felt = (find_points(picture, LANDMARKER) for picture in (one.visible, warm))
        if seen is not None and felt is not None:
            size = np.sqrt(np.prod(np.ptp(seen, axis=0)))
            shifts.append(float(np.linalg.norm(felt.mean(axis=0) - seen.mean(axis=0)) / size))
    return Registration(len(both), len(shifts), np.array(shifts))
