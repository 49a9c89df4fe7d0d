"""What a view shows, in words: drawn for each sample by seed, the `identity` words constant over a person's views."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from models.attributes import ATTRIBUTES
from models.seeds import seeds_of

HABIT = 0.75
"""How often a person wears their usual hair and beard."""

FREQUENT: dict[str, dict[str, float]] = {
    "glasses": {"none": 12, "clear": 3, "opaque": 1},
    "headwear": {"none": 14, "cap": 1, "beanie": 1, "headscarf": 0.5},
    "facewear": {"none": 20, "mask": 1},
    "expression": {"neutral": 14, "smile": 14, "laugh": 4, "surprised": 2},
    "pose": {"frontal": 5, "turned slightly left": 3, "turned slightly right": 3, "turned left": 1.5,
             "turned right": 1.5, "left profile": 0.25, "right profile": 0.25},
    "lighting": {"soft": 4, "hard": 2, "dim": 0.5, "backlit": 0.5},
    "hair_style": {"short": 3, "side part": 2, "curly": 2, "long": 2},
}  # fmt: skip
"""Weights of words that are not equally frequent (1 where nothing is said)."""

BY_SEX: dict[str, dict[str, tuple[str, ...]]] = {
    "woman": {"beard": ("none",), "hair_style": ("short", "curly", "afro", "bob", "long", "ponytail", "bun")},
    "man": {"hair_style": ("bald", "buzz", "short", "side part", "curly", "afro", "long", "receding")},
}
"""Words that are drawn for one sex alone unless the job names them."""

IDENTITY = tuple(name for name, (scope, _, _) in ATTRIBUTES.items() if scope == "identity")
VIEW = tuple(name for name, (scope, _, _) in ATTRIBUTES.items() if scope == "view")
USUAL = ("hair_style", "beard")
"""Attributes of a view that are a person's habit."""


class Vocabulary:
    """The words that a job chooses from, each with its share of the numbers in [0, 1).

    allowed: the job's choice, by attribute; where it has none all words, as frequent as `FREQUENT` says.
    """

    def __init__(self, allowed: Mapping[str, list[str]]) -> None:
        self.allowed = allowed
        self._shares: dict[tuple[str, str], tuple[Sequence[str], list[float]]] = {}

    def words(self, name: str, sex: str, numbers: Sequence[float]) -> list[str]:
        """Return the words of an attribute that `numbers` fall to, for a person of `sex` (empty where unknown)."""
        if (name, sex) not in self._shares:
            choices: Sequence[str] = self.allowed.get(name) or BY_SEX.get(sex, {}).get(name) or ATTRIBUTES[name][2]
            weights = np.array([FREQUENT.get(name, {}).get(word, 1.0) for word in choices])
            self._shares[name, sex] = choices, (np.cumsum(weights) / weights.sum()).tolist()
        known, ends = self._shares[name, sex]
        return [known[bisect_right(ends, number)] for number in numbers]


def draw_words(
    seed: int, identity: str, views: int, known: Mapping[str, str], vocabulary: Vocabulary, *, sampled: bool = True
) -> list[dict[str, str]]:
    """Return the words of each of `views` views of `identity`: of every attribute for a sampled person.

    known: identity words that are given or estimated from the embedding; they win.
    sampled: False for a person who exists. What they look like is theirs: nothing is drawn of it but what the job names.
    """
    # What stays over a person's views.
    open_ = [name for name in IDENTITY if name not in known and (sampled or name in vocabulary.allowed)]
    usual = [name for name in USUAL if sampled or name in vocabulary.allowed]
    numbers = dict(zip([*open_, *usual], _uniform(seed, identity, 0, (*open_, *usual))[0]))
    constant = dict[str, str]()
    for name in IDENTITY:
        if name in known:
            constant[name] = known[name]
        elif name in numbers:
            (constant[name],) = vocabulary.words(name, constant.get("sex", ""), [numbers[name]])
    # What is drawn for each view; most often hair and beard are as the person usually wears them.
    sex, drawn = constant.get("sex", ""), tuple(name for name in VIEW if name not in USUAL or name in usual)
    found = [dict(constant) for _ in range(views)]
    for name, column in zip(drawn, zip(*_uniform(seed, identity, views, drawn))):
        words = vocabulary.words(name, sex, column)
        if name in usual:
            (habit,) = vocabulary.words(name, sex, [numbers[name]])
            words = [habit if number < HABIT else word for number, word in zip(column, words)]
        for said, word in zip(found, words):
            said[name] = word
    return found


def _uniform(seed: int, identity: str, views: int, names: tuple[str, ...]) -> list[list[float]]:
    """Return numbers in [0, 1) [views][names], each a function of seed, identity, view and name alone.

    views: 0 for one row that belongs to no view.
    """
    seeds = seeds_of(("attribute", seed, identity), _keys(views, names))
    return ((seeds >> 10) / float(1 << 53)).reshape(max(1, views), len(names)).tolist()


@lru_cache(64)
def _keys(views: int, names: tuple[str, ...]) -> list[bytes]:
    return [f"{view}\x1f{name}".encode() for view in range(views) for name in names] or [n.encode() for n in names]
