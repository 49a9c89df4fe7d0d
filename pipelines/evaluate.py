"""`thermapair evaluate tfake`: T-FAKE's tables by a reduced recipe, cell by cell into a ledger that resumes.

out/ledger.jsonl  tables.json  tables.md  gain.png, and a folder `work` of renders and thermalizers, which can be made again
"""

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from models.columns import Columns
from models.config import digest_of
from models.errors import UserError
from models.evaluation.tfake import landmarks, thermal
from models.evaluation.tfake.cells import (
    JOINT,
    LANDMARKS,
    LOSSES,
    SIZE_BASELINES,
    SIZES,
    TABLES,
    TRUTH,
    Cell,
    cells,
    size_row,
    thermal_row,
    weight_row,
)
from models.evaluation.tfake.pools import RENDERED_COLUMNS, render_pool
from models.evaluation.tfake.recipe import ROOMLESS, TEST_POOLS, Recipe
from models.evaluation.tfake.tables import best_weight, tables
from models.synthworld.sampling.domain import digest as domain_digest
from models.synthworld.sampling.domain import load_domain
from models.synthworld.shape.kernels import expect
from models.thermal.unet.network import load_thermalizer, save_thermalizer
from pipelines.evaluation.measuring import Measuring, Stop, choose_tables, load_recipe, measure_all, scratch_hooks
from pipelines.evaluation.pages import draw_gain, has_gain, render_tables
from pipelines.evaluation.shards import check_field, field_rows, has_pairs

log = logging.getLogger(__name__)

POOLS_IN_MEMORY = 24
"""Pools of rows that are kept in memory, of all gaps."""


def run(out: Path, overrides: Sequence[str] = (), chosen: Sequence[str] = (), threads: int = 1) -> dict[str, Any]:
    """Measure what is missing of the tables `chosen` (all by default) and write them all; returns the tables."""
    recipe = load_recipe(Recipe, overrides, "tfake")
    names = choose_tables(chosen, TABLES)

    def begin(stop: Stop) -> Bench:
        expect(sum(recipe.pool(name).people * recipe.pool(name).views for name in ("faces", "lab")) * len(recipe.gaps))
        return Bench(recipe, out, stop)

    return measure_all(out, begin, names, threads)


class Bench(Measuring[Cell]):
    """Measures the cells of one recipe into the ledger of a folder."""

    cell = Cell

    def __init__(self, recipe: Recipe, out: Path, stop: Stop = lambda: False) -> None:
        super().__init__(recipe, recipe.digest(), out, stop)
        self.recipe = recipe
        if recipe.field:
            check_field(recipe.field, recipe)  # before anything is trained that it would be read with
        thermal_only = recipe.field and not has_pairs(recipe.field, recipe)
        self.readable = tuple(name for name in TEST_POOLS if not (thermal_only and name == "field"))
        self.pool = lru_cache(POOLS_IN_MEMORY)(self._load_pool)
        self.adapters = lru_cache(None)(lambda gap: landmarks.Adapters(self.pool("faces", gap)))
        """Fitted once for all landmarkers of a gap: they depend on the pool alone."""

    def cells(self, chosen: Sequence[str]) -> Iterator[Cell]:
        """Yield the cells of tables in order."""
        return cells(self.recipe, tuple(chosen))

    def tables(self) -> dict[str, Any]:
        """Return every table that the ledger allows."""
        return tables(self.lines(), self.recipe)

    def render(self, found: dict[str, Any], facts: dict[str, Any]) -> str:
        """Return the tables as Markdown."""
        return render_tables(found, facts, figure=has_gain(found))

    def write(self, out: Path) -> dict[str, Any]:
        """Write the tables and, with two gaps or more, gain.png."""
        found = super().write(out)
        if has_gain(found):
            draw_gain(found["gap"], out / "gain.png")
        return found

    def read(self, cell: Cell) -> dict[str, Any]:
        """Return what a line of the ledger says of `cell`, `measures` above all: pool -> figures by person."""
        # The truth itself, and baselines: nothing is trained.
        if cell.row == TRUTH:
            pools = {name: self.pool(name, cell.gap) for name in self.readable}
            truth = {name: {TRUTH: thermal.measure(rows["thermal"], rows, self.recipe)} for name, rows in pools.items()}
            return {"measures": _round(truth)}
        if cell.table == "baselines":
            lab = self.pool("lab", cell.gap)
            found = {name: thermal.baselines(lab, self.pool(name, cell.gap), self.recipe) for name in self.readable}
            return {"measures": _round(found)}
        if cell.table in ("landmarks", "reached"):
            return self._measure_landmarks(cell)
        if cell.table == SIZES:
            return self._measure_larger(cell)
        # A thermalizer, read on the pools that it is compared on.
        folder = self.thermalizer(cell)
        names = ("chooser",) if cell.table == "weight" else self.readable
        measures = {name: self._measure_thermalizer(folder, cell, name) for name in names}
        facts: dict[str, Any] = {"measures": _round(measures)}
        # The released code's patch term has no gradient: its weights must be those of the plain loss.
        if cell.table == "controls" and thermal_row(*cell[:2]).defects:
            plain = self.thermalizer(Cell("loss", "supervised", cell.gap, cell.seed))
            facts["parameters_apart"] = thermal.parameters_apart(folder, plain)
        return facts

    def _measure_thermalizer(self, folder: Path, cell: Cell, name: str) -> thermal.Values:
        """Return the figures of a thermalizer on the pool `name`; one of min-max pairs is calibrated on lab people first."""
        model, rows = load_thermalizer(folder), self.pool(name, cell.gap)
        raw = thermal.predict(model, rows)
        if thermal_row(*cell[:2]).pairs == "radiometric":
            return thermal.measure(raw, rows, self.recipe)
        degrees = thermal.predict_calibrated(model, self.pool("calibration", cell.gap), rows)
        return thermal.measure(degrees, rows, self.recipe) | {"mae_raw": thermal.measure(raw, rows, self.recipe)["mae"]}

    def _measure_larger(self, cell: Cell) -> dict[str, Any]:
        """Measure a row at a larger side than it was trained at, and its pictures of that size enlarged to it.

        Test people of `field` that shards stand in for have the shards' side alone, and are left out.
        """
        known = {size_row(row, by): (row, by) for by in self.recipe.generated for row in (*SIZE_BASELINES, *LOSSES)}
        row, factor = known[cell.row]
        predict = self._predictor(row, cell)
        measures = {}
        for name in (name for name in self.readable if not (self.recipe.field and name == "field")):
            small, large = self.pool(name, cell.gap), self.pool(name, cell.gap, factor)
            measures[name] = thermal.measure_larger(predict, small, large, self.recipe)
        return {"measures": _round(measures), "factor": factor}

    def _predictor(self, row: str, cell: Cell) -> thermal.Predict:
        """Return what makes degrees of rows: the truth, a baseline, or a thermalizer of the loss table."""
        if row == TRUTH:
            return lambda rows: rows["thermal"]
        if row in SIZE_BASELINES:
            fitted = thermal.fit_baselines(self.pool("lab", cell.gap))
            return lambda rows: fitted.predict(row, rows).astype(np.float32)
        model = load_thermalizer(self.thermalizer(Cell("loss", row, cell.gap, cell.seed)))
        return lambda rows: thermal.predict(model, rows)

    def _measure_landmarks(self, cell: Cell) -> dict[str, Any]:
        """Train a landmarker on what a thermalizer of the same seed makes, and look for faces with it."""
        # `reached` compares thermalizers by the joint landmarker that is trained on what they make.
        joint = cell.table == "reached"
        source = Cell("loss", cell.row if joint else "full", cell.gap, cell.seed)
        folder, faces = self.thermalizer(source), self.pool("faces", cell.gap)
        row = LANDMARKS[JOINT if joint else cell.row]
        with scratch_hooks(self.stop) as hooks:
            model, threshold = landmarks.train_row(
                row, cell.seed, self.recipe, faces, self.pool("checker", cell.gap), folder.resolve(), hooks
            )
        found = landmarks.measure(model, self.pool("frames", cell.gap), self.adapters(cell.gap), self.recipe)
        return {"measures": {"frames": found}, "threshold": threshold}

    def thermalizer(self, cell: Cell) -> Path:
        """Return the folder of a cell's thermalizer, trained if it is not there."""
        name = "-".join(str(part).replace(" ", "_") for part in cell)
        folder = self.work / "thermalizers" / self.digest / name
        if (folder / "thermal.json").is_file():
            return folder
        row, weight = thermal_row(*cell[:2]), self._patch_weight(cell)
        # Under its name once it is whole: a killed run leaves no half of one.
        with scratch_hooks(self.stop) as hooks:
            model = thermal.train_row(row, weight, cell.seed, cell.gap, self.recipe, self.pool, hooks)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            save_thermalizer(model, Path(scratch) / name)
            (Path(scratch) / name).rename(folder)
        return folder

    def _patch_weight(self, cell: Cell) -> float:
        """Return the weight of the patch term: the row's own where it is being chosen, else the chosen one."""
        if cell.table == "weight":
            return {weight_row(weight): weight for weight in self.recipe.weights}[cell.row]
        if not thermal_row(*cell[:2]).patches:
            return 0.0
        chosen = best_weight(self.lines(), self.recipe)
        if chosen is None:
            raise UserError(f"{self.ledger.path}: the weight of the patch term is not chosen yet")
        return chosen

    def _load_pool(self, name: str, gap: float, factor: int = 1) -> Columns:
        """Return a pool's rows at `factor` times its side, of the recipe's conditions alone where these matter."""
        rows = self._load_whole_pool(name, gap, factor)
        if name in ROOMLESS:
            return rows
        chosen = np.isin(rows["condition"], self.recipe.conditions)
        return {column: values[chosen] for column, values in rows.items()}

    def _load_whole_pool(self, name: str, gap: float, factor: int) -> Columns:
        """Return kept rows, or render and keep them."""
        if self.recipe.field and name in ("field", "frames"):
            return field_rows(self.recipe.field, self.recipe, frames=name == "frames")
        # Rendered before, with the same people, size, domain and columns?
        pool = self.recipe.pool(name)
        size = factor * (self.recipe.frame if pool.detailed else self.recipe.size)
        digest = digest_of(list(pool), gap, size, domain_digest(load_domain(pool.domain, gap)), RENDERED_COLUMNS)
        path = self.work / "pools" / f"{name}-{gap:g}-{digest}.npz"
        if path.is_file():
            with np.load(path) as kept:
                return dict(kept)
        # Rendering is no cost of the cell that needs the rows first: it has a line of its own.
        before = time.process_time()
        rows = render_pool(pool, gap, size)
        seconds = time.process_time() - before
        self.apart += seconds
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part.npz")
        np.savez_compressed(scratch, **rows)  # type: ignore[arg-type]
        scratch.rename(path)
        shown = name if factor == 1 else size_row(name, factor)
        self.append(Cell("pools", shown, gap, 0), seconds, {"measures": {"pictures": len(rows["visible"])}})
        log.info("pool %s at gap %g: %d pictures, %.0f s", shown, gap, len(rows["visible"]), seconds)
        return rows


def _round(values: Any) -> Any:
    """Return nested values with four decimals: what is read off people is not known better."""
    if isinstance(values, dict):
        return {name: _round(value) for name, value in values.items()}
    if isinstance(values, list):
        return [_round(value) for value in values]
    return round(values, 4) if isinstance(values, float) else values
