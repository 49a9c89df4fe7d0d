"""Affine transforms of pictures and of the points on them. Points count from a pixel's corner: its centre lies at .5."""

import numpy as np


def from_centres(matrix: np.ndarray) -> np.ndarray:
    """Return an affine [2, 3] for `cv2.warpAffine`, which counts from the centres of pixels and not from their corners."""
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ np.array([0.5, 0.5]) - 0.5
    return moved


def move_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return points [..., 2] after an affine [2, 3]."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def mirror_points(points: np.ndarray, width: int, order: list[int] | tuple[int, ...]) -> np.ndarray:
    """Return points [..., L, 2] of a picture `width` px wide after mirroring it; point k takes the place of `order[k]`."""
    mirrored: np.ndarray = np.array([width, 0]) + points * np.array([-1, 1])
    return mirrored[..., list(order), :]
