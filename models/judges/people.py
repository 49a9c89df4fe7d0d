"""Whom the judges learn from: the people of the world's split `judges`, who are drawn for nothing else."""

import numpy as np

from models.errors import UserError
from models.synthworld.sampling.splits import identities

SPLIT = "judges"


def check_people(numbers: np.ndarray) -> None:
    """Raise UserError unless all world identities int [B] are of the split `judges`."""
    own = identities(SPLIT)
    strangers = numbers[(numbers < own.start) | (numbers >= own.stop)]
    if len(strangers):
        raise UserError(
            f"person {int(strangers[0])} is not of split {SPLIT!r} ({own.start} to {own.stop - 1}): judges learn from nobody "
            "whom a model that they judge may have seen; render their data with `thermapair world --split judges`"
        )


def check_unseen(numbers: np.ndarray) -> None:
    """Raise UserError if one of the world identities int [B] is of the split `judges`: what is measured on them means nothing."""
    own = identities(SPLIT)
    known = numbers[(numbers >= own.start) & (numbers < own.stop)]
    if len(known):
        raise UserError(f"person {int(known[0])} is of split {SPLIT!r}: the judges may have learned from them")
