"""Draws free prompts as people type them ("an old man with a beard, cold room, three-quarter view") and what they ask for.

The captioner learns from these to read. Words come from `synonyms` and from the forms of captions; the shape is prose,
a list of tags, or a few sentences. What no attribute says is the rest, which the reading keeps as words.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.attributes import ATTRIBUTES
from models.captions import synonyms
from models.captions.grammar import statable, write_caption
from models.captions.phrases import SIMPLE, UNSAID, with_article
from models.captions.sampling import draw_attributes
from models.captions.synonyms import EITHER_SIDE

PRONOUNS = {"woman": ("she", "her", "has", "wears", "is"), "man": ("he", "his", "has", "wears", "is")}
THEY = ("they", "their", "have", "wear", "are")
POSES = (*ATTRIBUTES["pose"][2], *EITHER_SIDE)
SYLLABLES = (
    "ba",
    "dor",
    "fel",
    "gi",
    "hum",
    "jo",
    "ka",
    "lim",
    "mer",
    "nu",
    "pol",
    "qui",
    "ras",
    "sto",
    "tri",
    "vel",
    "wu",
    "zan",
)


REST = "\x01"
"""Marks the words of the rest while a prompt is put together."""


@dataclass(frozen=True)
class FreePrompt:
    """A request in somebody's own words, and what it asks for."""

    text: str
    attributes: dict[str, str]
    """Attribute -> word; of a pose without a side, a key of `EITHER_SIDE`."""
    conditions: tuple[str, ...]
    rest: str
    """What is left, as words in the order of the text."""


def normalise_prompt(text: str) -> str:
    """Return a prompt as it is read: on one line, in lower case, of letters, digits and `, . - '` alone."""
    return " ".join(re.sub(r"[^\w,.'/-]+|[_\"\\<>]", " ", text.lower()).split())


def draw_prompt(rng: random.Random) -> FreePrompt:
    """Return a free prompt with its reading."""
    # One in ten is a caption, which states much and in other words.
    if rng.random() < 0.1:
        asked = draw_attributes(rng, keep=rng.uniform(0.2, 1.0))
        said = {name: word for name, word in asked.items() if word != UNSAID}
        return FreePrompt(normalise_prompt(write_caption(asked, rng.getrandbits(31))), said, (), "")
    # What is asked for.
    said = _draw_wishes(rng)
    conditions = rng.choice(list(synonyms.CONDITIONS)) if rng.random() < 0.35 else ()
    others = [_draw_other(rng) for _ in range(rng.choice((1, 1, 2)))] if rng.random() < 0.35 else []
    # How it is said.
    marked = [" ".join(REST + word for word in other.split()) for other in others]
    text, rest = _unmark(_roughen(_say(said, conditions, marked, rng), rng))
    return FreePrompt(text, said, conditions, rest)


def _draw_wishes(rng: random.Random) -> dict[str, str]:
    """Return a few attributes, in the vocabulary's order."""
    names = set(rng.sample(list(ATTRIBUTES), rng.choice((0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 8))))
    names |= {name for name, share in (("sex", 0.75), ("age", 0.35)) if rng.random() < share}
    found = {}
    for name in (name for name in ATTRIBUTES if name in names):
        words = POSES if name == "pose" else ATTRIBUTES[name][2]
        if UNSAID in words and rng.random() < 0.6:
            words = tuple(word for word in words if word != UNSAID)
        found[name] = rng.choice(words)
    return statable(found)


def _draw_other(rng: random.Random) -> str:
    """Return something that no attribute says, half of the time of words that nobody knows."""
    known = rng.choice(synonyms.OTHER)
    if rng.random() < 0.5:
        return known
    words = ["".join(rng.choices(SYLLABLES, k=rng.choice((1, 2, 2, 3)))) for _ in range(rng.choice((1, 2)))]
    return rng.choice(
        (f"a {' '.join(words)}", f"{words[0]} on the {words[-1]}", " ".join(words), f"{known} and a {words[0]}")
    )


def _unmark(text: str) -> tuple[str, str]:
    """Return (text without marks, the marked words: those that stand together, with commas between)."""
    runs, before = list[list[str]](), False
    for word in text.split():
        marked = REST in word and word.strip(REST + ",.") != ""
        if marked:
            if not before:
                runs.append([])
            runs[-1].append(normalise_prompt(word.replace(REST, "")).strip(",."))
        before = marked and word[-1] not in ",."
    return normalise_prompt(text.replace(REST, "")), ", ".join(" ".join(run) for run in runs)


def _say(said: Mapping[str, str], conditions: tuple[str, ...], others: Sequence[str], rng: random.Random) -> str:
    """Return words for everything that is asked for."""
    pronoun = PRONOUNS.get(said.get("sex", ""), THEY)
    # The person: adjectives and a noun. What they do not say is left over.
    adjectives, noun, left = _person(said, rng)
    groups: dict[str, list[str]] = {"with": list(others), "wear": [], "doing": [], "setting": []}
    for name in left:
        for slot, form in _forms(name, said, rng):
            if slot == "adj":
                adjectives.append(form)
            else:
                groups[slot].append(form)
    if conditions:
        groups["setting"].append(rng.choice(synonyms.CONDITIONS[conditions]))
    for words in (*groups.values(), adjectives):
        rng.shuffle(words)
    # Put together in one of three shapes.
    shape = rng.choices((_as_prose, _as_tags, _as_sentences), (5, 3, 2))[0]
    text = shape(adjectives, noun, groups, pronoun, rng)
    return text.replace("{her}", pronoun[1] if rng.random() < 0.8 or pronoun is THEY else "the")


def _person(said: Mapping[str, str], rng: random.Random) -> tuple[list[str], str, list[str]]:
    """Return (adjectives, noun, attributes that they do not say)."""
    sex, age, colour = (said.get(name, "") for name in ("sex", "age", "hair_colour"))
    left = [name for name in said if name not in ("sex", "age")]
    adjectives: list[str] = []
    # Nouns that say the hair, or sex and age at once; otherwise the age stays for an adjective or a phrase.
    if colour in synonyms.HAIR_PEOPLE and "hair_style" not in said and rng.random() < 0.25:
        noun = rng.choice(synonyms.HAIR_PEOPLE[colour])
        left.remove("hair_colour")
        adjectives += [rng.choice(("female", "woman") if sex == "woman" else ("male", "man"))] if sex else []
        left += ["age"] if age else []
    elif age and rng.random() < 0.3:
        key = (sex, age) if (sex, age) in synonyms.NOUNS and rng.random() < 0.6 else ("", age)
        noun = rng.choice(synonyms.NOUNS[key])
        adjectives += [{"woman": "female", "man": "male"}[sex]] if sex and key[0] != sex else []
    else:
        noun = rng.choice(synonyms.NOUNS[sex, ""][: rng.choice((1, 3, 99))])
        left += ["age"] if age else []
    return adjectives, noun, left


def _forms(name: str, said: Mapping[str, str], rng: random.Random) -> list[tuple[str, str]]:
    """Return (slot, form) pairs that say one attribute; the hair's style says its colour, too."""
    word = said[name]
    if name == "hair_colour":
        if "hair_style" in said:
            return []  # said with the style
        return [_coloured(synonyms.HAIR_COLOURS[word], rng.choice(synonyms.HAIR), "haired", rng)]
    if name == "hair_style":
        return _hair(word, said.get("hair_colour", ""), rng)
    if name in ("skin_tone", "iris"):
        table, noun = (synonyms.SKIN, "skin") if name == "skin_tone" else (synonyms.IRIS, "eyes")
        return [_coloured(table[word], noun, "skinned" if noun == "skin" else "eyed", rng)]
    if name == "clothing_colour":
        garment = rng.choice((*synonyms.GARMENTS, *synonyms.CLOTHES))
        form = f"{rng.choice(synonyms.COLOURS[word])} {garment}"
        form = form if garment in synonyms.CLOTHES else with_article(form)
        return [rng.choice((("wear", form), ("wear", form), ("with", form), ("doing", f"dressed in {word}")))]
    # Everything else stands in tables, its own and the captions'.
    own = synonyms.AGES[word] if name == "age" else synonyms.SIMPLE[name][word]
    captions = SIMPLE.get(name, {}).get(word, {})
    choices = [
        (slot, form) for table in (own, captions) for slot, forms in table.items() if slot != "its" for form in forms
    ]
    return [rng.choice(choices)]


def _coloured(words: Sequence[str], noun: str, ending: str, rng: random.Random) -> tuple[str, str]:
    """Return a way to say that `noun` (hair, skin, eyes) has a colour."""
    word, kind = rng.choice(words), rng.random()
    if kind < 0.2:
        return "adj", f"{word.replace(' ', '-')}-{ending}"
    if kind < 0.3:
        return (
            "with",
            f"{noun} of {rng.choice(('a ', ''))}{word}" if noun != "skin" else f"{with_article(word)} complexion",
        )
    if kind < 0.4:
        return "with", f"{noun} that {'are' if noun in ('eyes', 'locks', 'tresses', 'strands') else 'is'} {word}"
    return "with", f"{word} {noun}"


def _hair(style: str, colour: str, rng: random.Random) -> list[tuple[str, str]]:
    """Return forms for a style of the hair, and its colour if there is one."""
    word = rng.choice(synonyms.HAIR_COLOURS[colour]) if colour else ""
    table = synonyms.HAIR_STYLES[style]
    choices = [(slot, form) for slot, forms in table.items() for form in forms]
    slot, form = rng.choice(choices)
    said = [(slot, " ".join(form.replace("{hair}", word).replace("{locks}", rng.choice(synonyms.HAIR)).split()))]
    if word and "{hair}" not in form:
        said.append(_coloured([word], "hair", "haired", rng))
    return said


def _as_prose(
    adjectives: list[str], noun: str, groups: Mapping[str, list[str]], pronoun: Sequence[str], rng: random.Random
) -> str:
    """Return "a photo of an old man with a beard, wearing a cap, in a cold room"."""
    begin = {
        "with": rng.choice(("with", "with", "with", "who has", "having", "and")),
        "wear": rng.choice(("wearing", "wearing", "in", "with", "who wears", "dressed in", "who is wearing", "has on")),
        "doing": rng.choice(("", "", "who is")),
        "setting": "",
    }
    person = with_article(" ".join([*_commas(adjectives, rng), noun]))
    parts = [f"{begin[name]} {_join(words, rng)}".strip() for name, words in _shuffle(groups, rng) if words]
    # What is around may come first.
    first = [part for part in parts if rng.random() < 0.1]
    rest = [part for part in parts if part not in first]
    glue = rng.choice((", ", ", ", " ", " ", " and "))
    return " ".join([rng.choice(synonyms.OPENINGS), *(f"{part}," for part in first), person]) + "".join(
        (glue if place or rng.random() < 0.3 else " ") + part for place, part in enumerate(rest)
    )


def _as_tags(
    adjectives: list[str], noun: str, groups: Mapping[str, list[str]], pronoun: Sequence[str], rng: random.Random
) -> str:
    """Return "old man, beard, cold room, three-quarter view"."""
    tags = [form for words in groups.values() for form in words]
    person = [f"{' '.join(adjectives)} {noun}".strip()] if rng.random() < 0.7 else [*adjectives, noun]
    tags = [re.sub(r"^(a|an|the|with|in|against a) ", "", tag) if rng.random() < 0.5 else tag for tag in tags]
    if rng.random() < 0.6:
        rng.shuffle(tags)
        tags = [*person, *tags]
    else:
        tags = [*person, *tags]
        rng.shuffle(tags)
    return rng.choice((", ", ", ", ", ", ". ", " ", " / ")).join(tags)


def _as_sentences(
    adjectives: list[str], noun: str, groups: Mapping[str, list[str]], pronoun: Sequence[str], rng: random.Random
) -> str:
    """Return "a man. he has a beard and wears a cap. it is in a cold room"."""
    she, _, has, wears, is_ = pronoun
    person = f"{rng.choice(synonyms.OPENINGS)} {with_article(' '.join([*adjectives[:1], noun]))}."
    sentences = [f"{she} {is_} {word}." for word in adjectives[1:]]
    verb = {"with": has, "wear": wears, "doing": is_, "setting": rng.choice((f"{is_}", "is seen", "is shown"))}
    sentences += [f"{she} {verb[name]} {_join(words, rng)}." for name, words in groups.items() if words]
    rng.shuffle(sentences)
    return " ".join([person, *sentences])


def _shuffle(groups: Mapping[str, list[str]], rng: random.Random) -> list[tuple[str, list[str]]]:
    order = list(groups.items())
    rng.shuffle(order)
    return order


def _commas(words: Sequence[str], rng: random.Random) -> list[str]:
    """Return adjectives, now and then with commas between them."""
    comma = "," if rng.random() < 0.4 else ""
    return [f"{word}{comma}" for word in words[:-1]] + list(words[-1:])


def _join(words: Sequence[str], rng: random.Random) -> str:
    """Return "a, b and c", or "a and b and c", or "a, b, c"."""
    last = rng.choice((" and ", " and ", ", ", ", and "))
    return last.join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else "".join(words)


def _roughen(text: str, rng: random.Random) -> str:
    """Return `text` with the small words of somebody in a hurry, or of somebody who is polite."""
    if rng.random() < 0.2:
        text = re.sub(r"\b(a|an|the) ", "", text)
    words = text.split()
    if rng.random() < 0.25 and words:
        words.insert(
            rng.randrange(len(words)),
            rng.choice(("please", "really", "just", "some", "rather", "maybe", "also", "quite")),
        )
    return " ".join(words)
