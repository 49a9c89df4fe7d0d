"""Head pose from 70 landmarks: the world's average head, turned until its points lie where they were found."""

import functools

import numpy as np

from models.synthworld.sampling.scene import Person, Scene
from models.synthworld.shape.cover import add_covers
from models.synthworld.shape.figure import HEAD_CENTRE, figure
from models.synthworld.shape.kernels import eagerly
from models.synthworld.shape.landmarks import landmarks

RIGID = (*range(17, 48), 68, 69)
"""Points that expression hardly moves: brows, nose, eyes, pupils. The jaw is a contour and the mouth opens."""


@functools.cache
def average_head() -> np.ndarray:
    """Return the 70 points of the average head, float64 [70, 3]: x to its left, y up, z out of the face, in head units.

    Computed without compiled kernels: a pose is the same number whether or not a machine has built them.
    """
    scene = Scene(Person(0))
    q = figure(scene)
    with eagerly():
        add_covers(scene, q)
        points = landmarks(q)[0]
    return points.numpy().astype(np.float64) - np.array(HEAD_CENTRE)


def estimate_pose(points: np.ndarray) -> np.ndarray:
    """Return yaw, pitch and roll in degrees, float32 [N, 3], of landmarks [N, 70, 2] in pixels.

    Scaled orthography (POSIT's first step): the least-squares affine camera of the rigid points, its rows made orthonormal.
    Signs are the world's (`synthworld.sampling.scene.View`). NaN where points are.
    """
    model = average_head()[list(RIGID)]
    centred = model - model.mean(axis=0)
    solve = np.linalg.pinv(centred)
    out = np.full((len(points), 3), np.nan, np.float32)
    for row, face in enumerate(np.asarray(points, np.float64)[:, list(RIGID)]):
        if np.isfinite(face).all():
            # Least squares, then the nearest matrix with orthonormal rows.
            camera = (solve @ (face - face.mean(axis=0)) * np.array([1, -1])).T  # rows: right and up of the picture
            left, _, right = np.linalg.svd(camera, full_matrices=False)
            across, up = left @ right
            out[row] = euler_angles(np.stack([across, up, np.cross(across, up)]))
    return out


def euler_angles(turn: np.ndarray) -> np.ndarray:
    """Return yaw, pitch and roll in degrees of a rotation [3, 3] from head to camera (`synthworld.shape.figure.rotation`)."""
    pitch = np.arcsin(np.clip(-turn[2, 1], -1, 1))
    yaw, roll = np.arctan2(-turn[2, 0], turn[2, 2]), np.arctan2(turn[0, 1], turn[1, 1])
    return np.degrees([yaw, pitch, roll])
