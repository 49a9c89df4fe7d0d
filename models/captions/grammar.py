"""Writes a caption from attributes: who it is, what they look like, wear and do, and where, in one to three sentences.

Every statable attribute is said exactly once; order, sentence shapes and words vary with the seed. Attributes outside
the vocabulary are said plainly ("a scar: long" becomes "long scar"), so a caller's own attributes are not lost.
"""

import random
from collections.abc import Mapping, Sequence

from models.captions.phrases import AGES, HAIR_COLOURS, HAIR_STYLES, HAIRLESS, NOUNS, PRONOUNS, SIMPLE, UNSAID
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
SAY_ABSENT = 0.06
"""How often "no glasses" and the like are said; most people who describe a face leave out what is not there."""

Feature = tuple[str, str]
"""(frame, words)"""


def statable(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that a caption can be held to: a bald head has no hair colour, an empty value says nothing."""
    said = {name: value for name, value in attributes.items() if value}
    if said.get("hair_style") in HAIRLESS:
        said.pop("hair_colour", None)
    return said


def caption(attributes: Mapping[str, str], seed: int) -> str:
    """Return an English caption that states `attributes` (see `models.synthworld.scene.ATTRIBUTES`), varied by `seed`."""
    draw = random.Random(seed_of("caption", seed))
    said = statable(attributes)
    subject = _person(said, draw)
    pronoun, her = PRONOUNS.get(said.get("sex", ""), ("they", "their"))
    features = [_fill(frame, words, her) for frame, words in _features(said, draw)]
    draw.shuffle(features)
    features.sort(key=lambda feature: feature[0] == "setting")  # places and light come last, as people write
    first = draw.randint(min(2, len(features)), max(min(7, len(features)), len(features) // 2))
    head = [feature for feature in features[:first] if feature[0] != "its"]
    rest = [feature for feature in features if feature not in head]
    sentences = [_opening(subject, head, draw)]
    cut = len(rest) if len(rest) < 5 or draw.random() < 0.4 else draw.randint(2, len(rest) - 2)
    sentences += [_following(part, pronoun, her, draw) for part in (rest[:cut], rest[cut:]) if part]
    return " ".join(sentences)


def _person(said: Mapping[str, str], draw: random.Random) -> str:
    """Return "a young woman", from `sex` and `age`."""
    sex = said.get("sex", "")
    noun = draw.choices(NOUNS.get(sex, (sex or "person",)), weights=(4, 1) if sex in NOUNS else (1,))[0]
    _, her = PRONOUNS.get(sex, ("they", "their"))
    age = said.get("age", "")
    pattern = draw.choice(AGES[age]) if age in AGES else f"{age} {{noun}}".strip()
    words = pattern.format(noun=noun, her=her)
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _features(said: Mapping[str, str], draw: random.Random) -> list[Feature]:
    """Return one form for every attribute other than those of the person; an absent accessory is rarely said."""
    features = []
    if "hair_style" in said or "hair_colour" in said:
        features.append(_hair(said, draw))
    for name, value in said.items():
        if name in ("sex", "age", "hair_style", "hair_colour"):
            continue
        if value == UNSAID and (draw.random() > SAY_ABSENT or (name, said.get("sex")) == ("beard", "woman")):
            continue
        frames = SIMPLE.get(name, {}).get(value)
        features.append(_pick(frames, draw) if frames else ("with", f"{value} {name.replace('_', ' ')}"))
    return features


def _hair(said: Mapping[str, str], draw: random.Random) -> Feature:
    """Return style and colour of the hair in one form; without a style the colour alone."""
    style, colour = said.get("hair_style", ""), said.get("hair_colour", "")
    word = draw.choice(HAIR_COLOURS.get(colour, (colour,)))
    if not style:
        return _pick({"with": ("{hair} hair",), "its": ("hair is {hair}",)}, draw, word)
    frames = HAIR_STYLES.get(style, {"with": (f"{style} {{hair}} hair",)})
    if not colour:  # "hair is short and {hair}" cannot lose its colour
        frames = {
            frame: tuple(form for form in forms if not form.endswith("and {hair}")) for frame, forms in frames.items()
        }
    return _pick(frames, draw, word)


def _pick(frames: Mapping[str, Sequence[str]], draw: random.Random, hair: str = "") -> Feature:
    """Draw a frame (the plain one more often) and a form of it."""
    names = list(frames)
    frame = draw.choices(names, weights=[1 if name == "its" else 3 for name in names])[0]
    words = " ".join(draw.choice(frames[frame]).replace("{hair}", hair).split())
    return frame, words.replace("a auburn", "an auburn")


def _fill(frame: str, words: str, her: str) -> Feature:
    return frame, words.replace("{her}", her)


def _opening(subject: str, features: Sequence[Feature], draw: random.Random) -> str:
    """Return the first sentence: the person with all of `features`."""
    slots = {frame: [words for name, words in features if name == frame] for frame in ("with", "wear", "doing", "setting")}
    parts = []
    if slots["with"]:
        parts.append(f"with {_join(slots['with'])}")
    if slots["wear"]:
        parts.append(f"{draw.choice(('wearing', 'wearing', 'in'))} {_join(slots['wear'])}")
    if slots["doing"]:
        place = draw.choice((0, len(parts)))
        parts.insert(place, _join(slots["doing"]))
    text = draw.choice(OPENINGS) + subject
    text += "".join((" " if k == 0 and part.startswith("with") else ", ") + part for k, part in enumerate(parts))
    if slots["setting"]:
        text += f", {_list(slots['setting'])}"
    return f"{text[0].upper()}{text[1:]}."


def _following(features: Sequence[Feature], pronoun: str, her: str, draw: random.Random) -> str:
    """Return a further sentence about the person: "She has ..., wears ... and is smiling, in soft light. Her eyes are ..."."""
    slots = {frame: [words for name, words in features if name == frame] for frame in ("with", "wear", "doing", "setting")}
    has, wears, is_, seen = ("has", "wears", "is", "is seen") if pronoun != "they" else ("have", "wear", "are", "are seen")
    verbs = []
    if slots["with"]:
        verbs.append(f"{has} {_join(slots['with'])}")
    if slots["wear"]:
        verbs.append(f"{wears} {_join(slots['wear'])}")
    if slots["doing"]:
        verbs.append(f"{is_} {_join(slots['doing'])}")
    setting = _list(slots["setting"])
    draw.shuffle(verbs)
    sentences = []
    if verbs:
        sentences.append(f"{pronoun.capitalize()} {_join(verbs)}" + (f", {setting}" if setting else ""))
    elif setting:
        sentences.append(draw.choice((f"{pronoun.capitalize()} {seen} {setting}", f"The picture was taken {setting}")))
    own = [words for frame, words in features if frame == "its"]
    if own:
        sentences.append(f"{her.capitalize()} {_join([own[0], *(f'{her} {words}' for words in own[1:])])}")
    return " ".join(f"{sentence}." for sentence in sentences)


def _join(words: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else "".join(words)


def _list(words: Sequence[str]) -> str:
    """Return "a, b": adverbials need no "and"."""
    return ", ".join(words)
