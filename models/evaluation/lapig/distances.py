"""Distances between sets of pictures and between people: Frechet's, copy-paste, unique people, spread on the sphere."""

import numpy as np


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Frechet distance of normal distributions fitted to features float [N, D] and [M, D] (FID, arXiv 1706.08500).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). It is biased by N: compare at equal N alone.
    """
    # Of each set its mean, and a root of its covariance that is no larger than needed.
    means, roots, traces = list[np.ndarray](), list[np.ndarray](), list[float]()
    for features in (np.asarray(one, np.float64), np.asarray(other, np.float64)):
        means.append(features.mean(axis=0))
        centred = (features - means[-1]) / np.sqrt(max(len(features) - 1, 1))
        tall = len(centred) > centred.shape[1]
        roots.append(np.asarray(np.linalg.qr(centred, mode="r")) if tall else centred)
        traces.append(float((centred**2).sum()))
    # The trace of (C1 C2)^(1/2) is the sum of singular values of X1 X2' where C = X'X, for any such X: here the triangle of a QR.
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return float(((means[0] - means[1]) ** 2).sum() + sum(traces) - 2 * shared)


def by_people(features: np.ndarray, views: int) -> np.ndarray:
    """Return features [N, ..., D] of rows as [people, pictures of each, D]."""
    return features.reshape(len(features) // views, -1, features.shape[-1])


def frechet_interval(own: np.ndarray, true: np.ndarray, draws: int = 200) -> dict[str, float]:
    """Return the Frechet distance of features [P, M, D] of the same people, with its interval over them.

    People who are drawn twice make a set smaller than it counts, and the distance of a smaller set is larger. That is in every
    draw and says nothing of who is there, so the interval is moved to where the mean of the draws is the value itself.
    """
    size, rng = own.shape[-1], np.random.default_rng(0)
    chosen = [np.arange(len(own)), *(rng.integers(len(own), size=len(own)) for _ in range(draws))]
    # The first is of all people; the others say how it varies with who is there.
    values = [frechet_distance(own[who].reshape(-1, size), true[who].reshape(-1, size)) for who in chosen]
    low, high = np.quantile(values[1:], [0.025, 0.975]) - (np.mean(values[1:]) - values[0])
    return {"value": values[0], "low": float(low), "high": float(high)}


def copy_paste(made: np.ndarray, target: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return how much nearer made faces are to the reference than to another picture of the person, float [N] in [-1, 1].

    (angle to target - angle to reference) / angle between the two, of unit embeddings [N, D] (WithAnyone, arXiv 2510.14975,
    section 3.2): 1 is a copy of the reference, -1 the target itself, 0 as far from either.
    """

    def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(np.arccos(np.clip((a * b).sum(axis=1), -1, 1)))

    return (angle(made, target) - angle(made, reference)) / np.maximum(angle(target, reference), 1e-6)


def nearest_angles(vectors: np.ndarray) -> np.ndarray:
    """Return the angle of each unit vector [N, D] to the nearest other, degrees [N]."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    return np.degrees(np.arccos(np.clip(cosines.max(axis=1), -1, 1)))


def count_unique(vectors: np.ndarray, threshold: float) -> int:
    """Return how many unit vectors [N, D] are left when each is dropped that is nearer than `threshold` (a cosine) to one
    before it that was kept."""
    kept: list[int] = []
    for row, vector in enumerate(vectors):
        if not kept or (vectors[kept] @ vector).max() < threshold:
            kept.append(row)
    return len(kept)


def effective_rank(vectors: np.ndarray) -> float:
    """Return in how many directions vectors [N, D] spread: exp of the entropy of the spectrum of their covariance (Roy and
    Vetterli 2007, EUSIPCO)."""
    values = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False) ** 2
    shares = values / max(values.sum(), 1e-12)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def ranks(probes: np.ndarray, own: np.ndarray, gallery: np.ndarray, sizes: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Return for each size of gallery whether probes [P, D] are nearest to their own person, float [P]; NaN probes fail.

    gallery: unit vectors [G, D]; own: int [P], each probe's person. A gallery of n holds that person and the first n - 1
    others.
    """
    found = {}
    # How near each probe is to its own person, and to the strangers of every size of gallery.
    cosines = np.nan_to_num(probes @ gallery.T, nan=-2.0)
    right = cosines[np.arange(len(own)), own]
    lost = ~np.isfinite(probes).all(axis=1)
    for size in sizes:
        hits = np.zeros(len(own))
        for row, person in enumerate(own):
            others = [*range(min(size, len(gallery)))]
            others = [k for k in others if k != person][: size - 1]
            hits[row] = float(not others or right[row] > cosines[row, others].max())
        found[size] = np.where(lost, 0.0, hits)
    return found
