"""Intervals are scipy's where scipy has the case, and keep pairs together."""

import numpy as np
import pytest
from scipy import stats

from models.evaluation.bootstrap import difference, interval, mean


def test_interval_of_one_seed_is_scipys() -> None:
    sample = np.random.default_rng(1).gamma(2.0, size=(1, 25))
    ours = interval(mean, [sample], draws=20000)
    known = stats.bootstrap(
        (sample[0],), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours.value == pytest.approx(sample.mean())
    assert (ours.low, ours.high) == pytest.approx((known.low, known.high), abs=0.02)


def test_paired_difference_is_scipys() -> None:
    rng = np.random.default_rng(3)
    one = rng.normal(5, 2, (1, 15))
    two = one + rng.normal(0.3, 0.1, (1, 15))
    ours = interval(difference, [one, two], draws=20000)
    known = stats.bootstrap(
        (one[0], two[0]),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        paired=True,
        n_resamples=20000,
        method="percentile",
        rng=np.random.default_rng(4),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((known.low, known.high), abs=0.01)
    assert ours.high - ours.low < 0.2, "people were not drawn together"
    assert ours.high < 0


def test_seeds_widen_the_interval() -> None:
    people = np.random.default_rng(5).normal(0, 0.1, (1, 20))
    seeds = np.array([[-1.0], [0.0], [1.0]]) + people
    alone, both = interval(mean, [people]), interval(mean, [seeds])
    assert both.high - both.low > 5 * (alone.high - alone.low)
    with_baseline = interval(difference, [seeds, people])
    assert with_baseline.low == pytest.approx(-1.0, abs=0.1)


def test_missing_people_are_left_out() -> None:
    sample = np.array([[1.0, np.nan, 3.0]])
    assert mean(sample) == 2.0
    assert np.isnan(mean(np.array([[np.nan]])))


def test_samples_of_other_people_are_refused() -> None:
    with pytest.raises(ValueError, match="share people and seeds"):
        interval(difference, [np.zeros((1, 3)), np.zeros((1, 4))])
    with pytest.raises(ValueError, match="share people and seeds"):
        interval(difference, [np.zeros((2, 3)), np.zeros((3, 3))])


def test_one_person_has_no_interval() -> None:
    alone = interval(mean, [np.array([[0.6]])])
    assert alone.value == 0.6 and np.isnan(alone.low) and np.isnan(alone.high)
