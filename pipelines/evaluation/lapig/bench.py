"""`thermapair evaluate lapig`: pairs made of people of the world, and read by judges, part by part into a ledger that resumes.

out/ledger.jsonl  tables.json  tables.md, and a folder `work`: renders and what was seen of pictures, which can be made again
"""

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.columns import Columns
from models.config import digest_of
from models.evaluation.faces import to_grey
from models.evaluation.lapig import tables as lapig_tables
from models.evaluation.lapig.degrees import degree_errors, flatten_layers
from models.evaluation.lapig.distances import by_people, frechet_interval
from models.evaluation.lapig.people import TruePairs, render_fitted
from models.evaluation.lapig.read import (
    Gallery,
    degree_figures,
    diversity_figures,
    identity_figures,
    look_at,
    pair_figures,
    region_means,
    thermal_features,
    thumbs,
    view_figures,
)
from models.evaluation.lapig.recipe import Recipe
from models.evaluation.lapig.ways import FULL, LATENT, UNET, ways
from models.faces.metrics import unit_vectors
from models.judges.attributes import label
from models.layers import layers_of
from models.temperature import from_centikelvin, to_centikelvin
from models.thermal.baselines import Baselines
from models.visible import cache
from models.weights.bundle import Bundle, digests, load_bundle
from pipelines.evaluation.lapig.making import Maker, Thermalizer
from pipelines.evaluation.lapig.pages import render_tables
from pipelines.evaluation.lapig.people import People
from pipelines.evaluation.lapig.sampled import WAYS as SAMPLED
from pipelines.evaluation.lapig.sampled import ask, compare_people, sample_embeddings
from pipelines.evaluation.measuring import Measuring, choose_tables, keep, load_recipe, measure_all, sort_edits
from pipelines.plan.people.identities import Reference

TRUE, KNOWN, CROSSED = "true pair", "known picture", "another's thermal"
"""Baselines among the pairs: what a perfect generator makes; a copy of a picture that was known; and a control that must
fail, true visible pictures beside the thermal one of somebody else."""
BASELINES = (TRUE, KNOWN, CROSSED)
TRAINED = "trained on"
"""Of the gallery: people of the split that models learn from."""


class Cell(NamedTuple):
    """One line of the ledger: a row of a table, of the people of a part."""

    table: str
    row: str
    part: int


class Bench(Measuring[Cell]):
    """Measures the cells of one recipe on one bundle into the ledger of a folder."""

    cell = Cell

    def __init__(self, recipe: Recipe, bundle: Bundle, out: Path, threads: int = 1) -> None:
        self.recipe, self.bundle, self.threads = recipe, bundle, threads
        self.ways, self.layers = ways(bundle, recipe), layers_of(recipe.conditions)
        # Everything that makes or reads a pair, by its bytes: what is missing is refused here.
        parts = {name: digests(part, bundle.folder) for name, part in bundle.parts.items() if name != "captions"}
        if UNET in self.ways:
            parts[UNET] = digests(self.ways[UNET].bundle.part("thermal"), bundle.folder)
        super().__init__(recipe, recipe.digest(digest_of(bundle.model_dump(mode="json"), parts)), out)
        self.work /= self.digest
        self.people = People(recipe, bundle, self.work, threads)
        self.sampled = lru_cache(None)(
            lambda way: sample_embeddings(way, self.reference, recipe.sampled, recipe.minimum_angle)
        )
        self.maker = lru_cache(1)(lambda name: Maker(self.ways[name], self.layers, threads))

    # What there is to do

    def cells(self, chosen: Sequence[str]) -> Iterable[Cell]:
        """Yield the cells of tables in order; galleries come before what is looked up in them."""
        parts = {name: self.people.parts(name) for name in ("gallery", "people", "trained", "sampled")}
        if "pairs" in chosen or "people" in chosen:
            yield from (Cell("gallery", KNOWN, part) for part in parts["gallery"])
        if "pairs" in chosen:
            yield from (Cell("pairs", row, part) for row in (*BASELINES, *self.ways) for part in parts["people"])
        if "degrees" in chosen:
            yield from (Cell("degrees", row, part) for row in self.thermal_rows for part in parts["people"])
        if "people" in chosen:
            yield from (Cell("gallery", TRAINED, part) for part in parts["trained"])
            yield from (Cell("people", row, part) for row in SAMPLED for part in parts["sampled"])

    @cached_property
    def thermal_rows(self) -> tuple[str, ...]:
        """Whose temperatures of true pictures are read."""
        return (*Baselines.NAMES, FULL, *([UNET] if UNET in self.ways else []))

    def keeps(self, cell: Cell) -> bool:
        """Return whether what judges saw of a cell is kept."""
        return cell.table != "degrees"

    def read(self, cell: Cell) -> dict[str, Any]:
        """Return what the line of a cell says."""
        if cell.table == "gallery":
            return self._see_gallery(cell)
        if cell.table == "people":
            return self._see_sampled(cell)
        return self._read_pairs(cell) if cell.table == "pairs" else self._read_degrees(cell)

    # Who

    def _see_gallery(self, cell: Cell) -> dict[str, Any]:
        """Keep what the judge says of pictures of a part's people: of those known, or of some whom models learned from."""
        known, points = self.people.known(cell.part) if cell.row == KNOWN else self.people.trained(cell.part)
        flat, marks = known.reshape(-1, *known.shape[2:]), points.reshape(-1, 70, 2)
        seen = {
            name: cache.embed_pictures(pictures, marks, self.people.readers.recogniser).reshape(*known.shape[:2], -1)
            for name, pictures in (("colour", flat), ("grey", to_grey(flat)))
        }
        described = self.people.readers.judges.describe(flat).reshape(*known.shape[:2], -1)
        keep(self.place(cell), **seen, features=described)
        return {"measures": {"people": len(known)}}

    def _load_all(self, table: str, row: str) -> dict[str, np.ndarray]:
        """Return what was kept of a row, all its parts after each other; {} where there is none."""
        cells = [cell for cell in self.cells((table, "people")) if (cell.table, cell.row) == (table, row)]
        parts = [dict(np.load(path)) for cell in cells if (path := self.place(cell)).is_file()]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}

    @cached_property
    def gallery(self) -> Gallery:
        """The people whom pictures are looked up among: the mean of the known pictures of each, as the judge sees them."""
        known = self._load_all("gallery", KNOWN)
        colour, grey = (unit_vectors(known[name].mean(axis=1)) for name in ("colour", "grey"))
        return Gallery(colour, grey, self.recipe.galleries)

    # Pairs

    def _read_pairs(self, cell: Cell) -> dict[str, Any]:
        """Make a part's pairs in the way of the row, or take the baseline's, and read them."""
        true, asked = self.people.true(cell.part), self.people.asked(cell.part)
        rows, stages = self._pairs(cell, true, asked)
        seen, target = look_at(self.people.readers, rows["visible"]), self.people.seen_true(cell.part)
        measures: dict[str, Any] = {"person": true.rows["person"].tolist()}
        features = {"visible": seen.features}
        if cell.row != CROSSED:
            asked_words = label(true.rows["attributes"])
            measures |= identity_figures(seen, asked, true.rows["person"], target.judge, self.gallery)
            measures |= view_figures(seen, true.rows["pose"])
            measures |= {"asked_words": asked_words.tolist(), "found_words": seen.words.tolist()}
            measures |= diversity_figures(thumbs(rows["visible"]), seen.features, seen.judge, true.rows["person"])
        # The thermal half, where there is one: a copy of a known picture has none.
        if "celsius" in rows:
            measures |= pair_figures(self.people.readers, rows["visible"], rows["celsius"], seen.boxes)
            layers = [thermal_features(self.people.readers.judges, one) for one in np.moveaxis(rows["celsius"], 1, 0)]
            features["thermal"] = np.stack(layers, axis=1)
            if "classes" in rows:
                truth = np.where(true.rows["valid"], true.rows["celsius"], np.nan)
                measures |= degree_figures(
                    region_means(rows["celsius"], rows["classes"]), region_means(truth, true.rows["classes"])
                )
        kept = {"judge": seen.judge, "own": seen.own, **{f"features_{name}": one for name, one in features.items()}}
        if cell.row in self.ways:
            kept["thermal"] = to_centikelvin(rows["celsius"])
            measures |= self._apart(cell, rows["celsius"])
        keep(self.place(cell), **kept)
        return {"measures": measures, **({"stages": stages} if stages else {})}

    def _pairs(self, cell: Cell, true: TruePairs, asked: np.ndarray) -> tuple[Columns, dict[str, float]]:
        """Return a row's pairs, and the seconds of each stage where they are made."""
        names = ("visible", "celsius", "classes")
        if cell.row == TRUE:
            return {name: true.rows[name] for name in names}, {}
        if cell.row == CROSSED:
            return {
                "visible": true.rows["visible"],
                "celsius": np.roll(true.rows["celsius"], self.recipe.views, axis=0),
            }, {}
        if cell.row == KNOWN:
            chosen = [
                true.known[k, view % self.recipe.known]
                for k in range(len(true.known))
                for view in range(self.recipe.views)
            ]
            return {"visible": np.stack(chosen)}, {}
        # Made: the same captions, poses and noise in every way.
        people = true.rows["person"]
        ids = [f"evaluate/{person}/{k % self.recipe.views}" for k, person in enumerate(people)]
        maker = self.maker(cell.row)
        made = maker({
            "caption": np.array([str(text) for text in true.rows["caption"]], object),
            "embedding": asked,
            "pose_asked": true.rows["pose"].astype(np.float32),
            "noise_id": np.array(ids, object),
        })  # fmt: skip
        seconds = dict(zip(maker.stages, maker.seconds.round(4).tolist(), strict=True))
        return {name: made[name] for name in names if name in made}, seconds

    def _apart(self, cell: Cell, celsius: np.ndarray) -> dict[str, list[float]]:
        """Return how far a picture's temperatures are from those of the whole bundle's, K, mean over pixels; of pairs that differ
        in the thermal half alone."""
        if cell.row == FULL or self.ways[cell.row].bundle.part("visible") != self.bundle.part("visible"):
            return {}
        if not (self.ways[cell.row].captions and self.ways[cell.row].head):
            return {}
        with np.load(self.place(cell._replace(row=FULL))) as kept:
            apart = np.abs(celsius - from_centikelvin(kept["thermal"])).mean(axis=(1, 2, 3))
        return {"apart": [round(float(value), 4) for value in apart]}

    # Degrees

    def _read_degrees(self, cell: Cell) -> dict[str, Any]:
        """Read the temperatures that a thermalizer, or a predictor without a network, gives true pictures."""
        rows = flatten_layers(self.people.true(cell.part).rows, self.recipe.conditions)
        if cell.row in Baselines.NAMES:
            return {"measures": degree_errors(rows, self.fitted.predict(cell.row, rows)[None])}
        return {"measures": degree_errors(rows, self._draw(cell))}

    def _draw(self, cell: Cell) -> np.ndarray:
        """Return draws float32 [K, N C, S, S] of a part's true pictures, each in its conditions, in the order of rows."""
        bundle = self.ways[cell.row].bundle
        draws = self.recipe.draws if bundle.part("thermal").kind == LATENT else 1
        true = self.people.true(cell.part).rows
        given = {name: true[name] for name in ("visible", "classes")}
        given["noise_id"] = np.array([f"degrees/{person}/{k}" for k, person in enumerate(true["person"])], object)
        celsius = Thermalizer(bundle, layers_of(self.recipe.conditions, draws), self.threads)(given)
        # Layers are conditions, and draws of each.
        split = celsius.reshape(len(celsius), len(self.recipe.conditions), draws, *celsius.shape[2:])
        return np.moveaxis(split, 2, 0).reshape(draws, -1, *celsius.shape[2:])

    @cached_property
    def fitted(self) -> Baselines:
        """The predictors without a network, fitted to people of another split."""
        return Baselines([render_fitted(self.recipe, self.bundle.size)])

    # People

    @cached_property
    def reference(self) -> Reference:
        """The distribution that people are sampled from."""
        return Reference.of(self.bundle)

    def _see_sampled(self, cell: Cell) -> dict[str, Any]:
        """Keep what the judge says of the pictures of a part of people who were sampled in a way."""
        first, count = self.people.span(cell.part, self.recipe.sampled)
        embeddings = self.sampled(cell.row)[first : first + count]
        made = self.maker(FULL)(ask(embeddings, self.reference, self.recipe.views, first))
        seen = look_at(self.people.readers, made["visible"])
        keep(self.place(cell), asked=embeddings, judge=seen.judge.reshape(count, self.recipe.views, -1))
        return {"measures": {"people": count}}

    def tables(self) -> dict[str, Any]:
        """Return every table that the ledger allows."""
        lines = [line for line in self.lines() if line["part"] * self.recipe.together < self.recipe.people]
        found = lapig_tables.tables(lines, self.recipe.galleries)
        return found | {"distribution": self._distribution(), "people": self._people_facts()}

    def render(self, found: dict[str, Any], facts: dict[str, Any]) -> str:
        """Return the tables as Markdown."""
        return render_tables(found, facts)

    def about(self) -> dict[str, Any]:
        """Return the name of the bundle, which makes the pairs."""
        return {"bundle": self.bundle.name, "data": ""}

    def _distribution(self) -> list[dict[str, Any]]:
        """Return the Frechet distance of each row's pictures from the true pairs of the same people and views, by modality."""
        true, entries, views = self._load_all("pairs", TRUE), list[dict[str, Any]](), self.recipe.views
        for row in (KNOWN, *self.ways) if true else ():
            own, entry = self._load_all("pairs", row), dict[str, Any](row=row)
            for name in ("visible", "thermal"):
                key = f"features_{name}"
                if key in own and len(own[key]) == len(true[key]):
                    entry[name] = frechet_interval(by_people(own[key], views), by_people(true[key], views))
            entries += [entry] if len(entry) > 1 else []
        return entries

    def _people_facts(self) -> list[dict[str, Any]]:
        """Return how sampled people are apart, beside true people of the world."""
        views, known, trained = self.recipe.views, self._load_all("gallery", KNOWN), self._load_all("gallery", TRAINED)
        sampled = {row: (made["asked"], made["judge"]) for row in SAMPLED if (made := self._load_all("people", row))}
        if not known or not sampled:
            return []
        if true := self._load_all("pairs", TRUE):
            asked = np.concatenate([self.people.asked(part)[::views] for part in self.people.parts("people")])
            sampled = {TRUE: (asked, true["judge"].reshape(-1, views, 512))} | sampled
        training = trained["colour"][:, 0] if trained else np.zeros((0, 512))
        return compare_people(sampled, known["colour"][:, 0], training, self.recipe)


def run(
    out: Path, bundle: str = "starter", overrides: Sequence[str] = (), chosen: Sequence[str] = (), threads: int = 1
) -> dict[str, Any]:
    """Measure what is missing of the tables `chosen` (all by default) and write them all; returns the tables."""
    own, edits = sort_edits(Recipe, overrides)
    recipe, names = load_recipe(Recipe, own, "lapig"), choose_tables(chosen, lapig_tables.TABLES)
    return measure_all(out, lambda stop: Bench(recipe, load_bundle(bundle, edits), out, threads), names, threads)
