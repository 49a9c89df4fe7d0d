"""Who is asked for in an evaluation on people of the world: their true pairs, what is known of them, and who reads pictures."""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from models.evaluation.judges import load_judges
from models.evaluation.lapig.people import TruePairs, render_known, render_people, space_of
from models.evaluation.lapig.read import Readers, Seen, look_at
from models.evaluation.lapig.recipe import Recipe
from models.faces.metrics import unit_vectors
from models.visible import cache
from models.weights.bundle import Bundle
from pipelines.evaluation.lapig.making import load_readers
from pipelines.evaluation.measuring import keep


def load_true(path: Path, render: Callable[[], TruePairs], columns: Sequence[str] = ()) -> TruePairs:
    """Return the true pairs that are kept under `path`, rendered where they are not.

    columns: those that are kept; all by default.
    """
    if not path.is_file():
        found = render()
        rows = {f"row_{name}": found.rows[name] for name in columns or found.rows}
        keep(path, known=found.known, points=found.points, **rows)
    with np.load(path, allow_pickle=False) as kept:
        rows = {name.removeprefix("row_"): kept[name] for name in kept.files if name.startswith("row_")}
        return TruePairs(kept["known"], kept["points"], rows)


class People:
    """People of the world in parts of `recipe.together`.

    true, seen_true: return a part's true pairs, and what the readers see in their visible pictures. asked: returns who is asked
    for in their rows, float32 [N, 512]: the mean of the known pictures by the bundle's recogniser. The last few are kept.
    """

    def __init__(self, recipe: Recipe, bundle: Bundle, work: Path, threads: int) -> None:
        self.recipe, self.bundle, self.work, self.threads = recipe, bundle, work, threads
        self.true: Callable[[int], TruePairs] = lru_cache(4)(self._load_true)
        self.seen_true: Callable[[int], Seen] = lru_cache(4)(self._see_true)
        self.asked: Callable[[int], np.ndarray] = lru_cache(4)(self._ask)

    def parts(self, name: str) -> range:
        """Return the parts of the people whom a field of the recipe counts."""
        return range(-(-getattr(self.recipe, name) // self.recipe.together))

    def span(self, part: int, of: int) -> tuple[int, int]:
        """Return the first person of a part, and how many it has of `of`."""
        first = part * self.recipe.together
        return first, min(self.recipe.together, of - first)

    @cached_property
    def readers(self) -> Readers:
        """The judges, and the bundle's detector, recogniser and landmarker."""
        faces, landmarks = load_readers(self.bundle, self.threads)
        return Readers(load_judges(cache.from_root(self.recipe.judge)), space_of(self.recipe.judge), faces, landmarks)

    def known(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the known pictures of a part of the gallery, uint8 [people, known, S, S, 3], and their 70 points."""
        first, count = self.span(part, self.recipe.gallery)
        # Those who are asked for are rendered already.
        if first + count <= self.recipe.people:
            true = self.true(part)
            return true.known, true.points
        people = range(first, first + count)
        return render_known(self.recipe, self.recipe.split, people, self.recipe.known, self.bundle.size)

    def trained(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a picture each of a part of the people whom models learned from, as `known` does."""
        first, count = self.span(part, self.recipe.trained)
        return render_known(self.recipe, "generator", range(first, first + count), 1, self.bundle.size)

    def _load_true(self, part: int) -> TruePairs:
        first, count = self.span(part, self.recipe.people)
        path = self.work / f"true-{first}-{count}.npz"
        return load_true(path, lambda: render_people(self.recipe, first, count, self.bundle.size))

    def _see_true(self, part: int) -> Seen:
        return look_at(self.readers, self.true(part).rows["visible"])

    def _ask(self, part: int) -> np.ndarray:
        true = self.true(part)
        count, known = true.known.shape[:2]
        pictures = true.known.reshape(-1, *true.known.shape[2:])
        found = look_at(self.readers, pictures).own.reshape(count, known, -1)
        means = unit_vectors(np.nan_to_num(found).sum(axis=1))
        return np.repeat(means, self.recipe.views, axis=0).astype(np.float32)
