"""Landmarks on a picture, each with a circle of one standard deviation."""

import cv2
import numpy as np

POINT, SURE, UNSURE = (20, 255, 90), (90, 200, 255), (255, 120, 60)
LIMIT = 0.03
"""Standard deviations above this share of the picture are drawn as unsure."""


def paint_landmarks(picture: np.ndarray, points: np.ndarray, variance: np.ndarray, side: int = 256) -> np.ndarray:
    """Return `picture` uint8 [S, S, 3] or [S, S] as uint8 [side, side, 3] with its landmarks.

    points: [L, 2] px of `picture`; variance: [L] px^2, a circle of one standard deviation. Points that are not finite are
    left out.
    """
    # The picture in colour at the size asked for.
    zoom = side / picture.shape[0]
    colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    out = cv2.resize(colour, (side, side), interpolation=cv2.INTER_LINEAR)
    fraction = 4  # OpenCV draws to fractions of a pixel: coordinates carry so many bits of it
    for (x, y), spread in zip(points, np.sqrt(np.maximum(variance, 0)), strict=True):
        if not np.isfinite([x, y, spread]).all():
            continue
        # A ring of one standard deviation, and the point.
        centre = tuple(round((float(v) * zoom - 0.5) * 2**fraction) for v in (x, y))
        ring = SURE if spread < LIMIT * picture.shape[0] else UNSURE
        cv2.circle(out, centre, round(float(spread) * zoom * 2**fraction), ring, 1, cv2.LINE_AA, fraction)
        cv2.circle(out, centre, round(side / 160 * 2**fraction), POINT, -1, cv2.LINE_AA, fraction)
    return out
