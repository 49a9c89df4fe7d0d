"""`thermapair evaluate translation`: translators side by side on people of a test set, part by part into a ledger that resumes.

out/ledger.jsonl  tables.json  tables.md, and a folder `work`: what the judge saw of pictures, which can be made again
"""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.attributes import ATTRIBUTES
from models.columns import Columns
from models.config import digest_of
from models.errors import EnvironmentFault
from models.evaluation.judges import load_judges
from models.evaluation.lapig.distances import frechet_interval
from models.evaluation.translation import COLUMNS, Split, psnr, show_thermal, split_rows, ssim
from models.evaluation.translators import (
    ADAPTED,
    FOLDERS,
    GIVEN,
    MAMBA,
    ONE_STEP,
    RAW,
    REGRESSION,
    TRUE,
    UNTOLD,
    WHY,
    Probes,
    Recipe,
    find_groups,
    join_figures,
    read_words,
    tables,
)
from models.faces.align import five_points
from models.faces.pack import open_sessions
from models.judges.people import check_unseen
from models.landmarks.found import can_align, fill_points
from models.stages import import_settings, import_stage, package_of, parse_settings
from models.temperature import from_grey, to_centikelvin
from models.visible import cache
from models.weights.bundle import MAIN, Bundle, Part, Weights, digests, load_bundle
from pipelines.config.translate import grey_of
from pipelines.evaluation.adapted import Recognisers, adapted_parts, embed_faces, load_recognisers
from pipelines.evaluation.measuring import Measuring, keep, load_recipe, measure_all, sort_edits
from pipelines.evaluation.sources import test_split
from pipelines.evaluation.translators.pages import render_tables
from pipelines.rows.shards import Shards

TABLE = "translation"
BATCH = 8
"""Pictures of one forward pass of a translator."""
ROOM = ("condition",)


class Cell(NamedTuple):
    """One line of the ledger: a row of the tables, which of its seeds, and the people of a part."""

    row: str
    seed: int
    part: int
    table: str = TABLE


class Bench(Measuring[Cell]):
    """Measures the cells of one recipe, of a bundle on the rows at `data`, into the ledger of a folder."""

    cell = Cell

    def __init__(self, recipe: Recipe, bundle: Bundle, data: str, out: Path, published: bool = False) -> None:
        self.recipe, self.bundle, self.data = recipe, bundle, data
        optional = ("world_identity", *ROOM)
        how: dict[str, Any] = {"split": test_split(data), "colour": True} if published else {}
        self.shards = Shards(data, (*COLUMNS, *optional), optional=optional, memory=0, **how)
        super().__init__(recipe, recipe.digest(self.shards.digest), out)
        self.stage, self._row_digest = lru_cache(1)(self._load_stage), lru_cache(None)(self._digest_row)
        self.adapted = lru_cache(None)(self._load_adapted)
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
        """Place in the gallery of each probe's person."""

    def _find_points(self) -> np.ndarray:
        """Return the points of all rows, float32 [N, 70, 2]: given, else found by the landmarker; NaN where there is no face."""
        given = self.shards.lists("landmarks_70").reshape(-1, 70, 2)
        for k in np.flatnonzero(~can_align(five_points(given))):
            given[k] = fill_points(self.shards.rows(np.array([k])), cache.from_root(self.recipe.landmarks))[0]
        return given

    def _rows(self, chosen: np.ndarray) -> Columns:
        """Return rows by number, with their points."""
        return self.shards.rows(chosen) | {"landmarks_70": self.points[chosen]}

    # What there is to do

    @cached_property
    def rows(self) -> dict[str, list[Part | None]]:
        """Row -> the translators of its seeds; None for a row without one."""
        own = self.bundle.part("translate")
        found: dict[str, list[Part | None]] = {RAW: [None], TRUE: [None], MAMBA: [own], ONE_STEP: [own]}
        if own.kind == "latent-diffusion":
            found |= {UNTOLD: [own], GIVEN: [own]}
        found[MAMBA] += [_put(own, folder) for folder in self.recipe.mamba]
        found |= {row: [_put(own, one) for one in getattr(self.recipe, field)] for row, field in FOLDERS.items()}
        found[ADAPTED] = list(adapted_parts(self.bundle, [str(Path(one).absolute()) for one in self.recipe.hfr]))
        if "steps" not in self._settings_of(own):
            del found[ONE_STEP]
        return {row: found[row] for row in WHY if found.get(row)}

    def _settings_of(self, part: Part) -> Any:
        return import_settings(package_of("translate", part.kind, "translate.kind")).Settings.model_fields

    def digest_of(self, cell: Cell) -> str:
        """Return what tells the numbers of a row from others': people, judge, and the translator's weights and settings."""
        return self._row_digest(cell.row, cell.seed)

    def _digest_row(self, row: str, seed: int) -> str:
        part = self.rows[row][seed]
        models = () if part is None else (part.model_dump(mode="json"), digests(part, self.bundle.folder))
        return self.recipe.digest(self.shards.digest, row, *map(digest_of, models))

    @property
    def parts(self) -> int:
        """Lines of the ledger that a row's people fill."""
        return -(-len(self.split.gallery) // self.recipe.together)

    def cells(self, chosen: Sequence[str]) -> Iterator[Cell]:
        """Yield the cells in order; there is one table's alone."""
        for row, seeds in self.rows.items():
            for seed in range(len(seeds)):
                yield from (Cell(row, seed, part) for part in range(self.parts))

    def keeps(self, cell: Cell) -> bool:
        """Return True: what the judge saw."""
        return True

    def place(self, cell: Cell) -> Path:
        """Return where that lies."""
        return self.work / f"{self.digest_of(cell)}-{cell.part}.npz"

    # What is measured

    def read(self, cell: Cell) -> dict[str, Any]:
        """Translate the probes of a part, keep what the judge sees of them, and return what the line says."""
        chosen = self.split.probes[self.person // self.recipe.together == cell.part]
        rows = self._rows(chosen)
        if cell.row == ADAPTED:
            keep(self.place(cell), vectors=self.adapted(cell.seed).embed_probes(rows["thermal"], rows["landmarks_70"]))
            return {"measures": {}}
        draws = self._draw(cell, rows, chosen)
        judges = load_judges(self.folder)
        read = judges.judge_attributes(draws[0])
        words = np.stack([read[name].argmax(axis=1) for name in ATTRIBUTES], axis=1)
        figures: dict[str, Any] = {"words": words}
        figures |= {name: compare(draws[0], rows["visible"]) for name, compare in (("psnr", psnr), ("ssim", ssim))}
        if len(draws) > 1:
            figures["diversity"] = draws.astype(np.float32).std(axis=0).mean(axis=(1, 2, 3))
        vectors = self._embed(draws[0], rows["landmarks_70"])
        keep(self.place(cell), vectors=vectors, features=judges.describe(draws[0]))
        return {"measures": {name: np.round(values, 4).tolist() for name, values in figures.items()}}

    def _draw(self, cell: Cell, rows: Columns, chosen: np.ndarray) -> np.ndarray:
        """Return what a row makes of thermal pictures, uint8 [K, N, S, S, 3]; chosen: their numbers, which noise follows from."""
        part = self.rows[cell.row][cell.seed]
        if part is None:
            return (show_thermal(rows["thermal"]) if cell.row == RAW else rows["visible"])[None]
        stage, settings = self.stage(cell.row, cell.seed)
        mean = cell.row in (ONE_STEP, REGRESSION)
        degrees = rows["thermal"]
        if degrees.dtype == np.uint8:  # grey levels, taken for degrees as `translate` takes them
            degrees = from_grey(degrees, grey_of(part, self.bundle.folder))
        thermal = to_centikelvin(degrees)[:, None]
        told = self._told(cell.row, rows, stage)
        made = []
        for draw in range(1 if mean else self.recipe.draws):
            names = np.array([f"evaluated {number}/{draw}" for number in chosen], object)
            made.append(stage({"thermal": thermal, "noise_id": names}, settings, BATCH, **told)["translated"])
        return np.stack(made)

    def _told(self, row: str, rows: Columns, stage: Any) -> dict[str, list[dict[str, str]]]:
        """Return `given`, the words that a row is told of each picture; {} where it draws them itself."""
        if row not in (UNTOLD, GIVEN):
            return {}
        known = stage.parts.translator.config.words if row == GIVEN else ()
        said = [json.loads(text) for text in rows["attributes"]]
        return {"given": [{name: word for name, word in one.items() if name in known} for one in said]}

    def _load_stage(self, row: str, seed: int) -> tuple[Any, Any]:
        """Return the translator of a row, and its settings."""
        part = self.rows[row][seed]
        assert part is not None
        package = package_of("translate", part.kind, "translate.kind")
        kind = import_settings(package)
        more = {"steps": 1} if row in (ONE_STEP, REGRESSION) else {}
        settings = parse_settings(kind.Settings, {**part.settings, **more}, "translate.settings")
        folder = self.bundle.model_copy(update={"parts": {"translate": part}}).fetch("translate")
        options = parse_settings(kind.Options, part.options, "translate.options")
        return import_stage(package)(folder, options, dtype=part.dtype, threads=1), settings

    # Who is found

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

    def _load_adapted(self, seed: int) -> Recognisers:
        part = self.rows[ADAPTED][seed]
        assert part is not None
        return load_recognisers(part, self.bundle.folder)

    def _embed(self, pictures: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return the judge's vectors of pictures aligned on the true points, [N, D]."""
        return embed_faces(self.recogniser, pictures, points)

    def tables(self) -> dict[str, Any]:
        """Return the tables of the rows that are whole."""
        gallery = self._rows(self.split.gallery)
        vectors = self._embed(gallery["visible"], gallery["landmarks_70"])
        left = {(cell.row, cell.seed) for cell in self.missing()}
        rows, features = dict[str, Probes](), dict[str, np.ndarray]()
        for row, parts in self.rows.items():
            seeds = [seed for seed in range(len(parts)) if (row, seed) not in left]
            if seeds:
                kept = [self._kept(row, seed) for seed in seeds]
                each_digest = [self.digest_of(Cell(row, seed, 0)) for seed in seeds]
                figures = [join_figures(self.ledger.lines(one), self.parts) for one in each_digest]
                each = {name: np.stack([one[name] for one in figures]) for name in figures[0]}
                known = vectors
                if row == ADAPTED:  # in its own space, not the judge's
                    spaces = [self.adapted(seed) for seed in seeds]
                    known = np.stack([one.embed_gallery(gallery["visible"], gallery["landmarks_70"]) for one in spaces])
                rows[row] = Probes(np.stack([one["vectors"] for one in kept]), self._order, known, each)
                features |= {row: kept[0]["features"]} if "features" in kept[0] else {}
        probes = self._rows(self._probes)
        found = tables(rows, read_words(probes), find_groups(probes))
        return found | {"distribution": self._distances(features)}

    def render(self, found: dict[str, Any], facts: dict[str, Any]) -> str:
        """Return the tables as Markdown."""
        return render_tables(found, facts)

    def about(self) -> dict[str, Any]:
        """Return the names of bundle and rows, and how many people and probes there are."""
        count = {"people": len(self.split.gallery), "probes": len(self.split.probes)}
        return {"bundle": self.bundle.name, "data": self.data, **count}

    @cached_property
    def _probes(self) -> np.ndarray:
        """The probes in the order of the ledger: part by part."""
        return self.split.probes[np.argsort(self.person // self.recipe.together, kind="stable")]

    @cached_property
    def _order(self) -> np.ndarray:
        return self.person[np.argsort(self.person // self.recipe.together, kind="stable")]

    def _kept(self, row: str, seed: int) -> dict[str, np.ndarray]:
        """Return what the judge saw of a row, all parts after each other."""
        parts = [dict(np.load(self.place(Cell(row, seed, part)))) for part in range(self.parts)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _distances(self, features: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """Return FID-world of each row from the true pictures, of people with equally many probes."""
        people, counts = np.unique(self._order, return_counts=True)
        usual = np.bincount(counts).argmax()
        rows = np.concatenate([np.flatnonzero(self._order == one) for one in people[counts == usual]])

        def group(values: np.ndarray) -> np.ndarray:
            return values[rows].reshape(-1, int(usual), values.shape[1])

        return [
            {"row": row, "FID-world": frechet_interval(group(values), group(features[TRUE]))}
            for row, values in features.items()
            if row != TRUE and TRUE in features
        ]


def _put(part: Part, folder: str) -> Part:
    """Return the part with the translator of another folder."""
    return part.model_copy(update={"weights": {**part.weights, MAIN: Weights(uri=str(Path(folder).absolute()))}})


def run(
    out: Path, data: str, bundle: str, overrides: Sequence[str] = (), threads: int = 1, *, published: bool = False
) -> dict[str, Any]:
    """Measure what is missing on the rows at `data`, write the tables and return them.

    published: the rows are of a published set: its split test is read, where it has one, and pictures in colour alone.

    Raises a UserError for a bundle without a translator, and for people whom the judges know, or who have one view alone.
    """
    own, edits = sort_edits(Recipe, overrides)
    recipe = load_recipe(Recipe, own, "translation")
    return measure_all(
        out, lambda stop: Bench(recipe, load_bundle(bundle, edits), data, out, published), threads=threads
    )
