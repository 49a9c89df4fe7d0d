"""Writes a caption from attributes: who it is, what they look like, wear and do, and where, in one to three sentences.

Every statable attribute is said exactly once; order, sentence shapes and words vary with the seed. Attributes outside
the vocabulary are said plainly ("a scar: long" becomes "long scar"), so a caller's own attributes are not lost.
"""

import random
from collections.abc import Mapping, Sequence

from models.captions.phrases import (
    AGES,
    HAIR_COLOURS,
    HAIR_STYLES,
    HAIRLESS,
    NOUNS,
    PRONOUNS,
    SIMPLE,
    UNSAID,
    with_article,
)
from models.seeds import seed_of

OPENINGS = (
    "",
    "",
    "",
    "A portrait of ",
    "A photo of ",
    "A close-up of ",
    "A picture of ",
    "The portrait of ",
    "A head shot of ",
)
PERSON = ("sex", "age", "hair_style", "hair_colour")
LOOK = ("hair", "skin_tone", "iris", "beard")
WEAR = ("clothing_colour", "glasses", "headwear", "facewear")
DOING = ("expression", "pose")
SETTING = ("lighting", "background")


def statable(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that a caption can be held to: a bald head has no hair colour, "" says nothing."""
    said = {name: value for name, value in attributes.items() if value}
    if said.get("hair_style") in HAIRLESS:
        said.pop("hair_colour", None)
    return said


def write_caption(attributes: Mapping[str, str], seed: int) -> str:
    """Return an English caption that states `attributes` (of `models.attributes.ATTRIBUTES`), varied by `seed`.

    The words come in groups (looks, clothes, what the face does, the setting), each said in its order, starting at a
    random member; the groups are dealt out over the sentences. An accessory that is not there is not mentioned.
    """
    rng = random.Random(seed_of("caption", seed))
    # Who it is.
    said = {name: value for name, value in statable(attributes).items() if value != UNSAID}
    pronoun, her = PRONOUNS.get(said.get("sex", ""), ("they", "their"))
    person = _person(said, rng)
    # What is said of looks and doings; an expression can be either.
    hair = "hair" if "hair_style" in said or "hair_colour" in said else ""
    others = sorted(name for name in said if name not in (*PERSON, *LOOK, *WEAR, *DOING, *SETTING))
    look = [name for name in (*LOOK, *others) if name in said or name == hair]
    doing = [name for name in DOING if name in said]
    its = rng.random() < 0.3
    if not its and "expression" in doing and rng.random() < 0.5:
        doing.remove("expression")
        look.append("expression")
    # Words for each group.
    groups = {
        "look": _say_all(look, "its" if its else "with", said, rng),
        "wear": _say_all([name for name in WEAR if name in said], "wear", said, rng),
        "doing": _say_all(doing, "doing", said, rng),
    }
    # Deal the groups out over the first and the following sentences.
    order = [name for name in groups if groups[name]]
    rng.shuffle(order)
    if its and "look" in order:  # "Her eyes are ..." cannot stand in the first sentence
        order.append(order.pop(order.index("look")))
    cut = rng.randint(1, len(order)) if order else 0
    cut = min(cut, len(order) - 1) if its and "look" in order else cut
    # The setting closes one of them.
    setting = ", ".join(_say_all([name for name in SETTING if name in said], "setting", said, rng))
    early = cut == len(order) or rng.random() < 0.4
    # Put it together.
    text = _first_sentence(person, {name: groups[name] for name in order[:cut]}, setting if early else "", rng)
    rest = {name: groups[name] for name in order[cut:]}
    text += _later_sentences(rest, pronoun, her, "" if early else setting, its)
    return text.replace("{her}", her)


def _person(said: Mapping[str, str], rng: random.Random) -> str:
    """Return "a young woman", from `sex` and `age`."""
    sex = said.get("sex", "")
    noun = rng.choices(NOUNS.get(sex, (sex or "person",)), weights=(4, 1) if sex in NOUNS else (1,))[0]
    _, her = PRONOUNS.get(sex, ("they", "their"))
    age = said.get("age", "")
    pattern = rng.choice(AGES[age]) if age in AGES else f"{age} {{noun}}".strip()
    return with_article(pattern.format(noun=noun, her=her))


def _say_all(names: Sequence[str], frame: str, said: Mapping[str, str], rng: random.Random) -> list[str]:
    """Return a form for every attribute of `names`, in order from a random one on."""
    start = rng.randrange(len(names)) if names else 0
    return [_say(name, frame, said, rng) for name in (*names[start:], *names[:start])]


def _say(name: str, frame: str, said: Mapping[str, str], rng: random.Random) -> str:
    """Return one form of an attribute that fits `frame`, or the nearest frame that it has."""
    if name == "hair":
        return _say_hair(frame, said, rng)
    value = said[name]
    frames = SIMPLE.get(name, {}).get(value)
    if frames:
        return rng.choice(frames.get(frame) or next(iter(frames.values())))
    word = name.replace("_", " ")
    return f"{word} is {value}" if frame == "its" else f"{value} {word}"


def _say_hair(frame: str, said: Mapping[str, str], rng: random.Random) -> str:
    """Return style and colour of the hair in one form; without a style the colour alone."""
    # A word for the colour, and a form of the style that takes it.
    style, colour = said.get("hair_style", ""), said.get("hair_colour", "")
    word = rng.choice(HAIR_COLOURS.get(colour, (colour,)))
    forms = HAIR_STYLES.get(style, {"with": (f"{style} {{hair}} hair",), "its": (f"hair is {style} {{hair}}",)})[frame]
    if not colour:  # "hair is short and {hair}" cannot lose its colour
        forms = tuple(form for form in forms if not form.endswith("and {hair}"))
    words = " ".join(rng.choice(forms).replace("{hair}", word).split())
    return words.replace("a auburn", "an auburn")


def _first_sentence(person: str, groups: Mapping[str, list[str]], setting: str, rng: random.Random) -> str:
    """Return the first sentence: the person with `groups`, in their order."""
    # How each group begins, and a comma between them.
    begin = {"look": "with ", "wear": rng.choice(("wearing ", "wearing ", "in ")), "doing": ""}
    text = rng.choice(OPENINGS) + person
    for place, (name, words) in enumerate(groups.items()):
        text += (" " if place == 0 and name == "look" else ", ") + begin[name] + _join(words)
    text += f", {setting}" if setting else ""
    return f"{text[0].upper()}{text[1:]}."


def _later_sentences(groups: Mapping[str, list[str]], pronoun: str, her: str, setting: str, its: bool) -> str:
    """Return what follows: "She has ..., wears ... and is smiling, in soft light. Her eyes are ..."."""
    has, wears, is_ = ("have", "wear", "are") if pronoun == "they" else ("has", "wears", "is")
    verbs = {"look": has, "wear": wears, "doing": is_}
    clauses = [f"{verbs[name]} {_join(words)}" for name, words in groups.items() if not (its and name == "look")]
    text = ""
    # One sentence of what the person has, wears and does, one of the looks.
    if clauses:
        text += f" {pronoun.capitalize()} {_join(clauses)}{', ' if setting else ''}{setting}."
    elif setting:
        text += f" {pronoun.capitalize()} {is_} seen {setting}."
    if its and "look" in groups:
        first, *others = groups["look"]
        text += f" {her.capitalize()} {_join([first, *(f'{her} {words}' for words in others)])}."
    return text


def _join(words: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else "".join(words)
