"""Distances against what is known of them: closed forms, copies, and people counted by hand."""

import numpy as np

from models.evaluation.lapig.distances import (
    copy_paste,
    count_unique,
    effective_rank,
    frechet_distance,
    frechet_interval,
    nearest_angles,
    ranks,
)


def test_the_frechet_distance_is_that_of_normal_distributions() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(0, 1, (4000, 3))
    assert frechet_distance(one, one) < 1e-6
    # Means apart by two in one direction, twice the deviation in another: 4 + (2 - 1)^2.
    other = one * [1, 2, 1] + [2, 0, 0]
    assert abs(frechet_distance(one, other) - 5) < 0.15
    # As by the root of a matrix, of covariances that do not commute.
    a, b = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 3)), rng.normal(size=(60, 3))
    values = np.linalg.eigvals(np.cov(a.T) @ np.cov(b.T)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T)) - 2 * np.sqrt(values).sum()
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-6)


def test_a_copy_of_the_reference_is_copy_paste_and_the_target_is_its_opposite() -> None:
    target, reference = np.eye(2, 4)[:1], np.eye(4)[1:2]
    between = (target + reference) / np.sqrt(2)
    found = [copy_paste(made, target, reference)[0] for made in (reference, target, between)]
    np.testing.assert_allclose(found, [1, -1, 0], atol=1e-6)


def test_people_who_are_alike_are_counted_once() -> None:
    vectors = np.array([[1, 0], [0, 1], [np.cos(0.1), np.sin(0.1)], [-1, 0]])
    assert count_unique(vectors, 0.9) == 3 and count_unique(vectors, 0.999) == 4
    np.testing.assert_allclose(nearest_angles(vectors)[[0, 2]], np.degrees(0.1))
    assert abs(effective_rank(np.random.default_rng(0).normal(size=(5000, 4))) - 4) < 0.01


def test_a_gallery_holds_the_person_and_as_many_others_as_it_says() -> None:
    gallery = np.eye(4)
    probes = np.array([[0.6, 0, 0.8, 0], [0, 1, 0, 0], [np.nan] * 4])
    found = ranks(probes, np.array([0, 1, 2]), gallery, (2, 4))
    # Person 0 is nearer to person 2, who is in the larger gallery alone; no face is nobody's.
    assert found[2].tolist() == [1, 1, 0] and found[4].tolist() == [0, 1, 0]


def test_the_interval_of_a_distance_holds_it_and_narrows_with_people() -> None:
    """Of few people in many dimensions, where drawing people twice makes the distance itself larger."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=(400, 1, 64))
    own = true + rng.normal(size=true.shape) + 0.2
    widths = []
    for people in (50, 400):
        found = frechet_interval(own[:people], true[:people], draws=100)
        assert found["low"] < found["value"] < found["high"]
        widths.append((found["high"] - found["low"]) / found["value"])
    assert widths[1] < 0.7 * widths[0]
