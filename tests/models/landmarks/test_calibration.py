"""Calibration figures against draws from the very distribution that a landmarker states."""

import numpy as np
import pytest
from scipy.stats import chi2

from models.landmarks import calibration as c


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Distances of points that are distributed as stated, and their variances, [400, 50]."""
    rng = np.random.default_rng(0)
    variance = np.exp(rng.normal(-6, 1, (400, 50)))
    return np.linalg.norm(rng.normal(size=(400, 50, 2)), axis=-1) * np.sqrt(variance), variance


def test_radius_is_chi_squares() -> None:
    for level in c.LEVELS:
        assert c.radius(level) == pytest.approx(np.sqrt(chi2.ppf(level, 2)))


def test_an_honest_landmarker_covers_what_it_states(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    found = c.summary(*drawn)
    for level in c.LEVELS:
        assert found[f"coverage_{level:g}"] == pytest.approx(level, abs=0.01)
    assert found["factor"] == pytest.approx(1, abs=0.02)
    assert 0 < found["excess_points"] < 0.6


def test_the_factor_mends_false_confidence_and_is_the_most_likely(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    errors, variance = drawn
    sure = variance / 4
    assert c.coverage(errors, sure, 0.9) < 0.5
    factor = c.scale_factor(errors, sure)
    assert c.coverage(errors, sure * factor, 0.9) == pytest.approx(0.9, abs=0.01)
    assert all(c.nll(errors, sure * factor) < c.nll(errors, sure * factor * off) for off in (0.9, 1.1))


def test_risk_and_coverage() -> None:
    errors = np.array([1.0, 2.0, 3.0])
    assert c.risk_coverage_area(errors, errors) == pytest.approx((1 + 1.5 + 2) / 3)
    assert c.excess_area(errors, errors) == 0
    assert c.excess_area(errors, -errors) > 1
    assert c.risk_coverage_area(errors, np.zeros(3)) == pytest.approx((1 + 1.5 + 2) / 3)


def test_factors_come_back(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    assert c.read_calibration(folder) == {}
    c.write_calibration(folder, {"visible": 1.5})
    assert c.read_calibration(folder) == {"visible": 1.5}
