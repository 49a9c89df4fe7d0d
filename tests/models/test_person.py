"""A person is warm, of human temperature and of a face's size; what is hottest in a frame is often a kettle."""

import cv2
import numpy as np
import pytest

from models.landmarks.intensity import guess_mode, unit_values
from models.person import find_people
from tests.models.scenes import face_of, portrait


def place(celsius: np.ndarray, degrees: float, rows: slice, columns: slice, blur: float = 0) -> np.ndarray:
    """Return a scene with an object in it, its edge blurred by so many pixels."""
    share = np.zeros(celsius.shape)
    share[rows, columns] = 1
    share = cv2.GaussianBlur(share, (0, 0), blur) if blur else share
    return celsius * (1 - share) + degrees * share


SCENES = {
    "alone": portrait(),
    "a kettle": place(portrait(), 78, slice(8, 28), slice(4, 24)),
    "a kettle out of focus": place(portrait(), 78, slice(20, 40), slice(10, 28), 1.0),
    "a large radiator": place(portrait(), 55, slice(30, 98), slice(2, 30), 0.7),
    "a lamp": place(portrait(), 300, slice(5, 12), slice(140, 147)),
    "ice": place(portrait(), -5, slice(60, 90), slice(4, 24)),
    "a window in winter": place(portrait(), 4, slice(5, 70), slice(125, 158)),
    "a warm mug": place(portrait(), 38, slice(70, 78), slice(6, 14)),
    "the cold": portrait(-5, 18),
}


@pytest.mark.parametrize("name", SCENES)
def test_the_face_is_the_person_and_objects_are_not(name: str) -> None:
    celsius = SCENES[name]
    face = face_of(celsius) & (np.abs(celsius - (portrait(-5, 18) if name == "the cold" else portrait())) < 0.5)
    people = find_people(celsius)
    assert people[face].mean() > 0.99
    left, right = people[:100, :30], people[:80, 132:]
    assert not left.any() and not right.any()


def test_nobody_is_found_before_a_wall_or_of_another_temperature() -> None:
    wall = 21 + np.random.default_rng(0).normal(0, 0.05, (120, 160))
    assert find_people(place(wall, 78, slice(20, 60), slice(20, 60))).mean() < 0.01
    assert not find_people(np.full((40, 40), np.nan)).any()
    assert not find_people(np.full((40, 40), 90.0)).any()


@pytest.mark.parametrize("name", [name for name in SCENES if name not in ("the cold", "a warm mug")])
def test_objects_leave_the_contrast_of_a_face_alone(name: str) -> None:
    plain, found = (unit_values(scene.astype(np.float32), "temperature") for scene in (portrait(), SCENES[name]))
    same = face_of(portrait()) & (np.abs(SCENES[name] - portrait()) < 0.01)
    assert np.abs(plain - found)[same].max() < 0.06
    counts = np.rint((SCENES[name] + 273.15) * 100).astype(np.uint16)
    np.testing.assert_allclose(unit_values(counts)[same], found[same], atol=2e-3)
    assert guess_mode(SCENES[name].astype(np.float32)) == "temperature"


def test_a_face_in_fahrenheit_has_the_contrast_of_one_in_celsius() -> None:
    celsius = portrait().astype(np.float32)
    np.testing.assert_allclose(unit_values(celsius * 1.8 + 32), unit_values(celsius, "temperature"), atol=1e-4)
    levels = np.rint(celsius * 1.8 + 32)
    np.testing.assert_allclose(unit_values(levels)[..., 0], levels / 255, rtol=1e-6)
