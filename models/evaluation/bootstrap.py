"""Bootstrap intervals over people and seeds."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 2000
LEVEL = 0.95


class Estimate(NamedTuple):
    """A value and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def interval(
    statistic: Callable[..., np.ndarray], samples: Sequence[np.ndarray], *, draws: int = DRAWS, seed: int = 0
) -> Estimate:
    """Return `statistic(*samples)` and its percentile interval; of one person there is none (NaN).

    samples: float [seeds, people] each, of the same people in the same order; those of one seed go with every draw of
    seeds. People and seeds are drawn with replacement, each of them for all samples together, so that what is paired
    stays paired. statistic: of arrays [..., seeds, people] -> [...].
    """
    people = {sample.shape[1] for sample in samples}
    runs = {len(sample) for sample in samples} - {1}
    if len(people) != 1 or len(runs) > 1:
        raise ValueError(f"samples must share people and seeds, got shapes {[sample.shape for sample in samples]}")
    # The same draws of people and seeds for all samples; a sample of one seed has no seeds to draw.
    count, seeds = people.pop(), runs.pop() if runs else 1
    rng = np.random.default_rng(seed)
    who = rng.integers(count, size=(draws, 1, count))
    which = rng.integers(seeds, size=(draws, seeds, 1))
    values = statistic(*(sample[which if len(sample) > 1 else 0, who] for sample in samples))
    known = values[np.isfinite(values)]
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(known, ends) if known.size and count > 1 else (np.nan, np.nan)
    return Estimate(float(statistic(*samples)), float(low), float(high))


def mean(sample: np.ndarray) -> np.ndarray:
    """Return the mean over seeds and people [..., seeds, people]; a value that is missing (NaN) is left out."""
    known = np.isfinite(sample)
    count = known.sum(axis=(-2, -1))
    total = np.where(known, sample, 0.0).sum(axis=(-2, -1))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def difference(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return mean(one) - mean(two)."""
    return mean(one) - mean(two)
