"""How well faces are found and told apart. Intervals are bootstraps over identities: pairs are not independent."""

from dataclasses import dataclass

import numpy as np

RATES = {"vr_at_far_5e-2": 5e-2, "vr_at_far_1e-2": 1e-2, "vr_at_far_1e-3": 1e-3}
"""Rates of genuine pairs that are accepted where such a share of impostors is."""


@dataclass(frozen=True)
class Verification:
    """True accept rate at a false accept rate; `low` and `high` are the 95 % interval over identities."""

    tar: float
    low: float
    high: float
    threshold: float
    genuine: int
    impostor: int


def unit_vectors(embeddings: np.ndarray) -> np.ndarray:
    """Return embeddings [..., D] with length 1, float32; a zero vector stays one."""
    norms = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return (embeddings / np.maximum(norms, 1e-12)).astype(np.float32)


def threshold_at(impostor: np.ndarray, far: float) -> float:
    """Return the smallest threshold that at most `far` of the impostor similarities [N] exceed.

    A pair is accepted when its similarity is greater than the threshold.
    """
    allowed = int(np.floor(far * len(impostor)))
    return float(np.partition(impostor, len(impostor) - 1 - allowed)[len(impostor) - 1 - allowed])


def verification(
    embeddings: np.ndarray, identities: np.ndarray, far: float = 1e-3, *, rounds: int = 200, seed: int = 0
) -> Verification:
    """Return TAR at `far` over all pairs of `embeddings` [N, D] of `identities` int [N].

    Each bootstrap round draws identities with replacement; a pair counts as often as both its people were drawn, and
    threshold and rate are computed anew.
    """
    # Similarities of all pairs, and which are of one person.
    vectors = unit_vectors(embeddings)
    _, people = np.unique(identities, return_inverse=True)
    first, second = np.triu_indices(len(vectors), 1)
    similarity = (vectors @ vectors.T)[first, second]
    same = people[first] == people[second]
    if not same.any() or same.all():
        raise ValueError("verification needs at least two people and one person with two pictures")
    # The rate itself.
    threshold = threshold_at(similarity[~same], far)
    tar = float((similarity[same] > threshold).mean())
    # Its interval: impostor pairs are sorted once; a round then only changes how often each pair counts.
    order = np.argsort(-similarity[~same], kind="stable")
    ranked, left, right = similarity[~same][order], people[first][~same][order], people[second][~same][order]
    genuine, owner = similarity[same], people[first][same]
    rng = np.random.default_rng(seed)
    count = int(people.max()) + 1
    rates = []
    for _ in range(rounds):
        # Draw people with replacement; a pair weighs as often as both its people were drawn.
        weight = np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float32)
        passed = np.cumsum(weight[left] * weight[right], dtype=np.float64)
        # The similarity that a share `far` of the weight of impostor pairs exceeds.
        limit = ranked[min(int(np.searchsorted(passed, far * passed[-1], side="right")), len(ranked) - 1)]
        share = weight[owner]
        if share.sum() > 0:
            rates.append(float((share * (genuine > limit)).sum() / share.sum()))
    low, high = np.percentile(rates, [2.5, 97.5]) if rates else (float("nan"), float("nan"))
    return Verification(tar, float(low), float(high), threshold, int(same.sum()), int((~same).sum()))


def rank_one(gallery: np.ndarray, gallery_ids: np.ndarray, probes: np.ndarray, probe_ids: np.ndarray) -> float:
    """Return the share of probes [P, D] whose most similar gallery vector [G, D] is of the same identity."""
    best = (unit_vectors(probes) @ unit_vectors(gallery).T).argmax(axis=1)
    return float((gallery_ids[best] == probe_ids).mean())


def verify(genuine: np.ndarray, impostor: np.ndarray) -> dict[str, float]:
    """Return `auc`, `eer` and the rates of `RATES` of similarities of pairs of one person [N] and of two [M]."""
    ranked = np.sort(impostor)
    # Of each genuine pair the share of impostors below it, ties by half; their mean is the area under the curve.
    below, upto = (np.searchsorted(ranked, genuine, side) / len(ranked) for side in ("left", "right"))
    thresholds = np.sort(np.concatenate([genuine, ranked]))
    missed = np.searchsorted(np.sort(genuine), thresholds, "right") / len(genuine)
    accepted = 1 - np.searchsorted(ranked, thresholds, "right") / len(ranked)
    crossing = int(np.abs(missed - accepted).argmin())
    rates = {name: float((genuine > _exceeded(ranked, far)).mean()) for name, far in RATES.items()}
    return {"auc": float((below + upto).mean() / 2), "eer": float(missed[crossing] + accepted[crossing]) / 2, **rates}


def _exceeded(ranked: np.ndarray, far: float) -> float:
    """Return what at most a share `far` of ascending similarities exceed."""
    return float(ranked[len(ranked) - 1 - int(far * len(ranked))])


def gallery_split(identities: np.ndarray, people: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of a gallery (the first picture of each of the first `people` identities) and of all their others."""
    chosen, first = np.unique(identities, return_index=True)
    chosen, first = chosen[:people], first[:people]
    probes = np.setdiff1d(np.flatnonzero(np.isin(identities, chosen)), first)
    return first, probes


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return intersection over union of boxes x0, y0, x1, y1: [A, 4] and [B, 4] -> float [A, B]."""
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    opposite = np.minimum(first[:, None, 2:], second[None, :, 2:])
    overlap = np.clip(opposite - corner, 0, None).prod(axis=-1)
    area_first = np.clip(first[:, 2:] - first[:, :2], 0, None).prod(axis=-1)
    area_second = np.clip(second[:, 2:] - second[:, :2], 0, None).prod(axis=-1)
    return overlap / np.maximum(area_first[:, None] + area_second[None] - overlap, 1e-9)


def count_recalled(found: np.ndarray, truth: np.ndarray, at: float = 0.5) -> int:
    """Return how many true boxes [T, 4] the found boxes [F, 4], best first, match one to one at IoU >= `at`."""
    if not len(found) or not len(truth):
        return 0
    # Each found box, best first, takes the free true box that it overlaps most.
    overlaps = iou(found, truth)
    free = np.ones(len(truth), bool)
    for row in overlaps:
        best = int(np.where(free, row, -1.0).argmax())
        if free[best] and row[best] >= at:
            free[best] = False
    return int((~free).sum())
