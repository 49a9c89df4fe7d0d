"""Draws attribute sets evenly over the vocabulary, for training and measuring caption models."""

import random

from models.attributes import ATTRIBUTES
from models.captions.grammar import statable


def draw_attributes(rng: random.Random, keep: float = 1.0) -> dict[str, str]:
    """Return an attribute set with every value of an attribute equally likely; each attribute is kept with `keep`."""
    drawn = {name: rng.choice(values) for name, (_, _, values) in ATTRIBUTES.items()}
    return statable({name: value for name, value in drawn.items() if rng.random() < keep or name == "sex"})
