"""What a domain file may say: the ranges from which people, views and surroundings are drawn."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from models import attributes
from models.synthworld.camera.sensor import Camera


def _check_order(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError(f"a range goes from low to high, not from {span[0]} to {span[1]}")
    return span


Span = Annotated[tuple[float, float], AfterValidator(_check_order)]
"""Uniform between two numbers."""
Share = Annotated[float, Field(ge=0.0, le=1.0)]
"""A probability."""


def _weights(vocabulary: tuple[str, ...]) -> AfterValidator:
    """Return a validator of weights by words of `vocabulary`: none negative, one of them positive."""

    def check(weights: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(weights) - set(vocabulary))
        if unknown:
            raise ValueError(f"unknown {', '.join(unknown)}; known: {', '.join(vocabulary)}")
        if min(weights.values(), default=0.0) < 0.0 or sum(weights.values()) <= 0.0:
            raise ValueError("weights are not negative and at least one is positive")
        return weights

    return AfterValidator(check)


class Ranges(BaseModel):
    """Base of the parts of a domain file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Pose(Ranges):
    """Degrees. `far` of the views take their yaw from `far_yaw`, the others from `yaw`."""

    yaw: Span
    far_yaw: Span
    far: Share
    pitch: Span
    roll: Span


class Framing(Ranges):
    """`scale` is face height over picture height; `shift` the spread of the face centre in pictures; metres."""

    scale: Span
    shift: Annotated[float, Field(ge=0.0)]
    distance_m: Span


class People(Ranges):
    """Who is in the data set: `count` people a split (0: no limit), and the part of the tone continuum they cover."""

    count: Annotated[int, Field(ge=0)]
    tone: Span


class Looks(Ranges):
    """What people wear and do with their faces."""

    expressions: Annotated[dict[str, float], _weights(attributes.EXPRESSIONS)]
    strength: Span
    gaze: Annotated[float, Field(ge=0.0)]
    clear_glasses: Share
    opaque_glasses: Share
    headwear: Share
    facewear: Share
    beards: Share
    clothes: Annotated[dict[str, float], _weights(attributes.CLOTHES)]
    patterns: Annotated[dict[str, float], _weights(attributes.PATTERNS)]
    colours: Annotated[dict[str, float], _weights(attributes.COLOURS)]


class Setting(Ranges):
    """Light, background and development of the colour picture."""

    lightings: Annotated[dict[str, float], _weights(attributes.LIGHTINGS)]
    backgrounds: Annotated[dict[str, float], _weights(attributes.BACKGROUNDS)]
    strength: Span
    tint: Annotated[float, Field(ge=0.0, description="spread of the light's colour between warm and cool")]
    style: Literal["A", "B"]
    style_gap: Annotated[float, Field(ge=0.0)]


class Surround(Ranges):
    """Air and what surrounds the person, under one condition. degC, m/s, W/m2, minutes since they came in."""

    ambient_c: Span
    radiant_over_ambient: Span
    background_over_radiant: Span
    sky_over_ambient: Span
    wind_ms: Span
    humidity: Span
    sun_wm2: Span
    minutes: Span


class Conditions(Ranges):
    """The two sides of a pair of thermal pictures."""

    warm: Surround
    cold: Surround


class Capture(Ranges):
    """How the thermal picture is taken and labelled. `thermal` names what the data set delivers."""

    thermal: Literal["none", "apparent", "measured", "minmax", "agc"]
    native_face_px: Span
    camera: Camera
    jpeg: Annotated[int, Field(ge=0, le=100, description="quality of the 8-bit picture; 0: not compressed")]
    misregistration_px: Span
    delay_s: Span
    landmarks: Literal["70", "72/43"]
    landmark_noise: Annotated[float, Field(ge=0.0, description="label noise over the size of the face box")]


class Domain(Ranges):
    """One data set's world. `thermapair world --domain` takes a name of `domains/` or the path of such a file."""

    name: str
    stands_for: str
    pose: Pose
    framing: Framing
    people: People
    looks: Looks
    setting: Setting
    conditions: Conditions
    capture: Capture
