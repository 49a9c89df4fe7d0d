"""Can expression and iris be seen in a render, and read? `python -m tests.benchmarks.drawn_words --data URI`.

--data: renders that the judge of attributes learned from, or of others (docs/evaluate.md has the commands). Two tables:

    drawn   one scene with every word in turn, all else equal: how many pixels of the face change, and by how much
    read    the word read off the true landmarks, off the aligned face and off the eyes' pixels, each by a linear reader that
            is fitted to other people's pictures, and by the judge: balanced accuracy on faces within 30 degrees of yaw, no mask

Where landmarks tell a word, its label is what is drawn; where pixels tell it better than the judge, the judge has more to learn.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from models.attributes import ATTRIBUTES, EXPRESSIONS, IRIS_COLOURS
from models.classes import CLASSES
from models.columns import Columns
from models.evaluation.judges import load_judges
from models.faces.align import align, fit_similarities, five_points
from models.metrics import balanced_accuracy
from models.synthworld.render.render import render
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.synthworld.sampling.person import IRIS_RGB
from models.synthworld.sampling.scene import Scene
from pipelines.rows.shards import Shards

COLUMNS = ("world_identity", "visible", "attributes", "landmarks_70", "pose")
FACE = ("SKIN", "NOSE", "RIGHT_EYE", "LEFT_EYE", "RIGHT_BROW", "LEFT_BROW", "MOUTH_INTERIOR", "TOP_LIP", "BOTTOM_LIP")
EYES = ("RIGHT_EYE", "LEFT_EYE")
VISIBLE = 8
"""Grey levels that a pixel changes by to be counted."""
EYE = (9, 7)
"""Pixels around each eye, across and down."""
RIDGES = (1, 10, 100, 1000, 10_000)


def scenes_of(person: int) -> Iterator[tuple[str, list[Scene]]]:
    """Yield attribute -> one frontal scene of `person` with each of its words, nothing on the face."""
    scene = sample_scene(load_domain("models/starter-judge/domain.yaml", 1.0), person, 0, "warm")
    bare = dict.fromkeys(("glasses", "facewear", "beard"), "none")
    frontal = {**dict.fromkeys(("yaw", "pitch", "roll"), 0.0), **bare, "expression": "neutral", "strength": 1.0}
    view = replace(scene.view, **frontal)  # type: ignore[arg-type]
    yield "expression", [replace(scene, view=replace(view, expression=word)) for word in EXPRESSIONS]
    people = [replace(scene.person, iris_colour=word, iris_rgb=IRIS_RGB[word]) for word in IRIS_COLOURS]
    yield "iris", [replace(scene, view=view, person=one) for one in people]


def compare(people: int, size: int) -> None:
    """Print how each word differs from its attribute's first: on the face, or of irises on the eyes."""
    found: dict[str, list[list[float]]] = {}
    for person in range(people):
        for name, scenes in scenes_of(7 * person + 3):
            shown = render(scenes, size)
            pictures, classes = shown.rgb.numpy().astype(int), shown.classes.numpy()
            where = np.isin(classes, [CLASSES.index(one) for one in (FACE if name == "expression" else EYES)]).any(
                axis=0
            )
            for word, picture in zip(ATTRIBUTES[name][2], pictures, strict=True):
                change = np.abs(picture - pictures[0]).mean(axis=-1)[where]
                found.setdefault(f"{name} {word}", []).append([where.sum(), change.mean(), (change > VISIBLE).mean()])
    for word, rows in found.items():
        pixels, mean, share = np.mean(rows, axis=0)
        print(f"{word:22} of {pixels:5.0f} px {share:6.1%} change visibly, {mean:5.1f} levels in the mean")


def describe_gradients(face: np.ndarray) -> np.ndarray:
    """Return how edges of an aligned face uint8 [S, S, 3] run: 8 directions in 12 x 12 cells, of unit length."""
    down, across = np.gradient(face.mean(axis=2))
    size, direction = np.hypot(across, down), (np.arctan2(down, across) % np.pi * 8 / np.pi).astype(int) % 8
    cells = [cv2.resize(size * (direction == k), (12, 12), interpolation=cv2.INTER_AREA).ravel() for k in range(8)]
    return np.concatenate(cells) / (np.linalg.norm(cells) + 1e-3)


def show_eyes(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the pixels around the eyes' middles, float32 [2 * 9 * 7 * 3] in [0, 1]."""
    middles = five_points(points)[:2] - 0.5
    return np.concatenate([cv2.getRectSubPix(picture, EYE, tuple(map(float, one))).ravel() for one in middles]) / 255


def read_linearly(features: np.ndarray, labels: np.ndarray, people: np.ndarray, words: int) -> float:
    """Return the balanced accuracy of a ridge regression on people of every fourth number; the ridge is chosen on others."""
    test, chosen = people % 4 == 0, people % 4 == 1
    fitted = ~test & ~chosen
    # Each word weighs the same, each feature has unit variance.
    scaled = (features - features[fitted].mean(axis=0)) / (features[fitted].std(axis=0) + 1e-6)
    x, y = np.c_[scaled, np.ones(len(scaled))].astype(np.float64), np.eye(words)[labels]
    weight = 1 / np.maximum(1, np.bincount(labels[fitted], minlength=words))[labels[fitted], None]
    weight *= len(weight) / weight.sum()
    gram, moment = x[fitted].T @ (x[fitted] * weight), x[fitted].T @ (y[fitted] * weight)
    guesses = [(x @ np.linalg.solve(gram + ridge * np.eye(len(gram)), moment)).argmax(axis=1) for ridge in RIDGES]
    best = max(guesses, key=lambda one: balanced_accuracy(one[chosen], labels[chosen], words))
    return balanced_accuracy(best[test], labels[test], words)


def read(rows: Columns, judges: Path) -> None:
    """Print what each reader finds of expression and iris."""
    said = [json.loads(text) for text in rows["attributes"]]
    kept = (np.abs(rows["pose"][:, 0]) < 30) & np.array([one["facewear"] == "none" for one in said])
    rows, said = {name: values[kept] for name, values in rows.items()}, [one for one, take in zip(said, kept) if take]
    pictures, points, people = np.stack(list(rows["visible"])), rows["landmarks_70"], rows["world_identity"]
    turns = fit_similarities(five_points(points))
    moved = np.einsum("bij,bkj->bki", turns[:, :, :2], points) + turns[:, None, :, 2]
    faces = align(pictures, five_points(points))
    features = {
        "expression": {
            "landmarks": moved.reshape(len(points), -1),
            "face": np.stack([*map(describe_gradients, faces)]),
        },
        "iris": {"eyes": np.stack([show_eyes(*one) for one in zip(pictures, points)])},
    }
    judge = load_judges(judges).judge_attributes(pictures[people % 4 == 0])
    for name, some in features.items():
        words = ATTRIBUTES[name][2]
        labels = np.array([words.index(one[name]) for one in said])
        by = {what: read_linearly(values, labels, people, len(words)) for what, values in some.items()}
        by["the judge"] = balanced_accuracy(judge[name].argmax(axis=1), labels[people % 4 == 0], len(words))
        listed = "  ".join(f"{what} {value:.2f}" for what, value in by.items())
        print(f"{name}: {listed}  chance {1 / len(words):.2f}  ({len(said)} pictures)", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="shards that are read; without them scenes are compared alone")
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--people", type=int, default=3, help="whose scenes are compared")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--judges", type=Path, default=Path("models/starter-judge"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    compare(given.people, given.size)
    if given.data:
        shards = Shards(given.data, COLUMNS, memory=0, limit=given.rows)
        read(shards.rows(np.arange(len(shards))), given.judges)


if __name__ == "__main__":
    main()
