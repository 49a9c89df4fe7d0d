"""Augmented crops: points stay on their pixels, rows depend on their draw alone, negatives hold no face."""

import numpy as np
import pytest

from models.augment.faceless import augment_negative, paint_back_of_head
from models.augment.geometry import move_points
from models.augment.landmarks import Augmentation, augment_face, draw_affine, warp
from models.classes import CLASSES
from models.synthworld.shape.landmarks import MIRROR_70

PLAIN = Augmentation(texture=0, zeroed=0, jitter=(0, 0), thermal_blur=0.01, inversion=0, thermal_noise=(0, 0, 0))


def spots(count: int = 70, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Return a dark picture with one bright pixel, and points of which number 5 lies in its middle."""
    points = np.random.default_rng(0).uniform(40, 90, (count, 2)).astype(np.float32)
    points[5] = [60.5, 50.5]
    picture = np.zeros((size, size), np.uint8)
    picture[48:53, 58:63] = 255
    return picture, points


def test_a_point_stays_on_its_pixels_through_turn_shear_crop_and_flip() -> None:
    picture, points = spots()
    person = np.full_like(picture, 255)
    for seed in range(12):
        ranges = PLAIN.model_copy(update={"flip": float(seed % 2)})
        crop = augment_face(picture, person, points, 112, np.random.default_rng(seed), ranges)
        y, x = np.mgrid[:112, :112] + 0.5
        weight = crop.picture[..., 0].astype(float)
        if weight.sum() > 0.9 * weight.max() * 25 * (112 / 128) ** 2 / 2:
            centre = np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()
            index = MIRROR_70[5] if seed % 2 else 5
            np.testing.assert_allclose(crop.points[index] * 112, centre, atol=0.35)


def test_area_and_identity_of_the_crop() -> None:
    none = Augmentation(rotation=0, shear=0, area=(1, 1), aspect=1)
    picture, points = spots()
    matrix = draw_affine(128, 128, np.random.default_rng(1), none)
    np.testing.assert_allclose(matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-9)
    np.testing.assert_array_equal(warp(picture, matrix, 128), picture)
    np.testing.assert_allclose(move_points(points, matrix), points, rtol=1e-6)
    for area in (0.4, 2.0):
        ranges = none.model_copy(update={"area": (area, area)})
        matrix = draw_affine(128, 96, np.random.default_rng(2), ranges)
        assert 1 / np.linalg.det(matrix[:, :2]) * (96 / 128) ** 2 == pytest.approx(area)


def test_a_row_is_a_function_of_its_generator_alone() -> None:
    picture, points = spots()
    colour = np.repeat(picture[..., None], 3, axis=2)
    for shown in (picture, colour):
        one, two = (
            augment_face(shown, picture, points, 64, np.random.default_rng(9), Augmentation(flip=0.5)) for _ in range(2)
        )
        np.testing.assert_array_equal(one.picture, two.picture)
        np.testing.assert_array_equal(one.points, two.points)
        assert one.picture.shape == (64, 64, 3) and one.picture.dtype == np.uint8


def test_background_is_replaced_behind_the_person_only() -> None:
    picture = np.full((64, 64), 200, np.uint8)
    person = np.zeros_like(picture)
    person[20:44, 20:44] = 255
    ranges = PLAIN.model_copy(update={"rotation": 0.0, "shear": 0.0, "area": (1, 1), "aspect": 1.0, "zeroed": 1.0})
    crop = augment_face(picture, person, np.zeros((70, 2), np.float32), 64, np.random.default_rng(0), ranges)
    np.testing.assert_array_equal(crop.picture[..., 0] > 0, person > 0)


def test_negatives_of_every_kind_are_drawn_and_the_face_is_covered() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    classes = np.zeros((64, 64), np.uint8)
    classes[8:20, 16:48] = CLASSES.index("HAIR")
    classes[20:50, 16:48] = CLASSES.index("SKIN")
    picture[classes == CLASSES.index("HAIR")] = (40, 30, 20)
    turned = paint_back_of_head(picture, classes, rng)
    assert np.abs(turned[24:46, 20:44].mean(axis=(0, 1)) - (40, 30, 20)).max() < 8
    np.testing.assert_array_equal(turned[56:], picture[56:])
    drawn = [
        augment_negative(picture if k % 2 else picture[..., 0], classes, 48, rng, Augmentation()) for k in range(60)
    ]
    assert {d.shape for d in drawn} == {(48, 48, 3)} and len({d.tobytes() for d in drawn}) == 60
