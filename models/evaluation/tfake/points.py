"""Points of any landmarker, found or missed, by T-FAKE's protocol: errors by subset, with intervals over people."""

from typing import NamedTuple

import numpy as np

from models.evaluation.bootstrap import Estimate, interval, mean
from models.evaluation.landmarks import YAWS
from models.evaluation.tfake.subsets import FAILURE, SUBSETS, count_missed, means_by_person, split_faces
from models.landmarks.adapt import convert_to_labels
from models.landmarks.metrics import errors, nme

FAILED = 0.1
"""A face whose "NME W/H" is larger counts as failed, and so does one that is missed."""
LABELS = "labels_"
"""What figures against the 72 labels begin with."""


class Faces(NamedTuple):
    """N faces of a test set and the points that a landmarker gave them, in pixels of square pictures.

    points: float [N, L, 2], NaN for a face that is missed. truth: [N, L, 2] in the same standard, labels: [N, 72, 2], those of
    annotators; NaN where there are none. height: px, yaw: degrees, either NaN where it is not known; size: px, the pictures'
    side; all [N]. person: text [N], all alike where it is not known who is shown.
    """

    points: np.ndarray
    truth: np.ndarray
    labels: np.ndarray
    height: np.ndarray
    yaw: np.ndarray
    size: np.ndarray
    person: np.ndarray


class Figures(NamedTuple):
    """counts: name -> subset -> how many. estimates: figure -> subset -> estimate, NaN where no face of it has one."""

    counts: dict[str, dict[str, int]]
    estimates: dict[str, dict[str, Estimate]]


def measure_faces(faces: Faces, high_px: float, side_deg: float) -> Figures:
    """Return counts and figures by subset (`split_faces`); every person weighs the same, and intervals are over people.

    Against the true points: `nme` (W/H), `nme_box` (root of the box's area), `nme_image` (the picture's diagonal), of 68 and 70
    points `nme_eyes` (outer corners), and `nme` by |yaw|, all over the faces that were found; `nme_missed_1`, in which a
    missed face counts 1 and no face more (T-FAKE's tables); `missed`; `failed`, the share that is missed or off by more
    than a tenth; `auc`, the area under the share of faces below each error up to a tenth, missed ones never below (300-W's
    protocol). Against the 72 labels: `labels_nme`, `labels_nme_missed_1`, `labels_failed` and so on. Figures without any face are
    left out. Where one person alone has a figure, its interval is NaN.
    """
    # One value a face of each figure, NaN for faces that it does not count.
    found = np.isfinite(faces.points).any(axis=(1, 2))
    to_truth, to_labels = nme(np.nan_to_num(faces.points), faces.truth), errors_to_labels(faces, found)
    values = _figures_of(to_truth, found) | _further_errors(faces, found, to_truth)
    values |= {LABELS + name: each for name, each in _figures_of(to_labels, found).items()}
    # The same in every subset, by person.
    subsets = split_faces(faces.height, faces.yaw, high_px, side_deg)
    known = {"": np.isfinite(to_truth), LABELS: np.isfinite(to_labels) | np.isposinf(to_labels)}
    counts = {
        prefix + name: {subset: count(faces.person[there & subsets[subset]]) for subset in SUBSETS}
        for prefix, there in known.items()
        for name, count in (("faces", len), ("people", lambda who: len(np.unique(who))))
        if there.any()
    }
    estimates = {
        name: {subset: _estimate(each, subsets[subset], faces.person) for subset in SUBSETS}
        for name, each in values.items()
        if np.isfinite(each).any()
    }
    return Figures(counts, estimates)


def errors_to_labels(faces: Faces, found: np.ndarray) -> np.ndarray:
    """Return each face's "NME W/H" to its labels, [N], through an adapter that has not seen its subject.

    Infinite for a face that is missed. NaN without labels, and for the profiles, or the fronts, that were found of one subject
    alone: nobody is left to learn their adapter from, and those that were missed would stand alone.
    """
    given = np.isfinite(faces.labels).all(axis=2).sum(axis=1)
    each, seen = np.full(len(given), np.nan), found & (given > 0)
    if seen.any():
        converted = convert_to_labels(faces.points[seen], faces.labels[seen], faces.person[seen])
        each[seen] = nme(converted, faces.labels[seen])
    for count in np.unique(given[given > 0]):
        group = given == count
        if np.isfinite(each[group]).any() or not found[group].any():
            each[group & ~found] = np.inf
    return each


def _figures_of(each: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """Return one value a face of each figure of errors [N], NaN where there is no truth."""
    known = ~np.isnan(each)
    below = np.where(found, np.clip(1 - each / FAILED, 0, 1), 0)  # of the way to a tenth that a face is below
    shares = {"missed": ~found, "failed": ~found | (each > FAILED), "auc": below}
    return {
        "nme": np.where(found, each, np.nan),
        "nme_missed_1": count_missed(np.minimum(each, FAILURE), found, FAILURE),
        **{name: np.where(known, share, np.nan) for name, share in shares.items()},
    }


def _further_errors(faces: Faces, found: np.ndarray, each: np.ndarray) -> dict[str, np.ndarray]:
    """Return the errors [N] of found faces by other normalisers, and "NME W/H" `each` [N] of those in bins of yaw."""
    points, seen = np.nan_to_num(faces.points), found & np.isfinite(each)
    # Pictures of several sizes have diagonals of their own.
    normalised = {"nme_box": errors(points, faces.truth, "box-size"), "nme_image": np.full(points.shape[:2], np.nan)}
    for size in np.unique(faces.size):
        rows = faces.size == size
        normalised["nme_image"][rows] = errors(points[rows], faces.truth[rows], "image", (int(size), int(size)))
    if points.shape[1] in (68, 70):
        normalised["nme_eyes"] = errors(points, faces.truth, "inter-ocular")
    values = {name: _mean_of_points(one, seen) for name, one in normalised.items()}
    turned = np.abs(faces.yaw)
    bins = {f"nme_{name}": (turned >= low) & (turned < high) for name, (low, high) in YAWS.items()}
    return values | {name: np.where(seen & inside, each, np.nan) for name, inside in bins.items()}


def _mean_of_points(each: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return the mean over the points of each face that is `seen`, [N], of errors [N, L] that may be NaN; else NaN."""
    return np.where(seen, mean(each[:, None]), np.nan)


def _estimate(values: np.ndarray, chosen: np.ndarray, person: np.ndarray) -> Estimate:
    """Return the mean over people of their means over `chosen` faces; the interval of fewer than two people is NaN."""
    means = means_by_person(values, chosen, person)[None]
    if np.isfinite(means).sum() < 2:
        return Estimate(float(mean(means)), np.nan, np.nan)
    return interval(mean, [means])
