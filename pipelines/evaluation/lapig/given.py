"""`thermapair evaluate lapig --data URI`: what can be read of pairs that are there already, whoever made or took them.

Who is shown among their own people, the pose and the words that rows say, whether the halves agree, diversity and, of degrees,
the mean of every region. What needs the true pair of the same person (degrees, distance of distributions) is left out.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.attributes import ATTRIBUTES
from models.columns import Columns
from models.config import digest_of
from models.errors import UserError
from models.evaluation.judges import load_judges
from models.evaluation.lapig import tables as lapig_tables
from models.evaluation.lapig.people import space_of
from models.evaluation.lapig.read import (
    Readers,
    diversity_figures,
    look_at,
    own_people_figures,
    pair_figures,
    region_means,
    thumbs,
    view_figures,
)
from models.evaluation.lapig.recipe import GivenRecipe
from models.visible import cache
from models.weights.bundle import Bundle, digests, load_bundle
from pipelines.evaluation.lapig.making import load_readers
from pipelines.evaluation.lapig.pages import render_tables
from pipelines.evaluation.measuring import Measuring, keep, load_recipe, measure_all, sort_edits
from pipelines.rows.shards import Shards

GIVEN = "given"
LAYERS = 16
"""Rows of a sample at most: conditions and draws."""
NEEDED = ("identity_id", "sample_id", "visible")
USED = ("thermal", "condition", "classes", "embedding", "attributes", "pose", "pose_asked")
"""What is read where rows have it."""


def run(
    out: Path,
    data: str,
    bundle: str = "starter",
    overrides: Sequence[str] = (),
    threads: int = 1,
    split: str | None = None,
) -> dict[str, Any]:
    """Read the pairs at `data`, those of `split` alone if one is given, and write their tables; returns them.

    Raises a UserError for rows without people or pictures.
    """
    own, edits = sort_edits(GivenRecipe, overrides)
    recipe, models = load_recipe(GivenRecipe, own, "lapig --data"), load_bundle(bundle, edits)
    return measure_all(out, lambda stop: Given(recipe, models, data, out, threads, split), threads=threads)


class Cell(NamedTuple):
    """One line of the ledger: the pairs of a part."""

    part: int
    row: str = GIVEN
    table: str = "pairs"


class Given(Measuring[Cell]):
    """Reads the pairs at `data`, part by part, into the ledger of a folder."""

    cell = Cell

    def __init__(
        self, recipe: GivenRecipe, bundle: Bundle, data: str, out: Path, threads: int, split: str | None = None
    ) -> None:
        self.recipe, self.bundle, self.split = recipe, bundle, split
        # Which rows are of which sample is known before any picture is decoded.
        names = Shards(data, ("sample_id",), split=split, limit=LAYERS * recipe.limit)
        self.samples = find_samples(names, recipe.limit)
        last = int(self.samples[-1][-1]) + 1
        self.rows = Shards(data, (*NEEDED, *USED), optional=USED, split=split, memory=0, limit=last)
        faces, landmarks = load_readers(bundle, threads)
        judges = load_judges(cache.from_root(recipe.judge))
        self.readers = Readers(judges, space_of(recipe.judge), faces, landmarks)
        # Only what reads decides: the bundle's detector, recogniser and landmarker.
        reading = {name: part for name, part in bundle.parts.items() if part.stage in ("faces", "landmarks")}
        parts = {name: digests(part, bundle.folder) for name, part in reading.items()}
        chosen = {name: part.model_dump(mode="json", exclude={"weights"}) for name, part in reading.items()}
        super().__init__(recipe, recipe.digest(digest_of(parts, chosen), self.rows.digest), out)
        self.work /= self.digest

    def cells(self, chosen: Sequence[str]) -> Iterable[Cell]:
        """Yield the parts in order."""
        return map(Cell, range(-(-len(self.samples) // self.recipe.together)))

    def keeps(self, cell: Cell) -> bool:
        """Return True: what the judges saw."""
        return True

    def place(self, cell: Cell) -> Path:
        """Return where that lies."""
        return self.work / f"given-{cell.part}.npz"

    def read(self, cell: Cell) -> dict[str, Any]:
        """Read the pairs of a part."""
        first = cell.part * self.recipe.together
        measures, kept = read_samples(self.readers, self.rows, self.samples[first : first + self.recipe.together])
        keep(self.place(cell), **kept)
        return {"measures": measures}

    def tables(self) -> dict[str, Any]:
        """Return the tables of all parts."""
        return collect_tables(self.lines(), self.work)

    def render(self, found: dict[str, Any], facts: dict[str, Any]) -> str:
        """Return the tables as Markdown."""
        return render_tables(found, facts)

    def about(self) -> dict[str, Any]:
        """Return where the pairs are, how many of how many people are read, and by whose detector and landmarker."""
        read = np.concatenate(self.samples)
        people = np.unique(self.rows.values("identity_id")[read].astype(str))
        facts = {"data": self.rows.uri, "read_split": self.split, "pictures": len(self.samples), "shown": len(people)}
        return {"bundle": self.bundle.name, **facts}


def find_samples(rows: Shards, limit: int) -> list[np.ndarray]:
    """Return the rows of each of the first `limit` samples, int [layers]: rows of a sample lie together."""
    names = rows.rows(np.arange(len(rows)))["sample_id"]
    starts = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]]))
    found = np.split(np.arange(len(names)), starts[1:])
    if len(found) < 2:
        raise UserError(f"{rows.uri}: intervals are over people, and it holds one picture.")
    return found[:limit]


def read_samples(readers: Readers, shards: Shards, samples: Sequence[np.ndarray]) -> tuple[dict[str, Any], Columns]:
    """Return a part's figures, picture by picture, and what is kept of them: whose, and what the judges saw."""
    rows = shards.rows(np.concatenate(samples))
    starts = np.cumsum([0, *(len(sample) for sample in samples[:-1])])
    first = {name: values[starts] for name, values in rows.items() if name not in ("thermal", "condition")}
    seen = look_at(readers, first["visible"])
    measures: dict[str, Any] = {"person": first["identity_id"].astype(str).tolist()}
    if "embedding" in first:
        measures["cosine"] = np.round((seen.own * first["embedding"]).sum(axis=1), 4).tolist()
    measures["face_found"] = np.isfinite(seen.own[:, 0]).astype(float).tolist()
    # What was asked for, else what the rows themselves say.
    for name in ("pose_asked", "pose"):
        if name in first:
            measures |= view_figures(seen, first[name])
            break
    if "attributes" in first:
        measures |= {"asked_words": read_words(first["attributes"]), "found_words": seen.words.tolist()}
    if "thermal" in rows:
        measures |= _read_thermal(readers, rows, first, seen.boxes, starts)
    kept = {"judge": seen.judge, "grey": seen.judge_grey, "features": seen.features, "small": thumbs(first["visible"])}
    return measures, kept


def read_words(texts: np.ndarray) -> list[list[int]]:
    """Return the number of each attribute's word, -1 where a row says none, or one that is not ours."""
    said = [json.loads(text) if text else {} for text in texts]
    return [
        [words.index(row[name]) if row.get(name) in words else -1 for name, (_, _, words) in ATTRIBUTES.items()]
        for row in said
    ]


def _read_thermal(
    readers: Readers, rows: Columns, first: Columns, boxes: np.ndarray, starts: np.ndarray
) -> dict[str, Any]:
    """Return the figures of the thermal halves: of the first layer of each sample, and the mean of each region by condition."""
    celsius = rows["thermal"][starts]
    figures: dict[str, Any] = pair_figures(readers, first["visible"], celsius[:, None], boxes)
    if celsius.dtype.kind != "f" or "classes" not in first:
        return figures
    # The mean of each region by condition: a sample without that condition has none.
    owner = np.searchsorted(starts, np.arange(len(rows["thermal"])), side="right") - 1
    for condition in np.unique(rows["condition"]) if "condition" in rows else ():
        mine = rows["condition"] == condition
        for name, values in region_means(rows["thermal"][mine][:, None], rows["classes"][mine]).items():
            spread = np.full(len(starts), np.nan)
            spread[owner[mine]] = values[:, 0]
            figures[f"mean_{name}, {condition or 'no condition'}"] = np.round(spread, 3).tolist()
    return figures


def collect_tables(lines: Sequence[dict[str, Any]], work: Path) -> dict[str, Any]:
    """Return the tables of all parts: what compares pictures with each other is measured over all of them at once."""
    lines = sorted({line["part"]: line for line in lines}.values(), key=lambda line: int(line["part"]))
    kept = [dict(np.load(work / f"given-{line['part']}.npz")) for line in lines]
    names = dict.fromkeys(name for line in lines for name in line["measures"])
    measures: dict[str, Any] = {name: [] for name in names}
    for line in lines:
        for name in names:
            measures[name] += line["measures"].get(name) or [float("nan")] * len(line["measures"]["person"])
    # What compares pictures: who is nearest to whom, among all people that were read.
    seen = {name: np.concatenate([one[name] for one in kept]) for name in kept[0]}
    _, measures["person"] = np.unique(measures["person"], return_inverse=True)
    count = int(measures["person"].max()) + 1
    sizes = tuple(dict.fromkeys([min(100, count), count])) if count > 1 else ()
    measures |= own_people_figures(seen["judge"], seen["grey"], measures["person"], sizes)
    measures |= diversity_figures(seen["small"], seen["features"], seen["judge"], measures["person"])
    whole = {"table": "pairs", "row": GIVEN, "part": 0, "measures": measures}
    return lapig_tables.tables([whole], sizes or (1,))
