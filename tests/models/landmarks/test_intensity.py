"""What a frame looks like to the network, whatever it is made of."""

import numpy as np
import pytest

from models.errors import UserError
from models.landmarks.intensity import guess_mode, unit_values
from models.temperature import to_centikelvin
from tests.models.scenes import face_of, portrait


def celsius() -> np.ndarray:
    return (22 + 12 * np.random.default_rng(0).random((80, 100))).astype(np.float32)


def test_one_dead_pixel_moves_nothing() -> None:
    frame = celsius()
    dead = frame.copy()
    dead[3, 4], dead[5, 6], dead[7, 8] = 140.0, -40.0, np.nan
    close = np.abs(unit_values(dead) - unit_values(frame))
    assert np.median(close) < 0.01 and (close > 0.01).any(axis=2).sum() <= 3
    raw = np.round((frame + 273.15) * 100).astype(np.uint16)
    raw_dead = raw.copy()
    raw_dead[3, 4] = 65535
    assert np.median(np.abs(unit_values(raw_dead) - unit_values(raw))) < 0.01


def test_raw_counts_do_not_saturate_and_look_like_their_temperature() -> None:
    frame = celsius()
    raw = np.round((frame + 273.15) * 100).astype(np.uint16)
    values = unit_values(raw)
    assert 0.2 < values.std() < 0.35 and (values == 1).mean() < 0.01
    np.testing.assert_allclose(values, unit_values(frame, "temperature"), atol=2e-3)


@pytest.mark.parametrize(
    ("image", "mode"),
    [
        (celsius(), "temperature"),
        (celsius() / 255, "pixel"),
        (celsius() + 273.15, "pixel"),
        (celsius() * 6, "pixel"),
        (celsius() - 40, "pixel"),
        (celsius().astype(np.uint8), "pixel"),
    ],
)
def test_auto_tells_temperature_from_pixels(image: np.ndarray, mode: str) -> None:
    assert guess_mode(image) == mode


def test_pixels_keep_their_levels_and_hot_things_do_not_decide() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_allclose(unit_values(grey)[..., 1], grey / 255.0, rtol=1e-6)
    np.testing.assert_allclose(unit_values(grey.astype(np.float32)), unit_values(grey), rtol=1e-6)
    room = celsius()
    lamp = room.copy()
    lamp[:20, :20] = 400.0
    face = unit_values(lamp, "temperature")[40:, 40:]
    assert face.max() - face.min() > 0.3
    assert (unit_values(np.full((8, 8), 30.0)) == 0).all()


@pytest.mark.parametrize("things", [(78.0,), (-15.0,), (400.0, -15.0), (78.0, 42.5)])
def test_a_face_has_the_contrast_that_it_has_without_the_things_beside_it(things: tuple[float, ...]) -> None:
    """A kettle and ice of a hundredth of the frame each, in degrees and in counts."""
    alone = portrait().astype(np.float32)
    beside, face = alone.copy(), face_of(alone)
    for k, thing in enumerate(things):
        beside[8:22, 4 + 130 * k : 20 + 130 * k] = thing
    for image, mode in ((beside, "temperature"), (to_centikelvin(beside), "auto")):
        values = unit_values(image, mode)[..., 0]  # type: ignore[arg-type]
        np.testing.assert_allclose(values[face], unit_values(alone, "temperature")[..., 0][face], atol=0.02)
        assert np.ptp(values[face]) > 0.1


def test_bad_images_are_named() -> None:
    with pytest.raises(UserError, match="degrees Celsius"):
        unit_values(np.zeros((4, 4), np.uint8), "temperature")
    with pytest.raises(UserError, match="no number"):
        unit_values(np.full((4, 4), np.nan))
    with pytest.raises(UserError, match=r"\(4, 4, 2\)"):
        unit_values(np.zeros((4, 4, 2)))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ((celsius() * 100 + 27315).astype(np.uint16), "uint16 values are counts, .* 28 degC as centikelvin"),
        (celsius() + 273.15, "median pixel would be 301 degC, 28 degC as kelvin"),
        (celsius() * 100 + 27315, "30.* degC, 28 degC as centikelvin"),
        (celsius() - 90, "median pixel would be -62 degC: convert"),
    ],
)
def test_values_of_another_unit_are_refused_with_the_one_that_fits(image: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        unit_values(image, "temperature")


@pytest.mark.parametrize("over", [1e-6, 0.03])
def test_floats_a_hair_above_one_are_still_of_zero_to_one(over: float) -> None:
    values = np.linspace(-over, 1 + over, 6000, dtype=np.float32).reshape(60, 100)
    assert guess_mode(values) == "pixel"
    np.testing.assert_allclose(unit_values(values)[..., 0], np.clip(values, 0, 1), atol=1e-6)
    np.testing.assert_allclose(
        unit_values(three := np.repeat(values[..., None], 3, 2)), np.clip(three, 0, 1), atol=1e-6
    )
    assert guess_mode(values * 30) == "temperature"
