"""Whose thermal pictures are translated: people of a test set, one visible picture each in the gallery, the others as probes."""

from functools import cached_property
from typing import Any

import numpy as np

from models.columns import Columns
from models.evaluation.translation import COLUMNS, Split, split_rows
from models.evaluation.translators import Recipe
from models.faces.align import five_points
from models.judges.people import check_unseen
from models.landmarks.found import can_align, fill_points
from models.visible import cache
from pipelines.evaluation.sources import test_split
from pipelines.rows.shards import Shards

ROOM = ("condition",)


class People:
    """Gallery and probes among the rows at `data`, which lie part by part in the ledger.

    reader: of a published set, whose rows they are: its test people are read, and pictures in colour alone; else "".
    split: numbers of the rows. person: place in the gallery of each probe's person, int [P]. parts: lines of the ledger.
    Raises a UserError for people whom the judges know, or who have one view alone.
    """

    def __init__(self, data: str, recipe: Recipe, reader: str) -> None:
        self.recipe = recipe
        optional = ("world_identity", *ROOM)
        how: dict[str, Any] = {"split": test_split(data, reader), "colour": True} if reader else {}
        self.shards = Shards(data, (*COLUMNS, *optional), optional=optional, memory=0, **how)
        if "world_identity" in self.shards.columns:
            check_unseen(self.shards.values("world_identity"))
        # Of rows without points, which published sets have, those in which a face is found.
        self.points = self._find_points()
        seen = np.flatnonzero(can_align(five_points(self.points)))
        people = np.unique(self.shards.values("identity_id").astype(str), return_inverse=True)[1]
        found = split_rows(people[seen], self.shards.values("view")[seen], recipe.people)
        self.split = Split(seen[found.gallery], seen[found.probes])
        known = {int(person): place for place, person in enumerate(people[self.split.gallery])}
        self.person = np.array([known[int(people[row])] for row in self.split.probes])
        self.parts = -(-len(self.split.gallery) // recipe.together)

    def _find_points(self) -> np.ndarray:
        """Return the points of all rows, float32 [N, 70, 2]: given, else found by the landmarker; NaN where there is no face."""
        given = self.shards.lists("landmarks_70").reshape(-1, 70, 2)
        for k in np.flatnonzero(~can_align(five_points(given))):
            given[k] = fill_points(self.shards.rows(np.array([k])), cache.from_root(self.recipe.landmarks))[0]
        return given

    def rows(self, chosen: np.ndarray) -> Columns:
        """Return rows by number, with their points."""
        return self.shards.rows(chosen) | {"landmarks_70": self.points[chosen]}

    def probes(self, part: int) -> np.ndarray:
        """Return the numbers of a part's probes."""
        return self.split.probes[self.person // self.recipe.together == part]

    @cached_property
    def order(self) -> np.ndarray:
        """The probes in the order of the ledger, part by part: places in `split.probes` and `person`."""
        return np.argsort(self.person // self.recipe.together, kind="stable")
