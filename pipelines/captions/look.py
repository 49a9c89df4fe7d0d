"""What pictures show of people: a language model that takes images says a word of each lasting attribute.

A picture is sent to the server upright, scaled down and encoded anew, so without what its file says of place and time.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from models.attributes import ATTRIBUTES
from models.captions.answers import look_schema
from models.captions.prompt import look_messages
from models.seeds import seed_of
from pipelines.captions.engine import text_seed
from pipelines.captions.resident import Structured
from pipelines.config.chat import TextOptions
from pipelines.pictures.codecs import encode_jpeg
from pipelines.pictures.open import BadPicture, open_photo
from pipelines.pictures.square import make_square
from pipelines.plan.attributes import IDENTITY, USUAL

SIDE = 512
"""Pixels of a picture as it is sent."""
GROUP = 256
"""Pictures that are held at once."""
UNCLEAR = "unclear"
LASTING = {name: (*ATTRIBUTES[name][2], UNCLEAR) for name in (*IDENTITY, *USUAL)}
"""Attribute -> the words that an answer may have."""
Words = dict[str, str]


def find_shown(
    rows: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, bytes | None],
    ask: Callable[[Sequence[Structured]], list[str]],
    options: TextOptions,
    before: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Words]:
    """Return identity -> what their picture shows, of the people of `rows` who have one that can be opened.

    pictures: identity -> their encoded picture. before: finished rows of a person who is in `rows`, too. Who has no
    answer that fits after `attempts` tries is left out.
    """
    shown = {row["identity_id"]: _estimated(row) for row in before}
    seeds: dict[str, int] = {}
    for row in rows:
        seeds.setdefault(row["identity_id"], row["seed"])
    wanted = [name for name in seeds if name not in shown and pictures.get(name)]
    for start in range(0, len(wanted), GROUP):
        # Those of the group whose picture opens.
        left = {name: url for name in wanted[start : start + GROUP] if (url := to_address(pictures[name] or b""))}
        for attempt in range(options.attempts if left else 0):
            # The first answer is the likeliest one; another is sampled.
            temperature = 0.0 if attempt == 0 else None
            asked = [
                Structured(
                    look_messages(LASTING, url),
                    text_seed(seed_of(seeds[name], "look"), attempt),
                    look_schema(LASTING),
                    temperature,
                )
                for name, url in left.items()
            ]
            answers = dict(zip(left, map(read_look, ask(asked)), strict=True))
            shown |= {name: words for name, words in answers.items() if words is not None}
            left = {name: url for name, url in left.items() if answers[name] is None}
            if not left:
                break
    return shown


def show_people(rows: Sequence[Mapping[str, Any]], shown: Mapping[str, Words]) -> tuple[list[Words], list[str]]:
    """Return the attributes of each row with what its person's picture shows, and where each word is from (JSON).

    Words that were given with a person stay, and so do hair and beard where the job names words for them.
    """
    attributes, sources = [], []
    for row in rows:
        words, source = json.loads(row["attributes"]), json.loads(row["attributes_source"])
        found = {
            name: word
            for name, word in shown.get(row["identity_id"], {}).items()
            if source[name] != "given" and not (name in USUAL and name in words)
        }
        words |= found
        # In the vocabulary's order, whatever was there before.
        attributes.append({name: words[name] for name in sorted(words, key=_place)})
        sources.append(json.dumps({**source, **dict.fromkeys(found, "estimated")}))
    return attributes, sources


def read_look(text: str) -> Words | None:
    """Return the words of an answer without those that are unclear; None for one that is cut or out of its schema."""
    try:
        answer = json.loads(text)
    except ValueError:
        return None
    if not isinstance(answer, dict) or set(answer) != set(LASTING):
        return None
    if any(answer[name] not in some for name, some in LASTING.items()):
        return None
    return {name: word for name, word in answer.items() if word != UNCLEAR}


def to_address(data: bytes) -> str:
    """Return an encoded picture as the data address of a JPEG of `SIDE` pixels, "" for one that cannot be opened."""
    try:
        square = make_square(open_photo(data), SIDE)[0]
    except BadPicture:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(encode_jpeg(square)).decode()}"


def _estimated(row: Mapping[str, Any]) -> Words:
    """Return what the picture of a finished row's person was seen to show."""
    words, sources = json.loads(row["attributes"]), json.loads(row["attributes_source"])
    return {name: words[name] for name in LASTING if sources[name] == "estimated" and name in words}


def _place(name: str) -> int:
    return list(ATTRIBUTES).index(name) if name in ATTRIBUTES else len(ATTRIBUTES)
