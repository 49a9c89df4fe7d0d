"""Temperature on disk: 16-bit centikelvin, the thermal cameras' own convention. degrees Celsius = value / 100 - 273.15."""

import numpy as np

ZERO_CELSIUS = 27315
"""0 degrees Celsius in centikelvin."""


def to_centikelvin(celsius: np.ndarray) -> np.ndarray:
    """Encode float degrees Celsius as uint16, rounded to the nearest 0.01 K; NaN becomes 0 (no reading), range is clipped."""
    counts = np.rint(np.asarray(celsius, np.float64) * 100) + ZERO_CELSIUS
    return np.nan_to_num(counts, nan=0.0).clip(0, 65535).astype(np.uint16)


def from_centikelvin(counts: np.ndarray) -> np.ndarray:
    """Decode uint16 counts to float32 degrees Celsius; 0 (no reading) becomes NaN."""
    celsius = (np.asarray(counts).astype(np.float64) - ZERO_CELSIUS) / 100
    return np.where(np.asarray(counts) == 0, np.nan, celsius).astype(np.float32)
