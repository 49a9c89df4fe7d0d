"""Keys of captions: a set in little memory."""

import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.captions import keys as module
from pipelines.captions.choose import templates
from pipelines.captions.keys import Keys

KEYS = st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 40).map(lambda k: k * 1024), st.just(0))
"""Any, and such as meet in one slot."""


@given(st.lists(KEYS, max_size=60), st.lists(KEYS, max_size=20))
def test_keys_are_a_set(added: list[int], others: list[int]) -> None:
    found, expected = Keys(), set[int]()
    for key in added:
        assert (key in found) == (key in expected)
        found.add(key)
        expected.add(key)
        assert len(found) == len(expected)
    assert all((key in found) == (key in expected) for key in [*added, *others])


def test_keys_grow_and_stay_small() -> None:
    numbers = np.random.default_rng(0).integers(0, 2**63 - 1, 20_000).tolist()
    found = Keys()
    for number in numbers:
        found.add(number)
    assert len(found) == len(set(numbers)) and all(number in found for number in numbers)
    assert not any(number + 1 in found for number in numbers[:1000])
    slots = sys.getsizeof(found._slots)
    assert slots <= 8 * (module.GROWTH / module.FULL) * len(found) + 100 < sys.getsizeof(set(numbers))


def test_captions_are_chosen_as_with_a_set() -> None:
    people, taken, plain = [{"sex": "man", "age": "young"}] * 60, Keys(), set[int]()
    assert templates(people, range(60), taken) == templates(people, range(60), plain)
    assert len(taken) == len(plain)
