"""How the parts of a face differ in temperature from the whole, and how they do so on true faces of the world.

`regions.json` holds the mean and the standard deviation of each part's difference, in kelvin: of the world's words for the room,
and of rooms in degrees by bands of their air. `python -m models.gates.measure_regions` makes it.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np

from models.classes import CLASSES, FACE
from models.layers import degrees_of

FILE = Path(__file__).with_name("regions.json")
PARTS: dict[str, tuple[int, ...]] = {
    part: tuple(CLASSES.index(name) for name in names)
    for part, names in (
        ("nose", ("NOSE",)),
        ("eyes", ("RIGHT_EYE", "LEFT_EYE")),
        ("mouth", ("TOP_LIP", "BOTTOM_LIP", "MOUTH_INTERIOR")),
        ("ears", ("RIGHT_EAR", "LEFT_EAR")),
    )
}
"""Parts of a face whose temperatures are compared with the whole. Skin is most of the whole, and says the others' once more."""
LEAST = 8
"""Pixels that a part must have to be compared: fewer are an edge."""
BANDS = (0.0, 10.0, 20.0, 30.0)
"""Degrees Celsius of the air that part one band of rooms from the next."""
ANY = "any"
"""Figures over all rooms, for words that the world does not have."""

Spread = dict[str, tuple[float, float]]
"""Part -> mean and standard deviation of its difference, K."""


def part_differences(celsius: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Return how much warmer than the whole face each part is that has enough pixels, K: celsius float [H, W], classes uint8
    [H, W]. {} without a face."""
    face = np.isin(classes, FACE)
    if not face.any():
        return {}
    mean = float(celsius[face].mean())
    inside = {part: np.isin(classes, members) for part, members in PARTS.items()}
    return {part: float(celsius[own].mean()) - mean for part, own in inside.items() if own.sum() >= LEAST}


def band_of(air: float) -> str:
    """Return the name of the band of rooms that air of so many degrees Celsius is in, as `10 to 20`."""
    place = int(np.searchsorted(BANDS, air, side="right"))
    if not place:
        return f"below {BANDS[0]:g}"
    return f"from {BANDS[-1]:g}" if place == len(BANDS) else f"{BANDS[place - 1]:g} to {BANDS[place]:g}"


def spread_in(condition: str) -> Spread:
    """Return how the parts of true faces differ under a condition: a word, or the room in degrees."""
    figures, degrees = _figures(), degrees_of(condition)
    return figures[band_of(degrees)] if degrees is not None else figures.get(condition, figures[ANY])


def most_deviations(differences: dict[str, float], condition: str) -> float:
    """Return the most standard deviations that a part's difference is from that of true faces under a condition; NaN where one
    has no reading, 0 where no part is compared."""
    spread = spread_in(condition)
    off = [abs(value - spread[part][0]) / spread[part][1] for part, value in differences.items()]
    return float(np.max(off)) if off else 0.0


@cache
def _figures() -> dict[str, Spread]:
    found = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: {part: (mean, spread) for part, (mean, spread) in parts.items()} for name, parts in found.items()}
