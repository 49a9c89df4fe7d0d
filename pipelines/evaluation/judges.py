"""`thermapair measure judges`: what the judges reach on true renders, by size of the picture, on their cards on request."""

from pathlib import Path

import numpy as np

from models.evaluation.judges import list_judges, load_judges
from models.evaluation.judges_reach import COLUMNS, measure_judges
from models.judges.people import check_unseen
from pipelines.evaluation.bundle import batches, write_card
from pipelines.rows.shards import Shards

SIDES = (128, 64)
"""Sides that generated pictures have, px."""


def measure(test: str, folder: Path, *, card: bool = False) -> dict[int, dict[str, dict[str, float]]]:
    """Return side -> judge -> figures (`models.evaluation.judges_reach`) of the judges that `folder` has, on the rows at `test`.

    card: write them to the judges' cards and seal these again. Raises UserError for people whom the judges learned from.
    """
    judges, names, rows = load_judges(folder), list_judges(folder), Shards(test, COLUMNS)
    check_unseen(rows.rows(np.arange(len(rows)))["world_identity"])
    found = {}
    for side in SIDES:
        found[side] = measure_judges(judges, batches(rows), side, names)
        for name in names if card else ():
            write_card(folder / name, f"{test}, {len(rows)} pictures, {side} px", found[side][name])
    return found
