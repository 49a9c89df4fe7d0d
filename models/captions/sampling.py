"""Draws attribute sets evenly over the vocabulary, for training and measuring caption models."""

import random

from models.attributes import ATTRIBUTES
from models.captions.grammar import statable


def spread_attributes(draw: random.Random, keep: float = 1.0) -> dict[str, str]:
    """Return an attribute set with every value of an attribute equally likely; each attribute is kept with `keep`."""
    drawn = {name: draw.choice(values) for name, (_, _, values) in ATTRIBUTES.items()}
    return statable({name: value for name, value in drawn.items() if draw.random() < keep or name == "sex"})
