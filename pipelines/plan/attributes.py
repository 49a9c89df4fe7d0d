"""What a view shows, in words: drawn for each sample by seed, the `identity` words constant over a person's views."""

from collections.abc import Mapping

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


def draw_words(
    seed: int,
    identity: str,
    view: int,
    known: Mapping[str, str],
    allowed: Mapping[str, list[str]],
    *,
    sampled: bool = True,
) -> dict[str, str]:
    """Return the words of view `view` of `identity`: of every attribute for a sampled person.

    known: identity words that are given or estimated from the embedding; they win. allowed: the job's choice of words.
    sampled: False for a person who exists. What they look like is theirs: nothing is drawn of it but what the job names.
    """
    words: dict[str, str] = {}
    for name in IDENTITY:
        if name in known:
            words[name] = known[name]
        elif sampled or name in allowed:
            words[name] = _draw(name, words, allowed, seed, identity)
    for name in VIEW:
        if name in USUAL and not sampled and name not in allowed:
            continue
        if name in USUAL and _uniform(seed, identity, view, name) < HABIT:
            words[name] = _draw(name, words, allowed, seed, identity)
        else:
            words[name] = _draw(name, words, allowed, seed, identity, view)
    return words


def _draw(name: str, words: Mapping[str, str], allowed: Mapping[str, list[str]], *key: object) -> str:
    choices = allowed.get(name) or BY_SEX.get(words.get("sex", ""), {}).get(name) or ATTRIBUTES[name][2]
    weights = np.array([FREQUENT.get(name, {}).get(word, 1.0) for word in choices])
    return choices[int(np.searchsorted(np.cumsum(weights) / weights.sum(), _uniform(*key, name), side="right"))]


def _uniform(*key: object) -> float:
    """Return a number in [0, 1) that depends on `key` alone."""
    return (seed_of("attribute", *key) >> 10) / float(1 << 53)
