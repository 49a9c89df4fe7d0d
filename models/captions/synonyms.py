"""How people ask for attributes in their own words: what the captioner learns to read beside the forms of captions.

A form belongs to a slot of a request:

    adj      before the noun: "a bearded man"
    with     a noun phrase: "with a beard", "he has a beard"
    wear     a garment: "wearing shades"
    doing    a participle: "grinning"
    setting  an adverbial: "by candlelight"

Each is a form of exactly one value. What stands in `phrases.py` is read as well, and not said again here.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Slots = dict[str, tuple[str, ...]]
"""slot -> forms"""

EITHER_SIDE = {
    "turned slightly": ("turned slightly left", "turned slightly right"),
    "turned": ("turned left", "turned right"),
    "profile": ("left profile", "right profile"),
}
"""What a request may say of a pose without a side -> the poses that it means."""

NOUNS: dict[tuple[str, str], tuple[str, ...]] = {
    ("woman", ""): ("woman", "lady", "female", "female person", "mother", "wife", "businesswoman", "policewoman", "actress"),
    ("man", ""): ("man", "gentleman", "male", "guy", "fellow", "chap", "father", "husband", "businessman", "male person",
                  "dude"),
    ("", ""): ("person", "someone", "somebody", "individual", "face", "human", "adult", "subject"),
    ("woman", "young"): ("girl", "young girl", "teenage girl", "schoolgirl", "daughter", "college girl"),
    ("man", "young"): ("boy", "lad", "young lad", "teenage boy", "young fellow", "schoolboy", "son"),
    ("woman", "elderly"): ("grandmother", "granny", "grandma", "old dame", "elderly matron", "crone"),
    ("man", "elderly"): ("grandfather", "grandpa", "granddad", "greybeard", "old codger"),
    ("", "elderly"): ("pensioner", "senior", "senior citizen", "octogenarian", "old-timer", "retiree", "elder"),
    ("", "young"): ("teenager", "youth", "youngster", "student", "young adult", "adolescent", "teen"),
    ("", "middle-aged"): ("middle-ager", "person in midlife"),
}  # fmt: skip
"""(sex, age) that a noun says -> nouns; "" where it does not say."""

AGES: dict[str, Slots] = {
    "young": {
        "adj": ("young", "youthful", "teenage", "juvenile", "younger", "twenty-something", "baby-faced", "adolescent",
                "fresh-faced", "25-year-old", "19-year-old", "22-year-old", "20 year old"),
        "with": ("a youthful face", "a young face"),
        "doing": ("in {her} twenties", "in {her} early twenties", "in {her} teens", "aged about twenty", "aged 23",
                  "about 25 years old", "not yet thirty", "barely out of school", "in {her} 20s", "of 21 years"),
    },
    "middle-aged": {
        "adj": ("middle-aged", "middle aged", "forty-something", "mature", "45-year-old", "50-year-old", "48 year old",
                "fifty-something"),
        "with": ("a middle-aged face",),
        "doing": ("in {her} forties", "in {her} fifties", "of middle age", "in midlife", "aged about fifty", "aged 47",
                  "around 45 years old", "in {her} late forties", "in {her} 40s", "in {her} mid-forties", "in {her} prime"),
    },
    "elderly": {
        "adj": ("old", "elderly", "aged", "older", "ageing", "senior", "ancient", "wrinkled", "very old", "70-year-old",
                "80-year-old", "75 year old", "grey old", "geriatric", "retired"),
        "with": ("an old face", "a wrinkled face", "deep wrinkles"),
        "doing": ("in {her} seventies", "in {her} eighties", "of advanced age", "well past seventy", "aged 78",
                  "about 80 years old", "advanced in years", "in old age", "in {her} 70s", "in {her} late sixties"),
    },
}  # fmt: skip

HAIR_COLOURS: dict[str, tuple[str, ...]] = {
    "black": ("black", "jet-black", "raven", "ebony", "inky", "coal-black", "raven-black"),
    "dark brown": ("dark brown", "deep brown", "dark-brown", "dark chocolate", "espresso-brown", "darkest brown"),
    "brown": ("brown", "chestnut", "brunette", "hazelnut", "medium brown", "chocolate", "mousy brown", "nut-brown"),
    "auburn": ("auburn", "reddish-brown", "mahogany", "reddish brown", "russet"),
    "red": ("red", "ginger", "copper", "flame-red", "carrot-red", "fiery", "bright red"),
    "blond": ("blond", "blonde", "fair", "golden", "flaxen", "sandy", "straw-coloured", "platinum", "honey-blonde", "yellow"),
    "grey": ("grey", "gray", "silver", "greying", "silvery", "salt-and-pepper", "silver-grey", "steel-grey", "ashen"),
    "white": ("white", "snow-white", "snowy", "bleached white", "pure white", "milk-white"),
}  # fmt: skip
HAIR_PEOPLE = {"brown": ("brunette",), "blond": ("blonde", "blond"), "red": ("redhead", "ginger", "red-head")}
"""Hair colour -> nouns of people that have it."""
HAIR = ("hair", "hair", "hair", "hair", "locks", "tresses", "mane", "strands")

HAIR_STYLES: dict[str, Slots] = {
    "bald": {
        "adj": ("bald", "hairless", "bald-headed", "shaven-headed"),
        "with": ("no hair", "a bald head", "a shaved head", "a shaven head", "no hair on {her} head", "a bare scalp",
                 "a bald pate"),
    },
    "buzz": {
        "adj": ("buzz-cut", "crew-cut"),
        "with": ("a {hair} buzz cut", "a {hair} crew cut", "{hair} buzzed hair", "very short clipped {hair} hair",
                 "{hair} stubbly hair on the head", "a {hair} military haircut", "{hair} hair shorn to millimetres"),
    },
    "short": {
        "adj": ("short-haired",),
        "with": ("short {hair} {locks}", "a short {hair} haircut", "{hair} hair cut short", "close-cropped {hair} hair",
                 "cropped {hair} hair", "short-cut {hair} hair", "a {hair} pixie cut"),
    },
    "side part": {
        "adj": ("side-parted",),
        "with": ("{hair} hair with a side parting", "a {hair} side part", "side-parted {hair} hair",
                 "{hair} hair parted at the side", "a side parting in {her} {hair} hair", "{hair} hair combed to the side",
                 "{hair} hair combed to one side"),
    },
    "curly": {
        "adj": ("curly-haired", "curly"),
        "with": ("curly {hair} {locks}", "{hair} curls", "{hair} ringlets", "frizzy {hair} hair", "a {hair} perm",
                 "wavy curly {hair} hair", "curled {hair} hair", "a head of {hair} curls"),
    },
    "afro": {"adj": (), "with": ("an afro", "a {hair} afro", "a big {hair} afro", "{hair} afro hair",
                                 "an afro of {hair} hair")},
    "bob": {
        "adj": (),
        "with": ("a {hair} bob", "a bob", "bobbed {hair} hair", "a chin-length {hair} cut", "{hair} hair in a bob",
                 "chin-length {hair} hair", "a {hair} bob haircut"),
    },
    "long": {
        "adj": ("long-haired",),
        "with": ("long {hair} {locks}", "long flowing {hair} {locks}", "waist-length {hair} hair",
                 "{hair} hair down to the waist",
                 "lengthy {hair} hair", "{hair} hair over the shoulders", "flowing {hair} {locks}", "loose long {hair} hair",
                 "shoulder-length {hair} hair"),
    },
    "ponytail": {
        "adj": ("ponytailed",),
        "with": ("a {hair} ponytail", "{hair} hair in a ponytail", "a {hair} pony tail",
                 "{hair} hair pulled back in a ponytail",
                 "{hair} hair tied back", "a high {hair} ponytail", "{hair} hair tied at the back"),
    },
    "bun": {
        "adj": (),
        "with": ("a {hair} bun", "{hair} hair in a bun", "{hair} hair pinned up", "{hair} hair tied up in a bun",
                 "a {hair} top knot",
                 "a {hair} chignon", "{hair} hair put up", "{hair} hair worn up"),
    },
    "receding": {
        "adj": ("balding",),
        "with": ("receding {hair} hair", "a receding {hair} hairline", "thinning {hair} hair", "a high {hair} hairline",
                 "{hair} hair that is thinning", "a receding hairline and {hair} hair", "going bald with {hair} hair"),
    },
}  # fmt: skip

SKIN: dict[str, tuple[str, ...]] = {
    "dark": ("dark", "black", "very dark", "deep dark", "ebony", "dark brown"),
    "brown": ("brown", "medium brown", "caramel", "bronze-brown", "warm brown"),
    "olive": ("olive", "mediterranean", "olive-coloured"),
    "tan": ("tan", "tanned", "sun-tanned", "suntanned", "sunburnt", "bronzed"),
    "light": ("light", "fair", "light-coloured", "peachy"),
    "pale": ("pale", "very pale", "ghostly pale", "porcelain", "pallid", "milky", "ivory", "whitish"),
}
IRIS: dict[str, tuple[str, ...]] = {
    "dark brown": ("dark brown", "very dark brown", "almost black", "dark", "deep brown", "black"),
    "brown": ("brown", "chestnut", "chocolate", "amber-brown"),
    "hazel": ("hazel", "light brown", "greenish-brown", "amber"),
    "green": ("green", "emerald", "bright green", "jade"),
    "blue": ("blue", "azure", "sky-blue", "bright blue", "sea-blue", "sapphire", "light blue", "piercing blue"),
    "grey": ("grey", "gray", "steel-grey", "silver", "smoky grey"),
}

SIMPLE: dict[str, dict[str, Slots]] = {
    "beard": {
        "none": {
            "adj": ("clean-shaven", "beardless", "smooth-shaven", "clean shaven", "freshly shaved"),
            "with": ("no beard", "no facial hair", "a shaved chin", "a clean-shaven face", "a smooth chin"),
            "doing": ("without a beard", "without any beard", "without facial hair"),
        },
        "stubble": {
            "adj": ("stubbly", "unshaven", "unshaved", "scruffy", "stubbled"),
            "with": ("stubble", "some stubble", "a stubbly chin", "a three-day beard", "a five o'clock shadow",
                     "designer stubble",
                     "a light scruff", "a few days of stubble"),
        },
        "moustache": {
            "adj": ("moustached", "mustachioed", "mustached"),
            "with": ("a moustache", "a mustache", "a bushy moustache", "a handlebar moustache", "a thin moustache",
                     "hair on {her} upper lip", "a walrus moustache", "whiskers on the upper lip"),
        },
        "goatee": {
            "adj": ("goateed",),
            "with": ("a goatee", "a goatee beard", "a chin beard", "a small pointed goatee", "a van dyke",
                     "a tuft on the chin"),
        },
        "full": {
            "adj": ("bearded", "full-bearded", "heavily bearded", "shaggy-bearded"),
            "with": ("a beard", "a full beard", "a thick beard", "a long beard", "a bushy beard", "a big beard",
                     "full whiskers",
                     "a heavy beard", "a wild beard", "a beard all over the cheeks"),
        },
    },
    "expression": {
        "neutral": {
            "adj": ("expressionless", "blank-faced", "impassive"),
            "with": ("a neutral expression", "a blank expression", "no expression", "a poker face", "a straight face",
                     "a blank stare",
                     "a calm face", "a deadpan look", "a serious neutral face", "a relaxed face"),
            "doing": ("looking neutral", "showing no emotion", "without any expression", "looking calm",
                      "keeping a straight face"),
        },
        "smile": {
            "adj": ("smiling", "cheerful", "grinning", "happy", "beaming"),
            "with": ("a smile", "a grin", "a broad smile", "a warm smile", "a happy face", "a toothy grin", "a gentle smile",
                     "a big smile", "a happy expression", "a friendly smile"),
            "doing": ("smiling", "grinning", "beaming", "who smiles", "smiling broadly", "looking happy", "looking cheerful"),
        },
        "laugh": {
            "adj": ("laughing", "giggling", "chuckling"),
            "with": ("a laugh", "a hearty laugh", "a laughing face", "a burst of laughter", "laughter on {her} face"),
            "doing": ("laughing", "laughing out loud", "giggling", "cracking up", "chuckling", "who laughs",
                      "roaring with laughter"),
        },
        "sad": {
            "adj": ("sad", "unhappy", "gloomy", "sorrowful", "miserable", "melancholy", "tearful", "crying"),
            "with": ("a sad face", "a sad look", "a mournful look", "a gloomy expression", "tears in {her} eyes", "a long face",
                     "a downcast look"),
            "doing": ("looking sad", "crying", "weeping", "looking unhappy", "who is sad", "about to cry", "looking miserable"),
        },
        "angry": {
            "adj": ("angry", "furious", "irate", "mad", "enraged", "scowling", "annoyed", "cross"),
            "with": ("an angry face", "an angry look", "a scowl", "a furious look", "rage on {her} face", "an angry glare",
                     "an annoyed look"),
            "doing": ("looking angry", "scowling", "glaring", "who is angry", "looking furious", "fuming", "frowning angrily"),
        },
        "surprised": {
            "adj": ("surprised", "astonished", "amazed", "startled", "shocked"),
            "with": ("a surprised face", "a surprised look", "a look of surprise", "an astonished look",
                     "an open mouth in surprise",
                     "raised eyebrows", "a shocked expression"),
            "doing": ("looking surprised", "looking astonished", "gaping", "looking amazed", "who is surprised",
                      "taken by surprise"),
        },
        "disgusted": {
            "adj": ("disgusted", "revolted", "repelled"),
            "with": ("a disgusted face", "a look of disgust", "a disgusted look", "a wrinkled nose", "disgust on {her} face",
                     "a repulsed expression"),
            "doing": ("looking disgusted", "wrinkling {her} nose", "grimacing in disgust", "who is disgusted",
                      "looking revolted"),
        },
        "pout": {
            "adj": ("pouting", "pouty", "sulking"),
            "with": ("a pout", "pouting lips", "pursed lips", "a duck face", "a pouty mouth", "a sulky mouth"),
            "doing": ("pouting", "pursing {her} lips", "sulking", "making a pout", "who pouts"),
        },
        "smirk": {
            "adj": ("smirking", "smug"),
            "with": ("a smirk", "a crooked smirk", "a lopsided grin", "a sly smile", "a smug look", "a crooked smile",
                     "a half-smile"),
            "doing": ("smirking", "smirking slyly", "looking smug", "who smirks", "with one corner of the mouth up"),
        },
        "squint": {
            "adj": ("squinting", "narrow-eyed"),
            "with": ("a squint", "squinting eyes", "narrowed eyes", "eyes half shut", "screwed-up eyes"),
            "doing": ("squinting", "narrowing {her} eyes", "peering", "screwing up {her} eyes", "who squints", "blinking hard"),
        },
    },
    "pose": {
        "frontal": {
            "doing": ("facing the camera", "looking at the camera", "facing forward", "facing us", "looking straight ahead",
                      "seen from the front", "facing the viewer", "looking at you", "from the front",
                      "looking directly at the lens",
                      "in frontal view", "front view", "frontal view", "head-on", "full face", "looking straight into the lens",
                      "straight on"),
        },
        **{
            f"turned slightly {side}": {
                "doing": (f"turned slightly to the {side}", f"looking slightly {side}", f"turned a little to the {side}",
                          f"facing a bit to the {side}", f"head slightly to the {side}", f"angled slightly to the {side}",
                          f"turned a bit {side}", f"slightly turned to {{her}} {side}",
                          f"with {{her}} head a little to the {side}",
                          f"slightly {side} of the camera", f"a slight turn to the {side}"),
            }
            for side in ("left", "right")
        },
        **{
            f"turned {side}": {
                "doing": (f"turned to the {side}", f"looking to the {side}", f"facing {side}", f"looking {side}",
                          f"head turned {side}", f"three-quarter view to the {side}", f"looking off to the {side}",
                          f"with {{her}} head to the {side}", f"{side} three-quarter view", f"turning to {{her}} {side}",
                          f"gazing to the {side}", f"three-quarter view from the {side}", f"rotated {side}"),
            }
            for side in ("left", "right")
        },
        **{
            f"{side} profile": {
                "doing": (f"in {side} profile", f"{side} profile", f"seen in profile from the {side}", f"{side} side view",
                          f"profile view to the {side}", f"showing {{her}} {side} side", f"side view from the {side}",
                          f"seen from the {side} side", f"profile facing {side}"),
            }
            for side in ("left", "right")
        },
        "turned slightly": {
            "doing": ("turned slightly", "slightly turned", "head slightly turned", "turned a little", "slightly to the side",
                      "slightly off to one side", "slightly angled", "a bit to the side"),
        },
        "turned": {
            "doing": ("three-quarter view", "in three-quarter view", "three quarter view", "3/4 view",
                      "in a three-quarter pose",
                      "turned to one side", "turned to the side", "looking to the side", "looking away",
                      "turned away from the camera",
                      "half-turned", "seen at an angle", "looking sideways", "three-quarter portrait", "at three quarters",
                      "from an angle", "three-quarters view"),
        },
        "profile": {
            "doing": ("in profile", "profile view", "side view", "seen from the side", "from the side", "side profile",
                      "in side view",
                      "profile shot", "a profile portrait", "sideways in profile"),
        },
    },
    "glasses": {
        "none": {
            "with": ("no glasses", "no spectacles"),
            "doing": ("without glasses", "without any glasses", "not wearing glasses", "without spectacles", "glasses off"),
        },
        "clear": {
            "adj": ("bespectacled",),
            "with": ("glasses", "spectacles on {her} nose", "glasses on"),
            "wear": ("glasses", "reading glasses", "spectacles", "eyeglasses", "clear glasses", "round glasses", "specs",
                     "horn-rimmed glasses", "thick glasses", "a pair of glasses", "a monocle and glasses", "eyewear"),
        },
        "opaque": {
            "with": ("sunglasses", "dark glasses on", "shades on"),
            "wear": ("sunglasses", "shades", "dark glasses", "tinted glasses", "dark sunglasses", "black sunglasses",
                     "aviators",
                     "mirrored glasses", "a pair of shades", "ray-bans"),
        },
    },
    "headwear": {
        "none": {
            "adj": ("bareheaded", "hatless"),
            "with": ("no hat", "a bare head", "nothing on {her} head"),
            "doing": ("without a hat", "without headwear", "not wearing a hat", "without a cap"),
        },
        "cap": {
            "with": ("a cap", "a cap on {her} head"),
            "wear": ("a cap", "a baseball cap", "a peaked cap", "a ball cap", "a trucker cap", "a flat cap", "a snapback"),
        },
        "beanie": {
            "with": ("a beanie", "a woolly hat on"),
            "wear": ("a beanie", "a knit cap", "a woolly hat", "a wool hat", "a knitted hat", "a bobble hat", "a winter hat",
                     "a woollen cap", "a ski hat", "a toque"),
        },
        "headscarf": {
            "adj": ("veiled",),
            "with": ("a headscarf", "a scarf over {her} hair"),
            "wear": ("a headscarf", "a hijab", "a head scarf", "a kerchief", "a scarf on {her} head", "a bandana over the hair",
                     "a scarf around {her} head", "a veil", "a shawl over {her} head"),
        },
    },
    "facewear": {
        "none": {
            "adj": ("unmasked", "maskless"),
            "with": ("no mask", "no face mask"),
            "doing": ("without a mask", "without a face mask", "mask off", "not wearing a mask"),
        },
        "mask": {
            "adj": ("masked", "mask-wearing"),
            "with": ("a mask on {her} face", "a covered mouth"),
            "wear": ("a mask", "a face mask", "a surgical mask", "a medical mask", "a respirator", "an n95", "a cloth mask",
                     "a covid mask", "a dust mask", "a mask over nose and mouth"),
        },
    },
    "lighting": {
        "soft": {"setting": ("in soft light", "softly lit", "in gentle light", "in diffuse light", "soft lighting",
                             "in diffused light",
                             "lit softly", "in mild light", "soft light", "with a softbox")},
        "hard": {"setting": ("in hard light", "in harsh light", "harshly lit", "hard lighting", "in glaring light",
                             "harsh lighting",
                             "under a harsh lamp", "in strong contrasty light", "direct flash", "in stark light",
                             "hard shadows")},
        "from the side": {"setting": ("lit from the side", "side-lit", "with side lighting", "light from one side",
                                      "side light",
                                      "light from the left side", "light coming in from the side", "under sidelight",
                                      "illuminated from the side")},
        "from above": {"setting": ("lit from above", "top-lit", "under overhead light", "light from above",
                                   "under a ceiling lamp",
                                   "overhead lighting", "lit from overhead", "light falling from above", "top light",
                                   "illuminated from above")},
        "dim": {"setting": ("in dim light", "dimly lit", "in low light", "dim lighting", "in the half-dark", "in faint light",
                            "by candlelight", "in gloomy light", "in near darkness", "at dusk", "poorly lit", "in weak light")},
        "backlit": {"setting": ("backlit", "lit from behind", "against the light", "with backlight", "light from behind",
                                "against the sun",
                                "back lighting", "in silhouette light", "with the sun behind", "rim-lit from behind",
                                "contre-jour")},
    },
    "background": {
        "plain": {"setting": ("against a plain background", "plain backdrop", "in front of a plain wall",
                              "on a plain background",
                              "against a blank wall", "with a plain background", "solid background", "empty background",
                              "in front of a bare wall", "uniform background", "plain background",
                              "against a single-colour wall",
                              "against a white wall", "studio backdrop")},
        "gradient": {"setting": ("against a gradient background", "gradient background", "gradient backdrop",
                                 "with a colour gradient",
                                 "on a gradient", "in front of a gradient", "background fading from one colour to another",
                                 "gradated background")},
        "blurred": {"setting": ("against a blurred background", "blurred background", "blurry background", "with bokeh",
                                "background out of focus", "with a blurry backdrop", "unfocused background", "bokeh background",
                                "shallow depth of field", "defocused background", "soft-focus background")},
        "indoor": {"setting": ("indoors", "inside", "inside a house", "in an indoor room", "at home", "in an office",
                               "in a kitchen",
                               "in the living room", "in a building", "indoor scene", "in a classroom", "in a hallway")},
        "outdoor": {"setting": ("outdoors", "outside", "in a park", "in the street", "in nature", "out in the open",
                                "in a garden",
                                "in the woods", "outdoor scene", "on a beach", "in the open air", "in a field")},
    },
}  # fmt: skip

GARMENTS = ("shirt", "top", "sweater", "t-shirt", "jumper", "pullover", "jacket", "coat", "blouse", "dress", "hoodie", "tee",
            "polo shirt", "cardigan", "turtleneck", "vest", "suit")  # fmt: skip
CLOTHES = ("clothes", "clothing", "garments", "attire")
COLOURS: dict[str, tuple[str, ...]] = {
    "black": ("black", "jet black"), "white": ("white", "snow-white"), "grey": ("grey", "gray", "charcoal", "dark grey"),
    "red": ("red", "crimson", "scarlet", "bright red", "dark red", "ruby"), "orange": ("orange", "tangerine", "bright orange"),
    "yellow": ("yellow", "lemon", "mustard", "bright yellow"), "green": ("green", "olive-green", "dark green", "emerald",
                                                                         "lime"),
    "blue": ("blue", "navy", "navy blue", "light blue", "dark blue", "denim"),
    "purple": ("purple", "violet", "lilac", "mauve"), "brown": ("brown", "beige-brown", "tan-brown", "chocolate-brown"),
}  # fmt: skip

CONDITIONS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("warm",): ("in a warm room", "in the warmth", "in a heated room", "warm room", "where it is warm", "in warm air",
                "in a hot room", "in the heat", "in warm surroundings", "in a well-heated room", "on a hot day",
                "warm environment",
                "in the warm", "where it is hot", "in summer heat", "at a warm temperature", "in a cosy warm room",
                "hot weather",
                "warm condition", "in a sauna"),
    ("cold",): ("in a cold room", "in the cold", "in a chilly room", "cold room", "where it is cold", "in cold air",
                "in a freezing room",
                "on a cold day", "in an unheated room", "in icy air", "in a cool room", "cold environment", "in frosty air",
                "in winter cold", "at a cold temperature", "freezing cold", "in a cold place", "chilly weather",
                "cold condition",
                "in a fridge-like room"),
    ("warm", "cold"): ("in warm and cold rooms", "both warm and cold", "in a warm and a cold room", "in heat and in cold",
                       "warm as well as cold", "in a cold room and a warm one", "once warm and once cold",
                       "warm and cold conditions"),
}  # fmt: skip
"""Conditions that a request asks for -> how it says so."""

OPENINGS = ("", "", "", "", "a photo of", "a portrait of", "picture of", "photo:", "please make", "i want", "show me",
            "draw", "generate",
            "give me", "create", "i need", "an image of", "i would like to see", "make", "portrait of", "headshot of",
            "a shot of",
            "a close-up of", "could you draw", "let me see", "render", "can i have", "photograph of", "imagine", "we need",
            "let us have",
            "it should be", "a face picture of", "one picture of", "i am looking for", "the face of", "here is",
            "there is")  # fmt: skip
OTHER = (
    "a scar on the chin", "freckles", "a nose ring", "gold earrings", "a tattoo on the neck", "high cheekbones", "rosy cheeks",
    "a broken nose", "a mole on the cheek", "dimples", "thick eyebrows", "a pearl necklace", "a bow tie", "a double chin",
    "a strong jaw", "red lipstick", "a bandage on the forehead", "a hearing aid", "a long neck", "thin lips", "big ears",
    "a gap tooth",
    "crooked teeth", "a wart on the nose", "an eye patch", "heavy make-up", "sunken cheeks", "a flower behind the ear",
    "a silver chain",
    "headphones around the neck", "a birthmark", "a bruise under one eye", "sweat on the brow", "snow on the shoulders",
    "painted nails",
)  # fmt: skip
"""What no attribute says: the rest of a request, kept as words."""


def every_form() -> list[str]:
    """Return every form of the tables above, without the places that are filled in, in a fixed order."""
    tables = (NOUNS, AGES, HAIR_COLOURS, HAIR_PEOPLE, HAIR, HAIR_STYLES, SKIN, IRIS, SIMPLE, GARMENTS, CLOTHES, COLOURS)
    forms = [form for table in (*tables, CONDITIONS, OPENINGS, OTHER) for form in _leaves(table)]
    return [" ".join(re.sub(r"\{\w+\}", " ", form).split()) for form in forms]


def _leaves(table: Any) -> Iterator[str]:
    """Yield the texts of nested mappings and sequences."""
    if isinstance(table, str):
        yield table
    else:
        for one in table.values() if isinstance(table, Mapping) else table:
            yield from _leaves(one)
