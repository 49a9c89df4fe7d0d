"""Temperature on disk: 16-bit centikelvin, the thermal cameras' own convention. degrees Celsius = value / 100 - 273.15."""

from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from models.errors import UserError

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


UnitName = Literal[
    "centikelvin", "decikelvin", "kelvin", "kelvin64", "counts40mk", "celsius", "decicelsius", "fahrenheit", "tfake",
    "flir", "boson", "lepton", "optris", "seek", "infiray", "hikmicro",
]  # fmt: skip
UNITS: dict[UnitName, tuple[float, float]] = {
    "centikelvin": (0.01, -273.15),
    "decikelvin": (0.1, -273.15),
    "kelvin": (1.0, -273.15),
    "kelvin64": (1 / 64, -273.15),
    "counts40mk": (0.04, -273.15),
    "celsius": (1.0, 0.0),
    "decicelsius": (0.1, 0.0),
    "fahrenheit": (5 / 9, -160 / 9),
    "tfake": (20 / 65535, 20.0),
    "flir": (0.01, -273.15),
    "boson": (0.01, -273.15),
    "lepton": (0.01, -273.15),
    "optris": (0.1, -100.0),
    "seek": (1 / 64, -40.0),
    "infiray": (1 / 64, -273.15),
    "hikmicro": (1 / 64, -273.15),
}
"""degrees Celsius = value * first + second. counts40mk: cameras of 0.04 K a count. tfake: 0 to 65535 is 20 to 40 degC.

The makes are what their cameras write: FLIR's, Boson's and Lepton's linear temperature in 0.01 K, Optris' (value - 1000) / 10,
Seek's 10.6 fixed point above -40 degC, 1/64 K of InfiRay's P2 and Hikmicro's of its kind.
"""


class Numbers(BaseModel):
    """How a camera's values become degrees, where a name alone does not say it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: UnitName | None = None
    """What `scale` and `offset` are where they are not given; centikelvin without them all."""
    scale: float | None = None
    """Degrees Celsius per count."""
    offset: float | None = None
    """Degrees Celsius of a value 0."""
    endian: Literal["file", "little", "big"] = "file"
    """Order of the bytes that the camera wrote; `file` is the one that the file itself states."""
    signed: bool = False
    """Whether 16-bit values above 32767 are negative."""
    nodata: tuple[float, ...] = ()
    """Values that are no reading, beside those that cannot be one."""
    crop_rows: int = Field(0, ge=0)
    """Rows at the bottom of a frame that are no picture, such as a Lepton's telemetry."""
    emissivity: float | None = Field(None, gt=0, le=1)
    """Of what a radiometric JPEG shows, instead of what its camera was told; human skin has 0.98."""
    distance: float | None = Field(None, ge=0)
    """Metres to what a radiometric JPEG shows, likewise."""

    @field_validator("nodata", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @model_validator(mode="after")
    def _check_scale(self) -> "Numbers":
        if (self.scale is None) != (self.offset is None):
            raise ValueError("give scale and offset together: degrees Celsius = value * scale + offset")
        if self.scale is not None and (self.preset or not self.scale):
            raise ValueError("scale is not 0, and takes the place of preset: give one of both")
        return self


Unit = Annotated[
    Annotated[UnitName, Tag("name")] | Annotated[Numbers, Tag("numbers")],
    Discriminator(lambda value: "numbers" if isinstance(value, dict | Numbers) else "name"),
]
"""A name, or numbers."""


def parse_unit(text: str) -> "UnitName | Numbers":
    """Return the unit that `text` names, or says in YAML: `{scale: 0.1, offset: -100}`. Raises UserError for none."""
    try:
        return TypeAdapter[UnitName | Numbers](Unit).validate_python(yaml.safe_load(text))
    except (ValidationError, yaml.YAMLError) as error:
        problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "not YAML"
        raise UserError(f"unit {text}: {problem}; known are {', '.join(UNITS)}, and {{scale: S, offset: O}}") from None


def numbers_of(unit: "UnitName | Numbers") -> Numbers:
    """Return a unit as numbers."""
    return Numbers(preset=unit) if isinstance(unit, str) else unit


def scale_of(unit: "UnitName | Numbers") -> tuple[float, float]:
    """Return (scale, offset) of a unit: degrees Celsius = value * scale + offset."""
    numbers = numbers_of(unit)
    if numbers.scale is not None and numbers.offset is not None:
        return numbers.scale, numbers.offset
    return UNITS[numbers.preset or "centikelvin"]


def name_of(unit: "UnitName | Numbers") -> str:
    """Return what a unit is called in messages."""
    if isinstance(unit, str):
        return unit
    scale, offset = scale_of(unit)
    return unit.preset or ("centikelvin" if unit.scale is None else f"value * {scale:.4g} {offset:+g}")


LOWEST, HIGHEST = -273.15, 3000.0
"""Beyond them no camera has a reading, whatever its values say."""


def from_unit(values: np.ndarray, unit: "UnitName | Numbers") -> np.ndarray:
    """Decode a thermal picture's values to float32 degrees Celsius; NaN is no reading.

    No reading are the unit's `nodata`, what no scene has (under absolute zero, over 3000 degC), and of whole numbers the ends
    of their range; 0 only where it is no usual temperature, so not of celsius. Both ends of T-FAKE's scale are none either:
    what is colder or warmer lies there, and so does the background.
    """
    numbers, (scale, offset) = numbers_of(unit), scale_of(unit)
    values = np.asarray(values)
    if numbers.signed and values.dtype == np.uint16:
        values = values.view(np.int16)
    celsius = values.astype(np.float64) * scale + offset
    # What is no reading.
    none = ~np.isfinite(celsius) | (celsius <= LOWEST) | (celsius > HIGHEST) | np.isin(values, numbers.nodata)
    if values.dtype.kind in "iu" and values.dtype.itemsize > 1:
        limits = np.iinfo(values.dtype)
        none |= (values == limits.max) | ((values == limits.min) & (values.dtype.kind == "i"))
        none |= (values == 0) & (offset <= -40 or numbers.preset == "tfake")
    return np.where(none, np.nan, celsius).astype(np.float32)


def fill(celsius: np.ndarray) -> np.ndarray:
    """Return temperatures float32 with the mean of the others where there is no reading."""
    known = np.isfinite(celsius)
    return np.where(known, celsius, celsius[known].mean() if known.any() else 20.0).astype(np.float32)


def to_grey(celsius: np.ndarray) -> np.ndarray:
    """Return degrees as a camera's 8-bit gain control shows them: uint8, stretched over the picture's own range."""
    low, high = float(celsius.min()), float(celsius.max())
    return np.rint((celsius - low) / max(high - low, 1e-3) * 255).astype(np.uint8)


def from_grey(grey: np.ndarray, celsius: tuple[float, float]) -> np.ndarray:
    """Return grey levels uint8 as if they were degrees, float32: 0 and 255 are the ends of `celsius`. None is a temperature."""
    return (celsius[0] + grey.astype(np.float32) / 255 * (celsius[1] - celsius[0])).astype(np.float32)


def to_levels(celsius: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Return the grey levels uint8 that `from_grey` took for degrees."""
    return np.rint((celsius - ends[0]) / (ends[1] - ends[0]) * 255).clip(0, 255).astype(np.uint8)


def stretch(celsius: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Return degrees float32 as they look through an 8-bit picture whose levels are taken for `ends`."""
    return from_grey(to_grey(celsius), ends)
