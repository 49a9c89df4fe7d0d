"""From the ledger's lines to the tables of `evaluate landmarks`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.evaluation.bootstrap import difference, interval, mean
from models.evaluation.judges_reach import by_person
from models.evaluation.landmarking.recipe import WHY, Cell, Recipe
from models.evaluation.landmarks import YAWS
from models.evaluation.sources import GENERATED, LAB

Faces = Mapping[str, Sequence[Any]]
"""What `training.look` returns of one test set."""
Table = dict[str, Any]


class Row(NamedTuple):
    """A cell of any seed."""

    source: str
    frames: int
    pairs: int

    def __str__(self) -> str:
        beside = f"{self.frames} lab frames" if self.frames else ""
        made = f"{self.pairs} pictures, {self.source}" if self.pairs else ""
        return ", ".join(part for part in (beside, made) if part)


def tables(cells: Mapping[Cell, Faces], recipe: Recipe) -> dict[str, list[Table]]:
    """Return the tables of one test set; estimates are {value, low, high} over people and seeds."""
    rows: dict[Row, dict[int, Faces]] = {}
    for cell, faces in cells.items():
        rows.setdefault(Row(*cell[:3]), {})[cell.seed] = faces
    # Lab frames with and without generated pictures; the other sources, beside as many generated ones.
    grid = sorted((row for row in rows if row.source in (LAB, GENERATED)), key=lambda row: (row.frames, row.pairs))
    other = [row for row in rows if row.source not in (LAB, GENERATED)]
    equal = {row.pairs for row in other}
    shown = [*other, *(row for row in grid if row.source == GENERATED and row.pairs in equal)]
    shown.sort(key=lambda row: (row.frames, list(WHY).index(row.source)))
    return {
        "grid": [_figures(rows, row, recipe) for row in grid],
        "gains": [entry for row in grid if (entry := _compare(rows, row, Row(LAB, row.frames, 0)))],
        "sources": [_figures(rows, row, recipe) for row in shown],
        "leads": [entry for row in other if (entry := _compare(rows, row._replace(source=GENERATED), row))],
    }


def _figures(rows: Mapping[Row, Mapping[int, Faces]], row: Row, recipe: Recipe) -> Table:
    """Return the errors of a row: over all faces, by |yaw|, and the share that failed."""
    entry: Table = {"row": str(row), "seeds": len(rows[row]), "nme": _estimate(list(rows[row].values()))}
    for name, (low, high) in YAWS.items():
        entry[f"nme_{name}"] = _estimate(list(rows[row].values()), low, high)
    failed = [_people((np.asarray(one["nme"]) > recipe.failed).astype(float), one) for one in rows[row].values()]
    return entry | {"failed": interval(mean, [np.stack(failed)])._asdict()}


def _estimate(each: Sequence[Faces], low: float = 0, high: float = 181) -> dict[str, float]:
    values = []
    for faces in each:
        yaw = np.asarray(faces["yaw"])
        values.append(_people(np.where((yaw >= low) & (yaw < high), faces["nme"], np.nan), faces))
    return interval(mean, [np.stack(values)])._asdict()


def _people(values: np.ndarray, faces: Faces) -> np.ndarray:
    """Return each person's mean of a figure of faces."""
    return by_person(values, np.unique(faces["person"], return_inverse=True)[1])


def _compare(rows: Mapping[Row, Mapping[int, Faces]], one: Row, other: Row) -> Table:
    """Return how much lower the error of one row is than another's, on the same faces and seeds; {} where they share none."""
    seeds = sorted(rows.get(one, {}).keys() & rows.get(other, {}).keys()) if one != other else []
    if not seeds:
        return {}
    both = [
        np.stack([_people(np.asarray(rows[row][seed]["nme"]), rows[row][seed]) for seed in seeds])
        for row in (other, one)
    ]
    return {"row": str(one), "against": str(other), "seeds": len(seeds), "nme": interval(difference, both)._asdict()}
