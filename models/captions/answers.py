"""Structured answers of a caption model: their JSON schemas, and what an answer says.

Invent: {"sex":"woman", ..., "caption":"A young woman ..."}, a word for every attribute that was offered.
Read:   {"sex":"man","age":"elderly","conditions":["cold"],"rest":" a scar"}, only what a text states.
Look:   {"sex":"man","age":"elderly","beard":"unclear", ...}, what a picture shows.

They hold no blanks outside of texts: vLLM's grammar for a schema allows none (`EngineSpec.arguments`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from models.attributes import ATTRIBUTES
from models.captions.synonyms import EITHER_SIDE

CAPTION, REST, CONDITIONS = "caption", "rest", "conditions"
OPEN, CLOSE = "{", '"}'
"""Begin and end an answer; the last text ends with it."""
Schema = dict[str, Any]
READABLE: dict[str, tuple[str, ...]] = {
    name: (*words, *EITHER_SIDE) if name == "pose" else words for name, (_, _, words) in ATTRIBUTES.items()
}
"""Attribute -> the words that a text may be read as; of a pose also those without a side."""


def invent_schema(choices: Mapping[str, Sequence[str]]) -> Schema:
    """Return the JSON schema of an answer that has one word of each of `choices` and a caption."""
    words: Schema = {name: {"enum": list(some)} for name, some in choices.items()}
    return _object({**words, CAPTION: {"type": "string"}}, [*words, CAPTION])


def read_schema(text: str, conditions: Sequence[str], fixed: Mapping[str, str] | None = None) -> Schema:
    """Return the JSON schema of what `text` (normalised) may state; `rest` is some of its words, in their order.

    conditions: the words that the thermal part knows. fixed: attributes that are known to be stated, with their word.
    """
    fixed = fixed or {}
    # Attributes: the one word that is certain, or any; all but certain ones may be left out.
    words: Schema = {name: {"enum": [fixed[name]] if name in fixed else list(some)} for name, some in READABLE.items()}
    if conditions:
        known = {"enum": list(conditions)}
        words[CONDITIONS] = {"type": "array", "items": known, "minItems": 1, "maxItems": len(conditions)}
    # The rest: each term of the text may come or not, so nothing is invented and the order stays.
    terms = [term for part in text.split() if (term := part.strip(".,"))]
    rest = "".join(f"( {re.escape(term)})?(,)?" for term in terms)
    return _object(
        {**words, REST: {"type": "string", "pattern": f"^{rest}$"}},
        [*(name for name in READABLE if name in fixed), REST],
    )


def look_schema(choices: Mapping[str, Sequence[str]]) -> Schema:
    """Return the JSON schema of an answer that has one word of each of `choices`, as a picture shows it."""
    return _object({name: {"enum": list(some)} for name, some in choices.items()}, list(choices))


def _object(properties: Schema, required: Sequence[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def write_answer(attributes: Mapping[str, str], last: str, text: str, conditions: Sequence[str] = ()) -> str:
    """Return an answer as a model should give it; last: `CAPTION` or `REST`, which `text` is."""
    told: dict[str, Any] = dict(attributes)
    if conditions:
        told[CONDITIONS] = list(conditions)
    return _dump({**told, last: text})


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def member_tokens() -> dict[str, str]:
    """Return member of an answer, as the starter's tokenizer has it in one token -> the token of its prompts like it, or ""."""
    # A word that prompts have a token for begins with its embedding; one without a side has none there.
    found = {
        f"{_dump(name)}:{_dump(word)},": f"<{name.replace('_', ' ')}={word}>" if word not in EITHER_SIDE else ""
        for name, words in READABLE.items()
        for word in words
    }
    # Conditions, and the marks that open a text and close the answer.
    for some in (["warm"], ["cold"], ["warm", "cold"]):
        found[f"{_dump(CONDITIONS)}:{_dump(some)},"] = ""
    return {**found, f'"{CAPTION}":"': "<caption>", f'"{REST}":"': "", CLOSE: "<end>"}
