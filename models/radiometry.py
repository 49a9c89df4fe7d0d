"""A camera's values as temperatures, refused where they cannot be any: the one place that says so.

What is expected is a scene with a person in it, or where one may be. A refusal names the unit, order of bytes or rows that
would make sense of the values.
"""

import cv2
import numpy as np

from models.temperature import HIGHEST, LOWEST, UNITS, Numbers, UnitName, from_unit, name_of, numbers_of, scale_of

MEDIAN = (-40.0, 55.0)
"""Median of a frame in degrees Celsius."""
HOT = 100.0
"""At most a twentieth of a frame is hotter."""
BODY = (33.0, 43.0)
"""No frame is warmer than the first almost everywhere and than the second in a tenth: a body would be the coolest thing."""
COLDEST, FEW = -100.0, 0.02
"""Colder than the first is what stands for no reading, or an object far smaller than this share of a frame."""
APART, DEAD = 30.0, 100.0
"""Kelvin from the median of its neighbours: few pixels of a picture are the first, a dead one may be the second."""
FACE, SKIN = (5.0, 45.0), 20.0
"""Where the median of a picture of a face lies, and what its warmest hundredth reaches: a unit that does so is worth a hint."""
SPREAD = 1.0
"""Kelvin that T-FAKE's scale must make of a frame at least: of any counts it makes room temperature."""
BORDER, JUMPS = 4, (0.1, 0.25)
"""Rows at the top or bottom that telemetry may be written in, and the share of neighbours that jump: at most in a row of the
picture, at least in telemetry."""


class Implausible(ValueError):
    """Values that are no temperatures; the message begins with the kind and a colon."""


def decode(values: np.ndarray, unit: "UnitName | Numbers", stored: str = "little") -> np.ndarray:
    """Return degrees Celsius float32 [h, W] of a frame's values [H, W] of 16 bits or more, NaN without a reading.

    stored: order of the bytes that the file stated, little or big. Rows that `unit` crops are gone. A pixel that is over
    `DEAD` kelvin from its neighbours has no reading. Raises Implausible.
    """
    # The values that the camera meant.
    numbers = numbers_of(unit)
    if numbers.crop_rows >= len(values):
        raise Implausible(f"too small: {len(values)} rows, of which {numbers.crop_rows} are to be cropped")
    values = values[: len(values) - numbers.crop_rows]
    order = stored if numbers.endian == "file" else numbers.endian
    if order != stored and values.dtype.kind in "iu":
        values = values.byteswap()
    check_counts(values, "little" if order == "big" else "big")
    # Their temperature, if they can be one.
    celsius = drop_dead_pixels(from_unit(values, unit))
    scale, offset = scale_of(unit)
    if np.isfinite(celsius).any():
        fault = find_fault(celsius) or _find_flat_scale(celsius, unit)
    elif (
        values.any()
        and np.isfinite(median := float(np.median(values)) * scale + offset)
        and not LOWEST < median < HIGHEST
    ):
        fault = f"the median pixel would be {median:.0f} degC"
    else:
        raise Implausible("no reading: every pixel is an end of the scale, 0 or NaN")
    if fault:
        raise Implausible(
            f"not {name_of(unit)}: {fault} (value * {scale:.4g} {offset:+g}){hint(values, unit)}; name its unit, or "
            "convert the values"
        )
    return celsius


def find_fault(celsius: np.ndarray) -> str:
    """Return why values float [H, W] are no degrees Celsius of a scene, in words; empty where they may be.

    One finite value is taken for granted.
    """
    known = celsius[np.isfinite(celsius)]
    low, median, warm, high = np.percentile(known, (5, 50, 90, 95))
    if not MEDIAN[0] <= median <= MEDIAN[1]:
        return f"the median pixel would be {median:.0f} degC"
    if low > BODY[0] and warm > BODY[1]:
        return f"the coolest pixels would be {low:.0f} degC and a tenth over {warm:.0f}, where no face is so hot"
    if high > HOT:
        return f"a twentieth of the pixels would be hotter than {HOT:.0f} degC"
    # Pixels that are far from all others, or from those beside them.
    beyond = known[known < COLDEST]
    if len(beyond) > FEW * len(known):
        return (
            f"{len(beyond) / len(known):.0%} of the pixels would be about {np.median(beyond):.0f} degC; if they stand for "
            "no reading, name their value as unit.nodata"
        )
    apart = float((_apart(celsius) > APART).sum() / len(known))
    return f"{apart:.0%} of the pixels would be over {APART:.0f} K from their neighbours" if apart > FEW else ""


def drop_dead_pixels(celsius: np.ndarray) -> np.ndarray:
    """Return degrees [H, W] with NaN for pixels hundreds of kelvin from their neighbours, where these are few."""
    dead = _apart(celsius) > DEAD
    return np.where(dead, np.float32(np.nan), celsius) if 0 < dead.sum() <= FEW * dead.size else celsius


def _apart(celsius: np.ndarray) -> np.ndarray:
    """Return by how many kelvin each pixel differs from the median of the 3 x 3 about it; 0 without a reading."""
    known = np.isfinite(celsius)
    if not known.any():
        return np.zeros(celsius.shape, np.float32)
    whole = np.where(known, celsius, np.median(celsius[known])).astype(np.float32)
    return np.abs(whole - cv2.medianBlur(whole, 3))


def _find_flat_scale(celsius: np.ndarray, unit: "UnitName | Numbers") -> str:
    low, median, high = np.nanpercentile(celsius, (5, 50, 95))
    if scale_of(unit) != UNITS["tfake"] or high - low >= SPREAD:
        return ""
    return f"the median pixel would be {median:.0f} degC, and nearly all within {high - low:.1f} degrees"


def check_counts(values: np.ndarray, other: str = "little or big") -> None:
    """Raise Implausible for values of any unit that are no picture: bytes the wrong way round, or telemetry below it.

    other: order of bytes that is proposed then.
    """
    if values.dtype.itemsize < 2 or len(values) <= 4 * BORDER:
        return
    # In the other order of their bytes the values of a picture are much rougher, not smoother.
    middle = values[BORDER:-BORDER]
    if values.dtype.kind in "iu" and values.dtype.itemsize == 2:
        rough = roughness(middle)
        if rough > 0.02 and rough > 2 * roughness(middle.byteswap()):
            raise Implausible(
                "byte order: neighbours differ as if the two bytes of each value were swapped; name the order that they "
                f"were written in as unit.endian: {other}"
            )
    # Rows of telemetry jump from value to value where the rows of the picture do not.
    known = middle[np.isfinite(middle)]
    if not known.size:
        return
    low, high = np.percentile(known, (2, 98))
    jumps = np.array([_jump_share(row, 0.3 * float(high - low)) for row in values])
    if not high > low or np.median(jumps[BORDER:-BORDER]) > JUMPS[0]:
        return
    above, below = (np.flatnonzero(part > JUMPS[1]) for part in (jumps[:BORDER], jumps[::-1][:BORDER]))
    if len(below):
        raise Implausible(
            f"telemetry: the last {below.max() + 1} rows are no picture; leave them out by unit.crop_rows={below.max() + 1}"
        )
    if len(above):
        raise Implausible(f"telemetry: the first {above.max() + 1} rows are no picture; cut them off")


def roughness(values: np.ndarray) -> float:
    """Return the mean difference of neighbours as a share of the values' range."""
    low, high = np.percentile(values, (1, 99))
    return float(np.abs(np.diff(values.astype(np.float32), axis=1)).mean() / max(float(high - low), 1e-6))


def _jump_share(row: np.ndarray, step: float) -> float:
    """Return the share of neighbours in a row that differ by more than `step`, those that hold a value; 0 of under four."""
    known = row[np.isfinite(row) & (row != 0)].astype(np.float32)
    return float((np.abs(np.diff(known)) > step).mean()) if len(known) > 4 else 0.0


def hint(values: np.ndarray, wrong: "UnitName | Numbers") -> str:
    """Return under which units but `wrong` the values would be those of a face's picture, in words; empty for none."""
    fitting = [
        f"{median:.0f} degC as {name}"
        for name, median in _fitting_units(values).items()
        if scale_of(name) != scale_of(wrong)
    ]
    if fitting:
        return f", {' or '.join(fitting)}"
    raw = values.dtype.kind in "iu" and values.dtype.itemsize > 1
    return ", and no unit known here fits: counts of a camera without radiometry are no temperatures" if raw else ""


def guess_unit(values: np.ndarray) -> "UnitName | None":
    """Return the first unit that makes the scene of a face of whole numbers, None where none does."""
    return next(iter(_fitting_units(values)), None) if values.dtype.kind in "iu" else None


def _fitting_units(values: np.ndarray) -> dict[UnitName, float]:
    """Return the median in degrees Celsius under each unit that makes a face's picture of `values`; of makes the unit.

    T-FAKE's scale is never among them: it makes a face of any values, of a camera without radiometry too.
    """
    found, seen = dict[UnitName, float](), {UNITS["tfake"]}
    for name, scale in UNITS.items():
        if scale in seen:
            continue
        seen.add(scale)
        celsius = from_unit(values, name)
        if not np.isfinite(celsius).any():
            continue
        median, warmest = (float(value) for value in np.nanpercentile(celsius, (50, 99)))
        human = FACE[0] <= median <= FACE[1] and warmest >= SKIN
        if human and not find_fault(celsius):
            found[name] = median
    return found


INVERTED = 0.15
"""How much darker than the border the middle of a grey picture is, as a share of its range, where black stands for hot."""


def is_inverted(grey: np.ndarray) -> bool:
    """Return whether grey levels uint8 [H, W] of a face look as a black-hot palette shows them: the middle darker than the
    border. Before a background that is warmer than skin a white-hot picture looks so, too."""
    height, width = grey.shape
    middle = grey[height // 4 : -(height // 4) or None, width // 4 : -(width // 4) or None]
    border = np.ones(grey.shape, bool)
    border[height // 8 : height - height // 8, width // 8 : width - width // 8] = False
    low, high = (float(value) for value in np.percentile(grey, (1, 99)))
    return float(np.median(middle)) < float(np.median(grey[border])) - INVERTED * max(high - low, 1.0)
