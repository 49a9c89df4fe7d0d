"""Temperature on disk: 16-bit centikelvin, the thermal cameras' own convention. degrees Celsius = value / 100 - 273.15."""

from typing import Literal

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


Unit = Literal["centikelvin", "decikelvin", "kelvin", "counts40mk", "celsius", "tfake"]
UNITS: dict[Unit, tuple[float, float]] = {
    "centikelvin": (0.01, -273.15),
    "decikelvin": (0.1, -273.15),
    "kelvin": (1.0, -273.15),
    "counts40mk": (0.04, -273.15),
    "celsius": (1.0, 0.0),
    "tfake": (20 / 65535, 20.0),
}
"""degrees Celsius = value * first + second. counts40mk: cameras of 0.04 K a count. tfake: 0 to 65535 is 20 to 40 degC."""


FACE = (5.0, 45.0)
"""Where the median of a picture of a face lies, degrees Celsius: a unit that puts it there is worth a hint."""


def from_unit(values: np.ndarray, unit: Unit) -> np.ndarray:
    """Decode a thermal picture's values to float32 degrees Celsius; NaN is no reading.

    An integer 0 is no reading, but in `celsius`. Both ends of T-FAKE's scale are none either: what is colder or warmer
    lies there, and so does the background.
    """
    scale, offset = UNITS[unit]
    values = np.asarray(values)
    celsius = (values.astype(np.float64) * scale + offset).astype(np.float32)
    if values.dtype.kind != "f" and unit != "celsius":
        celsius[values == 0] = np.nan
    if unit == "tfake":
        celsius[values == 65535] = np.nan
    return np.where(np.isfinite(celsius), celsius, np.float32(np.nan))


def hint(values: np.ndarray, wrong: Unit) -> str:
    """Return under which units but `wrong` the median would be that of a face's picture, in words; empty for none."""
    fitting = []
    for unit in UNITS:
        if unit == wrong or (unit == "tfake" and values.dtype.kind == "f"):  # that scale makes skin of any small float
            continue
        celsius = from_unit(values, unit)
        if np.isfinite(celsius).any() and FACE[0] <= float(np.nanmedian(celsius)) <= FACE[1]:
            fitting.append(f"{float(np.nanmedian(celsius)):.0f} degC as {unit}")
    return f", {' or '.join(fitting)}" if fitting else ""
