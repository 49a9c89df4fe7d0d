"""Attributes of a person and of a view, and the words for them: what captions say and classifiers find."""

from collections.abc import Mapping, Sequence

SKIN_TONES = ("dark", "brown", "olive", "tan", "light", "pale")
HAIR_COLOURS = ("black", "dark brown", "brown", "auburn", "red", "blond", "grey", "white")
IRIS_COLOURS = ("dark brown", "brown", "hazel", "green", "blue", "grey")
AGES = ("young", "middle-aged", "elderly")
SEXES = ("woman", "man")

HAIR_STYLES = ("bald", "buzz", "short", "side part", "curly", "afro", "bob", "long", "ponytail", "bun", "receding")
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
EXPRESSIONS = (
    "neutral", "smile", "laugh", "sad", "angry", "surprised", "disgusted", "pout", "smirk", "squint",
)  # fmt: skip
GLASSES = ("none", "clear", "opaque")
HEADWEAR = ("none", "cap", "beanie", "headscarf")
FACEWEAR = ("none", "mask")
CLOTHES = ("crew", "collar", "hood")
PATTERNS = ("plain", "stripes", "checks")
COLOURS = ("black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "brown")
BACKGROUNDS = ("plain", "gradient", "blurred", "indoor", "outdoor")
LIGHTINGS = ("soft", "hard", "from the side", "from above", "dim", "backlit")
POSES = (
    "frontal", "turned slightly left", "turned slightly right", "turned left", "turned right",
    "left profile", "right profile",
)  # fmt: skip
"""Left and right are the subject's own."""

ATTRIBUTES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "sex": ("identity", "weak", SEXES),
    "age": ("identity", "weak", AGES),
    "skin_tone": ("identity", "unobservable", SKIN_TONES),
    "hair_colour": ("identity", "unobservable", HAIR_COLOURS),
    "iris": ("identity", "unobservable", IRIS_COLOURS),
    "hair_style": ("view", "observable", HAIR_STYLES),
    "beard": ("view", "observable", BEARDS),
    "expression": ("view", "observable", EXPRESSIONS),
    "pose": ("view", "observable", POSES),
    "glasses": ("view", "observable", GLASSES),
    "headwear": ("view", "observable", HEADWEAR),
    "facewear": ("view", "observable", FACEWEAR),
    "clothing_colour": ("view", "unobservable", COLOURS),
    "lighting": ("view", "unobservable", LIGHTINGS),
    "background": ("view", "unobservable", BACKGROUNDS),
}
"""attribute -> (identity | view, observable | weak | unobservable in thermal, vocabulary)."""
THERMAL_ALIKE: dict[str, tuple[str, tuple[str, ...]]] = {"glasses": ("worn", ("clear", "opaque"))}
"""Words of observable attributes that a thermal picture shows alike, and what it shows: any lens stops long-wave infrared."""


def mirror_words(words: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes of the mirrored picture: the pose's word alone says left or right."""
    swap = {"left": "right", "right": "left"}
    pose = {"pose": " ".join(swap.get(word, word) for word in words["pose"].split())} if "pose" in words else {}
    return {**words, **pose}


def check_words(name: str, words: Sequence[str]) -> None:
    """Raise ValueError unless `name` is an attribute and `words`, one at least, are of its vocabulary."""
    if name not in ATTRIBUTES:
        raise ValueError(f"no attribute {name!r}; known: {', '.join(ATTRIBUTES)}")
    known = ATTRIBUTES[name][2]
    unknown = sorted(set(words) - set(known))
    if unknown or not words:
        raise ValueError(f"{name} takes {', '.join(known)}; not {', '.join(unknown) or 'nothing'}")
