"""Landmarkers of the recipe: trained by the project's loop on pictures of several sources, and looked at on test people."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.columns import Columns
from models.evaluation.hfr.training import Mixture
from models.evaluation.landmarking.recipe import Recipe
from models.evaluation.tfake.cells import LandmarkRow
from models.evaluation.tfake.landmarks import augmentation
from models.landmarks.detect import Detector
from models.landmarks.metrics import nme
from models.landmarks.network import Landmarker, LandmarkerConfig
from models.tasks import landmarker, load
from models.training.loop import Hooks, train

COLUMNS = ("identity_id", "view", "visible", "thermal", "classes", "landmarks_70")
TESTED = ("identity_id", "thermal", "landmarks_70", "bbox", "pose")
WORST = 1.0
"""NME that a face counts at most: it is off by the whole box."""


def config_of(recipe: Recipe, seed: int, *, grey: bool = False) -> landmarker.Config:
    """Return the config of a training; grey: of pictures that stand in for thermal ones."""
    row = LandmarkRow(recipe.thermal, "grey", heavy=True) if grey else LandmarkRow(recipe.thermal)
    network = LandmarkerConfig(size=recipe.size, width=recipe.width, head=256, cells=2, outputs="softplus")
    return landmarker.Config(
        seed=seed, steps=recipe.steps, batch=recipe.batch, lr=recipe.lr, network=network, augmentation=augmentation(row),
        thermal=recipe.thermal,
    )  # fmt: skip


def prepare(rows: Columns, config: landmarker.Config) -> Columns:
    """Return rows as the loss takes them, with their own thermal pictures in the place of predicted ones."""
    return landmarker.keep_columns(rows, config) | {"thermal_pictures": landmarker.levels(rows["thermal"])[:, None]}


def fit(parts: Sequence[Columns], shares: Sequence[float], config: landmarker.Config, hooks: Hooks) -> Landmarker:
    """Return a landmarker trained on prepared rows of sources."""
    model = train(load("landmarker"), config, Mixture(parts, shares), None, hooks).model
    assert isinstance(model, Landmarker)
    return model.cpu().eval()


def look(model: Landmarker, rows: Columns) -> dict[str, list[Any]]:
    """Return of each annotated thermal picture who it shows, its |yaw| in degrees, and the "NME W/H" of one look into the true
    box: lists with an entry a face."""
    # A look into the true box of each face whose points are known: finding it is another question.
    points = np.asarray(rows["landmarks_70"], np.float32).reshape(-1, 70, 2)
    known = np.flatnonzero(landmarker.is_annotated(points))
    detector = Detector(model, batch=8)
    boxes = np.asarray(rows["bbox"], np.float64)
    found = [detector.at_boxes(rows["thermal"][k], boxes[k][None])[0].points for k in known]
    # One face that is lost must not outweigh all others.
    errors = np.minimum(nme(np.stack(found), points[known]), WORST) if len(known) else np.zeros(0)
    yaw = np.abs(np.asarray(rows["pose"])[known, 0]) if "pose" in rows else np.zeros(len(known))
    return {
        "person": np.asarray(rows["identity_id"])[known].astype(str).tolist(),
        "yaw": np.round(np.nan_to_num(yaw), 1).tolist(),
        "nme": np.round(errors, 4).tolist(),
    }
