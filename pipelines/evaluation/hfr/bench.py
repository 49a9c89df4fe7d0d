"""`thermapair evaluate hfr`: recognisers adapted with pairs of several sources, cell by cell into a ledger that resumes.

out/ledger.jsonl  tables.json  tables.md, and a folder `work`: embeddings of test people, which can be made again
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from models.columns import Columns
from models.errors import UserError
from models.evaluation.hfr.recipe import RAW, TABLES, TRANSLATED, Cell, Recipe
from models.evaluation.hfr.tables import tables
from models.evaluation.hfr.training import (
    Test,
    adapt,
    augment_rows,
    can_choose,
    choose_pairs,
    choose_people,
    embed_test,
    read_protocol,
    read_test,
)
from models.evaluation.sources import AUGMENTED, GENERATED, LAB, RENDERS, rows_of
from models.faces.align import five_points
from models.landmarks.found import can_align, fill_points
from models.tasks.hfr import task
from models.visible.cache import from_root
from models.weights.store import contents_digest
from pipelines.evaluation.hfr.pages import render_tables
from pipelines.evaluation.measuring import (
    Measuring,
    Stop,
    choose_tables,
    keep,
    load_recipe,
    measure_all,
    scratch_hooks,
)
from pipelines.evaluation.sources import Inputs, Sources, Stored, read_rows
from pipelines.rows.halves import Halves

log = logging.getLogger(__name__)

FIELDS = {LAB: "data", GENERATED: "generated", RENDERS: "renders", TRANSLATED: "translated"}
"""Source -> field of `Inputs`."""


class Bench(Measuring[Cell]):
    """Measures the cells of one recipe into the ledger of a folder."""

    cell = Cell

    def __init__(self, recipe: Recipe, inputs: Inputs, out: Path, stop: Stop = lambda: False) -> None:
        self.recipe, self.inputs, self.config = recipe, inputs, recipe.config(0)
        self.sources = Sources(inputs, FIELDS, task.COLUMNS, recipe.rows, "evaluate hfr", apart=True)
        self.there = {*self.sources.training, *([AUGMENTED] if GENERATED in self.sources.training else [])}
        paths = task.weights(self.config)
        task.build(self.config)  # a recogniser without gradient is refused before anything starts
        known = [contents_digest(path) for path in paths] + [rows.digest for rows in self.sources.tests.values()]
        super().__init__(recipe, recipe.digest(*known), out, stop)
        self.known = known

    # What there is to do

    def cells(self, chosen: Sequence[str]) -> Iterable[Cell]:
        """Yield the cells of tables in order, all of them by default; of identities those that the pairs are of."""
        person = self.sources.person(GENERATED) if GENERATED in self.there else np.zeros(0, str)
        for cell in self.recipe.cells(chosen or TABLES, self.there):
            if not cell.identities or can_choose(person, cell.pairs, cell.identities):
                yield cell

    def digest_of(self, cell: Cell) -> str:
        """Return what tells a cell's numbers from others': training, test people, and the rows that it is trained on."""
        training = self.sources.training
        rows = [training[LAB].digest] if cell.people else []
        rows += [training[rows_of(cell.source)].digest] if cell.pairs else []
        return self.recipe.digest(*self.known, *rows)

    def keeps(self, cell: Cell) -> bool:
        """Return True: embeddings of test people."""
        return True

    def place(self, cell: Cell) -> Path:
        """Return where these lie."""
        return self.work / self.digest_of(cell) / super().place(cell).name

    # What is measured

    def read(self, cell: Cell) -> dict[str, Any]:
        """Adapt a recogniser, keep what it makes of test people, and return what was trained on."""
        network, count = self._adapt(cell)
        vectors = dict[str, np.ndarray]()
        for name, test in self.tests.items():
            found = embed_test(network, test) | {"person": test.person}
            vectors |= {f"{name}_{kind}": values for kind, values in found.items()}
        keep(self.place(cell), **vectors)
        return {"measures": {"rows": count, "steps": 0 if cell.source == RAW else self.recipe.steps}}

    def _adapt(self, cell: Cell) -> tuple[task.Recogniser, int]:
        """Return the recogniser of a cell and how many rows it was adapted with."""
        if cell.source == RAW:
            return task.load_recogniser(self.config).eval(), 0
        parts = list[Columns]()
        if cell.people:
            rows = choose_people(self.sources.person(LAB), cell.people, cell.seed)
            parts.append(self._prepare(self.sources.training[LAB], rows))
        if cell.pairs:
            source = rows_of(cell.source)
            rows = choose_pairs(self.sources.person(source), cell.pairs, cell.identities, cell.seed)
            change = augment_rows if cell.source == AUGMENTED else None
            parts.append(self._prepare(self.sources.training[source], rows, change))
        with scratch_hooks(self.stop) as hooks:
            network = adapt(parts, self.recipe.shares(len(parts)), self.recipe.config(cell.seed), hooks)
        return network, sum(len(part["person"]) for part in parts)

    def _prepare(self, shards: Stored, rows: np.ndarray, change: Callable[[Columns], Columns] | None = None) -> Columns:
        """Return rows as the task takes them, those with a face. Raises a UserError where there is none."""
        found = self._read(shards, rows, change)
        known = task.have_faces(found)
        if not known.any():
            raise UserError(f"{shards.uri}: rows have no points, and no face was found in a visible picture")
        return {name: values[known] for name, values in found.items()}

    def _read(self, shards: Stored, rows: np.ndarray, change: Callable[[Columns], Columns] | None = None) -> Columns:
        return read_rows(shards, rows, lambda batch: task.prepare(change(batch) if change else batch, self.config))

    @cached_property
    def tests(self) -> dict[str, Test]:
        """The crops of test people, by the name of the test set."""
        found = {}
        for name, shards in self.sources.tests.items():
            prepared = self._read(shards, np.arange(len(shards)))
            models = shards.models if isinstance(shards, Halves) else None
            # Where lists say who enrols, the visible half of a pair asks nothing.
            known = task.have_faces(prepared) if models is None else can_align(prepared[task.POINTS["thermal"]])
            faces = {column: values[known] for column, values in prepared.items()}
            if isinstance(shards, Halves) and models is not None:
                found[name] = read_protocol(self._read_models(shards, models), faces, self.recipe.gallery)
            else:
                person, view = (shards.values(column)[known] for column in ("identity_id", "view"))
                found[name] = read_test(person.astype(str), view, faces, self.recipe.gallery)
            if lost := int((~known).sum()):
                log.warning("%s: %d of %d pictures are left out: no face was found", shards.uri, lost, len(known))
        return found

    def _read_models(self, shards: Halves, models: np.ndarray) -> Columns:
        """Return the pictures `models` that enrol, those with a face: `visible`, `points` [M, 5, 2] and `person`."""
        rows = shards.seen.rows(models)
        points = five_points(fill_points(rows, from_root(self.config.landmarks)))
        found = {"visible": rows["visible"], "points": points, "person": rows["identity_id"].astype(str)}
        return {column: values[can_align(points)] for column, values in found.items()}

    # What is said

    def tables(self) -> dict[str, Any]:
        """Return the tables of every test set, of the cells that are measured."""
        left = set(self.missing())
        done = [cell for cell in dict.fromkeys(self.cells(())) if cell not in left]
        kept = {cell: dict(np.load(self.place(cell))) for cell in done}
        names = ("gallery", "visible", "thermal", "person")
        return {
            test: tables({cell: {name: one[f"{test}_{name}"] for name in names} for cell, one in kept.items()})
            for test in self.sources.tests
        }

    def render(self, found: dict[str, Any], facts: dict[str, Any]) -> str:
        """Return the tables as Markdown."""
        return render_tables(found, facts)

    def about(self) -> dict[str, Any]:
        """Return where the rows are, who is tested, and which numbers of identities the pairs are not of."""
        sizes = {name: {"people": test.people, "probes": len(test.person)} for name, test in self.tests.items()}
        asked = {cell.identities for cell in self.recipe.cells(TABLES, self.there)}
        sources = sorted({cell.source for cell in self.cells(())})
        unmet = sorted(asked - {cell.identities for cell in self.cells(())})
        return {"inputs": self.inputs._asdict(), "tests": sizes, "sources": sources, "unmet": unmet}


def run(
    out: Path, inputs: Inputs, overrides: Sequence[str] = (), chosen: Sequence[str] = (), threads: int = 1
) -> dict[str, Any]:
    """Measure what is missing of the tables `chosen` (all by default) and write them all; returns the tables by test set.


    Raises a UserError for rows that are not there or too few, people who are trained on and tested, and a recogniser that
    cannot be trained.
    """
    recipe, names = load_recipe(Recipe, overrides, "hfr"), choose_tables(chosen, TABLES)
    return measure_all(out, lambda stop: Bench(recipe, inputs, out, stop), names, threads)
