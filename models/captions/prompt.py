"""The prompts of every caption model: chat messages that ask to describe attributes, to invent some, or to read a text.

A chat model from a hub reads the instruction; the starter's tokenizer carries `COMPACT_TEMPLATE`, which keeps the list of
attributes, one token a line, or the text that is to be read, and turns the instruction into one token. Both go through
`apply_chat_template`, so the captioning stage treats both alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from models.attributes import ATTRIBUTES
from models.captions.grammar import statable

INSTRUCTION = (
    "You write captions of portrait photographs for a data set. Describe the person below in one to three fluent English "
    "sentences of at most 60 words in all. State every attribute of the list in plain words and nothing that is not in it; "
    "do not mention what is none. Left and right are the person's own. Vary how you begin and the order in which you tell. "
    "Answer with the caption alone."
)

INVENT = (
    "You invent people for a data set of portrait photographs. Choose one word of every line below, so that together they "
    "make a person who could exist. Then describe this person in one to three fluent English sentences of at most 60 words in "
    "all: state every word that you chose in plain words and nothing else; do not mention what is none. Left and right are the "
    "person's own. Vary how you begin. Answer with a JSON object: the attributes in the order of the list, and last `caption`."
)

READ = (
    "You read what somebody asks for in a portrait photograph. Answer with a JSON object that has, in this order, every "
    "attribute that the text states, with the word of its list that comes nearest; `conditions`, if the text says how warm it "
    "is there; and last `rest`: the words of the text, in their order, that say something else about the picture. Leave out "
    "what the text does not state. Left and right are the person's own."
)

LOOK = (
    "You describe the person in this portrait photograph for a data set. Answer with a JSON object that has a word of every line "
    "below: the one that comes nearest to what is seen, or unclear where the photograph does not show it."
)

TEXT = "\n\nText: "
"""Stands before the text that is to be read."""

COMPACT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' and message['content'].startswith('You invent') -%}"
    "{%- for line in message['content'].split('\n') if line.startswith('- ') and ' | ' not in line -%}"
    "<{{ line[2:].replace(': ', '=', 1).replace('_', ' ') }}>"
    "{%- endfor -%}<invent>"
    "{%- elif message['role'] == 'user' and message['content'].startswith('You read') -%}"
    "<read> {{ message['content'].split('\n\nText: ')[-1] }}<answer>"
    "{%- elif message['role'] == 'user' -%}"
    "{%- for line in message['content'].split('\\n') if line.startswith('- ') -%}"
    "<{{ line[2:].replace(': ', '=', 1) }}>"
    "{%- endfor -%}<caption>"
    "{%- elif message['role'] == 'assistant' -%}{{ message['content'] }}<end>"
    "{%- endif -%}{%- endfor -%}"
)
"""Jinja chat template of the starter: "<sex=woman><caption>", "<sex=woman><invent>", or "<read> an old man<answer>"."""


def words(name: str) -> str:
    """Return an attribute's name as it is written in a prompt: "clothing_colour" -> "clothing colour"."""
    return name.replace("_", " ")


def messages(attributes: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the chat that asks for a caption: those of `ATTRIBUTES` first, in their order, then the caller's own."""
    said = statable(attributes)
    # The vocabulary's own order first, so that a prompt depends on the attributes alone.
    names = [name for name in ATTRIBUTES if name in said] + sorted(name for name in said if name not in ATTRIBUTES)
    listing = "\n".join(f"- {words(name)}: {' '.join(said[name].split())}" for name in names)
    return [{"role": "user", "content": f"{INSTRUCTION}\n\n{listing}"}]


def invent_messages(choices: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Return the chat that asks to choose a word of each of `choices` and to describe who has them."""
    listing = "\n".join(f"- {name}: {' | '.join(some)}" for name, some in choices.items())
    return [{"role": "user", "content": f"{INVENT}\n\n{listing}"}]


def read_messages(text: str, choices: Mapping[str, Sequence[str]], conditions: Sequence[str]) -> list[dict[str, str]]:
    """Return the chat that asks what `text` (normalised) states of `choices`, attribute -> its words, and of `conditions`."""
    known = {**choices, "conditions": conditions} if conditions else choices
    listing = "\n".join(f"- {name}: {' | '.join(some)}" for name, some in known.items())
    return [{"role": "user", "content": f"{READ}\n\n{listing}{TEXT}{text}"}]


def look_messages(choices: Mapping[str, Sequence[str]], picture: str) -> list[dict[str, Any]]:
    """Return the chat that asks which of `choices`, attribute -> its words, a picture (the address of an image) shows."""
    listing = "\n".join(f"- {name}: {' | '.join(some)}" for name, some in choices.items())
    text = {"type": "text", "text": f"{LOOK}\n\n{listing}"}
    return [{"role": "user", "content": [text, {"type": "image_url", "image_url": {"url": picture}}]}]


def attribute_tokens() -> list[str]:
    """Return the tokens that `COMPACT_TEMPLATE` makes of the vocabulary."""
    return [f"<{words(name)}={value}>" for name, (_, _, values) in ATTRIBUTES.items() for value in values]
