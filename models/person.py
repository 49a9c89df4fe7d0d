"""Where people are in a thermal frame that has no mask: not what is hottest, but what is warm as a person and as large."""

import cv2
import numpy as np

HUMAN = (10.0, 42.0)
"""Degrees Celsius that a face or its hair and clothes may have, in the cold and with a camera's offset; lamps, kettles and
ice lie outside."""
RING = 2
"""Pixels about what lies outside that are mixed with it."""
WARM = 26.0
"""Where most of a frame is warmer than the rest but cooler than this on average, it is the room, and people stand out of it."""
CONTRAST = 2.0
"""Kelvin that people are warmer than what is about them."""
SMALLEST = 100
"""Pixels of the smallest face: about 10 x 10."""
SHARE = 0.05
"""Of the largest person's area that another must have."""


def could_be_human(celsius: np.ndarray) -> np.ndarray:
    """Return which pixels of a frame [H, W] have a reading in the human range and lie beside nothing far out of it, bool.

    A colder background leaves its neighbours alone: only what is hotter, or a small cold object, is taken off with its edge.
    """
    known = np.isfinite(celsius)
    inside = known & (celsius >= HUMAN[0]) & (celsius <= HUMAN[1])
    outside = known & ((celsius > HUMAN[1]) | ((celsius < HUMAN[0]) if inside.sum() > known.sum() / 2 else False))
    ring = cv2.dilate(outside.astype(np.uint8), np.ones((2 * RING + 1, 2 * RING + 1), np.uint8)) > 0
    return inside & ~ring


def find_people(celsius: np.ndarray) -> np.ndarray:
    """Return where people are in a frame [H, W] in degrees Celsius, bool [H, W]; nowhere where nothing stands out.

    They are what is warmer than Otsu's threshold of all that may be human, in pieces of a face's size.
    """
    # What is not too hot, parted in warm and cool; where the warm part is the room, that is parted again.
    human, known = could_be_human(celsius), np.isfinite(celsius)
    values = np.clip(celsius, HUMAN[0], None)
    pool = human | (known & (celsius < HUMAN[0]))
    warm = pool
    for _ in range(3):
        parted = warm & (values > otsu(values[warm])) if warm.any() else warm
        if not parted.any() or values[parted].mean() - values[warm & ~parted].mean() < CONTRAST:
            break
        warm = parted
        if warm.sum() < celsius.size // 2 or values[warm].mean() > WARM:
            break
    if warm is pool:
        return np.zeros(celsius.shape, bool)
    warm = warm & human
    # Small pieces are mugs, lamps' reflections and noise.
    _, pieces, facts, _ = cv2.connectedComponentsWithStats(warm.astype(np.uint8), connectivity=8)
    areas = facts[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    smallest = max(min(SMALLEST, celsius.size // 20), SHARE * areas.max(initial=0))
    return np.isin(pieces, np.flatnonzero(areas >= max(smallest, 1)))


def otsu(values: np.ndarray) -> float:
    """Return the threshold that parts `values` in two classes of least variance."""
    span = max(float(np.ptp(values)), 1e-6)
    grey = np.clip((values - values.min()) / span * 65535, 0, 65535).astype(np.uint16)
    threshold, _ = cv2.threshold(grey[None], 0, 65535, cv2.THRESH_OTSU)
    return float(values.min() + threshold / 65535 * span)
