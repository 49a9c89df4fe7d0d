"""What the judges reach on true renders of people whom they never saw: the cap on what they can say of generated pictures.

Every figure comes with a 95 % interval over people, as `NAME`, `NAME_low`, `NAME_high`.
"""

from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np
import torch

from models.attributes import ATTRIBUTES
from models.classes import CLASSES
from models.columns import Columns
from models.evaluation.bootstrap import Estimate, interval
from models.evaluation.judges import FOLDERS, Judges
from models.judges.attributes import label
from models.judges.pose import angle_between, rotation_of_angles

COLUMNS = ("world_identity", "visible", "attributes", "pose", "classes")
BUCKETS = ((0, 15), (15, 45), (45, 75), (75, 90))
"""Sizes of the true yaw, degrees; the last one holds 90."""


def measure_judges(
    judges: Judges, rows: Iterable[Columns], side: int, names: Sequence[str] = FOLDERS
) -> dict[str, dict[str, float]]:
    """Return the figures of the judges `names`, by their folders' names, on pictures of the world resized to `side` px.

    attributes: `balanced_accuracy_NAME`, the mean over an attribute's words of the share found, and the mean over attributes.
    pose: `yaw_mae_LOW_HIGH` (and pitch, roll) by the size of the true yaw, `yaw_mae_0_75`, and of all pictures the mean angle
    and the error that was expected. parser: `iou_NAME` and their mean `miou`, `accuracy` of pixels.
    """
    # Counts of each picture, which are summed by person and drawn again.
    people: list[np.ndarray] = []
    parts: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in names}
    for batch in rows:
        pictures = np.stack([resize(picture, side) for picture in batch["visible"]])
        people.append(batch["world_identity"])
        for name, counts in parts.items():
            counts.append(COUNTS[name](judges, pictures, batch))
    who = np.concatenate(people)
    whole = {
        name: {key: np.concatenate([row[key] for row in found]) for key in found[0]} for name, found in parts.items()
    }
    return {name: SUMMARIES[name](counts, who) for name, counts in whole.items()}


def resize(picture: np.ndarray, side: int) -> np.ndarray:
    """Return a picture uint8 [S, S, 3] at `side` px."""
    return picture if len(picture) == side else cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def enlarge(classes: np.ndarray, side: int) -> np.ndarray:
    """Return classes uint8 [s, s] at `side` px, nearest."""
    return cv2.resize(classes, (side, side), interpolation=cv2.INTER_NEAREST)


def count_words(judges: Judges, pictures: np.ndarray, rows: Columns) -> dict[str, np.ndarray]:
    """Return per picture whether each attribute's word was found and which it was: attribute -> bool [B, 2, words]."""
    labels, counts = label(rows["attributes"]), {}
    for place, (name, probabilities) in enumerate(judges.judge_attributes(pictures).items()):
        truth = np.eye(probabilities.shape[1], dtype=bool)[labels[:, place]]
        right = probabilities.argmax(axis=1) == labels[:, place]
        counts[name] = np.stack([truth & right[:, None], truth], axis=1)
    return counts


def measure_poses(judges: Judges, pictures: np.ndarray, rows: Columns) -> dict[str, np.ndarray]:
    """Return per picture the absolute errors [B, 3], the true and the expected angle [B] in degrees, and the true yaw's size."""
    found, truth = judges.judge_pose(pictures), rows["pose"]
    return {
        "errors": np.abs(found.degrees - truth),
        "expected": found.expected_error,
        "angle": angles_apart(found.degrees, truth),
        "yaw": np.abs(truth[:, 0]),
    }


def angles_apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the angle in degrees [B] between poses [B, 3] as rotations."""
    turns = [rotation_of_angles(torch.from_numpy(np.asarray(poses, np.float64))) for poses in (one, other)]
    return np.degrees(angle_between(*turns).numpy())


def count_pixels(judges: Judges, pictures: np.ndarray, rows: Columns) -> dict[str, np.ndarray]:
    """Return per picture the pixels of each class that agree, and that either side says: int [B, classes]."""
    truth = rows["classes"]
    found = np.stack([enlarge(one, truth.shape[1]) for one in judges.judge_parser(pictures)])
    both, either = (np.zeros((len(truth), len(CLASSES)), np.int64) for _ in range(2))
    for k in range(len(CLASSES)):
        a, b = found == k, truth == k
        both[:, k], either[:, k] = (a & b).sum(axis=(1, 2)), (a | b).sum(axis=(1, 2))
    return {"both": both, "either": either}


def summarise_words(counts: dict[str, np.ndarray], who: np.ndarray) -> dict[str, float]:
    """Return the balanced accuracy of each attribute and their mean."""
    figures: dict[str, float] = {}
    for name in ATTRIBUTES:
        found, there = np.moveaxis(sum_by_person(counts[name], who), 1, 0)
        figures |= _figure(f"balanced_accuracy_{name}", estimate_ratio(found, there))
    means = [figures[f"balanced_accuracy_{name}"] for name in ATTRIBUTES]
    return {"balanced_accuracy": float(np.mean(means)), **figures}


def summarise_poses(counts: dict[str, np.ndarray], who: np.ndarray) -> dict[str, float]:
    """Return the mean absolute errors by the size of the true yaw, in degrees."""
    figures: dict[str, float] = {}

    def add(name: str, values: np.ndarray, inside: np.ndarray) -> None:
        sums = (sum_by_person(column[:, None], who) for column in (values * inside, inside))
        figures.update(_figure(name, estimate_ratio(*sums)))

    everywhere = np.ones(len(who), bool)
    # Each angle's error by the true yaw; the last bucket holds 90 degrees itself.
    for k, name in enumerate(("yaw", "pitch", "roll")):
        for low, high in (*BUCKETS, (0, 75)):
            inside = (counts["yaw"] >= low) & ((counts["yaw"] < high) | (high == 90))
            add(f"{name}_mae_{low}_{high}", counts["errors"][:, k], inside)
    # Over all poses: the angle between the rotations, and what the judge expects it to be.
    add("mean_angle", counts["angle"], everywhere)
    add("expected_angle", counts["expected"], everywhere)
    return figures


def summarise_pixels(counts: dict[str, np.ndarray], who: np.ndarray) -> dict[str, float]:
    """Return the intersection over union of each class that occurs, their mean, and the share of pixels that are right."""
    both, either = sum_by_person(counts["both"], who), sum_by_person(counts["either"], who)
    there = np.flatnonzero(either.any(axis=0))
    figures = _figure("miou", estimate_ratio(both[:, there], either[:, there]))
    # A pixel that is wrong counts for two classes, one that is right twice for one.
    pixels = (both + either).sum(axis=1, keepdims=True) / 2
    figures |= _figure("accuracy", estimate_ratio(both.sum(axis=1, keepdims=True), pixels))
    for k in there:
        figures |= _figure(f"iou_{CLASSES[k].lower()}", estimate_ratio(both[:, [k]], either[:, [k]]))
    return figures


COUNTS = {"attributes": count_words, "pose": measure_poses, "parser": count_pixels}
SUMMARIES = {"attributes": summarise_words, "pose": summarise_poses, "parser": summarise_pixels}


def estimate_ratio(above: np.ndarray, below: np.ndarray) -> Estimate:
    """Return the mean over columns of sum(above) / sum(below) over people [people, n], with its interval over people.

    A column whose `below` adds up to 0 is left out.
    """
    return interval(mean_of_ratios([above.shape[1]]), columns_of([(above, below)]))


def mean_of_ratios(sizes: Sequence[int]) -> Callable[..., np.ndarray]:
    """Return the statistic of `columns_of` groups of as many columns each: the mean over groups of their mean ratio.

    A column whose `below` adds up to 0 is left out, and so is a group of such columns alone.
    """
    group = np.repeat(np.arange(len(sizes)), sizes)

    def statistic(*drawn: np.ndarray) -> np.ndarray:
        tops, bottoms = np.split(np.stack([values.sum(axis=(-2, -1)) for values in drawn]), 2)
        known = bottoms > 0
        ratios = np.divide(tops, bottoms, out=np.zeros(tops.shape), where=known)
        # Of a group's columns, then of groups.
        counts = np.stack([known[group == k].sum(axis=0) for k in range(len(sizes))])
        means = np.stack([ratios[group == k].sum(axis=0) for k in range(len(sizes))]) / np.maximum(counts, 1)
        return means.sum(axis=0) / np.maximum((counts > 0).sum(axis=0), 1)

    return statistic


def columns_of(groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """Return samples [1, people] for `mean_of_ratios` of (above, below) [people, n]: all above, then all below."""
    return [column[None] for side in zip(*groups, strict=True) for values in side for column in values.T]


def sum_by_person(values: np.ndarray, who: np.ndarray) -> np.ndarray:
    """Return the sums over each person's pictures, float64 [people, ...], of values [B, ...]."""
    people, place = np.unique(who, return_inverse=True)
    sums = np.zeros((len(people), *values.shape[1:]))
    np.add.at(sums, place, values)
    return sums


def by_person(values: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Return each person's mean of values [N], NaN for those without any."""
    known = np.isfinite(values)
    sums = sum_by_person(np.where(known, values, 0.0)[:, None], person)[:, 0]
    counts = sum_by_person(known[:, None], person)[:, 0]
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _figure(name: str, found: Estimate) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
