"""The words of what a view shows, drawn by seed; those of scope `identity` are constant over a person's views."""

from collections.abc import Mapping, Sequence

import numpy as np

from models.attributes import ATTRIBUTES
from models.seeds import shares_of
from pipelines.plan.people.identities import Identity

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
"""Weights of words that are not equally frequent; 1 for words that are not named here."""

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
    """The words that a job chooses from, each with its share of [0, 1).

    allowed: the job's choice, by attribute, with or without shares; where it has none all words, as frequent as `FREQUENT` says.
    """

    def __init__(self, allowed: Mapping[str, list[str] | dict[str, float]]) -> None:
        self.allowed = allowed
        self._shares: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}

    def words(self, name: str, sexes: Sequence[str], numbers: np.ndarray) -> np.ndarray:
        """Return the words (object [P, ...]) of an attribute whose shares `numbers` [P, ...] lie in.

        sexes: of the P people, empty where unknown.
        """
        # Most attributes do not depend on the sex.
        if not any(name in words for words in BY_SEX.values()):
            return self._choose(name, "", numbers)
        # The others are chosen for the people of each sex in turn.
        chosen = np.empty(numbers.shape, object)
        for sex in set(sexes):
            rows = [row for row, one in enumerate(sexes) if one == sex]
            chosen[rows] = self._choose(name, sex, numbers[rows])
        return chosen

    def _choose(self, name: str, sex: str, numbers: np.ndarray) -> np.ndarray:
        """Return the words of people of one sex: each word has a share of [0, 1) as large as its weight."""
        if (name, sex) not in self._shares:
            choices = self.allowed.get(name) or BY_SEX.get(sex, {}).get(name) or ATTRIBUTES[name][2]
            shares = choices if isinstance(choices, dict) else FREQUENT.get(name, {})
            weights = np.array([shares.get(word, 1.0) for word in choices])
            self._shares[name, sex] = np.array(list(choices), object), np.cumsum(weights) / weights.sum()
        words, ends = self._shares[name, sex]
        return np.asarray(words[np.searchsorted(ends, numbers, side="right")])


def draw_words(seed: int, people: Sequence[Identity], views: int, vocabulary: Vocabulary) -> list[list[dict[str, str]]]:
    """Return attribute -> word of each of `views` views of each of `people`.

    Words that are given with a person, or estimated from the embedding, win over drawn ones. A sampled person has a word of
    every attribute; of a person who exists, appearance is drawn only where the job names words for it.
    """
    # The numbers that decide: once for each person, and once for each view.
    once = _uniform(seed, people, [name.encode() for name in (*IDENTITY, *USUAL)])
    keys = [f"{view}\x1f{name}".encode() for view in range(views) for name in VIEW]
    each = _uniform(seed, people, keys).reshape(len(people), views, len(VIEW))
    # The words that stay over a person's views.
    constant, known = [dict[str, str]() for _ in people], [person.words for person in people]
    for name, numbers in zip(IDENTITY, once.T):
        drawn = vocabulary.words(name, [words.get("sex", "") for words in constant], numbers)
        for person, given, words, word in zip(people, known, constant, drawn.tolist()):
            if name in given or person.sampled or name in vocabulary.allowed:
                words[name] = given.get(name, word)
    # The words of each view; most often hair and beard are as the person usually wears them.
    sexes = [words.get("sex", "") for words in constant]
    shown = np.empty(each.shape, object)
    for place, name in enumerate(VIEW):
        shown[..., place] = vocabulary.words(name, sexes, each[..., place])
        if name in USUAL:
            habit = vocabulary.words(name, sexes, once[:, len(IDENTITY) + USUAL.index(name)])
            shown[..., place] = np.where(each[..., place] < HABIT, habit[:, None], shown[..., place])
    views_of = [[words | dict(zip(VIEW, row)) for row in rows] for words, rows in zip(constant, shown.tolist())]
    # How people who exist wear hair and beard is not drawn.
    for name in set(USUAL) - vocabulary.allowed.keys():
        for words in (words for person, all_ in zip(people, views_of) if not person.sampled for words in all_):
            del words[name]
    return views_of


def _uniform(seed: int, people: Sequence[Identity], keys: Sequence[bytes]) -> np.ndarray:
    """Return numbers float64 [P, len(keys)] in [0, 1), each a function of the seed, the person's id and its key alone."""
    return np.array([shares_of(("attribute", seed, person.id), keys) for person in people])
