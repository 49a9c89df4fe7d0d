"""The one prompt of every caption model: a chat message that lists the attributes, one "- name: value" a line.

A chat model from a hub reads the instruction; the starter's tokenizer carries `COMPACT_TEMPLATE`, which keeps the list
alone and turns each line into one token. Both go through `apply_chat_template`, so the captioning stage treats both alike.
"""

from collections.abc import Mapping

from models.attributes import ATTRIBUTES
from models.captions.grammar import statable

INSTRUCTION = (
    "You write captions of portrait photographs for a data set. Describe the person below in one to three fluent English "
    "sentences of at most 60 words in all. State every attribute of the list in plain words and nothing that is not in it; "
    "do not mention what is none. Left and right are the person's own. Vary how you begin and the order in which you tell. "
    "Answer with the caption alone."
)

COMPACT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}"
    "{%- for line in message['content'].split('\\n') if line.startswith('- ') -%}"
    "<{{ line[2:].replace(': ', '=', 1) }}>"
    "{%- endfor -%}<caption>"
    "{%- elif message['role'] == 'assistant' -%}{{ message['content'] }}<end>"
    "{%- endif -%}{%- endfor -%}"
)
"""Jinja chat template of the starter: "<sex=woman><age=young><caption>"."""


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


def attribute_tokens() -> list[str]:
    """Return the tokens that `COMPACT_TEMPLATE` makes of the vocabulary."""
    return [f"<{words(name)}={value}>" for name, (_, _, values) in ATTRIBUTES.items() for value in values]
