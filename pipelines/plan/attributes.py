"""What a view shows, in words: drawn for each sample by seed, the `identity` words constant over a person's views."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import numpy as np

from models.attributes import ATTRIBUTES
from models.seeds import seed_of

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

    def word(self, name: str, sex: str, number: float) -> str:
        """Return the word of an attribute that `number` falls to, for a person of `sex` (empty where unknown)."""
        if (name, sex) not in self._shares:
            choices = self.allowed.get(name) or BY_SEX.get(sex, {}).get(name) or ATTRIBUTES[name][2]
            weights = np.array([FREQUENT.get(name, {}).get(word, 1.0) for word in choices])
            self._shares[name, sex] = choices, (np.cumsum(weights) / weights.sum()).tolist()
        choices, ends = self._shares[name, sex]
        return choices[bisect_right(ends, number)]


def draw_words(
    seed: int, identity: str, views: int, known: Mapping[str, str], words: Vocabulary, *, sampled: bool = True
) -> list[dict[str, str]]:
    """Return the words of each of `views` views of `identity`: of every attribute for a sampled person.

    known: identity words that are given or estimated from the embedding; they win.
    sampled: False for a person who exists. What they look like is theirs: nothing is drawn of it but what the job names.
    """
    # What stays over a person's views.
    constant = dict[str, str]()
    for name in IDENTITY:
        if name in known:
            constant[name] = known[name]
        elif sampled or name in words.allowed:
            constant[name] = words.word(name, constant.get("sex", ""), _uniform(seed, identity, name))
    # How they usually wear hair and beard.
    sex = constant.get("sex", "")
    drawn = [name for name in VIEW if name not in USUAL or sampled or name in words.allowed]
    usual = {name: words.word(name, sex, _uniform(seed, identity, name)) for name in USUAL if name in drawn}
    # What is drawn for each view.
    found = [dict(constant) for _ in range(views)]
    for view, said in enumerate(found):
        for name in drawn:
            number = _uniform(seed, identity, view, name)
            said[name] = usual[name] if name in usual and number < HABIT else words.word(name, sex, number)
    return found


def _uniform(*key: object) -> float:
    """Return a number in [0, 1) that depends on `key` alone."""
    return (seed_of("attribute", *key) >> 10) / float(1 << 53)
