"""Halves that no pixel joins as pairs of the same person: what recognition across modalities takes, and nothing else does."""

from typing import Any

import numpy as np

from models.columns import Columns
from models.errors import UserError
from pipelines.rows.shards import Shards

SEEN = ("identity_id", "view", "visible", "landmarks_70")
FELT = ("identity_id", "visible", "thermal", "landmarks_70")
"""Columns of visible and of thermal rows; `visible` of these is the thermal picture in grey."""


class NobodyHasBoth(UserError):
    """There are visible and thermal pictures, and no person of whom there are both."""


class Halves:
    """Rows of a set whose cameras stood apart, read as `Shards` are: each thermal picture beside a visible one of its person,
    the next of theirs in turn.

    Columns are those of a pair, its `view` the number of the pair among its person's, and of the thermal half also
    `thermal_grey` uint8 [B, S, S, 3] and `thermal_landmarks_70`, for its points are its own. how: options of `Shards`.
    Raises NobodyHasBoth, and UserError where there are no rows of a half.
    """

    def __init__(self, uri: str, **how: Any) -> None:
        self.uri = uri
        self.seen, self.felt = Shards(uri, SEEN, colour=True, **how), Shards(uri, FELT, **how)
        self.digest = f"{self.seen.digest}-{self.felt.digest}"
        visible, thermal = (one.values("identity_id").astype(str) for one in (self.seen, self.felt))
        pairs = [(person, np.flatnonzero(visible == person), row, place)
                 for person in np.unique(thermal) for place, row in enumerate(np.flatnonzero(thermal == person))]  # fmt: skip
        both = [(person, own[place % len(own)], row, place) for person, own, row, place in pairs if len(own)]
        if not both:
            raise NobodyHasBoth(f"{uri}: nobody has a visible and a thermal picture")
        person, first, second, view = (np.array(values) for values in zip(*both, strict=True))
        self._values = {"identity_id": person.astype(object), "view": view}
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first)

    def values(self, name: str) -> np.ndarray:
        """Return a column of texts or numbers of all pairs."""
        return self._values[name]

    def rows(self, indices: np.ndarray) -> Columns:
        """Return the pairs of `indices`, decoded."""
        seen, felt = self.seen.rows(self._first[indices]), self.felt.rows(self._second[indices])
        own = {name: values[indices] for name, values in self._values.items()}
        return {
            **own,
            "visible": seen["visible"],
            "landmarks_70": seen["landmarks_70"],
            "thermal": felt["thermal"],
            "thermal_grey": felt["visible"],
            "thermal_landmarks_70": felt["landmarks_70"],
        }


def open_pairs(uri: str, columns: tuple[str, ...], *, colour: bool, **how: Any) -> Shards | Halves:
    """Return the pairs at `uri`: rows that have both halves, or where none has those of `Halves`.

    Raises a UserError where there are neither.
    """
    try:
        return Shards(uri, columns, colour=colour, **how)
    except UserError as error:
        try:
            return Halves(uri, **how)
        except NobodyHasBoth:
            raise
        except UserError:
            raise error from None
