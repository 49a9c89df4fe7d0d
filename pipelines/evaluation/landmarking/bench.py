"""`thermapair evaluate landmarks`: landmarkers trained on lab frames and generated pictures, into a ledger that resumes.

out/ledger.jsonl  tables.json  tables.md
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.columns import Columns
from models.errors import UserError
from models.evaluation.hfr.training import augment_rows, choose_pairs
from models.evaluation.landmarking.recipe import TABLES, Cell, Recipe
from models.evaluation.landmarking.tables import tables
from models.evaluation.landmarking.training import COLUMNS, TESTED, config_of, fit, look, prepare
from models.evaluation.sources import AUGMENTED, GENERATED, LAB, RENDERS, rows_of
from models.landmarks.network import Landmarker
from models.tasks.landmarker import is_annotated
from pipelines.evaluation.bundle import batches
from pipelines.evaluation.landmarking.pages import render_tables
from pipelines.evaluation.measuring import Measuring, Stop, choose_tables, load_recipe, measure_all, scratch_hooks
from pipelines.evaluation.sources import Inputs, Sources, Stored, read_rows
from pipelines.rows.shards import Shards

FIELDS = {LAB: "data", GENERATED: "generated", RENDERS: "renders"}
"""Source -> field of `Inputs`."""


class Bench(Measuring[Cell]):
    """Measures the cells of one recipe into the ledger of a folder."""

    cell = Cell

    def __init__(self, recipe: Recipe, inputs: Inputs, out: Path, stop: Stop = lambda: False) -> None:
        self.recipe, self.inputs = recipe, inputs
        self.sources = Sources(
            inputs, FIELDS, COLUMNS, recipe.rows, "evaluate landmarks", TESTED, optional=("pose",), tests=recipe.tested
        )
        if not self.sources.training:
            raise UserError("nothing to train on: name lab frames by --data, or pictures by --generated or --renders")
        # Rows without points would be left out one by one, and the tables be of nobody.
        for rows in self.sources.tests.values():
            if (people := len(np.unique(_annotated(rows)))) < 2:
                raise UserError(f"{rows.uri}: of {people} people points are known, and two at least are needed to test")
        self.there = {*self.sources.training, *([AUGMENTED] if GENERATED in self.sources.training else [])}
        self.known = [rows.digest for rows in self.sources.tests.values()]
        super().__init__(recipe, recipe.digest(*self.known), out, stop)

    def cells(self, chosen: Sequence[str]) -> Iterable[Cell]:
        """Yield the cells of tables in order, all of them by default."""
        return self.recipe.cells(chosen or TABLES, self.there)

    def digest_of(self, cell: Cell) -> str:
        """Return what tells a cell's numbers from others': training, test people, and the rows that it is trained on."""
        used = [LAB] if cell.frames else []
        used += [rows_of(cell.source)] if cell.pairs else []
        return self.recipe.digest(*self.known, *(self.sources.training[name].digest for name in used))

    def read(self, cell: Cell) -> dict[str, Any]:
        """Train a landmarker and look at test people with it."""
        model = self._fit(cell)
        return {"measures": {name: self._look(model, name) for name in self.sources.tests}}

    def _fit(self, cell: Cell) -> Landmarker:
        """Return the landmarker of a cell."""
        config = config_of(self.recipe, cell.seed, grey=cell.source == AUGMENTED)

        def read(source: str, count: int, *, augmented: bool = False) -> Columns:
            rows = choose_pairs(self.sources.person(source), count, 0, cell.seed)
            shards = self.sources.training[source]
            return read_rows(shards, rows, lambda one: prepare(augment_rows(one) if augmented else one, config))

        # Lab frames and pictures apart: each has its share of a batch, however many there are.
        parts = [read(LAB, cell.frames)] if cell.frames else []
        if cell.pairs:
            parts.append(read(rows_of(cell.source), cell.pairs, augmented=cell.source == AUGMENTED))
        with scratch_hooks(self.stop) as hooks:
            return fit(parts, self.recipe.shares(len(parts)), config, hooks)

    def _look(self, model: Landmarker, name: str) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for rows in batches(self.sources.tests[name]):
            for figure, values in look(model, rows).items():
                found.setdefault(figure, []).extend(values)
        return found

    def tables(self) -> dict[str, Any]:
        """Return the tables of every test set, of the cells that are measured."""
        measured: dict[str, dict[Cell, Any]] = {name: {} for name in self.sources.tests}
        for cell in dict.fromkeys(self.cells(())):
            lines = [line for line in self.ledger.lines(self.digest_of(cell)) if _is_of(line, cell)]
            for name in measured if lines else ():
                measured[name][cell] = lines[-1]["measures"][name]
        return {name: tables(cells, self.recipe) for name, cells in measured.items()}

    def render(self, found: dict[str, Any], facts: dict[str, Any]) -> str:
        """Return the tables as Markdown."""
        return render_tables(found, facts)

    def about(self) -> dict[str, Any]:
        """Return where the rows are, how many pictures with known points, and people, are tested, and what was trained on."""
        shown = {name: _annotated(rows) for name, rows in self.sources.tests.items()}
        tests = {name: {"pictures": len(who), "people": len(np.unique(who))} for name, who in shown.items()}
        return {"inputs": self.inputs._asdict(), "tests": tests, "sources": sorted({c.source for c in self.cells(())})}


def _annotated(rows: Stored) -> np.ndarray:
    """Return whom the rows show whose points are known, names [N]."""
    assert isinstance(rows, Shards)
    points = rows.lists("landmarks_70").reshape(len(rows), 70, 2)
    return rows.values("identity_id").astype(str)[is_annotated(points)]


def _is_of(line: dict[str, Any], cell: Cell) -> bool:
    return all(line[name] == value for name, value in cell._asdict().items())


def run(
    out: Path, inputs: Inputs, overrides: Sequence[str] = (), chosen: Sequence[str] = (), threads: int = 1
) -> dict[str, Any]:
    """Measure what is missing of the tables `chosen` (all by default) and write them all; returns the tables by test set.

    Raises a UserError for rows that are not there or too few, and for people who are trained on and tested.
    """
    recipe, names = load_recipe(Recipe, overrides, "landmarks"), choose_tables(chosen, TABLES)
    return measure_all(out, lambda stop: Bench(recipe, inputs, out, stop), names, threads)
