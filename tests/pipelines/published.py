"""Rendered people as files of published sets, whose faces are found: what users of these sets have on disk."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from models.landmarks.intensity import show_thermal
from models.temperature import from_centikelvin
from pipelines.config.world import WorldJob
from pipelines.pictures.codecs import decode
from pipelines.readers.points import IN_54
from pipelines.world import Renderer
from tests.once import make_once

PEOPLE, VIEWS, SIZE = 4, 3, 128


class View(NamedTuple):
    """person: 0 to 3. visible, thermal: uint8 [128, 128, 3], thermal in grey. points: float [70, 2]."""

    person: int
    number: int
    visible: np.ndarray
    thermal: np.ndarray
    points: np.ndarray


def render_people(factory: pytest.TempPathFactory) -> list[View]:
    """Return four people in three views each, rendered once a run of pytest."""

    def make(folder: Path) -> None:
        count = PEOPLE * VIEWS
        job = WorldJob(domain="portrait", split="test", count=count, size=SIZE, views=VIEWS, conditions=("warm",))
        rows = Renderer(job, [0], threads=1)({"id": np.array([0])}).to_pylist()
        np.savez(
            folder / "views.npz",
            visible=np.stack([decode(row["visible"]["bytes"]) for row in rows]),
            thermal=np.stack([show_thermal(from_centikelvin(decode(row["thermal"]["bytes"]))) for row in rows]),
            points=np.stack([np.reshape(row["landmarks_70"], (70, 2)) for row in rows]),
        )

    found = np.load(make_once(factory, "published-people", make) / "views.npz")
    stacks = (found[name] for name in ("visible", "thermal", "points"))
    return [View(k // VIEWS, k % VIEWS, *one) for k, one in enumerate(zip(*stacks, strict=True))]


def _save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture[..., ::-1])


def write_mcxface(folder: Path, views: Sequence[View]) -> Path:
    """Two people of train_world and two of dev, without eval; colour pictures enrol, thermal ones ask."""
    lists: dict[str, list[str]] = {"norm/train_world": [], "dev/for_models": [], "dev/for_probes": []}
    for view in views:
        colour, thermal = (f"{kind}/{view.person:02d}_{view.number}" for kind in ("color", "thermal"))
        _save(folder / "data" / f"{colour}.png", view.visible)
        _save(folder / "data" / f"{thermal}.png", view.thermal)
        if view.person < 2:
            lists["norm/train_world"] += [f"{colour},{view.person}", f"{thermal},{view.person}"]
        else:
            lists["dev/for_probes"].append(f"{thermal},{view.person}")
            lists["dev/for_models"] += [f"{colour},{view.person}"] if view.number < 2 else []
    for protocol in ("VIS-THERMAL-split1", "VIS-THERMAL-split2"):
        for name, lines in lists.items():
            path = folder / "protocols" / protocol / f"{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(["PATH,REFERENCE_ID", *lines]))
    return folder


def write_tufts(folder: Path, views: Sequence[View]) -> Path:
    """Everybody's pictures of both cameras."""
    for view in views:
        for kind, picture in (("RGB", view.visible), ("IR", view.thermal)):
            place = folder / f"TD_{kind}_E_Set1" / str(view.person + 1)
            _save(place / f"TD_{kind}_E_{view.number + 1}.jpg", picture)
    return folder


def write_speakingfaces(folder: Path, views: Sequence[View]) -> Path:
    """Two people of train, two of validation, two of test; some share a face."""
    for subject, part, person in (
        (1, "train", 0),
        (2, "train", 1),
        (101, "valid", 2),
        (102, "valid", 1),
        (121, "test", 3),
        (122, "test", 0),
    ):
        trial = folder / f"{part}_data" / f"sub_{subject}" / "trial_1"
        for view in (one for one in views if one.person == person):
            name = f"{subject}_1_1_4_{view.number + 1}"
            _save(trial / "thr_image" / f"{name}_1.png", view.thermal)
            _save(trial / "rgb_image_aligned" / f"{name}_3.png", view.visible)
    return folder


def write_sf_tl54(folder: Path, views: Sequence[View]) -> Path:
    """Two people of train and two of test, with 54 points."""
    for view in views:
        part, name = "train" if view.person < 2 else "test", f"{100 + view.person}_1_1_{view.number}"
        _save(folder / "gray" / part / "images" / f"{name}_1.png", view.thermal)
        _save(folder / "rgb" / part / f"{name}_1.png", view.visible)
        shapes: list[dict[str, Any]] = [
            {"label": "jaw", "shape_type": "linestrip", "points": view.points[list(IN_54)].tolist()}
        ]
        path = folder / "gray" / part / "json" / f"{name}_1.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"shapes": shapes}))
    return folder


def write_sejong(folder: Path, views: Sequence[View]) -> Path:
    """Everybody's registered pairs."""
    for view in views:
        for letter, picture in (("v", view.visible), ("t", view.thermal)):
            _save(folder / f"person {view.person}" / f"{view.number}_{letter}.jpg", picture)
    return folder
