"""How many people a distribution of embeddings holds at a distance from each other, estimated before they are all drawn.

People are y / |y| of y = m + L z, z standard normal: an ellipsoid of directions. Two questions are answered of it: whether
any two of n are ever too near, by a bound (then nobody has to be compared), and about how many find room, by trying with
larger angles, where few do.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NEVER = 1e-18
"""A chance that is taken for none."""
PAIRS = 8192
"""People of either side of the pairs whose cosines tell how common an angle is: 67 million pairs."""
SHARES = (0.04, 0.02, 0.01, 0.005, 0.0025)
"""Of all pairs, those that are too near in the trials, from a large angle to a smaller one."""
ENOUGH = 20_000
"""Candidates of a trial after which no further one is made: each costs more than twice as many as the one before."""


def chance_of_near(mean: np.ndarray, spread: np.ndarray, minimum_angle: float) -> float:
    """Return an upper bound on the chance that two people are nearer than `minimum_angle` degrees.

    mean: m float64 [D]. spread: L float64 [D, K].

    With t = cos(angle) and u one's direction, the other y is nearer if y'Ay > 0 for A = uu' - t^2 I. By Chernoff the chance
    is at most E exp(r y'Ay) for any r > 0, which for a normal y is a determinant and a term of the mean; both are bounded
    over all u by L's largest singular value s. Without a mean and with D equal values it is the cap's (1 - t^2)^(D / 2).
    """
    t2 = float(np.cos(np.radians(minimum_angle))) ** 2
    values, far = np.linalg.svd(spread, compute_uv=False), float(mean @ mean)
    s2 = float(values[0]) ** 2
    if s2 == 0:
        return 1.0
    # Twice r, from nearly nothing to nearly where the expectation ends, and as far again where it does not.
    end = 1 / (s2 * max(1 - t2, 1e-9))
    rates = end * (1 - np.geomspace(1e-6, 1 - 1e-6, 400))
    left = 1 - rates * s2 * (1 - t2)
    exponent = (
        -0.5 * np.log1p(rates[:, None] * t2 * values**2).sum(1)
        - 0.5 * np.log(left / (1 + rates * t2 * s2))
        + 0.5 * rates * (1 - t2) * far
        + 0.5 * rates**2 * s2 * max(t2, 1 - t2) ** 2 * far / left
    )
    return float(np.exp(min(0.0, exponent.min())))


@dataclass(frozen=True)
class Capacity:
    """How many people find room at an angle, as log(people) = slope * log(1 / share of pairs that are nearer) + offset.

    cosines: the largest of `pairs` pairs, in falling order.
    """

    slope: float
    offset: float
    cosines: np.ndarray
    pairs: int

    def at(self, minimum_angle: float) -> float:
        """Return about how many people are `minimum_angle` degrees apart; infinite where no pair is seen to be nearer."""
        near = np.searchsorted(-self.cosines, -np.cos(np.radians(minimum_angle)))
        return float(np.exp(self.slope * np.log(self.pairs / near) + self.offset)) if near else float("inf")

    def angle(self, count: int) -> float:
        """Return about the largest whole number of degrees at which `count` people find room."""
        share = np.exp((self.offset - np.log(count)) / self.slope)
        nearest = self.cosines[min(int(share * self.pairs), len(self.cosines) - 1)]
        return float(max(0.0, np.floor(np.degrees(np.arccos(min(1.0, float(nearest)))))))


def estimate(draw: Callable[[int], np.ndarray], fill: Callable[[float], tuple[int, int]]) -> Capacity:
    """Return how many people find room, from trials at large angles.

    draw: n -> directions float32 [n, D] of people of nobody's. fill: the cosine that is too near -> (people who found
    room until too many candidates in a row did not, candidates).
    """
    # How common an angle is, from the nearest of all pairs of two crowds.
    one, other = draw(PAIRS), draw(PAIRS)
    least = float(np.quantile(one[:512] @ other[:2048].T, 1 - 1.5 * SHARES[0]))
    found = [near[near > least] for near in (one[k : k + 512] @ other.T for k in range(0, PAIRS, 512))]
    cosines = -np.sort(-np.concatenate(found))
    # How many find room where that is quickly seen, and the straight line through the last of them.
    rarity, room = list[float](), list[float]()
    for share in SHARES:
        people, candidates = fill(float(cosines[int(share * PAIRS**2)]))
        rarity.append(np.log(1 / share))
        room.append(np.log(people))
        if candidates > ENOUGH:
            break
    slope, offset = np.polyfit(rarity[-3:], room[-3:], 1)
    return Capacity(float(slope), float(offset), cosines, PAIRS**2)
