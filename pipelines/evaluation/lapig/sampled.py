"""People who are sampled: how far they are apart, asked and made, and whether their pictures are like somebody known."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.attributes import ATTRIBUTES
from models.captions.grammar import write_caption
from models.columns import Columns
from models.evaluation.bootstrap import interval, mean
from models.evaluation.lapig.distances import count_unique, effective_rank, nearest_angles
from models.evaluation.lapig.recipe import Recipe
from models.faces.metrics import threshold_at, unit_vectors
from models.seeds import seed_of
from pipelines.plan.people.identities import Reference
from pipelines.plan.people.packing import pack_people
from pipelines.plan.people.sampling import choose_candidates

WAYS = ("as drawn", "rejection", "packing")


def sample_embeddings(way: str, reference: Reference, count: int, minimum_angle: float) -> np.ndarray:
    """Return unit embeddings float32 [count, 512] of people sampled in a way; packing is asked for no angle but its best."""
    if way == "packing":
        numbers = pack_people(reference, count, 0.0, 0)
    else:
        limit = minimum_angle if way == "rejection" else 0.0
        numbers = reference.numbers(0, choose_candidates(reference, count, limit, 0).tolist())
    return np.stack([reference.embedding(one) for one in numbers])


def ask(embeddings: np.ndarray, reference: Reference, views: int, first: int) -> Columns:
    """Return what is asked of people, `views` pictures each: words of the person read off the embedding, others drawn."""
    captions, names = [], []
    for place, embedding in enumerate(embeddings, first):
        known = reference.words(embedding)
        for view in range(views):
            rng = np.random.default_rng(seed_of("sampled", place, view))
            words = {name: str(rng.choice(every)) for name, (of, _, every) in ATTRIBUTES.items() if of == "view"}
            # Nothing that hides the face: who it is should be seen.
            words |= {"facewear": "none", "glasses": "none", **known}
            captions.append(write_caption(words, seed=seed_of("sampled", place, view)))
            names.append(f"sampled/{place}/{view}")
    return {
        "caption": np.array(captions, object),
        "embedding": np.repeat(embeddings, views, axis=0).astype(np.float32),
        "noise_id": np.array(names, object),
        "pose_asked": np.full((len(names), 3), np.nan, np.float32),
    }


def judge_threshold(pictures: np.ndarray, far: float) -> float:
    """Return the cosine that a share `far` of pairs of strangers exceeds, of one picture each: unit vectors [G, 512]."""
    first, second = np.triu_indices(len(pictures), 1)
    return float(threshold_at((pictures @ pictures.T)[first, second], far))


def describe_people(
    asked: np.ndarray, made: np.ndarray, training: np.ndarray, threshold: float, least: float
) -> dict[str, Any]:
    """Return the figures of P people. asked: embeddings [P, 512] of the bundle's recogniser. made: the judge's unit vectors
    [P, V, 512] of their pictures, NaN without a face. training: those of people the models learned from [T, 512].

    unique, unique_asked: the share of people who are left when those are dropped who are alike: the judge's `threshold` for
    one picture of each, `least` for what was asked. unique counts whoever has no face as nobody.
    """
    # Who has a face in some picture: the mean of theirs, and the first.
    faces = np.isfinite(made).all(axis=2)
    shown = faces.any(axis=1)
    means = unit_vectors(np.nan_to_num(np.where(faces[..., None], made, 0).sum(axis=1)[shown]))
    one = made[np.arange(len(made)), faces.argmax(axis=1)][shown]
    # How far people are apart, and how alike the pictures of one.
    nearest, of_asked = nearest_angles(means), nearest_angles(asked)
    cosines = np.einsum("pvd,pwd->pvw", made, made)
    pairs = np.triu_indices(made.shape[1], 1)
    facts: dict[str, Any] = {
        "people": len(asked),
        "asked_nearest": float(of_asked.min()),
        "asked_median": float(np.median(of_asked)),
        "made_nearest": float(nearest.min()),
        "made_median": float(np.median(nearest)),
        "unique_asked": count_unique(asked, least) / len(asked),
        "unique": count_unique(one, threshold) / len(asked),
        "consistency": _estimate(cosines[:, pairs[0], pairs[1]].mean(axis=1)),
        "rank_asked": effective_rank(asked),
        "rank": effective_rank(means),
    }
    # Whether somebody is like a person whom the models learned from.
    if len(training):
        facts |= {
            "likeness": _estimate((one @ training.T).max(axis=1)),
            "leaked": share_alike(one, training, threshold),
        }
    return facts


def share_alike(pictures: np.ndarray, training: np.ndarray, threshold: float) -> dict[str, float]:
    """Return the share of `pictures` [P, 512] whose nearest of `training` [T, 512] is alike by `threshold`: unit vectors."""
    return _estimate(((pictures @ training.T).max(axis=1) > threshold).astype(float))


def compare_people(
    people: Mapping[str, tuple[np.ndarray, np.ndarray]], known: np.ndarray, training: np.ndarray, recipe: Recipe
) -> list[dict[str, Any]]:
    """Return the figures of people by row, `asked` and `made` of each as `describe_people` takes them.

    known: a picture each of people of the gallery, whom the judge's threshold is of, and who are strangers to `training`: the
    share of them who are alike to somebody there (`strangers`) is what chance makes of so many.
    """
    threshold, least = judge_threshold(known, recipe.far), float(np.cos(np.radians(recipe.minimum_angle)))
    every: dict[str, Any] = {"threshold": threshold}
    if len(training):
        every["strangers"] = share_alike(known, training, threshold)
    return [
        {"row": row, **describe_people(asked, made, training, threshold, least), **every}
        for row, (asked, made) in people.items()
    ]


def _estimate(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    return interval(mean, [np.asarray(values, float)[None]])._asdict()
