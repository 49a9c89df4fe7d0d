"""What a camera's values are is said by numbers; what they cannot be is refused with the way out."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.errors import UserError
from models.radiometry import Implausible, check_counts, decode, guess_unit, hint
from models.temperature import UNITS, Numbers, UnitName, from_unit, parse_unit
from tests.models.scenes import portrait


def counts(unit: UnitName, room: float = 21.5, skin: float = 35.0) -> np.ndarray:
    """Return a portrait as a camera of that unit writes it, uint16."""
    scale, offset = UNITS[unit]
    return np.rint((portrait(room, skin) - offset) / scale).astype(np.uint16)


def raw(room: float = 21.5) -> np.ndarray:
    """Return counts of a camera without radiometry: 28 a kelvin about 7,800 at 20 degrees."""
    return np.rint(7800 + (portrait(room, 35) - 20) * 28).astype(np.uint16)


NUMBERS: dict[str, tuple[Numbers, Any]] = {
    "64ths of a kelvin": (Numbers(scale=1 / 64, offset=-273.15), lambda t: np.rint((t + 273.15) * 64).astype(np.uint16)),
    "tenths of a degree": (Numbers(scale=0.1, offset=0), lambda t: np.rint(t * 10).astype(np.uint16)),
    "1000 is 0 degrees": (Numbers(scale=0.1, offset=-100), lambda t: np.rint(t * 10 + 1000).astype(np.uint16)),
    "signed": (Numbers(scale=0.01, offset=0), lambda t: np.rint((t - 40) * 100).astype(np.int16)),
    "signed, in a picture without signs": (
        Numbers(scale=0.01, offset=0, signed=True),
        lambda t: np.rint((t - 40) * 100).astype(np.int16).view(np.uint16),
    ),
    "fahrenheit": (Numbers(scale=5 / 9, offset=-160 / 9), lambda t: (t * 9 / 5 + 32).astype(np.float32)),
    "the bytes the other way round": (
        Numbers(endian="little"),
        lambda t: np.rint((t + 273.15) * 100).astype(np.uint16).byteswap(),
    ),
    "a preset": (Numbers(preset="seek"), lambda t: np.rint((t + 40) * 64).astype(np.uint16)),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_say_what_a_value_is(name: str) -> None:
    unit, write = NUMBERS[name]
    truth = portrait() - (40 if name.startswith("signed") else 0)
    step = 0.11 if unit.scale == 0.1 else 0.03
    np.testing.assert_allclose(decode(write(portrait()), unit, "big"), truth, atol=step)


def test_telemetry_and_values_that_stand_for_nothing_are_left_out() -> None:
    values = np.vstack([counts("centikelvin"), np.random.default_rng(1).integers(0, 65536, (2, 160), np.uint16)])
    values[-1, 40:] = 0
    values[5:9, 5:30] = 31000
    celsius = decode(values, Numbers(crop_rows=2, nodata=(31000,)))  # type: ignore[arg-type]
    assert celsius.shape == (120, 160) and np.isnan(celsius).sum() == 100
    with pytest.raises(Implausible, match=r"telemetry: the last 2 rows are no picture; .* unit.crop_rows=2"):
        decode(values, "centikelvin")
    with pytest.raises(Implausible, match="telemetry: the first 2 rows"):
        decode(values[::-1], "centikelvin")
    with pytest.raises(Implausible, match="too small: 122 rows"):
        decode(values, Numbers(crop_rows=122))


WRONG: dict[str, tuple[np.ndarray, UnitName, str]] = {
    "raw counts as 0.04 K": (raw(), "counts40mk", "not counts40mk: the coolest pixels would be 40 degC .* no unit known"),
    "raw counts of a cool room": (raw(18), "counts40mk", "not counts40mk: the coolest pixels would be 37 degC"),
    "raw counts as 0.01 K": (raw(), "centikelvin", "not centikelvin: .* counts of a camera without radiometry"),
    "64ths of a kelvin": (counts("kelvin64"), "centikelvin", "median pixel would be -8. degC .*, 22 degC as kelvin64;"),
    "centikelvin on T-FAKE's scale": (counts("centikelvin"), "tfake", "nearly all within 0.. degrees .*, 22 degC as centi"),
    "fahrenheit": ((portrait() * 1.8 + 32).astype(np.float32), "celsius", "would be 71 degC .*, 22 degC as fahrenheit;"),
    "fahrenheit of a cold room": (
        (portrait(10) * 1.8 + 32).astype(np.float32), "celsius", "coolest pixels would be 50 degC .* as fahrenheit",
    ),
    "swapped bytes": (counts("centikelvin").byteswap(), "centikelvin", "byte order: .* as unit.endian: big$"),
    "a fifth of the values stand for nothing": (
        np.where(np.indices((120, 160))[1] < 32, 4000, counts("centikelvin")).astype(np.uint16), "centikelvin",
        "20% of the pixels would be about -233 degC; .* unit.nodata",
    ),
    "noise": (
        np.where(np.random.default_rng(0).random((120, 160)) < 0.1, 90.0, portrait()).astype(np.float32), "celsius",
        "of the pixels would be over 30 K from their neighbours",
    ),
    "nothing": (np.zeros((9, 9), np.uint16), "centikelvin", "no reading: every pixel"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_a_scene_is_refused_with_the_way_out(name: str) -> None:
    values, unit, message = WRONG[name]
    with pytest.raises(Implausible, match=message):
        decode(values, unit)


@pytest.mark.parametrize(("room", "skin"), [(-5, 18), (21.5, 35), (30, 36), (38, 36.5)])
def test_scenes_of_any_season_are_taken(room: float, skin: float) -> None:
    for unit in ("centikelvin", "counts40mk", "kelvin64"):
        found = decode(counts(unit, room, skin), unit)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, portrait(room, skin), atol=0.03)


def test_hot_objects_and_a_dead_pixel_make_no_frame_implausible() -> None:
    celsius = portrait().astype(np.float32)
    celsius[5:25, 5:25], celsius[40:46, 5:9] = 78, 230
    celsius[60, 100] = 400
    found = decode(celsius, "celsius")
    assert np.isnan(found[60, 100]) and np.isnan(found).sum() <= 5 and found[8, 8] == 78 and found[42, 7] == 230


def test_a_unit_is_proposed_only_where_it_makes_a_face() -> None:
    assert guess_unit(counts("centikelvin")) == "centikelvin" and guess_unit(counts("kelvin64")) == "kelvin64"
    assert guess_unit(raw()) is None and "tfake" not in hint(raw(), "centikelvin")
    kettle = counts("centikelvin")
    kettle[5:25, 5:25] = 35115
    assert hint(kettle, "kelvin") == ", 22 degC as centikelvin"


@pytest.mark.parametrize("bits", [14, 16])
def test_no_counts_are_taken_for_the_scale_that_makes_a_face_of_any(bits: int) -> None:
    smooth = np.rint((portrait() - 15) / 25 * (2**bits - 1)).astype(np.uint16)
    random = np.random.default_rng(bits).integers(0, 2**bits, (120, 160), np.uint16)
    for values in (smooth, random, counts("tfake", 22, 36)):
        assert guess_unit(values) != "tfake" and "tfake" not in hint(values, "centikelvin")
    assert guess_unit(random) is None


def test_pictures_of_any_kind_are_no_swapped_bytes() -> None:
    random = np.random.default_rng(0)
    for values in (
        counts("centikelvin"), raw(), random.integers(29000, 29050, (60, 80), np.uint16), np.full((60, 80), 29500, np.uint16),
        (random.integers(0, 256, (60, 80)) * 256).astype(np.uint16), np.where(portrait() > 30, 60000, 300).astype(np.uint16),
    ):  # fmt: skip
        check_counts(values)


def test_a_unit_is_a_name_or_numbers_in_yaml() -> None:
    assert parse_unit("lepton") == "lepton"
    assert parse_unit("{scale: 0.1, offset: -100, nodata: 0}") == Numbers(scale=0.1, offset=-100, nodata=(0,))
    for text in ("kelvins", "{scale: 1}", "{scale: 0, offset: 1}", "{preset: seek, scale: 1, offset: 1}", "{", "7"):
        with pytest.raises(UserError, match="known are centikelvin, "):
            parse_unit(text)
    with pytest.raises(ValidationError, match="crop"):
        Numbers(crop=2)  # type: ignore[call-arg]


def test_the_makes_are_what_their_cameras_write() -> None:
    """The values of 0 and 30 degrees, by each maker's formula."""
    for unit, (zero, thirty) in {
        "flir": (27315, 30315), "lepton": (27315, 30315), "boson": (27315, 30315), "optris": (1000, 1300),
        "seek": (2560, 4480), "infiray": (17481.6, 19401.6), "hikmicro": (17481.6, 19401.6), "fahrenheit": (32, 86),
    }.items():  # fmt: skip
        np.testing.assert_allclose(from_unit(np.array([zero, thirty]), unit), [0, 30], atol=1e-4)  # type: ignore[arg-type]
