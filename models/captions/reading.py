"""Reads attributes back from a caption, whoever wrote it: the grammar, the starter's model or a hub LLM.

One pattern per attribute lists the ways to say each value. It is kept apart from the grammar's own forms, so that it
can judge text that the grammar never wrote. A text that says two values of one attribute is `AMBIGUOUS`.
"""

import re
from collections.abc import Mapping

from models.attributes import COLOURS
from models.captions.grammar import statable
from models.captions.phrases import HAIR_COLOURS, IRIS, SKIN, UNSAID

AMBIGUOUS = "ambiguous"
IMPLIED = ("beard", "glasses", "headwear", "facewear")
"""Attributes that a text denies by not speaking of them."""

_GARMENTS = "shirt|t-shirt|top|sweater|pullover|jumper|jacket|coat|hoodie|blouse|dress|clothes|clothing|garment|outfit|suit|polo"
_HAIR_WORDS = (
    "long|short|curly|wavy|straight|thick|thin|thinning|receding|cropped|short-cropped|close-cropped|buzz-cut|side-parted|"
    "neat|round|loose|shoulder-length|voluminous|afro|buzz"
)
_COLOUR_WORDS = (
    "jet-black|black|(?:dark|light|deep) brown|brown|chestnut|auburn|red|ginger|(?:fair-)?blonde?|(?:silver-)?gr[ea]y(?:ing)?|"
    "(?:snow-)?white|silver"
)
_GAP = rf"(?:,? (?:and )?(?:{_HAIR_WORDS}|{_COLOUR_WORDS}))*,? "  # further adjectives between a word and its noun
_HAIR = r"(?:hair|curls|locks|bob|bun|ponytail|afro|buzz cut|hairline|hairstyle)"


_HER = "(?:her|his|their)"
_TO = f"(?:to (?:the|{_HER}) )?"


def _any(*words: str) -> str:
    """Return a pattern for any of `words`."""
    return f"(?:{'|'.join(words)})"


def _hair_colour(*words: str) -> str:
    """Return a pattern for hair of a colour, before or after its noun."""
    said = _any(*words)
    return rf"{said}{_GAP}{_HAIR}|(?:hair(?:line)?|curls|bob|bun|ponytail|afro) (?:is|are)(?: [\w-]+,?){{0,3}}? {said}"


def _skin(*words: str) -> str:
    """Return a pattern for skin of a tone."""
    said = _any(*words)
    return rf"{said}(?:[ -]toned)?[ -](?:skin|skinned|complexion|complexioned)|(?:skin|complexion)(?: tone)? is {said}"


def _eyes(*words: str) -> str:
    """Return a pattern for eyes of a colour."""
    said = _any(*words)
    return rf"{said}[ -](?:eyes|eyed|irises)|(?:eyes|irises) are {said}"


def _decade(*words: str) -> str:
    """Return a pattern for an age in decades."""
    return rf"in {_HER} (?:early |late |mid-?)?{_any(*words)}"


def _turn_patterns(side: str) -> dict[str, str]:
    """Return the patterns of a head that turns to `side`."""
    turned, slightly = "(?:turn(?:ed|ing)|facing|looking|angled)", "(?:slightly|a little)"
    return {
        f"turned slightly {side}": rf"{turned} {slightly} {_TO}{side}|{slightly} {turned} {_TO}{side}",
        f"turned {side}": rf"{turned} {_TO}{side}",
        f"{side} profile": rf"{side}(?:-side)? profile",
    }


PATTERNS: dict[str, dict[str, str]] = {
    "sex": {
        "woman": "woman|lady|girl|female|she|her|hers",
        "man": "man|gentleman|boy|guy|male|he|his|him",
    },
    "age": {
        "young": rf"young|youthful|{_decade('twenties', '20s')}",
        "middle-aged": rf"middle-aged|of middle age|{_decade('forties', 'fifties', '40s', '50s')}",
        "elderly": rf"elderly|older|old|of advanced age|senior|{_decade('seventies', 'eighties', '70s', '80s')}",
    },
    "skin_tone": {tone: _skin(*words) for tone, words in SKIN.items()},
    "hair_colour": {
        **{colour: _hair_colour(*words) for colour, words in HAIR_COLOURS.items()},
        "blond": _hair_colour("(?:fair-)?blonde?", "golden"),
        "grey": _hair_colour("(?:silver-)?gr[ea]y(?:ing)?", "silver"),
    },
    "iris": {colour: _eyes(*words) for colour, words in IRIS.items()},
    "hair_style": {
        "bald": r"bald|hairless|shaved head",
        "buzz": r"buzz(?:-cut)?",
        "side part": r"side-part(?:ed)?|side part(?:ing)?|parted (?:on|to|at) the side",
        "receding": r"receding",
        "curly": r"curly|curls",
        "afro": r"afro",
        "bob": r"bob|bobbed",
        "ponytail": r"ponytail|pony tail",
        "bun": r"bun",
        "long": rf"long{_GAP}hair|hair is long|long-haired",
        "short": rf"(?:short|short-cropped|close-cropped|cropped){_GAP}hair|hair is (?:cut )?short|short-haired",
    },
    "beard": {
        "none": r"clean-shaven|(?:no|without a) beard|beardless",
        "stubble": r"stubble|stubbly|unshaven",
        "moustache": r"moustache|mustache|moustached|mustached",
        "goatee": r"goatee",
        "full": r"beard|bearded",
    },
    "expression": {
        "neutral": r"neutral|expressionless",
        "smile": r"smil(?:e|es|ing)",
        "laugh": r"laugh(?:s|ing)?|laughter",
        "sad": r"sad|sadly|sadness|sorrowful|downcast",
        "angry": r"angry|angrily|anger|furious|scowl(?:s|ing)?",
        "surprised": r"surprised?|astonished",
        "disgusted": r"disgust(?:ed)?",
        "pout": r"pout(?:s|ing)?",
        "smirk": r"smirk(?:s|ing)?",
        "squint": r"squint(?:s|ing)?",
    },
    "pose": {
        "frontal": _any(
            "facing the camera",
            "looking(?: straight| directly)?(?: at| into) the camera",
            "facing (?:straight ahead|forward)",
            "frontal",
        ),
        **_turn_patterns("left"),
        **_turn_patterns("right"),
    },
    "glasses": {
        "none": r"(?:no|without) (?:sun)?glasses",
        "opaque": r"sunglasses|(?:dark|opaque|tinted|mirrored) glasses|shades",
        "clear": r"(?:eye)?glasses|spectacles|eyewear|bespectacled",
    },
    "headwear": {
        "none": r"(?:no|without a) (?:hat|headwear)|bare head|bareheaded",
        "cap": r"cap",
        "beanie": r"beanie|knit(?:ted)? hat",
        "headscarf": r"headscarf|head scarf|hijab",
    },
    "facewear": {"none": r"(?:no|without a) (?:face )?mask|unmasked", "mask": r"mask|masked"},
    "clothing_colour": {
        colour: rf"{'gr[ea]y' if colour == 'grey' else colour}(?:,? [\w-]+)? (?:{_GARMENTS})|dressed in {colour}"
        for colour in COLOURS
    },
    "lighting": {
        "soft": r"soft(?:,? [\w-]+)? (?:light|lighting)|softly lit",
        "hard": r"(?:hard|harsh)(?:,? [\w-]+)? (?:light|lighting)",
        "from the side": r"(?:lit|light|lighting)(?: coming)? from the side|side[ -]?(?:lit|light|lighting)",
        "from above": r"(?:lit|light|lighting)(?: coming)? from above|overhead (?:light|lighting)",
        "dim": r"dim(?:,? [\w-]+)? (?:light|lighting)|dimly lit|low light",
        "backlit": r"lit from behind|(?:light|lighting) from behind|against the light|back-?lit|backlight(?:ing)?",
    },
    "background": {
        "plain": r"plain(?: [\w-]+)? (?:background|wall|backdrop)",
        "gradient": r"gradient",
        "blurred": r"blurr(?:ed|y)",
        "indoor": r"indoors?",
        "outdoor": r"outdoors?",
    },
}
"""attribute -> value -> pattern, tried in this order where two start at the same word."""


def _compile(values: Mapping[str, str]) -> re.Pattern[str]:
    """Return one pattern whose group g<k> matches the k-th value between word borders."""
    choices = "|".join(f"(?P<g{k}>{pattern})" for k, pattern in enumerate(values.values()))
    return re.compile(rf"(?<![\w-])(?:{choices})(?![\w-])", re.IGNORECASE)


_COMPILED = {name: (tuple(values), _compile(values)) for name, values in PATTERNS.items()}


def read_attributes(text: str) -> dict[str, str]:
    """Return the attributes that `text` states, `AMBIGUOUS` where it says two values; unstated ones are absent."""
    found: dict[str, str] = {}
    for name, (values, pattern) in _COMPILED.items():
        # All values that the text says of this attribute.
        said = {values[int(str(match.lastgroup)[1:])] for match in pattern.finditer(text)}
        if said:
            found[name] = said.pop() if len(said) == 1 else AMBIGUOUS
    return found


def disagreements(text: str, attributes: Mapping[str, str]) -> dict[str, str]:
    """Return attribute -> what `text` says instead ("" for nothing) for each of `attributes` that it does not state.

    An attribute or value outside the vocabulary counts as stated when its words occur in the text.
    """
    found, wrong = read_attributes(text), {}
    for name, value in statable(attributes).items():
        # Words of the vocabulary are read back; others are looked for as they are.
        if value not in PATTERNS.get(name, {}):
            said = value if re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE) else ""
        else:
            said = found.get(name, UNSAID if name in IMPLIED else "")
        if said != value:
            wrong[name] = said
    return wrong
