"""`thermapair evaluate translation`: translators side by side on people of a test set, part by part into a ledger that resumes.

out/ledger.jsonl  tables.json  tables.md, and a folder `work`: what the judge saw of pictures, which can be made again
"""

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.attributes import ATTRIBUTES
from models.errors import EnvironmentFault
from models.evaluation.judges import load_judges
from models.evaluation.lapig.distances import frechet_interval
from models.evaluation.translation import psnr, ssim
from models.evaluation.translators import ADAPTED, TRUE, Probes, Recipe, find_groups, join_figures, read_words, tables
from models.faces.pack import open_sessions
from models.visible import cache
from models.weights.bundle import Bundle, load_bundle
from pipelines.evaluation.adapted import embed_faces
from pipelines.evaluation.measuring import Measuring, keep, load_recipe, measure_all, sort_edits
from pipelines.evaluation.translators.pages import render_tables
from pipelines.evaluation.translators.people import People
from pipelines.evaluation.translators.rivals import Rivals

TABLE = "translation"


class Cell(NamedTuple):
    """One line of the ledger: a row of the tables, which of its seeds, and the people of a part."""

    row: str
    seed: int
    part: int
    table: str = TABLE


class Bench(Measuring[Cell]):
    """Measures the cells of one recipe, of a bundle on the rows at `data`, into the ledger of a folder."""

    cell = Cell

    def __init__(self, recipe: Recipe, bundle: Bundle, data: str, out: Path, reader: str = "") -> None:
        self.recipe, self.bundle, self.data = recipe, bundle, data
        self.people = People(data, recipe, reader)
        super().__init__(recipe, recipe.digest(self.people.pairs.digest), out)
        self._row_digest = lru_cache(None)(self._digest_row)

    # What there is to do

    @cached_property
    def rivals(self) -> Rivals:
        """The translators that are compared."""
        return Rivals(self.recipe, self.bundle)

    @property
    def _rows(self) -> dict[str, list[Any]]:
        """The translators by row, of the rows that can be measured on these people."""
        return {row: parts for row, parts in self.rivals.rows.items() if row not in self.people.left_out}

    def digest_of(self, cell: Cell) -> str:
        """Return what tells the numbers of a row from others': people, judge, and the translator's weights and settings."""
        return self._row_digest(cell.row, cell.seed)

    def _digest_row(self, row: str, seed: int) -> str:
        return self.recipe.digest(self.people.pairs.digest, row, *self.rivals.digest(row, seed))

    def cells(self, chosen: Sequence[str]) -> Iterator[Cell]:
        """Yield the cells in order; there is one table's alone."""
        for row, seeds in self._rows.items():
            for seed in range(len(seeds)):
                yield from (Cell(row, seed, part) for part in range(self.people.parts))

    def keeps(self, cell: Cell) -> bool:
        """Return True: what the judge saw."""
        return True

    def place(self, cell: Cell) -> Path:
        """Return where that lies."""
        return self.work / f"{self.digest_of(cell)}-{cell.part}.npz"

    # What is measured

    def read(self, cell: Cell) -> dict[str, Any]:
        """Translate the probes of a part, keep what the judge sees of them, and return what the line says."""
        chosen = self.people.probes(cell.part)
        rows = self.people.rows(chosen)
        # An adapted recogniser makes no picture that the judge could read.
        if cell.row == ADAPTED:
            own = self.rivals.adapted(cell.seed)
            keep(self.place(cell), vectors=own.embed_probes(rows["thermal"], rows["thermal_landmarks_70"]))
            return {"measures": {}}
        # What the judge reads in the first draw, and how far that is from the true picture.
        draws = self.rivals.draw(cell.row, cell.seed, rows, chosen)
        judges = load_judges(self.folder)
        read = judges.judge_attributes(draws[0])
        words = np.stack([read[name].argmax(axis=1) for name in ATTRIBUTES], axis=1)
        figures: dict[str, Any] = {"words": words}
        if not self.people.apart:
            figures |= {name: compare(draws[0], rows["visible"]) for name, compare in (("psnr", psnr), ("ssim", ssim))}
        if len(draws) > 1:
            figures["diversity"] = draws.astype(np.float32).std(axis=0).mean(axis=(1, 2, 3))
        vectors = self._embed(draws[0], rows["landmarks_70" if cell.row == TRUE else "thermal_landmarks_70"])
        keep(self.place(cell), vectors=vectors, features=judges.describe(draws[0]))
        return {"measures": {name: np.round(values, 4).tolist() for name, values in figures.items()}}

    @property
    def folder(self) -> Path:
        """Where the judges are."""
        return cache.from_root(self.recipe.judge)

    @cached_property
    def recogniser(self) -> Any:
        """The judge of identity. Raises EnvironmentFault where there is none."""
        found = open_sessions(self.folder, threads=1)[1]
        if found is None:
            raise EnvironmentFault(
                f"{self.folder} holds no recogniser (an ONNX file of 112 px crops): docs/evaluate.md."
            )
        return found

    def _embed(self, pictures: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return the judge's vectors of pictures aligned on the true points, [N, D]."""
        return embed_faces(self.recogniser, pictures, points)

    # What is said

    def tables(self) -> dict[str, Any]:
        """Return the tables of the rows that are whole."""
        vectors = self.people.embed_gallery(self._embed)
        left = {(cell.row, cell.seed) for cell in self.missing()}
        person = self.people.person[self.people.order]
        rows, features = dict[str, Probes](), dict[str, np.ndarray]()
        for row, parts in self._rows.items():
            seeds = [seed for seed in range(len(parts)) if (row, seed) not in left]
            if not seeds:
                continue
            # What was kept and what the ledger says, a seed after the other.
            kept = [self._kept(row, seed) for seed in seeds]
            each_digest = [self.digest_of(Cell(row, seed, 0)) for seed in seeds]
            figures = [join_figures(self.ledger.lines(one), self.people.parts) for one in each_digest]
            each = {name: np.stack([one[name] for one in figures]) for name in figures[0]}
            known = vectors
            if row == ADAPTED:  # in its own space, not the judge's
                known = np.stack([self.people.embed_gallery(self.rivals.adapted(seed).embed_gallery) for seed in seeds])
            rows[row] = Probes(np.stack([one["vectors"] for one in kept]), person, known, each)
            features |= {row: kept[0]["features"]} if "features" in kept[0] else {}
        probes = self.people.rows(self.people.split.probes[self.people.order])
        found = tables(rows, read_words(probes), find_groups(probes))
        return found | {"distribution": [] if self.people.apart else _distances(features, person)}

    def _kept(self, row: str, seed: int) -> dict[str, np.ndarray]:
        """Return what the judge saw of a row, all parts after each other."""
        parts = [dict(np.load(self.place(Cell(row, seed, part)))) for part in range(self.people.parts)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def render(self, found: dict[str, Any], facts: dict[str, Any]) -> str:
        """Return the tables as Markdown."""
        return render_tables(found, facts)

    def about(self) -> dict[str, Any]:
        """Return the names of bundle and rows, how many people and probes there are, and what these people do not allow."""
        people = self.people
        count = {"people": people.count, "probes": len(people.person)}
        how = {"apart": people.apart, "by_lists": people.by_lists, "left_out": people.left_out}
        return {"bundle": self.bundle.name, "data": self.data, **count, **how}


def _distances(features: dict[str, np.ndarray], person: np.ndarray) -> list[dict[str, Any]]:
    """Return FID-world of each row from the true pictures, of people with equally many probes; person: of each probe."""
    people, counts = np.unique(person, return_counts=True)
    usual = np.bincount(counts).argmax()
    rows = np.concatenate([np.flatnonzero(person == one) for one in people[counts == usual]])

    def group(values: np.ndarray) -> np.ndarray:
        return values[rows].reshape(-1, int(usual), values.shape[1])

    return [
        {"row": row, "FID-world": frechet_interval(group(values), group(features[TRUE]))}
        for row, values in features.items()
        if row != TRUE and TRUE in features
    ]


def run(
    out: Path, data: str, bundle: str, overrides: Sequence[str] = (), threads: int = 1, *, reader: str = ""
) -> dict[str, Any]:
    """Measure what is missing on the rows at `data`, write the tables and return them.

    reader: of a published set, whose rows they are: its test people are read, and pictures in colour alone.

    Raises a UserError for a bundle without a translator, and for people whom the judges know, or who have one view alone.
    """
    own, edits = sort_edits(Recipe, overrides)
    recipe = load_recipe(Recipe, own, "translation")
    return measure_all(out, lambda stop: Bench(recipe, load_bundle(bundle, edits), data, out, reader), threads=threads)
