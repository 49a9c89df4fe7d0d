"""Finds in a free prompt what the tables of words say for certain, and which words nothing has explained.

Every form of `synonyms` and of captions becomes a pattern; the longest match takes its words, so an "old green jacket" makes
nobody old and "dark glasses" no skin. Colours are found beside what has them ("eyes of a bright blue", "hair dyed red").
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from models.captions import phrases, synonyms
from models.captions.reading import AMBIGUOUS, read_attributes

SMALL = frozenset(
    """a an the and or of in on at with without who which whose that this these those it its it's is are was be been being has
    have had having wearing wears wear dressed put on his her their he she they him them you your i am my me we us our one two
    some any please want need like would could should make made show shown showing see seen give get look looks looking photo
    picture portrait image shot photograph headshot close-up draw render create generate imagine think thinking for to from by as
    but not so there here very really quite rather just also only too much more most bit little let do does can may will good nice
    view face person man woman somebody someone anybody people room place light skin hair eyes into around about how what when
    where""".split()  # noqa: SIM905
)
"""Words that say nothing of their own, or whose noun is found with what it is like."""
COLOUR_GAP = r"(?:(?!and |with |wear|in |a |the )[\w'-]+ ){0,4}?"
SOMEWHAT = r"(?:(?:is|are|was|be|comes?|coming|falls?|very|really|quite|so|rather|all|a|cut|worn|tied|up|with) )*"
CLAUSE_ENDS = r"(?= *(?:[,.;:/]|$|and |there|here|in |out|where|when|then|as ))"
WARM, COLD = "warm|hot|heated", "cold|freezing|chilly|icy|frosty|cool|unheated"
ROOMS = "room|place|air|weather|house|chamber|cellar|day|surroundings|environment|temperature|climate|conditions?|water"
TENS = {
    "ten": 10,
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}
UNITS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
NUMBER = rf"(?:\d\d|(?:{'|'.join(TENS)})(?:[- ](?:{'|'.join(UNITS)}))?)"
YEARS = "(?:[ -]years?(?:[ -]old)?)"
AGE = rf"(?:aged|around|about|of|over|past|nearly|is|at) (?P<aged>{NUMBER})(?! degrees){YEARS}?|(?P<years>{NUMBER}){YEARS}"
ADJECTIVES = r"(?:(?:old|older|new|young|nice|clean|plain|simple|big|long|bright|warm|pretty|fresh) )*"


BEHIND = (
    ("lighting", "light|lighting", {"soft": "soft|gentle", "hard": "hard|harsh", "dim": "dim|low", "from above": "from above",
                                    "from the side": "from the side", "backlit": "from behind"}),
    ("background", "background|backdrop|wall|scene", {"plain": "plain|empty", "gradient": "gradient", "outdoor": "outdoors?",
                                                      "blurred": "blurred|blurry|out of focus", "indoor": "indoors?"}),
    ("hair_style", "hair", {"short": "short", "long": "long", "curly": "curly|curls", "bun": "in a bun|bun",
                            "ponytail": "in a ponytail|ponytail", "receding": "receding|thinning"}),
)  # fmt: skip
"""Attribute -> its noun, and what may be said behind it."""


class Found(NamedTuple):
    """What a prompt says: attribute -> word (`AMBIGUOUS` for two), and the words that nothing explains."""

    attributes: dict[str, str]
    conditions: tuple[str, ...]
    unexplained: list[str]


def find(text: str, conditions: Sequence[str]) -> Found:
    """Return what is found in a normalised prompt. conditions: the words that are looked for."""
    said: dict[str, set[str]] = {}
    covered = [False] * len(text)
    rooms = list[str]()
    # The longest matches first; of what they take nothing else is read.
    matches = [(match, says) for pattern, says in _patterns() for match in pattern.finditer(text)]
    matches.sort(key=lambda one: (one[0].start() - one[0].end(), one[0].start()))
    for match, says in matches:
        if any(covered[match.start() : match.end()]):
            continue
        covered[match.start() : match.end()] = [True] * (match.end() - match.start())
        for name, word in says:
            if name == "condition":
                rooms += [word] if word in conditions else []
            elif name:
                said.setdefault(name, set()).add(word)
        for group, word in match.groupdict().items():
            if word and group == "hair":
                said.setdefault("hair_colour", set()).add(_HAIR[word])
            elif word:
                said.setdefault("age", set()).add(_age(word))
    # Conditions of other names, as they stand there.
    rooms += [
        word for word in conditions if word not in ("warm", "cold") and re.search(rf"\b{re.escape(word)}\b", text)
    ]
    words = [match for match in re.finditer(r"[\w'/-]+", text) if not covered[match.start()]]
    left = [word.group() for word in words if word.group() not in SMALL]
    attributes = {name: some.pop() if len(some) == 1 else AMBIGUOUS for name, some in said.items()}
    # What captions say in their own ways; ages alone are found in many things that are old.
    for name, word in read_attributes(text).items():
        if name != "age" and word != AMBIGUOUS:
            attributes.setdefault(name, word)
    return Found(attributes, tuple(room for room in conditions if room in rooms), left)


def _age(number: str) -> str:
    """Return the word for an age in years, in digits or words."""
    words = {**TENS, **UNITS}
    years = int(number) if number.isdigit() else sum(words[word] for word in re.split("[- ]", number))
    return "young" if years < 35 else "middle-aged" if years < 62 else "elderly"


WORN = ("glasses", "headwear", "facewear")
Says = tuple[tuple[str, str], ...]
_HAIR = {form: colour for colour, forms in synonyms.HAIR_COLOURS.items() for form in forms}


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[re.Pattern[str], Says]]:
    """Return a pattern for every form of the tables, with what it says."""
    return [(re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])"), says) for pattern, says in _forms()]


def _forms() -> Iterator[tuple[str, Says]]:
    """Yield (pattern, what it says)."""
    for forms in (_who(), _rooms(), _said_behind(), _coloured(), _worn_colours(), _hair_styles(), _others()):
        yield from forms


def _who() -> Iterator[tuple[str, Says]]:
    for (sex, age), nouns in synonyms.NOUNS.items():
        says = (*((("sex", sex),) if sex else ()), *((("age", age),) if age else ()))
        for noun in nouns:
            yield _plain(noun), says
    yield "she|her|hers|female|woman's", (("sex", "woman"),)
    yield "he|his|him|male|man's", (("sex", "man"),)
    for age, slots in synonyms.AGES.items():
        for form in (form for forms in slots.values() for form in forms):
            yield _plain(form), (("age", age),)
    yield AGE, ()
    # What is denied says nothing.
    yield (
        r"(?:no longer|not yet|not so|not too|not|never|neither|nor) (?:young|old|elderly|smiling|laughing|angry|sad|bald)",
        (),
    )


def _rooms() -> Iterator[tuple[str, Says]]:
    """How warm it is, of a room or by itself; a warm smile and a cold look are of nobody's room."""
    for room, words in (("warm", WARM), ("cold", COLD)):
        says: Says = (("condition", room),)
        yield rf"(?:{words}) (?:{ROOMS})", says
        verbs = "is|was|be|gets|feels|has to be|should be"
        yield rf"(?:it|that|everything|{ROOMS}) (?:{verbs}) (?:(?:very|really|so) )*(?:{words})", says
        yield rf"(?:{words}){CLAUSE_ENDS}", says
    for rooms, forms in synonyms.CONDITIONS.items():
        for form in forms:
            yield _plain(form), tuple(("condition", room) for room in rooms)


def _said_behind() -> Iterator[tuple[str, Says]]:
    """Light, background, hair and head, with what is said of them behind."""
    for name, nouns, likes in BEHIND:
        for word, forms in likes.items():
            yield rf"(?:{nouns}) {SOMEWHAT}(?:{forms})", ((name, word),)
    lens = "the (?:camera|lens|viewer)"
    yield rf"(?:in)?to(?:wards)? {lens}|at {lens}|frontal(?:ly)?", (("pose", "frontal"),)


def _coloured() -> Iterator[tuple[str, Says]]:
    """What has a colour, before or after its noun."""
    hair, locks = _any(_HAIR), "|".join(sorted(set(synonyms.HAIR)))
    yield rf"(?P<hair>{hair})(?:[ -](?:haired|{locks})|,? (?:beard|brows) and (?:{locks}))", ()
    yield rf"(?:{locks}) {COLOUR_GAP}(?P<hair>{hair})", ()
    for colour, people in synonyms.HAIR_PEOPLE.items():
        yield "|".join(people), (("hair_colour", colour),)
    for name, table, nouns in (
        ("iris", synonyms.IRIS, "eyes|eyed|irises"),
        ("skin_tone", synonyms.SKIN, "skin|skinned|complexion|complexioned"),
    ):
        for word, forms in table.items():
            yield rf"(?:{_any(forms)})[ -](?:{nouns})", ((name, word),)
            yield rf"(?:{nouns}) {COLOUR_GAP}(?:{_any(forms)})", ((name, word),)


def _worn_colours() -> Iterator[tuple[str, Says]]:
    garments = _any((*synonyms.GARMENTS, *synonyms.CLOTHES))
    stuff = "leather|woollen|silk|cotton|wool"
    yield rf"{ADJECTIVES}(?:{stuff}) (?:{garments})|old(?:er)? (?:{garments})", ()  # nobody is old
    for colour, forms in synonyms.COLOURS.items():
        some, says = _any(forms), (("clothing_colour", colour),)
        yield rf"{ADJECTIVES}(?:{some}),? (?:[\w-]+ )?(?:{garments})", says
        yield rf"dressed (?:all )?in (?:{some})|in (?:{some})(?= *(?:[,.]|$))", says


def _hair_styles() -> Iterator[tuple[str, Says]]:
    """Styles of hair, with its colour in between."""
    hair, locks = _any(_HAIR), "|".join(sorted(set(synonyms.HAIR)))
    for style, slots in synonyms.HAIR_STYLES.items():
        own = [form for forms in slots.values() for form in forms]
        for form in dict.fromkeys([*own, *phrases.HAIR_STYLES[style]["with"]]):
            pattern = _plain(form).replace("HAIR", f"(?:(?P<hair>{hair}) )?").replace("LOCKS", f"(?:{locks})")
            yield pattern, (("hair_style", style),)


def _others() -> Iterator[tuple[str, Says]]:
    """Everything else, as its tables say."""
    for name, values in synonyms.SIMPLE.items():
        for word, slots in values.items():
            own = [form for forms in slots.values() for form in forms]
            said = [form for forms in phrases.SIMPLE.get(name, {}).get(word, {}).values() for form in forms]
            for form in dict.fromkeys([*own, *said]):
                loose = name in ("lighting", "background") and word != "backlit"
                yield (ADJECTIVES if name in WORN else "") + _plain(form, loose), ((name, word),)


def _any(forms: Iterable[str]) -> str:
    """Return a pattern for any of `forms`, the longest first."""
    return "|".join(map(re.escape, sorted(forms, key=len, reverse=True)))


def _plain(form: str, loose: bool = False) -> str:
    """Return a pattern for a form; a leading article may be left out, and, where it is loose, a preposition."""
    form = re.sub(r"^(?:an?|the|with|showing|wearing) (?=\S)", "", form)
    if loose:
        form = re.sub(r"^(?:in front of|in|under|against|with|on|by) (?:an? |the )?(?=\S+ \S)", "", form)
    form = (
        form.replace("{hair} ", "HAIR").replace(" {hair}", " HAIR").replace("{locks}", "LOCKS").replace("{her}", "HER")
    )
    pattern = re.escape(form).replace("HER", "(?:her|his|their|the|a)")
    return re.sub(r"\\ (?:an?|the)\\ ", lambda _: r"\ (?:(?:an?|the)\ )?", pattern)
