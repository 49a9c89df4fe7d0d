"""Errors of landmarks, normalised by the size of the face or of the picture."""

from typing import Literal

import numpy as np

Normaliser = Literal["box-wh", "box-size", "inter-ocular", "image"]
OUTER_EYES = (36, 45)


def errors(
    found: np.ndarray, truth: np.ndarray, normaliser: Normaliser = "box-wh", image: tuple[int, int] | None = None
) -> np.ndarray:
    """Return the error of every point, float [N, L], of landmarks [N, L, 2] in pixels, NaN where the truth is.

    box-wh (T-FAKE's "NME W/H"): sqrt((dx / W)^2 + (dy / H)^2) with W, H the sides of the true landmarks' box.
    box-size: distance / sqrt(W H). inter-ocular: distance / distance of the outer eye corners (70 or 68 points alone).
    image: distance / the diagonal of the picture, whose (height, width) is `image`.
    """
    # Box of the true points that are known.
    difference = np.asarray(found, np.float64)[..., :2] - truth
    sides = np.maximum(np.fmax.reduce(truth, axis=-2) - np.fmin.reduce(truth, axis=-2), 1e-6)
    distance = np.linalg.norm(difference, axis=-1)
    if normaliser == "box-wh":
        return np.linalg.norm(difference / sides[..., None, :], axis=-1)
    if normaliser == "box-size":
        return distance / np.sqrt(sides.prod(axis=-1))[..., None]
    if normaliser == "image":
        if image is None:
            raise ValueError("normaliser image needs the size of the picture")
        return distance / float(np.hypot(*image))
    # Inter-ocular: only these standards have eye corners at known places.
    if truth.shape[-2] not in (68, 70):
        raise ValueError(f"{truth.shape[-2]} landmarks have no known eye corners; normalise by box-wh")
    left, right = (truth[..., k, :] for k in OUTER_EYES)
    return distance / np.maximum(np.linalg.norm(right - left, axis=-1), 1e-6)[..., None]


def nme(found: np.ndarray, truth: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """Return each face's mean "NME W/H", float [N], over the points `counted` bool [N, L] (all by default).

    Points whose truth is NaN do not count; a face without any other is NaN.
    """
    each = errors(found, truth)
    known = np.isfinite(each)
    taken = known if counted is None else known & counted
    mean = np.where(taken, each, 0).sum(axis=-1) / np.maximum(taken.sum(axis=-1), 1)
    return np.where(known.any(axis=-1), mean, np.nan)
