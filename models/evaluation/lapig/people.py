"""Who is asked for: people of the world, what is known of them, and the true pairs that pictures of them are held against."""

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from models.captions.grammar import write_caption
from models.columns import Columns
from models.evaluation.lapig.recipe import Recipe
from models.synthworld.render.render import render
from models.synthworld.sampling import splits
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.synthworld.sampling.scene import attributes
from models.visible import cache


@dataclass(frozen=True)
class TruePairs:
    """True pictures of P people: K known ones of each, and V views to be made.

    known: uint8 [P, K, S, S, 3] with points [P, K, 70, 2]. rows, of P V views in the order of people: `visible` uint8
    [N, S, S, 3], `celsius` float32 [N, C, S, S] (apparent), `valid`, `classes`, `landmarks_70`, `pose`, `attributes` (JSON),
    `caption`, `person` int64 [N], the place among the people.
    """

    known: np.ndarray
    points: np.ndarray
    rows: Columns


def render_people(recipe: Recipe, first: int, count: int, size: int) -> TruePairs:
    """Render people [first, first + count) of the recipe's split."""
    look, people = load_domain(recipe.domain), splits.identities(recipe.split)[first : first + count]
    known, points, views = [], [], list[Columns]()
    for place, identity in enumerate(people):
        shown = render([sample_scene(look, identity, view, recipe.conditions[0]) for view in range(recipe.known)], size)
        known.append(shown.rgb.numpy())
        points.append(shown.landmarks_70.numpy())
        views += [
            _render_view(recipe, identity, recipe.known + view, size, first + place) for view in range(recipe.views)
        ]
    rows = {name: np.stack([view[name] for view in views]) for name in views[0]}
    return TruePairs(np.stack(known), np.stack(points), rows)


def _render_view(recipe: Recipe, identity: int, view: int, size: int, person: int) -> Columns:
    """Return the columns of one view, its conditions as layers."""
    scenes = [sample_scene(load_domain(recipe.domain), identity, view, condition) for condition in recipe.conditions]
    found = render(scenes, size)
    words = attributes(scenes[0])
    return {
        "visible": found.rgb[0].numpy(),
        "celsius": found.apparent.numpy(),
        "valid": found.valid.numpy(),
        "classes": found.classes[0].numpy(),
        "landmarks_70": found.landmarks_70[0].numpy(),
        "pose": found.pose[0].numpy(),
        "attributes": np.array(json.dumps(words)),
        "caption": np.array(write_caption(words, seed=identity)),
        "person": np.array(person),
    }


def render_known(recipe: Recipe, split: str, people: range, known: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first `known` pictures [P, K, S, S, 3] and their points [P, K, 70, 2] of `people`, numbered within `split`."""
    look, numbers = load_domain(recipe.domain), splits.identities(split)[people.start : people.stop]
    found = [
        render([sample_scene(look, identity, view, recipe.conditions[0]) for view in range(known)], size)
        for identity in numbers
    ]
    return np.stack([one.rgb.numpy() for one in found]), np.stack([one.landmarks_70.numpy() for one in found])


def render_fitted(recipe: Recipe, size: int) -> Columns:
    """Return rows that tables of temperature are fitted to: one view of people of the generator's split in each condition."""
    look, people = load_domain(recipe.domain), splits.identities("generator")[50_000 : 50_000 + recipe.fitted]
    names = [(identity, condition) for identity in people for condition in recipe.conditions]
    scenes = [sample_scene(look, identity, 0, condition) for identity, condition in names]
    parts = [render(scenes[k : k + 8], size) for k in range(0, len(scenes), 8)]
    sources = {"visible": "rgb", "thermal": "apparent", "valid": "valid", "classes": "classes"}
    rows = {name: np.concatenate([getattr(part, of).numpy() for part in parts]) for name, of in sources.items()}
    return rows | {"condition": np.array([condition for _, condition in names], object)}


@lru_cache(maxsize=4)
def space_of(folder: str) -> str:
    """Return the absolute path of a recogniser's folder, which its embeddings are asked by."""
    return str(cache.from_root(folder).absolute())
