"""Attributes and captions that the language model invents together, so that the declared shares of words hold.

A model alone would choose its favourites. So words are dealt first, in the job's shares: over the samples of a chunk evenly,
not by chance. Two samples then share what both were dealt: the schema of the first lets the model choose one of two words of
each attribute, and the second gets the others. Whatever is chosen, as many samples have a word as were dealt it.

The sex is dealt and not chosen, because the words of other attributes depend on it. Words of a person are chosen once, in
their first view; hair and beard are most often as in that view.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.attributes import ATTRIBUTES
from models.captions.answers import CAPTION, invent_schema
from models.captions.prompt import invent_messages
from models.seeds import seed_of
from pipelines.captions.choose import Taken, clean, states, take, templates
from pipelines.captions.engine import text_seed
from pipelines.captions.resident import Structured
from pipelines.config.captions import GRAMMAR, INVENTED, LLM
from pipelines.config.chat import TextOptions
from pipelines.plan.attributes import HABIT, IDENTITY, USUAL, Vocabulary

Choices = dict[str, list[str]]
"""Attribute -> the words that a model may choose, one or two."""
Ask = Callable[[Sequence[Structured]], list[str]]


class Invented(NamedTuple):
    """What a sample shows: attribute -> word, its caption, who wrote it, and where each word is from (JSON)."""

    attributes: dict[str, str]
    caption: str
    source: str
    attributes_source: str


class Draft:
    """A sample on its way: the words that it was dealt, and which of them the model may choose."""

    def __init__(self, row: Mapping[str, Any], held: Collection[str] = ()) -> None:
        self.person, self.place = row["identity_id"], (row["view"], row["draw"])
        self.seed: int = row["seed"]
        self.words: dict[str, str] = json.loads(row["attributes"])
        self.sources: dict[str, str] = json.loads(row["attributes_source"])
        self.drawn = [name for name, source in self.sources.items() if source == "asked" and name not in held]
        self.free: set[str] = set()
        self.caption, self.source = "", GRAMMAR

    def finish(self) -> Invented:
        """Return the sample as it is kept."""
        invented = dict.fromkeys(self.drawn, INVENTED) if self.source == LLM else {}
        return Invented(self.words, self.caption, self.source, json.dumps({**self.sources, **invented}))


def invent_samples(
    rows: Sequence[Mapping[str, Any]],
    vocabulary: Vocabulary,
    ask: Ask,
    options: TextOptions,
    taken: Taken,
    before: Sequence[Mapping[str, Any]] = (),
    held: Collection[str] = (),
) -> list[Invented]:
    """Return what each of `rows` (of `SAMPLE_SCHEMA`) shows, in their order.

    before: finished rows of a person whose first views came in an earlier chunk, which the others follow. held:
    attributes that the views say. A sample whose
    answers never fit keeps the words that it was dealt, and the grammar writes its caption.
    """
    drafts = [Draft(row, held) for row in rows]
    rng = np.random.default_rng(seed_of(rows[0]["seed"], "invent"))
    # First views invent the person, further views what changes, further draws of a view only its caption.
    first: dict[str, Draft] = {}
    views: dict[tuple[str, int], Draft] = {}
    for draft in [*map(Draft, before), *drafts]:
        first.setdefault(draft.person, draft)
        views.setdefault((draft.person, draft.place[0]), draft)
    people = [draft for draft in drafts if draft is first[draft.person]]
    further = [
        draft for draft in drafts if draft is views[draft.person, draft.place[0]] and draft is not first[draft.person]
    ]
    again = [draft for draft in drafts if draft is not views[draft.person, draft.place[0]]]
    # The people.
    for draft in people:
        draft.free = set(draft.drawn)
    _deal(people, vocabulary, rng)
    _settle_pairs(people, ask, options, taken)
    # Their further views: as the person is, with the hair and beard that they usually wear.
    for draft in further:
        one = first[draft.person]
        kept = [name for name in draft.drawn if name in IDENTITY or (name in USUAL and rng.random() < HABIT)]
        draft.words |= {name: one.words[name] for name in kept if name in one.words}
        draft.free = set(draft.drawn) - set(kept)
    _deal(further, vocabulary, rng)
    _settle_pairs(further, ask, options, taken)
    # Further draws of a view show the same.
    for draft in again:
        draft.words = dict(views[draft.person, draft.place[0]].words)
    _settle(again, [{name: [word] for name, word in draft.words.items()} for draft in again], ask, options, taken)
    return [draft.finish() for draft in drafts]


def _deal(drafts: Sequence[Draft], vocabulary: Vocabulary, rng: np.random.Generator) -> None:
    """Give every draft a word of each free attribute: of each word as many as its share says, in random order."""
    for name in ATTRIBUTES:
        # Words of some attributes depend on the sex, so each sex has its own shares.
        able = [draft for draft in drafts if name in draft.free]
        sexes = [draft.words.get("sex", "") if name != "sex" else "" for draft in able]
        for sex in sorted(set(sexes)):
            group = [draft for draft, one in zip(able, sexes, strict=True) if one == sex]
            numbers = (rng.permutation(len(group)) + rng.random()) / len(group)
            for draft, word in zip(group, vocabulary.words(name, [sex] * len(group), numbers), strict=True):
                draft.words[name] = str(word)


def _settle_pairs(drafts: Sequence[Draft], ask: Ask, options: TextOptions, taken: Taken) -> None:
    """Let the model choose for one of each pair of the same sex, then give the other one what is left, and caption it."""
    ordered = sorted(drafts, key=lambda draft: draft.words.get("sex", ""))
    pairs, alone = list[tuple[Draft, Draft]](), list[Draft]()
    while ordered:
        one = ordered.pop(0)
        if ordered and ordered[0].words.get("sex") == one.words.get("sex"):
            pairs.append((one, ordered.pop(0)))
        else:
            alone.append(one)
    # The first of each pair chooses.
    choices = [_choices(one, other) for one, other in pairs]
    dealt = [dict(one.words) for one, _ in pairs]
    _settle([one for one, _ in pairs], choices, ask, options, taken)
    # What it left is the other's.
    for (one, other), offered, before in zip(pairs, choices, dealt, strict=True):
        other.words |= {
            name: before[name] for name, some in offered.items() if len(some) > 1 and one.words[name] != before[name]
        }
    rest = [*(other for _, other in pairs), *alone]
    _settle(rest, [{name: [word] for name, word in draft.words.items()} for draft in rest], ask, options, taken)


def _choices(one: Draft, other: Draft) -> Choices:
    """Return what the model may choose for `one`: where both are free, its own word or that of `other`."""
    shared = (one.free & other.free) - {"sex"}
    return {
        name: list(dict.fromkeys([word, other.words[name]])) if name in shared else [word]
        for name, word in one.words.items()
    }


def _settle(drafts: Sequence[Draft], choices: Sequence[Choices], ask: Ask, options: TextOptions, taken: Taken) -> None:
    """Take for each draft the first answer that fits; without one it keeps its words, and the grammar writes."""
    left = list(zip(drafts, choices, strict=True))
    for attempt in range(options.attempts):
        asked = [
            Structured(invent_messages(some), text_seed(draft.seed, attempt), invent_schema(some))
            for draft, some in left
        ]
        missed = []
        for (draft, some), text in zip(left, ask(asked) if asked else [], strict=True):
            answer = read_invented(text, some, options.stated)
            if answer is None or not take(answer[1], taken):
                missed.append((draft, some))
            else:
                (draft.words, draft.caption), draft.source = answer, LLM
        left = missed
    written = templates([draft.words for draft, _ in left], [draft.seed for draft, _ in left], taken)
    for (draft, _), caption in zip(left, written, strict=True):
        draft.caption, draft.source = caption, GRAMMAR


def read_invented(text: str, choices: Mapping[str, Sequence[str]], share: float) -> tuple[dict[str, str], str] | None:
    """Return (attributes, caption) of an answer; None for one that is cut, out of its schema, or at odds with its sentence.

    share: of the attributes that the caption has to state.
    """
    try:
        answer = json.loads(text)
    except ValueError:
        return None
    if not isinstance(answer, dict) or set(answer) != {*choices, CAPTION} or not isinstance(answer[CAPTION], str):
        return None
    caption = clean(answer.pop(CAPTION))
    words = {name: answer[name] for name in choices}
    fits = all(words[name] in some for name, some in choices.items())
    return (words, caption) if fits and states(caption, words, share) else None
