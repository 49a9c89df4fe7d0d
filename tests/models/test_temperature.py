"""Centikelvin keeps a temperature to half a hundredth of a kelvin; every unit means what it says."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.temperature import UNITS, from_centikelvin, from_unit, to_centikelvin


@given(st.lists(st.floats(-80, 300), min_size=1, max_size=20))
def test_round_trip(celsius: list[float]) -> None:
    found = from_centikelvin(to_centikelvin(np.array(celsius)))
    np.testing.assert_allclose(found, celsius, atol=0.00501)


@given(st.integers(1, 65535))
def test_counts_are_exact(count: int) -> None:
    assert to_centikelvin(from_centikelvin(np.array([count], np.uint16)))[0] == count


def test_no_reading_stays_no_reading() -> None:
    assert to_centikelvin(np.array([np.nan]))[0] == 0
    assert np.isnan(from_centikelvin(np.array([0], np.uint16)))[0]


@pytest.mark.parametrize("unit", UNITS)
def test_units_mean_what_they_say(unit: Any) -> None:
    scale, offset = UNITS[unit]
    for degrees in (22.0, 34.0):
        stored = np.full((4, 4), (degrees - offset) / scale)
        counts = np.rint(stored).astype(np.uint16)
        np.testing.assert_allclose(from_unit(counts, unit), degrees, atol=scale / 2 + 1e-4)
    assert np.isnan(from_unit(np.zeros((2, 2), np.uint16), unit)).all() == (
        unit not in ("celsius", "decicelsius", "fahrenheit")
    )
    assert np.array_equal(from_unit(counts, "centikelvin"), from_centikelvin(counts))
