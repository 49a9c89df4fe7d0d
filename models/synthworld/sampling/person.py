"""Draw people: geometry, skin, age and colours from nothing but an identity number."""

import math

import numpy as np

from models.attributes import HAIR_COLOURS, IRIS_COLOURS
from models.synthworld.sampling.draws import NamedDraws
from models.synthworld.sampling.scene import Person, Shape

HAIR_RGB = {
    "black": (0.012, 0.010, 0.010),
    "dark brown": (0.040, 0.022, 0.014),
    "brown": (0.110, 0.058, 0.030),
    "auburn": (0.150, 0.045, 0.020),
    "red": (0.320, 0.095, 0.030),
    "blond": (0.480, 0.310, 0.130),
    "grey": (0.270, 0.265, 0.260),
    "white": (0.620, 0.610, 0.590),
}
"""Linear RGB of hair."""

IRIS_RGB = {
    "dark brown": (0.035, 0.016, 0.008),
    "brown": (0.110, 0.048, 0.018),
    "hazel": (0.170, 0.105, 0.035),
    "green": (0.085, 0.150, 0.060),
    "blue": (0.080, 0.170, 0.330),
    "grey": (0.190, 0.220, 0.240),
}
"""Linear RGB of the iris."""

_SEX_SHIFT = {
    "brow_ridge": 0.45, "jaw_width": 0.40, "jaw_angle": 0.35, "chin_width": 0.35, "chin_length": 0.25,
    "neck_width": 0.60, "nose_width": 0.15, "nose_hump": 0.15, "eye_size": -0.25, "upper_lip": -0.20, "lower_lip": -0.20,
    "brow_height": -0.35, "brow_arch": -0.35, "forehead_slope": 0.25, "cheek_fat": -0.15, "head_width": 0.15,
    "head_height": 0.15, "eye_depth": 0.25,
}  # fmt: skip


def sample_person(identity: int) -> Person:
    """Return the person with this number: always the same, and different in shape from every other."""
    draws = NamedDraws("person", identity)
    # Sex and age come first: shape and colours depend on them.
    sex = math.tanh(1.6 * draws.normal("sex") + (1.1 if draws.uniform("side") < 0.5 else -1.1))
    age = 18.0 + 64.0 * draws.uniform("age") ** 1.25
    tone = draws.uniform("tone")
    # Colours, of which some are rarer on dark skin.
    hair = _hair_colour(draws, tone, age)
    iris_weights = (1.0, 0.6, 0.1, 0.05, 0.03, 0.02) if tone < 0.5 else (0.7, 0.8, 0.6, 0.6, 1.0, 0.5)
    iris = draws.choice("iris", IRIS_COLOURS, iris_weights)
    lip = draws.uniform("lip")
    return Person(
        identity=identity,
        shape=_shape(draws, sex, age),
        sex=sex,
        age=age,
        tone=tone,
        undertone=draws.uniform("undertone", -1, 1),
        hair_colour=hair,
        hair_rgb=_jitter(HAIR_RGB[hair], draws, "hair_rgb"),
        iris_colour=iris,
        iris_rgb=_jitter(IRIS_RGB[iris], draws, "iris_rgb"),
        lip_rgb=(0.95 - 0.12 * lip, 0.62 - 0.22 * lip, 0.64 - 0.18 * lip),
        brow_thickness=max(-1.0, min(1.0, draws.normal("brow_thickness", 0.5) + 0.35 * sex)),
        brow_density=draws.uniform("brow_density", 0.6, 0.95),
        freckles=draws.uniform("freckles") ** 3 * (1.0 if tone > 0.55 else 0.2),
        baldness=draws.uniform("baldness") * max(0.0, min(1.0, (age - 25.0) / 40.0)) * max(0.0, sex),
    )


def _shape(draws: NamedDraws, sex: float, age: float) -> Shape:
    """Most values near the middle, a few far out: that is what makes a face memorable."""
    sag = max(0.0, (age - 45.0) / 40.0)
    values: dict[str, float] = {}
    for name in Shape.names():
        value = draws.normal(name, 0.62) + _SEX_SHIFT.get(name, 0.0) * sex
        values[name] = max(-1.25, min(1.25, value))
    values["eye_bag"] += 0.8 * sag
    values["eye_fold"] += 0.5 * sag
    values["ear_size"] += 0.4 * sag
    values["upper_lip"] -= 0.5 * sag
    values["nose_length"] += 0.3 * sag
    return Shape(**values)


def _hair_colour(draws: NamedDraws, tone: float, age: float) -> str:
    """Return the word for the person's hair: grey or white with age, else dark more often on dark skin."""
    greying = max(0.0, min(1.0, (age - 42.0) / 30.0 + draws.normal("greying", 0.25)))
    if age > 35 and draws.uniform("is_grey") < greying:
        return "white" if greying > 0.9 and draws.uniform("is_white") < 0.6 else "grey"
    weights = (1.0, 0.5, 0.15, 0.05, 0.02, 0.04) if tone < 0.5 else (0.35, 0.7, 0.9, 0.4, 0.4, 0.9)
    return draws.choice("hair", HAIR_COLOURS[:6], weights)


def _jitter(rgb: tuple[float, float, float], draws: NamedDraws, name: str) -> tuple[float, float, float]:
    factor = math.exp(draws.normal(name, 0.14))
    red, green, blue = (min(1.0, channel * factor) for channel in rgb)
    return red, green, blue


def measure_person(person: Person) -> np.ndarray:
    """Return what can be measured of a person's face, float32 [58], each about [-1, 1]; nothing tells left from right."""
    shape = [getattr(person.shape, name) for name in Shape.names() if name != "asymmetry"]
    rest = [person.sex, (person.age - 45) / 30, 2 * person.tone - 1, person.undertone, person.freckles]
    brows = [person.brow_thickness, (person.brow_density - 0.775) / 0.175]
    colours = [math.log10(channel) + 1.2 for channel in (*person.hair_rgb, *person.iris_rgb)]
    return np.array([*shape, *rest, *brows, *colours], np.float32)


def person_from_measures(values: np.ndarray) -> Person:
    """Return the person whose measures, float32 [58] as `measure_person` gives them, are `values`; the rest is average."""
    # The order of `measure_person`: shape, the rest, colours as logarithms.
    names = [name for name in Shape.names() if name != "asymmetry"]
    shape, rest = values[: len(names)], values[len(names) :]
    sex, age, tone, undertone, freckles, brow, density = (float(value) for value in rest[:7])
    red, green, blue, *iris = (10 ** (float(value) - 1.2) for value in rest[7:])
    return Person(
        identity=0,
        shape=Shape(**{name: float(np.clip(value, -2.2, 2.2)) for name, value in zip(names, shape, strict=True)}),
        sex=min(1.0, max(-1.0, sex)),
        age=min(90.0, max(18.0, 45 + 30 * age)),
        tone=min(1.0, max(0.0, 0.5 + 0.5 * tone)),
        undertone=undertone,
        hair_rgb=(red, green, blue),
        iris_rgb=(iris[0], iris[1], iris[2]),
        brow_thickness=brow,
        brow_density=0.775 + 0.175 * density,
        freckles=max(0.0, freckles),
    )
