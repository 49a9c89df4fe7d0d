"""Free prompts that no training grammar made, with what they ask for: written by hand, and combined from parts written by hand.

The parts say each thing in words of their own, and the frames put them in orders that the training grammar does not have.
"""

import random
from pathlib import Path

HAND = Path(__file__).parent / "paraphrases.txt"
HELD = Path(__file__).parent / "paraphrases_held.txt"
Paraphrase = tuple[str, dict[str, str], tuple[str, ...]]
"""A text, the attributes that it states, and its conditions."""

PERSONS = (
    ("this elderly gentleman", "sex=man; age=elderly"), ("an old fellow", "sex=man; age=elderly"),
    ("some old lady", "sex=woman; age=elderly"), ("a woman in her seventies", "sex=woman; age=elderly"),
    ("a woman who is no longer young but not yet old, middle-aged", "sex=woman; age=middle-aged"),
    ("a man around fifty", "sex=man; age=middle-aged"), ("a lady of forty-five", "sex=woman; age=middle-aged"),
    ("my young neighbour, a woman", "sex=woman; age=young"), ("a young man from next door", "sex=man; age=young"),
    ("one young lady", "sex=woman; age=young"), ("a boy from school", "sex=man; age=young"),
    ("any man", "sex=man"), ("any woman", "sex=woman"), ("the man", "sex=man"), ("that woman", "sex=woman"),
    ("a gentleman", "sex=man"), ("a lady", "sex=woman"), ("a person", ""), ("anybody", ""),
    ("an elderly person", "age=elderly"),
)  # fmt: skip
"""Who, and what that says."""

LOOKS = (
    ("eyes as blue as can be", "iris=blue"), ("eyes that look green", "iris=green"), ("two brown eyes", "iris=brown"),
    ("grey eyes and nothing else special", "iris=grey"), ("hair that has gone white", "hair_colour=white"),
    ("hair dyed red", "hair_colour=red"), ("naturally blonde hair", "hair_colour=blond"),
    ("black hair like coal", "hair_colour=black"),
    ("not much hair left, bald", "hair_style=bald"), ("a lot of curls", "hair_style=curly"),
    ("very long hair", "hair_style=long"),
    ("hair worn in a ponytail", "hair_style=ponytail"), ("a bun on top", "hair_style=bun"),
    ("hair cut really short", "hair_style=short"),
    ("quite pale skin", "skin_tone=pale"), ("skin as dark as night, dark skin", "skin_tone=dark"),
    ("suntanned skin", "skin_tone=tan"),
)  # fmt: skip
"""What somebody has."""

WORN = (
    ("reading glasses", "glasses=clear"), ("big sunglasses", "glasses=opaque"), ("a simple cap", "headwear=cap"),
    ("a warm beanie", "headwear=beanie"), ("a flowery headscarf", "headwear=headscarf"), ("a blue face mask", "facewear=mask"),
    ("a nice red sweater", "clothing_colour=red"), ("a plain black t-shirt", "clothing_colour=black"),
    ("an old green jacket", "clothing_colour=green"), ("a clean white shirt", "clothing_colour=white"),
    ("a bright yellow coat", "clothing_colour=yellow"),
)  # fmt: skip
"""What somebody wears."""

FACES = (
    ("smiling from ear to ear", "expression=smile"), ("laughing at a joke", "expression=laugh"),
    ("looking very sad", "expression=sad"),
    ("angry about something", "expression=angry"), ("totally surprised", "expression=surprised"),
    ("showing a smirk", "expression=smirk"),
    ("squinting into the sun", "expression=squint"), ("pouting like a child", "expression=pout"),
    ("with a neutral expression as in a passport", "expression=neutral"), ("disgusted by the smell", "expression=disgusted"),
)  # fmt: skip
VIEWS = (
    ("three-quarter view", "pose=turned"), ("from the front", "pose=frontal"), ("looking into the camera", "pose=frontal"),
    ("in profile", "pose=profile"), ("left profile", "pose=left profile"), ("the right profile", "pose=right profile"),
    ("head turned to the left", "pose=turned left"), ("looking right", "pose=turned right"),
    ("turned slightly to the left", "pose=turned slightly left"),
    ("slightly turned to the right", "pose=turned slightly right"),
)  # fmt: skip
PLACES = (
    ("soft light everywhere", "lighting=soft"), ("really hard light", "lighting=hard"),
    ("hardly any light, dim light", "lighting=dim"),
    ("the light comes from above", "lighting=from above"), ("light from the side only", "lighting=from the side"),
    ("backlit by the window", "lighting=backlit"), ("outdoors among trees", "background=outdoor"),
    ("indoors at a table", "background=indoor"),
    ("background blurred away", "background=blurred"), ("a plain wall behind", "background=plain"),
    ("background with a gradient", "background=gradient"),
)  # fmt: skip
ROOMS = (
    ("and the room is cold", "conditions=cold"), ("a cold cellar", "conditions=cold"),
    ("make it a cold room", "conditions=cold"),
    ("let it be freezing in there", "conditions=cold"), ("and the room is warm", "conditions=warm"),
    ("make it a warm room", "conditions=warm"), ("it is very hot there", "conditions=warm"),
    ("do it once in a warm room and once in a cold room", "conditions=warm cold"),
)  # fmt: skip
BEARDS = (
    ("a long white beard down to the chest", "beard=full"), ("a bit of stubble", "beard=stubble"),
    ("a neat moustache", "beard=moustache"),
    ("a pointed goatee", "beard=goatee"), ("no beard at all", "beard=none"),
)  # fmt: skip
FRAMES = (
    "{view}: {person}, {face}. {room}",
    "What I need is {person} {face}; {look} would be good, {place}",
    "{person}. Wears {worn}. {view}. {room}.",
    "{place}, {view}, {person}, {look}",
    "Think of {person} who has {look} and wears {worn}, {face}",
    "{room}, {person}, {worn}",
    "{face} - that is how {person} should look, {place}, {worn}",
    "it's {person}! {look}, {worn}, {view}",
    "{worn}, {look}, {person}, {room}, {place}",
    "I am thinking of {person}, {view}, {place}, with {look}",
    "for my project: {person} with {beard}, {view}",
    "{beard}, {person}, {face}, {room}",
)
PARTS = {
    "person": PERSONS,
    "look": LOOKS,
    "worn": WORN,
    "face": FACES,
    "view": VIEWS,
    "place": PLACES,
    "room": ROOMS,
    "beard": BEARDS,
}


def paraphrases(count: int = 500) -> list[Paraphrase]:
    """Return all that the tables were tuned on: those written by hand, then combinations, the same every time."""
    found = _read_lines(HAND)
    rng = random.Random(0)
    while len(found) < count:
        frame = FRAMES[len(found) % len(FRAMES)]
        parts = {name: rng.choice(some) for name, some in PARTS.items() if "{" + name + "}" in frame}
        if "beard" in parts and "woman" in parts["person"][1]:
            continue
        text = frame.format(**{name: words for name, (words, _) in parts.items()})
        found.append((text, "; ".join(said for _, said in parts.values() if said)))
    return [(text, *_parse(said)) for text, said in found]


def held_paraphrases() -> list[Paraphrase]:
    """Return those that were written when the tables were finished."""
    return [(text, *_parse(said)) for text, said in _read_lines(HELD)]


def _read_lines(path: Path) -> list[tuple[str, str]]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return [(text, said) for text, _, said in (line.partition(" => ") for line in lines)]


def _parse(said: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return (attributes, conditions) of "sex=man; conditions=cold"."""
    values = dict(item.split("=") for item in said.split("; ") if item)
    rooms = tuple(values.pop("conditions", "").split())
    return values, rooms
