"""Centikelvin keeps a temperature to half a hundredth of a kelvin."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.temperature import from_centikelvin, to_centikelvin


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
