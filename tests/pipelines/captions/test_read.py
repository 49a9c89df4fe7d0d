"""Free prompts: what is read of them, with and without a model, and the job that they mean."""

import hashlib
import itertools
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from models.attributes import ATTRIBUTES
from models.captions import free_prompts
from models.captions.answers import READABLE, REST, read_schema, write_answer
from models.captions.free_prompts import draw_prompt, normalise_prompt
from models.captions.lexicon import find
from models.errors import EnvironmentFault
from models.weights.bundle import Bundle
from pipelines.captions import prompt_job
from pipelines.captions.prompt_job import apply_reading, resolve_prompt, save_reading
from pipelines.captions.read import Reading, ask_reading, explains, parse_reading, read_by_words
from pipelines.config.generate import chain_for
from pipelines.config.job import GenerateJob
from pipelines.config.request import Request
from pipelines.storage.uri import Storage
from tests.models.captions.paraphrases import paraphrases
from tests.pipelines import small

ROOMS = ("warm", "cold")
PROMPT = "An OLD man with a beard, in a cold room: three-quarter view"


def test_a_prompt_is_read_as_its_schema_allows() -> None:
    asked = ask_reading(PROMPT, ROOMS)
    assert asked.temperature == 0 and ask_reading(PROMPT, ROOMS, 1).temperature is None
    assert asked.chat[0]["content"].endswith("Text: an old man with a beard, in a cold room three-quarter view")
    known = asked.schema["properties"]
    assert (known["beard"]["enum"], known["pose"]["enum"]) == (["full"], ["turned"])
    assert known["iris"]["enum"] == list(ATTRIBUTES["iris"][2])
    assert asked.schema["required"] == ["sex", "age", "beard", "pose", REST]
    assert known["conditions"]["items"] == {"enum": ["warm", "cold"]}
    answer = {"sex": "man", "age": "elderly", "beard": "full", "pose": "turned", "conditions": ["cold"], REST: ""}
    reading = parse_reading(json.dumps(answer), PROMPT, ROOMS)
    assert reading is not None and reading.source == "llm" and reading.conditions == ("cold",)
    assert reading.attributes["pose"] == ["turned left", "turned right"]


@pytest.mark.parametrize(
    "answer",
    ['{"sex": "man", "rest": " a', '{"sex": "robot", "rest": ""}', '{"sex": "man"}', "[]",
     '{"sex": "man", "conditions": ["hot"], "rest": ""}', '{"sex": ["man"], "rest": ""}', '{"conditions": "warm", "rest": ""}'],
)  # fmt: skip
def test_an_answer_out_of_its_schema_is_none(answer: str) -> None:
    assert parse_reading(answer, PROMPT, ROOMS) is None


def test_the_reader_alone_finds_what_captions_say_and_keeps_the_rest() -> None:
    reading = read_by_words("An elderly man with a full beard and a scar on his chin, in a cold room", ROOMS)
    assert reading.attributes == {"sex": ["man"], "age": ["elderly"], "beard": ["full"]}
    assert (reading.conditions, reading.also, reading.source) == (("cold",), "a scar on his chin", "reader")
    assert read_by_words("a woman with a warm smile", ROOMS).conditions == ()


def test_degrees_are_conditions() -> None:
    assert read_by_words("a man at 22.5 °C, then at -3 degrees", ROOMS).conditions == ("22.5", "-3")
    assert read_by_words("a man at 22 degrees in a warm room", ()).conditions == ("22",)


@pytest.mark.parametrize(
    ("number", "word"),
    [
        ("ten", "young"), ("thirty", "young"), ("34", "young"), ("thirty-four", "young"), ("thirty-five", "middle-aged"),
        ("35", "middle-aged"), ("forty", "middle-aged"), ("sixty one", "middle-aged"), ("61", "middle-aged"),
        ("sixty-two", "elderly"), ("62", "elderly"), ("eighty", "elderly"),
    ],
)  # fmt: skip
def test_years_are_a_word_of_age(number: str, word: str) -> None:
    for text in (f"a woman of {number} years", f"a man aged {number}", f"a {number} year old man"):
        assert find(text, ()).attributes["age"] == word, text


@pytest.mark.parametrize(
    ("text", "name", "word"),
    [
        ("a man in a nice old beanie", "headwear", "beanie"),
        ("a woman with big new sunglasses", "glasses", "opaque"),
        ("a man in an old green jacket", "clothing_colour", "green"),
    ],
)
def test_what_is_worn_may_be_old_or_nice(text: str, name: str, word: str) -> None:
    found = find(text, ())
    assert found.attributes[name] == word and "age" not in found.attributes and not found.unexplained


def test_what_has_a_colour_is_said_by_its_noun() -> None:
    found = find("an elderly man of 70 years, hair dyed red", ())
    assert found.attributes == {"sex": "man", "age": "elderly", "hair_colour": "red"} and not found.unexplained


@pytest.mark.parametrize("text", ["a girl in an old green jacket", "she is 20 years old", "an older leather coat"])
def test_what_is_not_of_a_person_makes_nobody_old(text: str) -> None:
    assert read_by_words(text, ()).attributes.get("age") != ["elderly"]


def test_a_model_is_asked_only_for_words_that_nothing_explains() -> None:
    assert explains(PROMPT, ROOMS) and explains("Please draw a woman who is smiling", ROOMS)
    assert not explains("an old man who resembles a walrus", ROOMS)


def test_most_paraphrases_are_read_without_a_model() -> None:
    """Tuned while these were seen: the floor is a guard. `paraphrases_held.txt` was written afterwards."""
    right = 0
    for text, attributes, rooms in paraphrases()[::8]:
        found = find(normalise_prompt(text), ROOMS)
        right += found.attributes == attributes and set(found.conditions) == set(rooms)
    assert right >= 0.95 * 63


def job(**values: object) -> GenerateJob:
    return GenerateJob.model_validate({"name": "j", "identities": {"count": 2}, "prompt": PROMPT, **values})


def test_a_job_with_a_prompt_becomes_the_job_without() -> None:
    reading = Reading(
        attributes={"sex": ["man"], "beard": ["full"], "glasses": ["clear"]}, conditions=("cold",), also="a scar"
    )
    made = apply_reading(job(views={"attributes": {"glasses": "none"}}), reading)
    assert (made.prompt, made.captions.mode, made.captions.also) == ("", "describe", "a scar")
    assert made.identities.words == {"sex": "man"} and made.conditions == ("cold",)
    assert made.views.attributes == {"beard": ["full"], "glasses": ["none"]}  # the job's own words win
    assert apply_reading(job(), Reading()).conditions == ("warm", "cold")
    assert GenerateJob.model_validate(made.model_dump(mode="json")) == made


def test_a_run_that_goes_on_has_the_reading_of_its_own_prompt(bundle: Bundle, tmp_path: Path) -> None:
    """What was read stays, whatever would be read now; another prompt is read anew."""

    def resolve(prompt: str) -> tuple[Request, Reading | None]:
        wanted = small.job("captions={backend: template, mode: parse}", f"prompt={prompt}")
        return resolve_prompt(Request(wanted, bundle, small.profile(), chain_for(wanted, bundle)), out)

    out, kept = Storage(tmp_path / "out"), Reading(attributes={"beard": ["full"]}, also="a scar", source="llm")
    save_reading(out, "an old man", kept)
    request, reading = resolve("an old man")
    assert reading == kept and request.job.captions.also == "a scar"
    assert resolve("an old woman")[1] == read_by_words("an old woman", ())
    out.write(prompt_job.FILE, b'{"prompt": "an old man"}')
    with pytest.raises(EnvironmentFault, match=r"prompt\.json is damaged"):
        resolve("an old man")


@pytest.mark.parametrize("shape", [free_prompts._as_prose, free_prompts._as_tags, free_prompts._as_sentences])
def test_every_shape_of_a_prompt_says_each_thing_once(shape: Callable[..., str]) -> None:
    groups = {"with": ["q1 beard", "q2 hair"], "wear": ["q3 hat"], "doing": ["q4 smiling"], "setting": ["q5 outside"]}
    for seed in range(40):
        text = shape(["q6", "q7"], "q8man", groups, ("he", "his", "has", "wears", "is"), random.Random(seed))
        assert sorted(re.findall(r"q\d", text)) == [f"q{k}" for k in range(1, 9)], text


def test_training_prompts_are_those_that_captioners_have_learnt() -> None:
    """The seed decides on every word: the tokenizer is trained on them, and another draw would be another one."""
    drawn = [draw_prompt(random.Random(seed)) for seed in range(300)]
    content = json.dumps([(one.text, one.attributes, one.conditions, one.rest) for one in drawn])
    assert hashlib.sha256(content.encode()).hexdigest()[:16] == "90cefbef4a3c0b6b"


def test_training_prompts_keep_their_words() -> None:
    """What is asked for stands in the text, and the answer is one that its schema allows."""
    for seed in range(60):
        prompt = draw_prompt(random.Random(seed))
        assert prompt.text == normalise_prompt(prompt.text) and len(prompt.text) < 600
        assert all(words in prompt.text for words in prompt.rest.split(", "))
        answer = json.loads(write_answer(prompt.attributes, REST, prompt.rest, prompt.conditions))
        known = read_schema(prompt.text, ROOMS)["properties"]
        assert list(answer) == [name for name in known if name in answer]
        assert all(answer[name] in READABLE[name] for name in prompt.attributes)


def test_paraphrases_are_of_no_training_grammar() -> None:
    """Each has two words in a row that the training grammar did not put together in many prompts."""
    seen = set[tuple[str, str]]()
    for seed in range(300):
        words = draw_prompt(random.Random(seed)).text.split()
        seen.update(itertools.pairwise(words))
    found = paraphrases()
    assert len(found) == 500
    for text, attributes, conditions in found:
        words = normalise_prompt(text).split()
        assert set(itertools.pairwise(words)) - seen, text
        assert all(word in READABLE[name] for name, word in attributes.items()) and set(conditions) <= set(ROOMS)
