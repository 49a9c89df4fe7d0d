"""Whose thermal pictures are translated: people of a test set, whom a gallery knows in visible light, and what asks for them."""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np

from models.columns import Columns
from models.errors import UserError
from models.evaluation.translation import COLUMNS, Embed, split_rows
from models.evaluation.translators import GIVEN, TRUE, Recipe, read_words
from models.faces.align import five_points
from models.faces.metrics import unit_vectors
from models.judges.people import check_unseen
from models.landmarks.found import can_align, find_points
from models.visible import cache
from pipelines.evaluation.sources import test_split
from pipelines.rows.halves import Halves, open_pairs
from pipelines.rows.shards import Shards

ROOM = ("condition",)
POINTS = {"landmarks_70": "visible", "thermal_landmarks_70": "thermal_grey"}
"""Points of either half -> the picture in which they are found where rows give none."""


class Split(NamedTuple):
    """probes: numbers of the rows that ask, int [P]; person: place in the gallery of whom each shows, int [P]. enrolled: numbers
    of what a gallery knows, int [G], and `owner`, whom each of it shows, int [G], 0 to people - 1."""

    probes: np.ndarray
    person: np.ndarray
    enrolled: np.ndarray
    owner: np.ndarray


class People:
    """Gallery and probes among the rows at `data`, which lie part by part in the ledger.

    A person is known by one visible picture and asked for by thermal ones of other views; where lists say who enrols, by the mean
    of what does, and everything that asks is a probe. Halves that no pixel joins (`apart`) have points of their own each.
    Pictures in colour are read alone. reader: of a published set, whose rows they are: its test people are read; else "".
    split: see there; `enrolled` are visible rows where lists say who enrols (`by_lists`), else pairs. parts: lines of the
    ledger. left_out: row of the tables -> why it cannot be measured on these people.
    Raises a UserError for people whom the judges know, and where fewer than two are known and asked for.
    """

    def __init__(self, data: str, recipe: Recipe, reader: str) -> None:
        self.recipe = recipe
        optional = ("world_identity", *ROOM)
        split = test_split(data, reader) if reader else None
        self.pairs = open_pairs(data, (*COLUMNS, *optional), colour=True, optional=optional, memory=0, split=split)
        self.apart = isinstance(self.pairs, Halves)
        if "world_identity" in self.pairs.columns:
            check_unseen(self.pairs.values("world_identity"))
        self.by_lists = isinstance(self.pairs, Halves) and self.pairs.models is not None
        # Of rows without points, which published sets have, those in which a face is found: in both halves where they are apart,
        # in the thermal one where nothing asks by the visible one.
        halves = list(POINTS)[self.by_lists :] if self.apart else ["landmarks_70"]
        self.points = {name: self._read_points(name) for name in halves}
        seen = np.all([can_align(five_points(points)) for points in self.points.values()], axis=0)
        self.split = self._split_by_lists(seen) if self.by_lists else self._split_by_views(seen)
        self.person = self.split.person
        self.count = int(self.split.owner.max()) + 1
        self.parts = -(-self.count // recipe.together)
        self.left_out = self._find_left_out()

    def _read_points(self, name: str) -> np.ndarray:
        """Return the points of all rows, float32 [N, 70, 2]: given, else found by the landmarker; NaN where there is no face."""
        return self._fill(self.pairs.lists(name), lambda k: self.pairs.rows(np.array([k]))[POINTS[name]][0])

    def _fill(self, given: np.ndarray, picture: Callable[[int], np.ndarray]) -> np.ndarray:
        """Return points [N, 140] as [N, 70, 2]; of faces that cannot be aligned those that the landmarker finds in `picture`."""
        points = given.reshape(-1, 70, 2)
        for k in np.flatnonzero(~can_align(five_points(points))):
            found = find_points(picture(int(k)), cache.from_root(self.recipe.landmarks))
            points[k] = np.nan if found is None else found
        return points

    def _split_by_views(self, seen: np.ndarray) -> Split:
        """Return who is known by their first row and asked for by those of other views; seen: bool [N], rows with a face."""
        rows = np.flatnonzero(seen)
        people = np.unique(self.pairs.values("identity_id").astype(str), return_inverse=True)[1]
        found = split_rows(people[rows], self.pairs.values("view")[rows], self.recipe.people)
        gallery, probes = rows[found.gallery], rows[found.probes]
        known = {int(person): place for place, person in enumerate(people[gallery])}
        return Split(probes, np.array([known[int(people[row])] for row in probes]), gallery, np.arange(len(gallery)))

    def _split_by_lists(self, seen: np.ndarray) -> Split:
        """Return who enrols and who asks, as lists say, of the first people of whom both show a face; seen: see above."""
        # Rows that enrol and rows that ask, with whom they show.
        shown = self._seen
        enrols = self._models[can_align(five_points(self._model_points))]
        asks = np.flatnonzero(seen)
        owners = shown.values("identity_id")[enrols].astype(str)
        asked = self.pairs.values("identity_id")[asks].astype(str)
        # Those who do both.
        known = np.intersect1d(owners, asked)[: self.recipe.people]
        if len(known) < 2:
            raise UserError("a gallery needs two people at least who enrol and are asked for (role model, probe)")
        own, there = np.isin(owners, known), np.isin(asked, known)
        person, owner = (np.searchsorted(known, names) for names in (asked[there], owners[own]))
        return Split(asks[there], person, enrols[own], owner)

    @property
    def _seen(self) -> Shards:
        """The visible rows of halves that are apart."""
        assert isinstance(self.pairs, Halves)
        return self.pairs.seen

    @property
    def _models(self) -> np.ndarray:
        """Those of them that enrol, int [M]."""
        assert isinstance(self.pairs, Halves) and self.pairs.models is not None
        return self.pairs.models

    @cached_property
    def _model_points(self) -> np.ndarray:
        """Their points, float32 [M, 70, 2]."""
        shown, models = self._seen, self._models
        return self._fill(shown.lists("landmarks_70")[models], lambda k: shown.rows(models[[k]])["visible"][0])

    def _find_left_out(self) -> dict[str, str]:
        found = {}
        if self.by_lists:
            found[TRUE] = "the lists let no visible picture ask"
        elif isinstance(self.pairs, Halves):
            known = self.pairs.shown[self.split.enrolled][self.split.person]
            if (self.pairs.shown[self.split.probes] == known).any():
                found[TRUE] = "somebody has a single visible picture, and a gallery knows them by it"
        if (read_words({"attributes": self.pairs.values("attributes")[self.split.probes]}) < 0).all():
            found[GIVEN] = "the rows say no attribute in our words"
        return found

    def rows(self, chosen: np.ndarray) -> Columns:
        """Return rows by number, with the points of either half."""
        rows = self.pairs.rows(chosen) | {name: points[chosen] for name, points in self.points.items()}
        return rows if self.apart else rows | {"thermal_landmarks_70": rows["landmarks_70"]}

    def embed_gallery(self, embed: Embed) -> np.ndarray:
        """Return a vector of each person, float [people, D]: of several pictures the mean of their unit vectors."""
        if self.by_lists:
            pictures = self._seen.rows(self.split.enrolled)["visible"]
            points = self._model_points[np.searchsorted(self._models, self.split.enrolled)]
        else:
            rows = self.rows(self.split.enrolled)
            pictures, points = rows["visible"], rows["landmarks_70"]
        vectors = unit_vectors(embed(pictures, points))
        return np.stack([vectors[self.split.owner == one].mean(axis=0) for one in range(self.count)])

    def probes(self, part: int) -> np.ndarray:
        """Return the numbers of a part's probes."""
        return self.split.probes[self.person // self.recipe.together == part]

    @cached_property
    def order(self) -> np.ndarray:
        """The probes in the order of the ledger, part by part: places in `split.probes` and `person`."""
        return np.argsort(self.person // self.recipe.together, kind="stable")
