"""Invented attributes: whatever a model chooses, the declared shares hold, and people stay who they are."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from models.attributes import ATTRIBUTES
from models.captions.answers import CAPTION
from models.captions.grammar import write_caption
from models.captions.reading import disagreements
from pipelines.captions.invent import Invented, invent_samples, read_invented
from pipelines.captions.keys import Keys
from pipelines.captions.resident import Structured
from pipelines.config.captions import VllmOptions
from pipelines.plan.attributes import IDENTITY, VIEW, Vocabulary

SHARES = {"glasses": {"none": 0.5, "clear": 0.3, "opaque": 0.2}, "iris": {"blue": 0.9, "green": 0.1}}


def rows(people: int, views: int = 1, draws: int = 1, given: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Samples as a plan has them, each word drawn; those of `given` came with the person."""
    words = {name: some[0] for name, (_, _, some) in ATTRIBUTES.items()}
    sources = {name: "given" if name in given else "asked" for name in ATTRIBUTES}
    return [
        {
            "identity_id": f"p{person}", "view": view, "draw": draw, "seed": 1000 * person + 10 * view + draw,
            "attributes": json.dumps(words), "attributes_source": json.dumps(sources),
        }
        for person in range(people) for view in range(views) for draw in range(draws)
    ]  # fmt: skip


class Model:
    """Chooses its favourite word of each list, the last of the alphabet, and writes as the grammar does."""

    def __init__(self, broken: float = 0.0) -> None:
        self.broken, self.asked, self.rng = broken, list[Structured](), random.Random(0)

    def __call__(self, requests: Sequence[Structured]) -> list[str]:
        self.asked += requests
        return [self.answer(request) for request in requests]

    def answer(self, request: Structured) -> str:
        if self.rng.random() < self.broken:
            return '{"sex": "wom'
        offered = {name: one["enum"] for name, one in request.schema["properties"].items() if name != CAPTION}
        words = {name: max(some) for name, some in offered.items()}
        return json.dumps({**words, CAPTION: write_caption(words, request.seed)})


def invented(samples: list[dict[str, Any]], model: Model, shares: dict[str, Any] = SHARES) -> list[Invented]:
    return invent_samples(samples, Vocabulary(shares), model, VllmOptions(), Keys())


def test_shares_hold_whatever_the_model_likes() -> None:
    model = Model()
    found = invented(rows(200), model)
    assert any(
        len(one["enum"]) == 2 for request in model.asked for one in list(request.schema["properties"].values())[1:-1]
    )
    for name, shares in SHARES.items():
        counts = Counter(one.attributes[name] for one in found)
        assert all(abs(counts[word] / 200 - share) <= 0.01 for word, share in shares.items()), (name, counts)
    assert all(one.source == "llm" and not disagreements(one.caption, one.attributes) for one in found)
    assert all(one.attributes["beard"] == "none" for one in found if one.attributes["sex"] == "woman")


def test_a_person_stays_who_they_are() -> None:
    found = invented(rows(6, views=3, draws=2), Model())
    for start in range(0, 36, 6):
        assert len({tuple(one.attributes[name] for name in IDENTITY) for one in found[start : start + 6]}) == 1
        assert all(found[k].attributes == found[k + 1].attributes for k in range(start, start + 6, 2))
    assert len({one.attributes["iris"] for one in found}) == 2
    assert len({tuple(one.attributes[name] for name in VIEW) for one in found}) > 12


def test_words_that_came_with_a_person_are_kept() -> None:
    (one, *_) = invented(rows(4, given=("age", "iris")), Model())
    assert (one.attributes["age"], one.attributes["iris"]) == (ATTRIBUTES["age"][2][0], ATTRIBUTES["iris"][2][0])
    sources = json.loads(one.attributes_source)
    assert (sources["age"], sources["glasses"]) == ("given", "invented")


def test_a_person_who_was_cut_off_goes_on_as_before() -> None:
    samples = rows(1, views=2)
    (first,) = invented(samples[:1], Model())
    before = [{**samples[0], "attributes": json.dumps(first.attributes), "attributes_source": first.attributes_source}]
    (second,) = invent_samples(samples[1:], Vocabulary(SHARES), Model(), VllmOptions(), Keys(), before)
    assert [second.attributes[name] for name in IDENTITY] == [first.attributes[name] for name in IDENTITY]


def test_answers_that_never_fit_leave_the_dealt_words_and_a_grammar_caption() -> None:
    model = Model(broken=1.0)
    found = invented(rows(40), model)
    assert len(model.asked) == 40 * VllmOptions().attempts
    assert {one.source for one in found} == {"grammar"}
    assert not any(disagreements(one.caption, one.attributes) for one in found)
    assert set(json.loads(found[0].attributes_source).values()) == {"asked"}
    assert Counter(one.attributes["glasses"] for one in found)["none"] == 20


WORDS = {"sex": ["man"], "glasses": ["clear", "none"]}


@pytest.mark.parametrize(
    "answer",
    [
        '{"sex": "man", "glasses": "clear", "caption": "A man weari',
        '{"sex": "man", "glasses": "opaque", "caption": "A man, wearing sunglasses."}',
        '{"sex": "man", "glasses": "none", "caption": "A man, wearing glasses."}',
        '{"sex": "man", "caption": "A man."}',
        '{"sex": "man", "glasses": ["none"], "caption": "A man."}',
        '["man"]',
    ],
)  # fmt: skip
def test_an_answer_that_does_not_fit_is_none(answer: str) -> None:
    assert read_invented(answer, WORDS, 1.0) is None
    fine = '{"sex": "man", "glasses": "clear", "caption": "A man, wearing glasses."}'
    assert read_invented(fine, WORDS, 1.0) == ({"sex": "man", "glasses": "clear"}, "A man, wearing glasses.")
