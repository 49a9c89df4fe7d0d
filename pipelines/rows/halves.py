"""Halves that no pixel joins as pairs of the same person: what recognition across modalities takes, and nothing else does."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from models.columns import Columns
from models.config import digest_of
from models.errors import UserError
from pipelines.rows.shards import Shards, keep_rows

SEEN = ("identity_id", "view", "visible", "landmarks_70", "name", "attributes")
FELT = ("identity_id", "visible", "thermal", "landmarks_70", "name", "attributes")
"""Columns of visible and of thermal rows; `visible` of these is the thermal picture in grey."""
OPTIONAL = ("name", "attributes")
FOUND = ("landmarks_70",)
"""Columns of points that whoever reads pairs of people looks for where rows have none."""
MODEL, PROBE = "model", "probe"
"""What lists of a protocol say of a row (`role` of its attributes): it enrols a person, or asks who is shown."""


class NobodyHasBoth(UserError):
    """There are visible and thermal pictures, and no person of whom there are both."""


class Halves:
    """Rows of a set whose cameras stood apart, read as `Shards` are: each thermal picture beside a visible one of its person, as
    `match_moments` has them.

    Columns are those of a pair, its `view` the number of the pair among its person's, and of the thermal half `attributes`,
    `thermal_grey` uint8 [B, S, S, 3] and `thermal_landmarks_70`, for its points are its own. Where lists say who enrols and
    who asks, pairs are of pictures that do. `prepare`, `memory` and `limit` are those of `Shards`, of pairs; how: its others.
    Raises NobodyHasBoth, and UserError where there are no rows of a half.
    """

    columns = (
        "identity_id",
        "view",
        "attributes",
        "visible",
        "landmarks_70",
        "thermal",
        "thermal_grey",
        "thermal_landmarks_70",
    )

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
        # Rows of each camera on its own; whoever compares people finds the faces of those without points.
        how |= {"memory": 0, "optional": OPTIONAL, "found": FOUND}
        self.seen, self.felt = Shards(uri, SEEN, colour=True, **how), Shards(uri, FELT, **how)
        self.digest = digest_of(self.seen.digest, self.felt.digest, "by moment")
        # Each thermal picture beside one of its person's visible ones.
        visible, thermal = _people_of(self.seen, MODEL), _people_of(self.felt, PROBE)
        seen, felt = _moments(self.seen, "visible"), _moments(self.felt, "thermal")
        pairs = list[tuple[str, int, int, int]]()
        for person in np.intersect1d(thermal[thermal != ""], visible):
            own, asked = np.flatnonzero(visible == person), np.flatnonzero(thermal == person)
            matched = match_moments(seen[own].tolist(), felt[asked].tolist())
            pairs += [(person, own[one], asked[other], view) for view, (one, other) in enumerate(matched)]
        pairs = pairs[:limit]
        if not pairs:
            raise NobodyHasBoth(f"{uri}: nobody has a visible and a thermal picture")
        person, self._first, self._second, view = (np.array(values) for values in zip(*pairs, strict=True))
        # What is known of a pair without decoding a picture.
        said = _texts(self.felt, "attributes", "{}")[self._second]
        self._values = {"identity_id": person.astype(object), "view": view, "attributes": said}
        self.models = np.flatnonzero(visible != "") if MODEL in _roles(self.seen) else None
        """Rows of `seen` that enrol, int [M], where lists say so."""
        self._kept = keep_rows(len(self), self._load, memory) if memory else None

    def __len__(self) -> int:
        return len(self._first)

    @property
    def skipped(self) -> list[str]:
        """Rows that could not be decoded, with the reason."""
        return [*self.seen.skipped, *self.felt.skipped]

    @property
    def shown(self) -> np.ndarray:
        """The row of `seen` of each pair's visible half, int [N]: the same one may stand beside several thermal ones."""
        return self._first

    def values(self, name: str) -> np.ndarray:
        """Return a column of texts or numbers of all pairs."""
        return self._values[name]

    def lists(self, name: str) -> np.ndarray:
        """Return the points of all pairs, float32 [N, 140]: `landmarks_70` or `thermal_landmarks_70`; no picture is decoded."""
        rows, own = (self.felt, self._second) if name.startswith("thermal_") else (self.seen, self._first)
        return rows.lists("landmarks_70")[own]

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


def match_moments(seen: Sequence[str], felt: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs (visible, thermal) of one person's pictures, by their moments: each thermal picture in one of them.

    The first pair is of one moment, where there is such: by its visible picture, which stands in no other pair where there are
    others, a gallery knows the person, and no thermal picture of that moment asks. Any other thermal picture stands beside the
    visible one of its moment, or else beside one of the rest in turn.
    """
    both = next((moment for moment in seen if moment in felt), None)
    known, first = (0, 0) if both is None else (seen.index(both), felt.index(both))
    others = [place for place in range(len(seen)) if place != known] or [known]
    moments = {seen[place]: place for place in others}
    rest = [place for place in range(len(felt)) if place != first]
    turn = (others[k % len(others)] for k in range(len(rest)))
    return [
        (known, first),
        *((moments.get(felt[place], next_one), place) for place, next_one in zip(rest, turn, strict=True)),
    ]


def _texts(rows: Shards, name: str, default: str) -> np.ndarray:
    """Return an optional column of texts, objects [N]."""
    return rows.values(name) if name in rows.columns else np.full(len(rows), default, object)


def _moments(rows: Shards, half: str) -> np.ndarray:
    """Return the moment of each row, names [N]: NAME of NAME/visible and NAME/thermal (`readers.sets.pairs.split_up`); of rows
    without names one of its own each."""
    if "name" not in rows.columns:
        return np.array([f"{half} {place}" for place in range(len(rows))], object)
    return np.array([str(name).removesuffix(f"/{half}") for name in rows.values("name")], object)


def _roles(rows: Shards) -> np.ndarray:
    """Return what lists say of each row, names [N]; "" where they say nothing."""
    return np.array([json.loads(text or "{}").get("role", "") for text in _texts(rows, "attributes", "{}")])


def _people_of(rows: Shards, role: str) -> np.ndarray:
    """Return whom each row shows, names [N]; "" where lists give it the other role."""
    people, roles = rows.values("identity_id").astype(str), _roles(rows)
    return np.where((roles == role) | ~np.isin(roles, (MODEL, PROBE)), people, "")


def open_pairs(uri: str, columns: tuple[str, ...], *, colour: bool, **how: Any) -> Shards | Halves:
    """Return the pairs at `uri`: rows that have both halves, or where none has those of `Halves`.

    Raises a UserError where there are neither.
    """
    try:
        return Shards(uri, columns, colour=colour, found=FOUND, **how)
    except UserError as error:
        try:
            return Halves(uri, **how)
        except NobodyHasBoth:
            raise
        except UserError:
            raise error from None
