"""What a thermalizer is told of the surroundings: the room in degrees, sun and wind as far as they are known, or a word."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.errors import UserError
from models.layers import Layer, check_words, degrees_of

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


class RoomRange(BaseModel):
    """What a thermalizer of rooms learned from.

    conditions: its words. ambient_c, sun_wm2, wind_ms: the least and the greatest of its rooms. celsius: likewise, of a
    person's pixels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    conditions: tuple[str, ...] = ("warm", "cold")
    ambient_c: tuple[float, float] = (-10.0, 40.0)
    sun_wm2: tuple[float, float] = (0.0, 900.0)
    wind_ms: tuple[float, float] = (0.0, 5.0)
    celsius: tuple[float, float] = (-30.0, 80.0)

    def is_beyond(self, room: Room) -> bool:
        """Whether what is known of `room` lies outside of what was learned from."""
        pairs = ((room.ambient_c, self.ambient_c), (room.sun_wm2, self.sun_wm2), (room.wind_ms, self.wind_ms))
        return any(not low <= value <= high for value, (low, high) in pairs if not math.isnan(value))

    def clipped_share(self, celsius: np.ndarray, person: np.ndarray) -> np.ndarray:
        """Return the share of the person beyond the temperatures learned from, float32 [...] of [..., H, W]."""
        outside = ((celsius < self.celsius[0]) | (celsius > self.celsius[1])) & person
        share: np.ndarray = outside.sum(axis=(-2, -1)) / np.maximum(person.sum(axis=(-2, -1)), 1)
        return share.astype(np.float32)


class RoomSettings(BaseModel):
    """What a job or a request may choose of the surroundings. The room itself is a condition: `22.5`, a word, or `any`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sun: float | None = Field(
        default=0.0, ge=0, le=1400, allow_inf_nan=False, description="W/m2 of conditions in degrees; none: not known"
    )
    wind: float | None = Field(
        default=None, ge=0, le=40, allow_inf_nan=False, description="m/s of conditions in degrees; none: not known"
    )
    layers: tuple[Layer, ...] = ()

    def room(self, layer: Layer) -> Room:
        """Return the surroundings that a layer names: sun and wind go with degrees, a word has its own."""
        degrees = degrees_of(layer.condition)
        if degrees is None:
            return Room(word="" if layer.condition == UNKNOWN else layer.condition)
        sun, wind = (math.nan if value is None else value for value in (self.sun, self.wind))
        return Room(degrees, sun, wind)


def check_layers(layers: Sequence[Layer], words: Sequence[str], random: bool) -> None:
    """Raise a UserError for a word that a thermalizer of rooms has not learned, or a second draw of one that is not random."""
    # Degrees are no word: they stand as the unknown room, which every such part has.
    wanted = [layer if degrees_of(layer.condition) is None else layer._replace(condition=UNKNOWN) for layer in layers]
    try:
        check_words(wanted, words, "this thermalizer", random=random)
    except ValueError as error:
        raise UserError(f"{error}, and rooms in degrees Celsius.") from None
