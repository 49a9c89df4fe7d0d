"""What a free prompt asks for: attributes, conditions, and words that are neither.

What the tables of words find for certain (`models.captions.lexicon`) is fixed in the answer's schema; the language model is
asked only where words are left that nothing explains. Degrees are found by themselves.
"""

import json
import re
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from models.captions.answers import CONDITIONS, READABLE, REST, read_schema
from models.captions.free_prompts import normalise_prompt
from models.captions.lexicon import Found, find
from models.captions.prompt import read_messages
from models.captions.reading import AMBIGUOUS
from models.captions.synonyms import EITHER_SIDE
from models.layers import parse_condition
from pipelines.captions.engine import text_seed
from pipelines.captions.resident import Structured

DEGREES = re.compile(r"(-?\d+(?:[.,]\d+)?) ?(?:°|degrees?\b|deg\b|celsius\b)", re.IGNORECASE)
PRONOUNS = re.compile(r"\b(?:his|her|their|he|she|they)\b")
BREAKS = re.compile(r"[,.;/]| and | with | in | wearing | who has | having ")


class Reading(BaseModel):
    """What a prompt asks for."""

    model_config = ConfigDict(frozen=True)

    attributes: dict[str, list[str]] = {}
    """Attribute -> its word, or those of a pose that has no side."""
    conditions: tuple[str, ...] = ()
    also: str = ""
    """The rest, as words in their order."""
    source: str = "reader"
    """Who read it: `llm`, or `reader` without a model or in its place."""


def explains(prompt: str, conditions: Sequence[str]) -> bool:
    """Whether the tables explain every word of a prompt, so that no model need be asked."""
    return not find(normalise_prompt(prompt), conditions).unexplained


def ask_reading(prompt: str, conditions: Sequence[str], attempt: int = 0) -> Structured:
    """Return what a language model is asked of a prompt. conditions: the words that the thermal part knows."""
    text = normalise_prompt(prompt)
    schema = read_schema(text, conditions, _certain(find(text, conditions)))
    # The first answer is the likeliest one; another is sampled.
    temperature = 0.0 if attempt == 0 else None
    return Structured(read_messages(text, READABLE, conditions), text_seed(0, attempt), schema, temperature)


def parse_reading(answer: str, prompt: str, conditions: Sequence[str]) -> Reading | None:
    """Return what an answer says of `prompt`, None for one that is cut or out of its schema."""
    try:
        found = json.loads(answer)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get(REST), str):
        return None
    words = {name: value for name, value in found.items() if name not in (REST, CONDITIONS)}
    rooms = found.get(CONDITIONS, [])
    if any(word not in READABLE.get(name, ()) for name, word in words.items()):
        return None
    if not isinstance(rooms, list) or any(room not in conditions for room in rooms):
        return None
    return _complete(words, prompt, rooms, conditions, found[REST], "llm")


def read_by_words(prompt: str, conditions: Sequence[str]) -> Reading:
    """Return what the tables of words find in `prompt`, without a model: fewer ways to say things are known to them."""
    text = normalise_prompt(prompt)
    # A clause with words that nothing explains, in which nothing is found, is the rest.
    rest = []
    for clause in (clause.strip() for clause in BREAKS.split(text)):
        found = find(PRONOUNS.sub(" ", clause), conditions)  # "his chin" is of somebody, and no attribute
        if found.unexplained and not found.attributes and not found.conditions:
            rest.append(clause)
    return _complete(_certain(find(text, conditions)), prompt, [], conditions, ", ".join(rest), "reader")


def _certain(found: Found) -> dict[str, str]:
    return {name: word for name, word in found.attributes.items() if word != AMBIGUOUS}


def _complete(
    words: Mapping[str, str], prompt: str, rooms: Sequence[str], conditions: Sequence[str], rest: str, source: str
) -> Reading:
    """Return a reading, with the conditions that stand in the prompt by their name or in degrees."""
    named = find(normalise_prompt(prompt), conditions).conditions
    degrees = [parse_condition(float(number.replace(",", "."))) for number in DEGREES.findall(prompt)]
    return Reading(
        attributes={name: list(EITHER_SIDE.get(word, (word,))) for name, word in words.items()},
        conditions=tuple(dict.fromkeys([*named, *rooms, *degrees])),
        also=rest.strip(" ,"),
        source=source,
    )
