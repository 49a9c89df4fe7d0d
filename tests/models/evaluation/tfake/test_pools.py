"""A pool's pictures depend on its options alone: at another side they are the same people in the same scenes."""

import numpy as np
import pytest

from models.classes import BACKGROUND
from models.evaluation.tfake.pools import render_pool
from models.evaluation.tfake.recipe import POOLS

SMALL = 32


@pytest.mark.parametrize("name", ["lab_test", "outdoor"])
def test_a_larger_side_shows_the_same_scenes(name: str) -> None:
    pool = POOLS[name]._replace(people=2, views=2)
    small, large = render_pool(pool, 1.0, SMALL), render_pool(pool, 1.0, 2 * SMALL)
    for column in ("identity_id", "condition"):
        np.testing.assert_array_equal(small[column], large[column])
    np.testing.assert_allclose(small["pose"], large["pose"], atol=1e-4)
    np.testing.assert_allclose(2 * small["landmarks_70"], large["landmarks_70"], atol=1e-2)
    # Inside a class, four pixels of the larger picture tell what one of the smaller does.
    blocks = {column: large[column].reshape(-1, SMALL, 2, SMALL, 2) for column in ("thermal", "classes")}
    alike = (blocks["classes"] == small["classes"][:, :, None, :, None]).all(axis=(2, 4))
    inside = alike & (small["classes"] != BACKGROUND) & small["valid"]
    apart = np.abs(blocks["thermal"].mean(axis=(2, 4)) - small["thermal"])[inside]
    assert inside.sum() > 300
    others = np.abs(small["thermal"][::-1] - small["thermal"])[inside]
    assert np.median(apart) < 0.2 and np.median(apart) < np.median(others) / 5
