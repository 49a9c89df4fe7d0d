"""The angles and expressions of people's views, drawn by seed where a job gives distributions of them."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from models.seeds import shares_of
from models.synthworld.sampling.scene import pose_word
from models.visible.angles import ANGLES, DIGITS
from pipelines.config.views import Normal, Uniform, Views
from pipelines.plan.people.identities import Identity


def draw_poses(seed: int, people: Sequence[Identity], views: Views) -> tuple[np.ndarray, list[list[dict[str, str]]]]:
    """Return the poses float32 [P, views, 3] of each view of `people` in degrees, NaN where an angle is not asked for, and
    attribute -> word of what the numbers and the job say of each: `pose` for a yaw, `expression` where one is asked for.

    Each draw is a function of the seed, the person's id, the view and the name of what is drawn alone.
    """
    planned = views.list_views()
    poses = np.full((len(people), len(planned), len(ANGLES)), np.nan, np.float32)
    words: list[list[dict[str, str]]] = [[{} for _ in planned] for _ in people]
    # Of every view the angles that it names, and its expression.
    for view, said in enumerate(planned):
        for place, name in enumerate(ANGLES):
            if name in said:
                poses[:, view, place] = _draw_angles(said[name], _shares(seed, people, view, name))
        if "expression" in said:
            shares = _shares(seed, people, view, "expression")
            for own, word in zip(words, _draw_words(said["expression"], shares), strict=True):
                own[view]["expression"] = word
    # The word of a yaw, of the number as it is kept.
    for own, pose in zip(words, poses[..., ANGLES.index("yaw")].tolist(), strict=True):
        for found, yaw in zip(own, pose, strict=True):
            if np.isfinite(yaw):
                found["pose"] = pose_word(yaw)
    return poses, words


def _shares(seed: int, people: Sequence[Identity], view: int, name: str) -> np.ndarray:
    """Return a number in [0, 1) for each person, float64 [P]."""
    key = [f"{view}\x1f{name}".encode()]
    return np.concatenate([shares_of(("view", seed, person.id), key) for person in people])


def _draw_angles(said: Any, shares: np.ndarray) -> np.ndarray:
    """Return degrees float64 [P] of a number, or of the shares of a distribution."""
    if not isinstance(said, Uniform | Normal):
        return np.full(len(shares), said)
    low, high = said.ends
    return np.clip(np.round([said.angle(share) for share in shares.tolist()], DIGITS) + 0.0, low, high)  # no -0.0


def _draw_words(said: Any, shares: np.ndarray) -> list[str]:
    """Return a word for each of `shares`: of one word the same, of weights each as often as it weighs."""
    if isinstance(said, str):
        return [said] * len(shares)
    kept = {word: weight for word, weight in said.items() if weight > 0}
    ends = np.array(list(accumulate(kept.values()))) / sum(kept.values())
    places = np.minimum(np.searchsorted(ends, shares, side="right"), len(kept) - 1)
    return [list(kept)[place] for place in places.tolist()]
