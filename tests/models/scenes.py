"""Scenes before a thermal camera, in degrees Celsius, as tests of units, people and contrast need them."""

import numpy as np


def portrait(room: float = 21.5, skin: float = 35.0, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    """Return degrees float64 [H, W]: an oval of a face with hair and shoulders before a wall, and a camera's noise."""
    y, x = np.indices(shape) / np.array(shape).reshape(2, 1, 1)
    celsius = np.full(shape, room)
    celsius[(y > 0.85) & (np.abs(x - 0.5) < 0.35)] = (room + 2 * skin) / 3 - 1  # shoulders
    hair = ((x - 0.5) / 0.21) ** 2 + ((y - 0.42) / 0.4) ** 2 < 1
    celsius[hair] = (room + skin) / 2
    face = ((x - 0.5) / 0.17) ** 2 + ((y - 0.5) / 0.33) ** 2 < 1
    celsius[face] = (skin - 2 * np.hypot((x - 0.5) / 0.17, (y - 0.5) / 0.33))[face]
    return celsius + np.random.default_rng(0).normal(0, 0.05, shape)


def face_of(celsius: np.ndarray) -> np.ndarray:
    """Return where the face of a `portrait` is, bool [H, W]."""
    y, x = np.indices(celsius.shape) / np.array(celsius.shape).reshape(2, 1, 1)
    return np.asarray(((x - 0.5) / 0.15) ** 2 + ((y - 0.5) / 0.3) ** 2 < 1)
