"""Surface forms: how each attribute value is said in English. The grammar writes them and the reader looks for them.

A form belongs to a frame, the slot of a sentence that it fits:

    with     a noun phrase: "with green eyes", "She has green eyes"
    its      follows a possessive: "Her eyes are green"
    wear     a garment: "wearing a red shirt", "He wears a red shirt"
    doing    a participle: "smiling gently", "She is smiling gently"
    setting  an adverbial: "in soft light", "She is seen in soft light"

No form may be read as another value of any attribute: the tests read each one back.
"""

from collections.abc import Mapping

from models.attributes import COLOURS

Frames = Mapping[str, tuple[str, ...]]
"""frame -> forms"""

NOUNS = {"woman": ("woman", "lady"), "man": ("man", "gentleman")}
PRONOUNS = {"woman": ("she", "her"), "man": ("he", "his")}

AGES = {
    "young": ("young {noun}", "youthful {noun}", "{noun} in {her} twenties"),
    "middle-aged": ("middle-aged {noun}", "{noun} in {her} forties", "{noun} of middle age"),
    "elderly": ("elderly {noun}", "{noun} in {her} seventies", "{noun} of advanced age"),
}

HAIR_COLOURS = {
    "black": ("black", "jet-black"),
    "dark brown": ("dark brown", "deep brown"),
    "brown": ("brown", "chestnut"),
    "auburn": ("auburn",),
    "red": ("red", "ginger"),
    "blond": ("blond", "fair-blond"),
    "grey": ("grey", "silver-grey"),
    "white": ("white", "snow-white"),
}

HAIRLESS = ("bald",)
"""Hair styles that show no hair: a caption says no hair colour with them, and `statable` drops it."""

HAIR_STYLES: dict[str, Frames] = {
    "bald": {"with": ("a bald head", "a completely bald head"), "its": ("head is bald",)},
    "buzz": {
        "with": ("a {hair} buzz cut", "buzz-cut {hair} hair"),
        "its": ("{hair} hair is cut to a buzz",),
    },
    "short": {
        "with": ("short {hair} hair", "short-cropped {hair} hair"),
        "its": ("{hair} hair is short", "hair is short and {hair}"),
    },
    "side part": {
        "with": ("side-parted {hair} hair", "{hair} hair parted on the side"),
        "its": ("{hair} hair is parted on the side",),
    },
    "curly": {
        "with": ("curly {hair} hair", "{hair} curls"),
        "its": ("{hair} hair is curly", "hair is curly and {hair}"),
    },
    "afro": {"with": ("{hair} afro hair", "a round {hair} afro"), "its": ("{hair} hair forms an afro",)},
    "bob": {
        "with": ("a {hair} bob", "{hair} hair cut in a bob"),
        "its": ("{hair} hair is cut in a bob", "hair is a {hair} bob"),
    },
    "long": {"with": ("long {hair} hair",), "its": ("{hair} hair is long", "hair is long and {hair}")},
    "ponytail": {
        "with": ("a {hair} ponytail", "{hair} hair in a ponytail"),
        "its": ("{hair} hair is tied in a ponytail",),
    },
    "bun": {"with": ("a {hair} bun", "{hair} hair in a bun"), "its": ("{hair} hair is tied in a bun",)},
    "receding": {
        "with": ("receding {hair} hair", "a receding {hair} hairline"),
        "its": ("{hair} hair is receding", "{hair} hairline is receding"),
    },
}
"""{hair} is filled from HAIR_COLOURS, or with nothing when no colour is to be said."""

SKIN = {
    "dark": ("dark", "deep dark"),
    "brown": ("brown",),
    "olive": ("olive",),
    "tan": ("tan", "tanned"),
    "light": ("light", "fair"),
    "pale": ("pale", "very pale"),
}
IRIS = {
    "dark brown": ("dark brown", "very dark brown"),
    "brown": ("brown",),
    "hazel": ("hazel",),
    "green": ("green",),
    "blue": ("blue",),
    "grey": ("grey",),
}
GARMENTS = ("shirt", "top", "sweater")


def with_article(words: str) -> str:
    """Return `words` behind "a" or "an"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


SIMPLE: dict[str, dict[str, Frames]] = {
    "skin_tone": {
        value: {
            "with": tuple(form for word in words for form in (f"{word} skin", with_article(f"{word} complexion"))),
            "its": tuple(form for word in words for form in (f"skin is {word}", f"complexion is {word}")),
        }
        for value, words in SKIN.items()
    },
    "iris": {
        value: {
            "with": tuple(f"{word} eyes" for word in words),
            "its": tuple(form for word in words for form in (f"eyes are {word}", f"irises are {word}")),
        }
        for value, words in IRIS.items()
    },
    "beard": {
        "stubble": {"with": ("stubble", "a stubbly chin", "a few days of stubble"), "its": ("chin is stubbly",)},
        "moustache": {"with": ("a moustache", "a trimmed moustache"), "its": ("moustache is trimmed",)},
        "goatee": {"with": ("a goatee", "a small goatee"), "its": ("goatee is small",)},
        "full": {"with": ("a full beard", "a thick full beard"), "its": ("beard is full",)},
    },
    "expression": {
        "neutral": {"with": ("a neutral expression", "a calm neutral look"), "doing": ("keeping a neutral face",)},
        "smile": {"with": ("a smile", "a friendly smile"), "doing": ("smiling", "smiling gently")},
        "laugh": {"with": ("a laugh", "a hearty laugh"), "doing": ("laughing", "laughing out loud")},
        "sad": {"with": ("a sad expression", "a sad look"), "doing": ("looking sad",)},
        "angry": {"with": ("an angry expression", "an angry look"), "doing": ("looking angry",)},
        "surprised": {"with": ("a surprised expression", "a surprised look"), "doing": ("looking surprised",)},
        "disgusted": {"with": ("a disgusted expression", "a disgusted look"), "doing": ("looking disgusted",)},
        "pout": {"with": ("a pout", "pouting lips"), "doing": ("pouting",)},
        "smirk": {"with": ("a smirk", "a crooked smirk"), "doing": ("smirking",)},
        "squint": {"with": ("a squint", "squinting eyes"), "doing": ("squinting",)},
    },
    "pose": {
        "frontal": {"doing": ("facing the camera", "looking straight at the camera", "facing straight ahead")},
        **{
            f"turned slightly {side}": {"doing": (f"turned slightly {side}", f"facing slightly {side}")}
            for side in ("left", "right")
        },
        **{f"turned {side}": {"doing": (f"turned to the {side}", f"facing {side}")} for side in ("left", "right")},
        **{
            f"{side} profile": {"doing": (f"showing the {side} profile", f"seen in {side} profile")}
            for side in ("left", "right")
        },
    },
    "glasses": {
        "clear": {"wear": ("glasses", "clear glasses", "eyeglasses", "spectacles")},
        "opaque": {"wear": ("sunglasses", "dark sunglasses", "opaque sunglasses", "dark glasses")},
    },
    "headwear": {
        "cap": {"wear": ("a cap", "a baseball cap")},
        "beanie": {"wear": ("a beanie", "a knitted beanie")},
        "headscarf": {"wear": ("a headscarf",)},
    },
    "facewear": {
        "mask": {"wear": ("a face mask", "a mask over {her} mouth", "a surgical mask")},
    },
    "clothing_colour": {
        colour: {"wear": (*(with_article(f"{colour} {garment}") for garment in GARMENTS), f"{colour} clothes")}
        for colour in COLOURS
    },
    "lighting": {
        "soft": {"setting": ("in soft light", "under soft lighting")},
        "hard": {"setting": ("in hard light", "under hard lighting")},
        "from the side": {"setting": ("lit from the side", "with light from the side")},
        "from above": {"setting": ("lit from above", "with light from above")},
        "dim": {"setting": ("in dim light", "under dim lighting")},
        "backlit": {"setting": ("lit from behind", "against the light", "in backlight")},
    },
    "background": {
        "plain": {"setting": ("against a plain background", "in front of a plain wall")},
        "gradient": {"setting": ("against a gradient background", "in front of a colour gradient")},
        "blurred": {"setting": ("against a blurred background", "in front of a blurred scene")},
        "indoor": {"setting": ("indoors", "in an indoor room", "against an indoor background")},
        "outdoor": {"setting": ("outdoors", "in an outdoor scene", "against an outdoor background")},
    },
}
"""attribute -> value -> forms, for every attribute but `sex`, `age`, `hair_colour` and `hair_style`, which combine."""

UNSAID = "none"
"""The value of a beard or accessory that is not there: a text that does not mention one says that too."""
