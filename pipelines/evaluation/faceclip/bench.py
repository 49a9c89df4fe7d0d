"""`thermapair evaluate faceclip`: ways of telling a small U-Net face and text, trained alike and read by judges.

out/ledger.jsonl  tables.json  tables.md, and a folder `work` of what can be made again: renders, weights, features of pictures
"""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from models.attributes import ATTRIBUTES
from models.config import digest_of
from models.evaluation.faceclip import tables as faceclip_tables
from models.evaluation.faceclip.recipe import Recipe
from models.evaluation.faceclip.tables import BUNDLE, KNOWN, TABLES, TRUE
from models.evaluation.faceclip.ways import WAYS
from models.evaluation.judges import load_judges
from models.evaluation.lapig.distances import by_people, copy_paste, frechet_interval, ranks
from models.evaluation.lapig.people import TruePairs, render_people, space_of
from models.evaluation.lapig.read import Readers, Seen, look_at
from models.evaluation.lapig.tables import UNREAD
from models.faces.metrics import unit_vectors
from models.judges.attributes import label
from models.tasks.faceclip.aligned import AlignedEncoder, load_trained
from models.tasks.faceclip.asking import ask, find_pictures
from models.tasks.faceclip.rows import prepare_rows
from models.visible import cache
from models.visible.faceclip.clip import Clip
from models.visible.faceclip.files import load_clip
from models.weights.bundle import Bundle, digests, load_bundle
from models.weights.store import contents_digest
from pipelines.config.chain import faces_link
from pipelines.evaluation.faceclip.beside import BundlePart, clip_scores, without_portraits
from pipelines.evaluation.faceclip.pages import render_tables
from pipelines.evaluation.faceclip.trainings import Inputs, Trainings
from pipelines.evaluation.lapig.people import load_true
from pipelines.evaluation.ledger import Line, cell_of
from pipelines.evaluation.measuring import Measuring, Stop, choose_tables, keep, load_recipe, measure_all, sort_edits

UNSEEN = [place for place, name in enumerate(ATTRIBUTES) if name in UNREAD]


class Cell(NamedTuple):
    """One line of the ledger: a training, or a row of a table, of the people of a part."""

    table: str
    row: str
    seed: int
    part: int


class Bench(Measuring[Cell]):
    """Measures the cells of one recipe into the ledger of a folder."""

    cell = Cell

    def __init__(self, recipe: Recipe, inputs: Inputs, bundle: Bundle, out: Path, stop: Stop = lambda: False) -> None:
        self.recipe, self.inputs, self.bundle = recipe, inputs, bundle
        self.trainings = Trainings(recipe, inputs, stop)
        parts = {name: digests(bundle.part(name), bundle.folder) for name in ("visible", "faces")}
        chosen = {name: bundle.part(name).model_dump(mode="json") for name in parts} | {"size": bundle.size}
        begun = self.trainings.settings.init
        folders = [contents_digest(Path(path)) for path in (*inputs[:2], *([begun] if begun else []))]
        super().__init__(
            recipe, recipe.digest(*folders, self.trainings.data.digest, digest_of(parts, chosen)), out, stop
        )
        self.work /= self.digest
        self.true = lru_cache(4)(self._load_true)
        self.seen_true = lru_cache(4)(self._see_true)

    # What there is to do

    def cells(self, chosen: Sequence[str]) -> Iterable[Cell]:
        """Yield the cells of tables in order."""
        recipe = self.recipe
        if "embedding" in chosen:
            yield from (Cell("embedding", "all", 0, part) for part in range(recipe.retrieved // recipe.together))
        if "pictures" in chosen:
            parts = range(recipe.people // recipe.together)
            yield from (Cell("pictures", row, 0, part) for row in (TRUE, KNOWN, BUNDLE) for part in parts)
            for seed in recipe.seeds:
                for way in recipe.ways:
                    yield Cell("trainings", way, seed, 0)
                    yield from (Cell("pictures", way, seed, part) for part in parts)

    def keeps(self, cell: Cell) -> bool:
        """Return True: weights, or what judges saw."""
        return True

    def place(self, cell: Cell) -> Path:
        """Return where that lies; weights in a folder."""
        place = super().place(cell)
        return place.with_suffix("") if cell.table == "trainings" else place

    def read(self, cell: Cell) -> dict[str, Any]:
        """Return what the line of a cell says."""
        if cell.table == "trainings":
            return {"measures": self.trainings.run(cell.row, cell.seed, self.place(cell))}
        return {"measures": self._find(cell) if cell.table == "embedding" else self._read(cell)}

    # Who

    def _load_true(self, part: int) -> TruePairs:
        """Return a part's true pictures, rendered once: one that shows who is asked for, and one of each caption."""
        first, size = part * self.recipe.together, self.trainings.settings.size
        path = self.work / f"true-{part}.npz"
        return load_true(path, lambda: render_people(self.recipe.renders, first, self.recipe.together, size), _ROWS)

    def _crops(self, part: int) -> np.ndarray:
        """Return the faces that are asked with, those of the known pictures, uint8 [people, 112, 112, 3]."""
        true = self.true(part)
        return prepare_rows({
            "visible": true.known[:, 0],
            "landmarks_70": true.points[:, 0],
            "world_identity": np.arange(len(true.known)),
            "view": np.zeros(len(true.known), int),
            "attributes": np.array([""] * len(true.known), object),
        })["crop"]  # fmt: skip

    # The embedding

    @cached_property
    def aligned(self) -> AlignedEncoder:
        """The encoder with the heads of its alignment, and the towers."""
        return load_trained(Path(self.inputs.encoder), Path(self.inputs.towers))

    def _find(self, cell: Cell) -> dict[str, Any]:
        """Keep the vectors of a part's true pictures and of what asks for them; return what the conflict test chooses."""
        rows, each = self.true(cell.part).rows, self.recipe.captions
        count = len(rows["person"])
        data = prepare_rows({**rows, "world_identity": rows["person"], "view": np.arange(count)})
        crops, captions = np.repeat(self._crops(cell.part), each, axis=0), [str(text) for text in rows["caption"]]
        with torch.inference_mode():
            vectors, chosen = ask(self.aligned, data, crops, captions)
        keep(self.place(cell), person=rows["person"], **vectors, **chosen)
        return {name: round(float(values.mean()), 4) for name, values in chosen.items()}

    def _embedding(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return what is found by face, text and both among all pictures, by its name, float [N]; and whose they are, int [N]."""
        cells = [cell for cell in self.cells(("embedding",)) if self.place(cell).is_file()]
        if not cells:
            return {}, np.zeros(0, int)
        parts = [dict(np.load(self.place(cell))) for cell in cells]
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        person = found.pop("person")
        chosen = {name: values for name, values in found.items() if name.startswith("conflict_")}
        return find_pictures(found) | chosen, person

    # Pictures

    @cached_property
    def clip(self) -> Clip:
        """The small CLIP, which says how near a picture is to its caption."""
        return load_clip(Path(self.inputs.towers))

    @cached_property
    def part(self) -> BundlePart:
        """The bundle's own way of drawing a face."""
        return BundlePart(self.bundle)

    @cached_property
    def readers(self) -> Readers:
        """The judges, and the bundle's detector and recogniser."""
        folder = self.recipe.judge
        return Readers(load_judges(cache.from_root(folder)), space_of(folder), faces_link(self.bundle).load(1))

    def _see_true(self, part: int) -> tuple[Seen, Seen]:
        """Return what is seen of a part's known pictures, and of its true ones."""
        true = self.true(part)
        return look_at(self.readers, true.known[:, 0]), look_at(self.readers, true.rows["visible"])

    def _read(self, cell: Cell) -> dict[str, Any]:
        """Draw a part's pictures in a way, or take a baseline's, and read them."""
        asked = self._asked(cell.part)
        pictures = self._pictures(cell, asked)
        rows = {name: values[asked] for name, values in self.true(cell.part).rows.items()}
        known, true = self.seen_true(cell.part)
        seen, owner = look_at(self.readers, pictures), asked // self.recipe.captions
        reference, target = known.judge[owner], true.judge[asked]
        # The right words: those that are read well on true pictures.
        words = label(rows["attributes"])
        right = np.delete(seen.words == words, UNSEEN, axis=1).mean(axis=1)
        figures = {
            "reference": (seen.judge * reference).sum(axis=1),
            "other_view": (seen.judge * target).sum(axis=1),
            "copy_paste": copy_paste(seen.judge, target, reference),
            "words": right,
            "clip": clip_scores(self.clip, pictures, [str(text) for text in rows["caption"]]),
            "face_found": np.isfinite(seen.own[:, 0]).astype(float),
        }
        keep(self.place(cell), features=seen.features, judge=seen.judge, **self._others(cell))
        lists = {name: [round(float(value), 4) for value in values] for name, values in figures.items()}
        return {
            "person": rows["person"].tolist(),
            **lists,
            "asked_words": words.tolist(),
            "found_words": seen.words.tolist(),
        }

    def _asked(self, part: int) -> np.ndarray:
        """Return which of a part's true rows are asked for: the first `views` captions of each person."""
        places = np.arange(self.recipe.together * self.recipe.captions)
        return places[places % self.recipe.captions < self.recipe.views]

    def _others(self, cell: Cell) -> dict[str, np.ndarray]:
        """Return, with the true pictures, whom pictures of a part are looked up among, by the judge: `gallery`, the mean of true
        pictures that nobody asks for, float [people, 512]."""
        if cell.row != TRUE:
            return {}
        _, true = self.seen_true(cell.part)
        each = true.judge.reshape(self.recipe.together, self.recipe.captions, -1)[:, self.recipe.views :]
        return {"gallery": unit_vectors(np.nan_to_num(each).sum(axis=1))}

    def _with_ranks(self, lines: Sequence[Line]) -> list[Line]:
        """Return lines with `rank1` of their pictures among all people that there are by now, however many there were before."""
        # Everybody by true pictures that nobody asked for; not before the last part has them.
        parts = range(self.recipe.people // self.recipe.together)
        paths = [self.place(Cell("pictures", TRUE, 0, part)) for part in parts]
        if not all(path.is_file() for path in paths):
            return list(lines)
        gallery = np.concatenate([np.load(path)["gallery"] for path in paths])

        # Each picture among them, by what the judge saw of it.
        def rank(line: Line) -> Line:
            judge = np.load(self.place(cell_of(line, Cell)))["judge"]
            measures = line["measures"]
            found = ranks(judge, np.array(measures["person"]), gallery, (len(gallery),))[len(gallery)]
            return line | {"measures": measures | {"rank1": found.tolist()}}

        return [rank(line) if line["table"] == "pictures" else line for line in lines]

    def _pictures(self, cell: Cell, asked: np.ndarray) -> np.ndarray:
        """Return the pictures of a row, uint8 [N, S, S, 3]."""
        true, owner = self.true(cell.part), asked // self.recipe.captions
        if cell.row == TRUE:
            return true.rows["visible"][asked]
        if cell.row == KNOWN:
            return true.known[owner, 0]
        # Drawn: the same captions and noise in every way.
        captions = [str(text) for text in true.rows["caption"][asked]]
        names = [f"evaluate/{person}/{place}" for person, place in zip(true.rows["person"][asked], asked, strict=True)]
        crops = self._crops(cell.part)[owner]
        if cell.row == BUNDLE:
            known, _ = self.seen_true(cell.part)
            return self.part.draw(np.nan_to_num(known.own[owner]), crops, captions, names)
        place = self.place(cell._replace(table="trainings", part=0))
        return self.trainings.draw(cell.row, cell.seed, place, crops, captions, names)

    def tables(self) -> dict[str, Any]:
        """Return every table that the ledger allows."""
        lines = [line for line in self.lines() if line["part"] * self.recipe.together < self.recipe.people]
        return faceclip_tables.tables(self._with_ranks(lines), *self._embedding()) | {
            "distribution": self._distribution()
        }

    def render(self, found: dict[str, Any], facts: dict[str, Any]) -> str:
        """Return the tables as Markdown."""
        return render_tables(found, facts)

    def about(self) -> dict[str, Any]:
        """Return the name of the bundle, what its visible part is, and the number of rows that are trained on."""
        part = without_portraits(self.bundle).part("visible")
        settings = ", ".join(f"{name} {json.dumps(value)}" for name, value in part.settings.items())
        return {"bundle": self.bundle.name, "kind": part.kind, "settings": settings, "rows": len(self.trainings.data)}

    def _distribution(self) -> list[dict[str, Any]]:
        """Return the Frechet distance of each row's pictures from the true ones of the same captions, of the first seed."""
        places = {name: list[Path]() for name in (TRUE, KNOWN, *WAYS, BUNDLE)}
        for cell in self.cells(("pictures",)):
            if cell.table == "pictures" and cell.seed == (self.recipe.seeds[0] if cell.row in WAYS else 0):
                places[cell.row].append(self.place(cell))
        kept = {row: paths for row, paths in places.items() if paths and all(path.is_file() for path in paths)}
        features = {row: np.concatenate([np.load(path)["features"] for path in paths]) for row, paths in kept.items()}
        if TRUE not in features:
            return []
        true = by_people(features.pop(TRUE), self.recipe.views)
        return [
            {"row": row, "value": frechet_interval(by_people(own, self.recipe.views), true)}
            for row, own in features.items()
        ]


_ROWS = ("visible", "landmarks_70", "attributes", "caption", "person")
"""Columns of true pictures that are kept."""


def run(
    out: Path,
    encoder: str,
    towers: str,
    data: str,
    bundle: str = "starter",
    overrides: Sequence[str] = (),
    chosen: Sequence[str] = (),
    threads: int = 1,
) -> dict[str, Any]:
    """Measure what is missing of the tables `chosen` (all by default) and write them all; returns the tables."""
    own, edits = sort_edits(Recipe, overrides)
    recipe, names = load_recipe(Recipe, own, "faceclip"), choose_tables(chosen, TABLES)
    inputs = Inputs(encoder, towers, data)
    return measure_all(out, lambda stop: Bench(recipe, inputs, load_bundle(bundle, edits), out, stop), names, threads)
