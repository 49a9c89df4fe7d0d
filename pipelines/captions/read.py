"""What a free prompt asks for: attributes, conditions, and words that are neither.

What the reader of captions finds for certain is fixed in the answer's schema; the language model reads the rest. Degrees
and a condition's own name are found by themselves.
"""

import json
import re
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from models.captions import synonyms
from models.captions.answers import CONDITIONS, READABLE, REST, read_schema
from models.captions.free_prompts import normalise_prompt
from models.captions.prompt import read_messages
from models.captions.reading import AMBIGUOUS, read_attributes
from models.captions.synonyms import EITHER_SIDE, NOUNS
from models.layers import parse_condition
from pipelines.captions.engine import text_seed
from pipelines.captions.resident import Structured

DEGREES = re.compile(r"(-?\d+(?:[.,]\d+)?) ?(?:°|degrees?\b|deg\b|celsius\b)", re.IGNORECASE)
BREAKS = re.compile(r"[,.;/]| and | with | in | wearing | who has | having ")
GARMENTS = "|".join(synonyms.GARMENTS)
PERSON = re.compile(
    r"\b(?:photo|picture|portrait|image|please|" + "|".join(w for some in NOUNS.values() for w in some) + r")\b"
)


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


def ask_reading(prompt: str, conditions: Sequence[str], attempt: int = 0) -> Structured:
    """Return what a language model is asked of a prompt. conditions: the words that the thermal part knows."""
    text = normalise_prompt(prompt)
    schema = read_schema(text, conditions, find_words(text))
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
    """Return what the reader of captions finds in `prompt`, without a model: fewer ways to say things are known to it."""
    text = normalise_prompt(prompt)
    # A clause in which nothing is found, and that names no person, is the rest.
    clauses = [clause.strip() for clause in BREAKS.split(text)]
    known = re.compile("|".join(map(re.escape, conditions)) or r"(?!)")
    rest = [
        clause
        for clause in clauses
        if clause and not (read_attributes(clause) or known.search(clause) or PERSON.search(clause))
    ]
    return _complete(find_words(text), prompt, [], conditions, ", ".join(rest), "reader")


def find_words(text: str) -> dict[str, str]:
    """Return the attributes that the reader of captions finds for certain in a normalised prompt.

    An "old jacket" and "20 years old" are no old people, so the age counts as found only where no such word follows or goes
    before.
    """
    found = {name: word for name, word in read_attributes(text).items() if word != AMBIGUOUS}
    if re.search(rf"\d[\d -]*(?:year|yr)|\bold(?:er)? (?:\w+ )?(?:{GARMENTS})\b", text):
        found.pop("age", None)
    return found


def _complete(
    words: Mapping[str, str], prompt: str, rooms: Sequence[str], conditions: Sequence[str], rest: str, source: str
) -> Reading:
    """Return a reading, with the conditions that stand in the prompt by their name or in degrees."""
    text = normalise_prompt(prompt)
    named = [word for word in conditions if re.search(rf"\b{re.escape(word)}\b(?! (?:smile|look|light))", text)]
    degrees = [parse_condition(float(number.replace(",", "."))) for number in DEGREES.findall(prompt)]
    return Reading(
        attributes={name: list(EITHER_SIDE.get(word, (word,))) for name, word in words.items()},
        conditions=tuple(dict.fromkeys([*rooms, *(named if not rooms else []), *degrees])),
        also=rest.strip(" ,"),
        source=source,
    )
