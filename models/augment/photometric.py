"""Changes of light, colour and noise of pictures uint8 [H, W, 3] or [H, W], in numpy and OpenCV, in grey levels of 255.

`crop`, `canvas` and `landmarks` choose among them with ranges of their own. Whole batches of tensors on the model's device,
each row with a generator of its own, are changed in `batch`.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np


class ToneRanges(NamedTuple):
    """Ranges of `vary_tone`. `grey` is a probability, `contrast` a share, the others are grey levels."""

    grey: float = 0.15
    contrast: float = 0.3
    brightness: float = 25.0
    cast: float = 10.0


GAMMA = 0.3
"""Largest logarithm of the exponent of `vary_tone`."""


def vary_tone(picture: np.ndarray, rng: np.random.Generator, ranges: ToneRanges) -> np.ndarray:
    """Change gamma, contrast, brightness and colour cast of [H, W, 3]; before that sometimes drop the colour.

    A level v in [0, 1] becomes gain (255 v^gamma - 127.5) + 127.5 + offset + cast, clipped; the cast differs by channel.
    """
    if rng.random() < ranges.grey:
        picture = drop_colour(picture)
    gain = 1 + rng.uniform(-ranges.contrast, ranges.contrast)
    offset = rng.uniform(-ranges.brightness, ranges.brightness)
    gamma = np.exp(rng.uniform(-GAMMA, GAMMA))
    casts = rng.uniform(-ranges.cast, ranges.cast, 3)
    # One look-up table a channel holds all four changes.
    levels = 255 * (np.arange(256) / 255) ** gamma
    tables = np.clip((levels[:, None] - 127.5) * gain + 127.5 + offset + casts, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(np.ascontiguousarray(picture), tables[:, None, :]))


def vary_colour(picture: np.ndarray, rng: np.random.Generator, spread: float, hue: float) -> np.ndarray:
    """Change brightness, contrast, saturation (factors 1 +- `spread`) and hue (+- `hue` turns) of [H, W, 3].

    As torchvision's ColorJitter, about the mean of the picture, but all four as one matrix on RGB.
    """
    bright, contrast, saturation = 1 + rng.uniform(-spread, spread, 3)
    turn = rng.uniform(-hue, hue) * 2 * math.pi
    mean = float(picture.mean()) * bright
    # A turn about the grey axis of RGB moves hue; scaling towards that axis changes saturation.
    cos, sin = saturation * math.cos(turn), saturation * math.sin(turn) / math.sqrt(3)
    third = (1 - cos) / 3
    rotation = np.array(
        [[cos + third, third - sin, third + sin], [third + sin, cos + third, third - sin],
         [third - sin, third + sin, cos + third]]
    )  # fmt: skip
    matrix = np.hstack([rotation * bright * contrast, np.full((3, 1), mean * (1 - contrast))])
    return np.asarray(cv2.transform(picture, matrix.astype(np.float32)))


def drop_colour(picture: np.ndarray) -> np.ndarray:
    """Return the luma of [H, W, 3] in all three channels."""
    return np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def stretch_channels(picture: np.ndarray) -> np.ndarray:
    """Stretch each channel of [H, W, 3] from its own extremes to 0 and 255 (autocontrast)."""
    low, high = picture.min(axis=(0, 1)).astype(np.float32), picture.max(axis=(0, 1)).astype(np.float32)
    levels = (np.arange(256)[:, None] - low) * (255 / np.maximum(high - low, 1))
    return np.asarray(cv2.LUT(picture, np.clip(levels, 0, 255).astype(np.uint8)[:, None]))


def equalise_channels(picture: np.ndarray) -> np.ndarray:
    """Equalise the histogram of each channel of [H, W, 3]."""
    return np.stack([cv2.equalizeHist(np.ascontiguousarray(picture[..., k])) for k in range(3)], axis=-1)


def draw_noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return normal noise of standard deviation `sigma`, float32 [*shape]."""
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma)


def add_noise(picture: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise of `sigma` grey levels to every value of a picture, clipped."""
    return np.clip(picture + draw_noise(picture.shape, sigma, rng), 0, 255).astype(np.uint8)
