"""From embeddings of test people to the tables of `evaluate hfr`: nothing is trained here."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.evaluation.bootstrap import difference, interval
from models.evaluation.hfr.recipe import RAW, TRANSLATED, WHY, Cell
from models.evaluation.sources import AUGMENTED, GENERATED, LAB, RENDERS
from models.evaluation.translators import Probes

Vectors = Mapping[str, np.ndarray]
"""Of one test set: `gallery` [G, D], `visible`, `thermal` [P, D], `person` int [P]."""
Table = dict[str, Any]
COMPARED = ("rank1", "above")
ORDER = list(WHY)


class Row(NamedTuple):
    """A cell of any seed."""

    source: str
    people: int
    pairs: int
    identities: int

    def __str__(self) -> str:
        if self.source in (RAW, LAB):
            return self.source if self.source == RAW else f"{self.people} lab people"
        of = f" of {self.identities} people" if self.identities else ""
        beside = f"{self.people} lab people, " if self.people else ""
        return f"{beside}{self.pairs} pairs{of}, {self.source}"


class Found:
    """What was measured on one test set. gallery: of the recogniser as it was, in which probes are looked up where a bundle
    holds the adapted one beside it. visible: whether visible pictures are probes, too."""

    def __init__(self, cells: Mapping[Cell, Vectors]) -> None:
        self.rows: dict[Row, dict[int, Vectors]] = {}
        for cell, vectors in cells.items():
            self.rows.setdefault(Row(*cell[:4]), {})[cell.seed] = vectors
        self.original = self.rows[Row(RAW, 0, 0, 0)][0]
        self.visible = len(self.original["visible"]) > 0

    def probes(
        self, row: Row, kind: str = "thermal", *, own: bool = False, seeds: Sequence[int] | None = None
    ) -> Probes:
        """Return the probes of a row, of both halves by `kind`; own: looked up in a gallery of the adapted recogniser; seeds:
        of these alone."""
        each = [self.rows[row][seed] for seed in self.rows[row] if seeds is None or seed in seeds]
        gallery = np.stack([one["gallery"] for one in each]) if own else self.original["gallery"]
        found = Probes(np.stack([one[kind] for one in each]), each[0]["person"], gallery, {})
        # Of each probe the share of other people who are less like it: its part of the area under the curve.
        below = (found.similarity < found.figures["cosine"][..., None]) & ~found.same
        found.figures["above"] = below.sum(axis=2) / (found.similarity.shape[2] - 1)
        return found


def tables(cells: Mapping[Cell, Vectors]) -> dict[str, list[Table]]:
    """Return the tables of one test set, of the cells that were measured, in order."""
    # The grid of lab people and generated pairs, the curve of identities, and the other sources.
    found = Found(cells)
    grid = [row for row in found.rows if row.source in (RAW, LAB, GENERATED) and not row.identities]
    grid.sort(key=lambda row: (row.people, row.pairs))
    curve = sorted((row for row in found.rows if row.identities), key=lambda row: row.identities)
    other = [row for row in found.rows if row.source in (RENDERS, AUGMENTED, TRANSLATED)]
    # Generated pairs stand beside other sources where there are as many.
    equal = {row.pairs for row in other}
    beside = [row for row in grid if row.source == GENERATED and row.pairs in equal]
    shown = sorted(
        [*other, *beside],
        key=lambda row: (row.people, ORDER.index(row.source)),
    )
    return {
        "grid": [_figures(found, row) for row in grid],
        "gains": _gains(found, grid),
        "sources": [_figures(found, row) for row in shown],
        "leads": _leads(found, shown),
        "identities": [_figures(found, row) for row in curve],
        "visible": [_figures(found, row, "visible", own=True) for row in (*grid, *other) if found.visible],
        "own": [_figures(found, row, own=True) for row in grid],
    }


def _figures(found: Found, row: Row, kind: str = "thermal", *, own: bool = False) -> Table:
    probes = found.probes(row, kind, own=own)
    seeds = len(found.rows[row])
    ranks = {"rank1_probes": probes.rank1_of_probes(), "rank1": probes.estimate("rank1")}
    return {"row": str(row), "seeds": seeds, **ranks, **probes.verification()}


def _gains(found: Found, grid: Sequence[Row]) -> list[Table]:
    """Return what generated pairs add to the same lab people (or to nothing), on the same probes and seeds."""
    entries = []
    for row in grid:
        base = Row(LAB, row.people, 0, 0) if row.people else Row(RAW, 0, 0, 0)
        if row.source == GENERATED and base in found.rows:
            entries.append({"row": str(row), "against": str(base), **_compare(found, row, base)})
    return entries


def _leads(found: Found, rows: Sequence[Row]) -> list[Table]:
    """Return by how much generated pairs are ahead of as many of every other source, beside the same lab people."""
    entries = []
    for row in rows:
        best = row._replace(source=GENERATED)
        if row.source != GENERATED and best in found.rows:
            entries.append({"row": str(best), "against": str(row), **_compare(found, best, row)})
    return entries


def _compare(found: Found, one: Row, other: Row) -> dict[str, Any]:
    """Return how much higher one row's figures are than another's: of the seeds that both have, else of all."""
    seeds = found.rows[one].keys() & found.rows[other].keys() if other.source != RAW else found.rows[one].keys()
    if not seeds:
        return {}
    first = found.probes(one, seeds=sorted(seeds))
    second = found.probes(other, seeds=None if other.source == RAW else sorted(seeds))
    return {name: interval(difference, [first.people(name), second.people(name)])._asdict() for name in COMPARED}
