"""Whether a picture is a photograph in colour, or shows one number a pixel: grey, sepia, a thermal camera's palette."""

import cv2
import numpy as np

SIDE = 48
"""Pixels of a side that are looked at; what is finer than that is noise of cameras and of JPEG's."""
BINS, MOST, STEPS = 32, 0.94, 0.85
"""Bins of as many pixels each; which share of pixels counts (else a logo or a date stamp would) and of steps between bins (a
photograph may show two colours side by side)."""
ABSOLUTE, RELATIVE = 0.4, 0.023
"""What noise leaves of a grey picture, in levels, and JPEG and resampling of a palette's, as a share of the way through its
colours. 984 renders, whole and as crops, leave 1.07 times as much or more; thermal palettes up to 0.9 times."""
VIVID, RAINBOW = 40.0, 1.8
"""Median chroma of pictures that may be of a palette of many hues, and how much it leaves; renders have 36 at most."""


def shows_one_number(picture: np.ndarray) -> bool:
    """Return whether the colours of a picture uint8 [H, W, 3] follow from one number a pixel, as a palette's do.

    In a palette all pixels of one luminance have one colour, or, in one that repeats luminances, all of one hue.
    """
    # Luminance and chroma of pixels that are no border.
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float32)
    small = small[small.any(axis=1)]
    if len(small) < 2 * BINS:
        return True
    luminance = small @ np.array([0.299, 0.587, 0.114], np.float32)
    chroma = (small[:, [0, 2]] - luminance[:, None]) * np.array([0.713, 0.564], np.float32)
    # How far chroma is from what luminance says, and both from what the hue says.
    if _left_over(luminance, chroma) < 1:
        return True
    strength = np.linalg.norm(chroma, axis=1)
    hue = np.arctan2(chroma[:, 1], chroma[:, 0])
    return bool(np.median(strength) >= VIVID and _left_over(hue, np.stack([luminance, strength], 1)) < RAINBOW)


def _left_over(number: np.ndarray, values: np.ndarray) -> float:
    """Return how far `values` float [N, 2] are from a curve that follows `number` float [N], in what a palette's may be."""
    order = np.argsort(number, kind="stable")
    bins = values[order][: len(order) // BINS * BINS].reshape(BINS, -1, 2)
    middles = np.median(bins, axis=1)
    # How far pixels are from the curve, and how long it is.
    distances = np.sort(np.linalg.norm(bins - middles[:, None], axis=2), axis=None)
    steps = np.sort(np.linalg.norm(np.diff(middles, axis=0), axis=1))
    way = steps[: int(STEPS * len(steps))].sum()
    return float(distances[: int(MOST * len(distances))].mean() / (ABSOLUTE + RELATIVE * way))
