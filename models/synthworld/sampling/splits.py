"""Which people may be drawn for which purpose: disjoint ranges of identity numbers, read from `splits.yaml`."""

from functools import cache
from itertools import pairwise
from pathlib import Path

import yaml

from models.errors import UserError

PATH = Path(__file__).with_name("splits.yaml")


@cache
def load_splits() -> dict[str, range]:
    """Return every split's identities. Raises UserError when two splits share a person."""
    ranges = {name: range(first, end) for name, (first, end) in yaml.safe_load(PATH.read_text()).items()}
    ordered = sorted(ranges.items(), key=lambda item: item[1].start)
    for (left, a), (right, b) in pairwise(ordered):
        if a.stop > b.start:
            raise UserError(
                f"{PATH.name}: splits {left!r} and {right!r} overlap at identity {b.start}; move one of them"
            )
    return ranges


def identities(split: str) -> range:
    """Return the identities of `split`. Raises UserError for a name that `splits.yaml` does not have."""
    try:
        return load_splits()[split]
    except KeyError:
        raise UserError(f"unknown split {split!r}; splits.yaml has: {', '.join(load_splits())}") from None
