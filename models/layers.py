"""Layers: the thermal pictures of one sample, one for each condition and draw.

A condition is a word that a thermalizer learned (`warm`, `cold`) or the room's temperature in degrees Celsius (`22.5`).
"""

import re
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, Field

DEGREES = (-60.0, 80.0)
"""Rooms that may be asked for, degrees Celsius."""
WORD = re.compile(r"[a-z][a-z0-9_-]{0,39}$")


class Layer(NamedTuple):
    """One thermal picture of a sample."""

    condition: str
    draw: int = 0

    @property
    def name(self) -> str:
        """What the layer is called in scores, noise and files: `warm`, `22.5`, and `warm.1`, `22.0.1` for the second draw."""
        if not self.draw:
            return self.condition
        whole = degrees_of(self.condition) is not None and "." not in self.condition
        return f"{self.condition}{'.0' if whole else ''}.{self.draw}"  # draw 5 at 22 degrees is not the room of 22.5


def parse_condition(value: object) -> str:
    """Return a condition as its one text: 22, 22.0 and "22" are all "22". Raises ValueError for what is no condition."""
    text = str(value).strip()
    if isinstance(value, str) and WORD.match(text):  # not a number that is called nan or inf
        return text
    try:
        degrees = float(text)
    except ValueError:
        raise ValueError(f"condition {text!r} is neither a word in lower case nor degrees Celsius") from None
    if isinstance(value, bool) or not DEGREES[0] <= degrees <= DEGREES[1]:
        raise ValueError(f"condition {text!r}: a room of {DEGREES[0]:g} to {DEGREES[1]:g} degrees Celsius is asked for")
    return format(degrees + 0.0, "g")  # + 0.0: minus zero is zero


def degrees_of(condition: str) -> float | None:
    """Return the room that a canonical condition names in degrees Celsius, None for a word."""
    return None if WORD.match(condition) else float(condition)


def _conditions(value: object) -> object:
    found = [parse_condition(one) for one in value] if isinstance(value, list | tuple) else []
    if not found or len(set(found)) != len(found):
        raise ValueError("name one or more different conditions, as in [warm, cold, 22.5]")
    return found


Conditions = Annotated[tuple[str, ...], BeforeValidator(_conditions)]
"""Conditions as a configuration gives them, words or numbers; kept as canonical texts."""
Draws = Annotated[int, Field(ge=1, le=64, description="thermal pictures of each condition")]


def layers_of(conditions: Sequence[str], draws: int = 1) -> tuple[Layer, ...]:
    """Return the layers of a sample in order: condition by condition, draw by draw."""
    return tuple(Layer(condition, draw) for condition in conditions for draw in range(draws))


def check_words(wanted: Sequence[Layer], known: Sequence[str], part: str, random: bool = False) -> None:
    """Raise ValueError for a layer that a part of words cannot make: it knows `known`, and draws noise if `random`."""
    for layer in wanted:
        if layer.condition not in known:
            kind = "no condition" if degrees_of(layer.condition) is None else "no room in degrees, so not"
            raise ValueError(f"{part} knows {kind} {layer.condition!r}; it has: {', '.join(known)}")
        if layer.draw and not random:
            raise ValueError(f"{part} makes one picture of a condition, always the same: samples has to be 1")
