"""Pictures of any kind as the grey or colour values in [0, 1] that a landmarker reads.

Temperature and raw counts have no natural black and white, so they are stretched between two percentiles of the frame:
a dead pixel, of which every thermal camera has some, then moves nothing.
"""

from typing import Literal

import numpy as np

from models.errors import UserError
from models.person import HUMAN, could_be_human
from models.radiometry import Implausible, check_counts, find_fault, guess_unit, hint
from models.temperature import from_unit

Mode = Literal["auto", "temperature", "pixel"]
PERCENTILES = (0.1, 99.9)
FAHRENHEIT = (30.0, 80.0, 115.0)
"""Floats of a narrow range that are no 8-bit levels: the coldest above the first, the warmest between the others."""
HAIR = 0.05
"""Floats so far beyond 0 and 1 are of 0..1 all the same: rounding and sharp resizing overshoot."""


def unit_values(image: np.ndarray, mode: Mode = "auto") -> np.ndarray:
    """Return `image` [H, W] or [H, W, 3] as float32 [H, W, 3] in [0, 1]; grey is repeated in all three channels.

    mode: `temperature` is degrees Celsius, stretched over what may be human (`stretch_temperatures`). `pixel` is a picture:
    uint8 is divided by 255; floats up to 1 (and a hair) are taken as they are, up to 255 divided by 255; wider integers (raw
    16-bit counts) and all other floats are stretched, so nothing saturates. Counts of which some unit makes a face's picture
    are stretched as its temperatures. `auto` takes floats for temperature if nearly all lie in (1, 80] and above -10, else
    the image is `pixel`. NaN counts as the coldest value of the frame.

    Raises:
        UserError: an image of another shape or without a single number, values called temperature that are no degrees, or
            counts that are no picture.
    """
    if image.ndim != 2 and not (image.ndim == 3 and image.shape[2] == 3):
        raise UserError(f"an image must be [height, width] or [height, width, 3], got {image.shape}")
    # Each kind of values has its own way to [0, 1].
    kind = guess_mode(image) if mode == "auto" else mode
    if kind == "temperature":
        values = stretch_temperatures(_degrees(image))
    elif image.dtype == np.uint8:
        values = image.astype(np.float32) / 255
    elif image.dtype.kind in "iu":
        values = _stretch_counts(image)
    else:
        values = _float_pixels(np.asarray(image, np.float32))
    return np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else values


def show_thermal(thermal: np.ndarray) -> np.ndarray:
    """Return a thermal picture, degrees float [H, W] with NaN or grey levels and counts [H, W], as recognisers see it: uint8
    [H, W, 3]. Raises UserError as `unit_values` does."""
    mode: Mode = "auto" if thermal.dtype.kind == "f" else "pixel"
    return (unit_values(thermal, mode) * 255 + 0.5).astype(np.uint8)


def guess_mode(image: np.ndarray) -> Mode:
    """Return what `auto` takes `image` for."""
    if image.dtype.kind != "f" or image.ndim == 3:
        return "pixel"
    low, high = _percentiles(image, (1, 99))
    if high > 80 and (image != np.rint(image)).any():  # a hot object beside a face; 8-bit levels as floats are whole
        low, high = _percentiles(image, (5, 95))
    return "temperature" if 1 + HAIR < high <= 80 and low >= -10 else "pixel"


def stretch_temperatures(celsius: np.ndarray) -> np.ndarray:
    """Return degrees [H, W] stretched to [0, 1] over those that may be a person's: a lamp or ice does not decide how a face
    looks. Where nothing may be, over the human range itself.
    """
    human = could_be_human(celsius)
    return stretch(np.clip(celsius, *HUMAN), celsius[human] if human.any() else None)


def _stretch_counts(counts: np.ndarray) -> np.ndarray:
    """Return whole numbers [H, W] of 16 bits or more stretched to [0, 1], as temperatures where some unit makes them so.

    Raises UserError for counts that are no picture.
    """
    if counts.ndim == 3:
        return stretch(counts.astype(np.float32))
    try:
        check_counts(counts)
    except Implausible as error:
        raise UserError(str(error)) from None
    unit = guess_unit(counts)
    return stretch_temperatures(from_unit(counts, unit)) if unit else stretch(counts.astype(np.float32))


def stretch(values: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Return float values [..., H, W] with the 0.1 and 99.9 percentiles of `among`, by default of the whole frame, at 0 and
    1, clipped; a flat frame is 0.
    """
    low, high = _percentiles(values if among is None else among, PERCENTILES)
    # A flat frame has nothing to stretch.
    if high - low < 1e-6 * max(1.0, abs(high)):
        return np.zeros(values.shape, np.float32)
    return np.clip(np.nan_to_num((values - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0), 0, 1).astype(
        np.float32
    )


def _degrees(image: np.ndarray) -> np.ndarray:
    """Return `image` as float32 if its values can be degrees Celsius: floats with a plausible median."""
    # Grey levels and counts are no temperatures.
    if image.dtype == np.uint8:
        raise UserError("an 8-bit image holds grey levels, not degrees Celsius: use mode pixel, or auto")
    if image.dtype.kind != "f":
        raise UserError(
            f"{image.dtype} values are counts, not degrees Celsius{hint(image, 'celsius')}: convert them to floats of "
            "degrees, or use mode pixel, or auto"
        )
    # Neither are values that make no scene: kelvin, tenths, Fahrenheit, noise.
    values = np.asarray(image, np.float32)
    _percentiles(values, (50, 50))
    if fault := find_fault(values):
        raise UserError(
            f"{fault}{hint(image, 'celsius')}: convert the values to degrees Celsius, or use mode pixel, or auto"
        )
    return values


def _float_pixels(values: np.ndarray) -> np.ndarray:
    low, high = _percentiles(values, PERCENTILES)
    if low >= -HAIR and high <= 1 + HAIR:
        return np.clip(np.nan_to_num(values), 0, 1).astype(np.float32)
    narrow = FAHRENHEIT[0] <= low and FAHRENHEIT[1] < high <= FAHRENHEIT[2]
    if values.ndim == 2 and narrow and (values % 1 != 0).any():
        return stretch_temperatures(from_unit(values, "fahrenheit"))
    if low >= 0 and high <= 255:
        return np.clip(np.nan_to_num(values / 255), 0, 1).astype(np.float32)
    return stretch(values)


def _percentiles(values: np.ndarray, places: tuple[float, float]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise UserError("the image holds no number, only NaN or infinity")
    low, high = np.percentile(finite, places)
    return float(low), float(high)
