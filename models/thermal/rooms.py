"""What a thermalizer is told of the surroundings: the room in degrees, sun and wind as far as they are known, or a word."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

UNKNOWN = "any"
"""The condition of which nothing is said: pictures then spread over what the surroundings could be."""
NUMBERS = 8
"""Values that say air, sun and wind; a flag for each of the words follows."""


@dataclass(frozen=True)
class Room:
    """Surroundings of one picture; NaN is not known.

    ambient_c: air in degrees Celsius. sun_wm2: sunlight in W/m2, 0 indoors. wind_ms: metres a second. word: a condition that
    the thermalizer learned by name, empty for none.
    """

    ambient_c: float = math.nan
    sun_wm2: float = math.nan
    wind_ms: float = math.nan
    word: str = ""


def room_vectors(rooms: Sequence[Room], words: Sequence[str]) -> np.ndarray:
    """Return the numbers float32 [B, 8 + words] that rooms are told by: a flag and the values of what is known, else zeros.

    The air comes with its square: skin follows a room less the colder it is. Wind comes with its root, as convection does.
    """
    rows = np.zeros((len(rooms), NUMBERS + len(words)), np.float32)
    for row, room in zip(rows, rooms, strict=True):
        if not math.isnan(room.ambient_c):
            air = (room.ambient_c - 20) / 15
            row[:3] = 1, air, air**2
        if not math.isnan(room.sun_wm2):
            row[3:5] = 1, room.sun_wm2 / 400
        if not math.isnan(room.wind_ms):
            row[5:8] = 1, room.wind_ms / 2, math.sqrt(max(0.0, room.wind_ms))
        if room.word:
            row[NUMBERS + list(words).index(room.word)] = 1
    return rows
