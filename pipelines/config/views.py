"""How each person of a generate job is seen: in words, in a grid or list of poses, or in poses drawn from distributions.

    views: {per_identity: 4}                                         # words, as frequent as in life
    views: {yaw: [-60, -30, 0, 30, 60], expression: [neutral, smile]}  # a grid: every yaw with every expression
    views: [{yaw: 0}, {yaw: 30, pitch: -10, expression: smile}]      # one by one
    views: {per_identity: 8, yaw: {uniform: [-60, 60]}, pitch: {normal: [0, 8], clip: [-15, 15]}}

Degrees, with the signs of `models.visible.angles`. A single number or word holds for every view.
"""

import itertools
from collections.abc import Mapping, Sequence
from math import prod
from statistics import NormalDist
from typing import Any, TypeGuard

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from models.attributes import EXPRESSIONS, check_words
from models.visible.angles import ANGLES, DIGITS, DRAWN

SAID = (*ANGLES, "expression")
"""What a view can say of the head. An order: in a grid the last changes from one view to the next."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Uniform(_Section):
    """Every angle from the first to the second is as likely."""

    uniform: tuple[float, float]

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest angle."""
        return self.uniform

    def angle(self, share: float) -> float:
        """Return the angle below which `share` in [0, 1) of the distribution lies."""
        low, high = self.uniform
        return low + (high - low) * share


class Normal(_Section):
    """Mean and standard deviation; what lies beyond `clip` is its end."""

    normal: tuple[float, float]
    clip: tuple[float, float]

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest angle."""
        return self.clip

    def angle(self, share: float) -> float:
        """Return the angle below which `share` in [0, 1) of the distribution lies."""
        mean, deviation = self.normal
        found = mean + deviation * NormalDist().inv_cdf(max(share, 2.0**-53))
        return min(max(found, self.clip[0]), self.clip[1])


Angle = float | tuple[float, ...] | Uniform | Normal | None
"""One for every view, the values of a grid, a distribution; None leaves it to the words."""
Words = str | tuple[str, ...] | dict[str, float] | None
"""One for every view, the values of a grid, weights."""


class View(_Section):
    """One view of a list. What it does not say is left to the words."""

    yaw: float | None = None
    pitch: float | None = None
    roll: float | None = None
    expression: str | None = None

    @field_validator(*ANGLES, mode="before")
    @classmethod
    def _check_angle(cls, value: object, info: Any) -> object:
        return None if value is None else check_angle(info.field_name, value)

    @field_validator("expression")
    @classmethod
    def _check_word(cls, value: str | None) -> str | None:
        if value is not None:
            check_words("expression", [value])
        return value

    @model_serializer(mode="wrap")
    def _leave_out(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value is not None}


class Views(_Section):
    """How often each person is seen, and how."""

    per_identity: int = Field(default=4, ge=1)
    """Views of a person; of a grid or a list their number, which need not be said."""
    draws: int = Field(default=1, ge=1)
    """Pictures of the same view (same words and angles, other noise)."""
    attributes: dict[str, list[str] | dict[str, float]] = {}
    """Words to choose from, by attribute, or the share of each; the whole vocabulary with everyday frequencies by default."""
    yaw: Angle = None
    pitch: Angle = None
    roll: Angle = None
    expression: Words = None
    each: tuple[View, ...] | None = None
    """The views one by one, in the place of the four above."""

    @model_validator(mode="before")
    @classmethod
    def _count(cls, value: object) -> object:
        """Take a bare list as `each`, and the number of views of a grid or list where it is not said."""
        if isinstance(value, list | tuple):
            value = {"each": value}
        if not isinstance(value, Mapping):
            return value
        content = {name: one for name, one in value.items() if name != "per_identity" or one is not None}
        sizes = [len(content[name]) for name in (*SAID, "each") if isinstance(content.get(name), list | tuple)]
        size: int = prod(sizes)
        if sizes and size:
            content.setdefault("per_identity", size)
        return content

    @field_validator("attributes", mode="before")
    @classmethod
    def _list_words(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: words if isinstance(words, list | dict) else [str(words)] for key, words in value.items()}

    @field_validator("attributes")
    @classmethod
    def _check_words(cls, value: dict[str, list[str] | dict[str, float]]) -> dict[str, list[str] | dict[str, float]]:
        for name, words in value.items():
            check_words(name, list(words))
            if isinstance(words, dict):
                _check_shares(name, words)
        return value

    @field_validator(*ANGLES, mode="before")
    @classmethod
    def _check_angle(cls, value: object, info: Any) -> Angle:
        return None if value is None else parse_angle(info.field_name, value)

    @field_validator("expression", mode="before")
    @classmethod
    def _check_expression(cls, value: object) -> object:
        return None if value is None else parse_expression(value)

    @field_validator("each")
    @classmethod
    def _check_each(cls, value: tuple[View, ...] | None) -> tuple[View, ...] | None:
        if value == ():
            raise ValueError("a list of no views shows nobody: name one view at least")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> "Views":
        """Refuse what is said twice, and a number of views that is not the grid's."""
        said = [name for name in SAID if getattr(self, name) is not None]
        if self.each is not None and said:
            raise ValueError(f"each lists the views one by one: say {said[0]} there")
        for name, word in (("yaw", "pose"), ("expression", "expression")):
            if word in self.attributes and word in self.said_words:
                raise ValueError(f"{name} says it already: take attributes.{word} out")
        size = len(self.each) if self.each is not None else prod(len(axis) for axis in self._axes().values())
        if (self._axes() or self.each is not None) and self.per_identity != size:
            what = "list" if self.each is not None else "grid"
            raise ValueError(f"per_identity is {self.per_identity} and the {what} makes {size}: leave per_identity out")
        return self

    @model_serializer(mode="wrap")
    def _leave_out(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not said: views in words are written as they always were."""
        return {name: value for name, value in dump(self).items() if value is not None}

    def says(self, name: str) -> bool:
        """Return whether some view says `name`, one of `SAID`."""
        return getattr(self, name) is not None or any(getattr(view, name) is not None for view in self.each or ())

    @property
    def said_words(self) -> set[str]:
        """The attributes whose word a view says, by an angle or by an expression."""
        return {word for name, word in (("yaw", "pose"), ("expression", "expression")) if self.says(name)}

    @property
    def in_degrees(self) -> bool:
        """Whether some view names an angle."""
        return any(self.says(name) for name in ANGLES)

    def _axes(self) -> dict[str, tuple[Any, ...]]:
        """Return the values of the grid by what they are of, in the order of `SAID`."""
        return {name: value for name in SAID if isinstance(value := getattr(self, name), tuple)}

    def list_views(self) -> list[dict[str, Any]]:
        """Return of each view what it says: name of `SAID` -> a number, a word, a distribution or weights."""
        if self.each is not None:
            return [view.model_dump() for view in self.each]
        axes = self._axes()
        same = {name: value for name in SAID if name not in axes and (value := getattr(self, name)) is not None}
        grid = [dict(zip(axes, point)) for point in itertools.product(*axes.values())]
        return [same | point for point in (grid if axes else [{}] * self.per_identity)]


def _check_shares(name: str, shares: Mapping[str, float]) -> None:
    """Raise ValueError for shares that are no distribution."""
    if any(not 0 <= share <= 1 for share in shares.values()):
        raise ValueError(f"{name}: a share is between 0 and 1")
    total = sum(shares.values())
    if abs(total - 1) > 1e-6:
        raise ValueError(f"{name}: the shares sum to {total:g}, not to 1")


def is_finite(value: object) -> TypeGuard[float]:
    """Return whether a value of a file is a number that float32 holds: no text, no yes or no, no NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 3e38


def check_angle(name: str, value: object) -> float:
    """Return an angle in degrees. Raises ValueError for what is no finite number, or no head is drawn at."""
    if not is_finite(value):
        raise ValueError(f"{name} is in degrees: a finite number, not {value!r}")
    if abs(value) > DRAWN[name]:
        raise ValueError(f"{name} {value:g} is beyond what the head is drawn at: -{DRAWN[name]:g} to {DRAWN[name]:g}")
    return round(float(value), DIGITS) + 0.0  # no -0.0


def parse_angle(name: str, value: object) -> Angle:
    """Return what a job says of an angle: a number, the values of a grid, or a distribution. Raises ValueError."""
    if isinstance(value, Uniform | Normal):
        value = value.model_dump()
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError("a grid of no views shows nobody: name one value at least")
        return tuple(check_angle(name, one) for one in value)
    if not isinstance(value, Mapping):
        return check_angle(name, value)
    # A distribution by its one name.
    keys = set(value)
    if keys == {"uniform"}:
        return Uniform(uniform=_range(name, "uniform", value["uniform"]))
    if "normal" in keys and keys <= {"normal", "clip"}:
        mean, deviation = _pair(name, "normal", value["normal"])
        if deviation < 0:
            raise ValueError(f"{name}.normal is [mean, standard deviation], and {deviation:g} is negative")
        clip = _range(name, "clip", value.get("clip", (-DRAWN[name], DRAWN[name])))
        return Normal(normal=(check_angle(name, mean), deviation), clip=clip)
    raise ValueError(
        f"{name} takes a number, a list, {{uniform: [from, to]}} or {{normal: [mean, deviation], clip: [from, to]}}; "
        f"not {', '.join(map(str, value)) or 'nothing'}"
    )


def parse_expression(value: object) -> Words:
    """Return what a job says of the expression: a word, the words of a grid, or weights. Raises ValueError."""
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError("a grid of no views shows nobody: name one word at least")
        check_words("expression", [str(word) for word in value])
        return tuple(str(word) for word in value)
    if not isinstance(value, Mapping):
        check_words("expression", [str(value)])
        return str(value)
    check_words("expression", [str(word) for word in value])
    wrong = [word for word, weight in value.items() if not is_finite(weight) or weight < 0]
    if wrong or not sum(value.values()) > 0:
        raise ValueError(
            f"expression: weights are finite, not negative, and one is positive{f': not {wrong[0]}' if wrong else ''}"
        )
    return {word: float(value[word]) for word in EXPRESSIONS if word in value}  # an order that no file's decides


def _pair(name: str, key: str, value: object) -> tuple[float, float]:
    """Return two finite numbers. Raises ValueError."""
    if not isinstance(value, Sequence) or len(value) != 2 or not all(is_finite(one) for one in value):
        raise ValueError(f"{name}.{key} is two finite numbers, not {value!r}")
    return float(value[0]), float(value[1])


def _range(name: str, key: str, value: object) -> tuple[float, float]:
    """Return two angles in order. Raises ValueError."""
    low, high = (check_angle(name, end) for end in _pair(name, key, value))
    if low > high:
        raise ValueError(f"{name}.{key} goes from low to high, not from {low:g} to {high:g}")
    return low, high
