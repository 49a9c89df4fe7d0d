"""Halves that no pixel joins as pairs of the same person: what recognition across modalities takes, and nothing else does."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from models.columns import Columns
from models.errors import UserError
from pipelines.rows.shards import Shards, keep_rows

SEEN = ("identity_id", "view", "visible", "landmarks_70", "attributes")
FELT = ("identity_id", "visible", "thermal", "landmarks_70", "attributes")
"""Columns of visible and of thermal rows; `visible` of these is the thermal picture in grey."""
MODEL, PROBE = "model", "probe"
"""What lists of a protocol say of a row (`role` of its attributes): it enrols a person, or asks who is shown."""


class NobodyHasBoth(UserError):
    """There are visible and thermal pictures, and no person of whom there are both."""


class Halves:
    """Rows of a set whose cameras stood apart, read as `Shards` are: each thermal picture beside a visible one of its person,
    the next of theirs in turn, the first with the first thermal one alone.

    Columns are those of a pair, its `view` the number of the pair among its person's, and of the thermal half also
    `thermal_grey` uint8 [B, S, S, 3] and `thermal_landmarks_70`, for its points are its own. Where lists say who enrols and
    who asks, pairs are of pictures that do. `prepare`, `memory` and `limit` are those of `Shards`, of pairs; how: its others.
    Raises NobodyHasBoth, and UserError where there are no rows of a half.
    """

    def __init__(
        self,
        uri: str,
        *,
        prepare: Callable[[Columns], Columns] | None = None,
        memory: int = 0,
        limit: int | None = None,
        **how: Any,
    ) -> None:
        self.uri, self._prepare = uri, prepare
        how |= {"memory": 0, "optional": ("attributes",)}
        self.seen, self.felt = Shards(uri, SEEN, colour=True, **how), Shards(uri, FELT, **how)
        self.digest = f"{self.seen.digest}-{self.felt.digest}"
        # Each thermal picture beside one of its person's visible ones.
        visible, thermal = _people_of(self.seen, MODEL), _people_of(self.felt, PROBE)
        pairs = [
            (person, own[_turn(place, len(own))], row, place)
            for person in np.unique(thermal[thermal != ""])
            if len(own := np.flatnonzero(visible == person))
            for place, row in enumerate(np.flatnonzero(thermal == person))
        ][:limit]
        if not pairs:
            raise NobodyHasBoth(f"{uri}: nobody has a visible and a thermal picture")
        person, first, second, view = (np.array(values) for values in zip(*pairs, strict=True))
        self._values = {"identity_id": person.astype(object), "view": view}
        self._first, self._second = first, second
        self.models = np.flatnonzero(visible != "") if MODEL in _roles(self.seen) else None
        """Rows of `seen` that enrol, int [M], where lists say so."""
        self._kept = keep_rows(len(self), self._load, memory) if memory else None

    def __len__(self) -> int:
        return len(self._first)

    @property
    def skipped(self) -> list[str]:
        """Rows that could not be decoded, with the reason."""
        return [*self.seen.skipped, *self.felt.skipped]

    def values(self, name: str) -> np.ndarray:
        """Return a column of texts or numbers of all pairs."""
        return self._values[name]

    def rows(self, indices: np.ndarray) -> Columns:
        """Return the pairs of `indices`, decoded and prepared."""
        indices = np.asarray(indices, np.int64)
        return self._load(indices) if self._kept is None else {k: v[indices] for k, v in self._kept.items()}

    def _load(self, indices: np.ndarray) -> Columns:
        seen, felt = self.seen.rows(self._first[indices]), self.felt.rows(self._second[indices])
        own = {name: values[indices] for name, values in self._values.items()}
        found = {
            **own,
            "visible": seen["visible"],
            "landmarks_70": seen["landmarks_70"],
            "thermal": felt["thermal"],
            "thermal_grey": felt["visible"],
            "thermal_landmarks_70": felt["landmarks_70"],
        }
        return self._prepare(found) if self._prepare else found


def _turn(place: int, count: int) -> int:
    """Return which of a person's `count` visible pictures stands beside their thermal one `place`: the first, in which a gallery
    knows them, comes once, where there are others."""
    return place if place < count else 1 + (place - 1) % (count - 1) if count > 1 else 0


def _roles(rows: Shards) -> np.ndarray:
    """Return what lists say of each row, names [N]; "" where they say nothing."""
    if "attributes" not in rows.columns:
        return np.full(len(rows), "")
    return np.array([json.loads(text or "{}").get("role", "") for text in rows.values("attributes")])


def _people_of(rows: Shards, role: str) -> np.ndarray:
    """Return whom each row shows, names [N]; "" where lists give it the other role."""
    people, roles = rows.values("identity_id").astype(str), _roles(rows)
    return np.where((roles == role) | ~np.isin(roles, (MODEL, PROBE)), people, "")


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
