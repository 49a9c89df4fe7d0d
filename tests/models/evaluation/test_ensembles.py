"""Scores of draws, against formulas written out and cases whose answer is known."""

import numpy as np
import pytest

from models.classes import CLASSES
from models.evaluation.ensembles import DrawErrors, crps


def test_crps_is_that_of_all_pairs_and_the_absolute_error_of_one_draw() -> None:
    rng = np.random.default_rng(0)
    draws, truth = rng.normal(size=(6, 11)), rng.normal(size=11)
    apart = np.array([[np.abs(a - b) for b in draws] for a in draws]).sum(axis=(0, 1)) / (2 * 6 * 5)
    assert np.allclose(crps(draws, truth), np.abs(draws - truth).mean(axis=0) - apart)
    assert np.array_equal(crps(draws[:1], truth), np.abs(draws[0] - truth))


def test_crps_of_many_normal_draws_is_the_closed_form() -> None:
    """CRPS of N(0, 1) at 0 is 2 phi(0) - 1 / sqrt(pi) (Gneiting & Raftery 2007, eq. 21)."""
    draws = np.random.default_rng(1).normal(size=(4000, 50))
    assert crps(draws, np.zeros(50)).mean() == pytest.approx(2 / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi), abs=5e-3)


def scores(spread: float, draws: int = 8, seed: int = 0) -> dict[str, float]:
    """Pictures whose truth and draws are pixels of one distribution, the draws spread `spread` times as wide."""
    rng = np.random.default_rng(seed)
    level = rng.normal(33, 2, (40, 1, 1))
    rows = {
        "thermal": (level + rng.normal(size=(40, 32, 32))).astype(np.float32),
        "valid": np.ones((40, 32, 32), bool),
        "classes": np.full((40, 32, 32), CLASSES.index("SKIN"), np.uint8),
    }
    rows["classes"][:, :4] = CLASSES.index("NOSE")
    errors = DrawErrors()
    errors.add(rows, level + spread * rng.normal(size=(draws, 40, 32, 32)))
    return errors.summary()


def test_draws_of_the_true_distribution_are_calibrated() -> None:
    found = scores(1.0)
    assert found["spread_skill"] == pytest.approx(1, abs=0.02)
    assert scores(0.5)["spread_skill"] < 0.6 < 1.5 < scores(2.0)["spread_skill"]
    # One draw errs by sqrt(2) times the spread's own error, the mean of eight by sqrt(1 + 1/8).
    own = np.sqrt(2 / np.pi)
    assert found["mae_one"] == pytest.approx(own * np.sqrt(2), rel=0.02)
    assert found["mae_mean"] == pytest.approx(own * np.sqrt(1.125), rel=0.02)
    assert found["crps"] < min(scores(0.5)["crps"], scores(2.0)["crps"])
    assert {"mae_skin", "mae_nose"} <= found.keys() and "mae_hair" not in found


def test_a_mean_of_draws_has_less_texture_than_the_truth() -> None:
    found = scores(1.0)
    assert found["spectrum"] < 0.05 < found["spectrum_mean"]


def test_a_single_draw_has_no_spread() -> None:
    assert "spread_skill" not in scores(1.0, draws=1)
