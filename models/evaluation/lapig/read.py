"""What is read off pairs, picture by picture: lists of figures that a line of the ledger keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from models.attributes import ATTRIBUTES
from models.classes import CLASSES
from models.evaluation.ensembles import REGIONS
from models.evaluation.faces import to_grey
from models.evaluation.judges import Judges
from models.evaluation.lapig.distances import copy_paste, ranks
from models.faces.align import align
from models.faces.metrics import unit_vectors
from models.landmarks.intensity import Mode, unit_values
from models.landmarks.metrics import nme
from models.stages import NoOptions
from models.visible import cache

BATCH = 8
SHOWN = (15.0, 40.0)
"""Degrees Celsius that black and white stand for where features of thermal pictures are compared."""
THUMB = 32
Figures = dict[str, list[Any]]
"""Name -> a value for each picture."""
FACE_ALONE = ("skin", "nose", "eyes", "mouth", "ears")


@dataclass(frozen=True)
class Readers:
    """judges, and `recogniser` among them (its folder); faces and landmarks: the bundle's stages, which find points."""

    judges: Judges
    recogniser: str
    faces: Any
    landmarks: Any = None


@dataclass(frozen=True)
class Seen:
    """What is seen of N visible pictures; NaN where no face is found.

    boxes [N, 4] px; own: unit vectors of the bundle's recogniser [N, 512]; judge, judge_grey: of the judge's; pose [N, 3]
    degrees; words int64 [N, attributes]; features float32 [N, D].
    """

    boxes: np.ndarray
    own: np.ndarray
    judge: np.ndarray
    judge_grey: np.ndarray
    pose: np.ndarray
    words: np.ndarray
    features: np.ndarray


def look_at(readers: Readers, pictures: np.ndarray) -> Seen:
    """Return what the judges, and the bundle's detector and recogniser, see of pictures uint8 [N, S, S, 3]."""
    # Faces as a job finds them; the judge sees its own crops of them, a picture without a face has none.
    found = readers.faces({"visible": pictures}, NoOptions(), BATCH)
    there = found["faces"] > 0
    judge, grey = (np.full((len(pictures), 512), np.nan, np.float32) for _ in range(2))
    if there.any():
        crops = align(pictures[there], found["keypoints"][there])
        judge[there] = cache.embed_crops(crops, readers.recogniser)
        grey[there] = cache.embed_crops(to_grey(crops), readers.recogniser)
    # Words, pose and features are read from whole pictures, with or without a face.
    probabilities = readers.judges.judge_attributes(pictures)
    words = np.stack([probabilities[name].argmax(axis=1) for name in ATTRIBUTES], axis=1)
    pose = readers.judges.judge_pose(pictures).degrees
    own = np.where(there[:, None], found["found_embedding"], np.nan).astype(np.float32)
    return Seen(found["bbox"], own, judge, grey, pose, words, readers.judges.describe(pictures))


@dataclass(frozen=True)
class Gallery:
    """Whom pictures are looked up among: unit vectors of G people by the judge, in colour and in grey [G, 512]."""

    colour: np.ndarray
    grey: np.ndarray
    sizes: tuple[int, ...]


def identity_figures(
    seen: Seen, asked: np.ndarray, person: np.ndarray, target: np.ndarray, gallery: Gallery
) -> Figures:
    """Return who is shown. asked: embeddings [N, 512] of the bundle's recogniser. person: int [N], places in the gallery.
    target: the judge's vectors of the true pictures of the same views [N, 512]."""
    known = gallery.colour[person]
    figures = {
        "face_found": np.isfinite(seen.own[:, 0]).astype(float),
        "cosine": (seen.own * asked).sum(axis=1),
        "judge_cosine": (seen.judge * known).sum(axis=1),
        "other_view": (seen.judge * target).sum(axis=1),
        "copy_paste": copy_paste(seen.judge, target, known),
    }
    # In grey, too: a colour of skin or hair that gives somebody away is then lost.
    for prefix, probes, among in (("", seen.judge, gallery.colour), ("grey_", seen.judge_grey, gallery.grey)):
        for size, hits in ranks(probes, person, among, gallery.sizes).items():
            figures[f"{prefix}rank1_{size}"] = hits
    return _lists(figures)


def own_people_figures(colour: np.ndarray, grey: np.ndarray, person: np.ndarray, sizes: tuple[int, ...]) -> Figures:
    """Return rank-1 of pictures among their own people: each is left out of the mean of its person's others.

    colour, grey: the judge's unit vectors [N, 512], NaN without a face; person: int [N]. Somebody with one picture is in the
    gallery and is nobody's probe (NaN).
    """
    figures: dict[str, np.ndarray] = {}
    people = np.unique(person)
    place = np.searchsorted(people, person)
    for prefix, vectors in (("", colour), ("grey_", grey)):
        there = np.isfinite(vectors).all(axis=1)
        # Everybody is in the gallery as the mean of their pictures.
        sums = np.zeros((len(people), vectors.shape[1]))
        np.add.at(sums, place[there], vectors[there])
        counts = np.bincount(place[there], minlength=len(people))
        gallery = unit_vectors(sums)
        cosine = np.full(len(person), np.nan)
        hits = {size: np.full(len(person), np.nan) for size in sizes}
        for row in np.flatnonzero(counts[place] - there > 0):
            own = place[row]
            # A probe is looked up among means that do not hold it.
            among = gallery.copy()
            among[own] = unit_vectors(sums[own] - (vectors[row] if there[row] else 0))
            found = ranks(vectors[row][None], np.array([own]), among, sizes)
            cosine[row] = vectors[row] @ among[own]
            for size in sizes:
                hits[size][row] = found[size][0]
        figures |= {f"{prefix}rank1_{size}": values for size, values in hits.items()}
        if not prefix:
            figures["judge_cosine"] = cosine
    return _lists(figures)


def view_figures(seen: Seen, pose: np.ndarray) -> Figures:
    """Return how far the judge of pose reads each angle from what was asked for, degrees."""
    off = np.abs(seen.pose - pose)
    return _lists({"yaw": off[:, 0], "pitch": off[:, 1], "roll": off[:, 2]})


def pair_figures(readers: Readers, visible: np.ndarray, celsius: np.ndarray, boxes: np.ndarray) -> Figures:
    """Return how far the landmarks of the two halves are apart, as "NME W/H" of the visible one's box, mean over layers.

    celsius: float [N, C, S, S] degC, or grey levels uint8.
    """
    apart = np.full(len(visible), np.nan)
    there = np.flatnonzero(np.isfinite(boxes).all(axis=1))
    if readers.landmarks is not None and len(there):
        layers = celsius.shape[1]
        # The same box for all: the halves of a pair share their pixels.
        each = [boxes[row][None] for row in there]
        pictures = [[visible[row] for row in there]]
        mode: Mode = "temperature" if celsius.dtype.kind == "f" else "auto"  # grey levels are no degrees
        pictures += [[unit_values(celsius[row, k], mode) for row in there] for k in range(layers)]
        found = [
            np.stack([face[0].points for face in readers.landmarks.at_boxes(some, each, 70, BATCH)])
            for some in pictures
        ]
        # The visible half comes first, and every layer is compared with it.
        apart[there] = np.mean([nme(points, found[0]) for points in found[1:]], axis=0)
    return _lists({"agreement": apart})


def region_means(celsius: np.ndarray, classes: np.ndarray) -> dict[str, np.ndarray]:
    """Return region -> mean temperature float [N, C] of pictures float [N, C, S, S] by classes uint8 [N, S, S], NaN for none."""
    found = {}
    for name, members in REGIONS.items():
        inside = np.isin(classes, [CLASSES.index(one) for one in members])[:, None]
        total = np.where(inside & np.isfinite(celsius), celsius, 0).sum(axis=(2, 3))
        count = (inside & np.isfinite(celsius)).sum(axis=(2, 3))
        found[name] = np.where(count >= BATCH, total / np.maximum(count, 1), np.nan)
    return found


def degree_figures(made: Mapping[str, np.ndarray], true: Mapping[str, np.ndarray]) -> Figures:
    """Return how far the mean of each region is from that of the true pair of the same person, view and room (K, mean over
    layers), and `face`, the mean over the regions of the face."""
    apart = {f"degrees_{name}": np.abs(values - true[name]) for name, values in made.items()}
    face = np.stack([apart[f"degrees_{name}"] for name in FACE_ALONE])
    return _lists({name: _mean(values) for name, values in {**apart, "degrees_face": np.moveaxis(face, 0, 1)}.items()})


def thermal_features(judges: Judges, celsius: np.ndarray) -> np.ndarray:
    """Return features float32 [N, D] of thermal pictures float [N, S, S], shown in grey on a fixed scale."""
    low, high = SHOWN
    grey = np.clip((np.nan_to_num(celsius, nan=low) - low) / (high - low), 0, 1)
    return judges.describe(np.repeat((grey * 255).round().astype(np.uint8)[..., None], 3, axis=-1))


def thumbs(pictures: np.ndarray) -> np.ndarray:
    """Return pictures uint8 [N, S, S, 3] as float32 [N, 3072] of 32 px: what pictures of a person are compared by."""
    small = [cv2.resize(picture, (THUMB, THUMB), interpolation=cv2.INTER_AREA) for picture in pictures]
    return np.stack(small).reshape(len(pictures), -1).astype(np.float32)


def diversity_figures(small: np.ndarray, features: np.ndarray, judge: np.ndarray, person: np.ndarray) -> Figures:
    """Return for each picture how far it is from the others of its person: `variety` in grey levels of 255 (`thumbs` [N, 3072]),
    `variety_features` as 1 - cosine, and `consistency`, the judge's mean cosine to the others; NaN for an only picture."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    values = np.full((len(person), 3), np.nan)
    for row in range(len(person)):
        others = np.flatnonzero(person == person[row])
        others = others[others != row]
        if len(others):
            pixels = np.abs(small[others] - small[row]).mean()
            values[row] = pixels, 1 - (unit[others] @ unit[row]).mean(), (judge[others] @ judge[row]).mean()
    return _lists(dict(zip(("variety", "variety_features", "consistency"), values.T, strict=True)))


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over all but the first axis of what is known, NaN where nothing is."""
    flat = values.reshape(len(values), -1)
    known = np.isfinite(flat)
    return np.where(known.any(axis=1), np.where(known, flat, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1), np.nan)


def _lists(figures: Mapping[str, np.ndarray]) -> Figures:
    return {name: [round(float(value), 4) for value in values] for name, values in figures.items()}
