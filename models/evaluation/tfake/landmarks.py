"""Landmarkers of the recipe: trained by the project's loop, measured on frames of the field camera, face by face."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from models.augment.landmarks import Augmentation
from models.columns import Columns
from models.evaluation.tfake.cells import LandmarkRow
from models.evaluation.tfake.pools import MemorySource
from models.evaluation.tfake.recipe import Recipe
from models.evaluation.tfake.subsets import FAILURE, split_faces
from models.landmarks.adapt import Adapter, AdapterConfig, adapt_points, convert_to_labels, fit_adapter
from models.landmarks.detect import Detector
from models.landmarks.intensity import Mode
from models.landmarks.metrics import nme
from models.landmarks.network import Landmarker, LandmarkerConfig
from models.landmarks.standards import contour72
from models.tasks import landmarker, load
from models.training.loop import Hooks, train

GREY = 0.5
"""Share of grey pictures of the RGB-only landmarkers."""


def train_row(
    row: LandmarkRow, seed: int, recipe: Recipe, faces: Columns, checker: Columns, folder: Path, hooks: Hooks
) -> tuple[Landmarker, float]:
    """Train the landmarker of a row; return it and the mean variance that 95 % of the faces of `checker` stay below.

    faces: rows of `fake`. folder: the thermalizer that makes thermal rows. True temperature is read by the upper bound alone.
    """
    # The task's own configuration, at the recipe's size.
    config = landmarker.Config(
        seed=seed,
        steps=recipe.landmark_steps,
        batch=recipe.landmark_batch,
        lr=recipe.landmark_lr,
        network=LandmarkerConfig(
            standard=row.standard, size=recipe.size, width=recipe.landmark_width, head=256, cells=2, outputs="softplus"
        ),
        augmentation=augmentation(row),
        thermalizer=str(folder),
        thermal=row.thermal,
    )
    data = landmarker.keep_columns(faces, config) | {"thermal_pictures": thermal_pictures(row, faces, str(folder))}
    model = train(load("landmarker"), config, MemorySource(data), None, hooks, device=torch.device("cpu")).model
    assert isinstance(model, Landmarker)
    return model.eval(), _fit_threshold(model, checker, config)


def _fit_threshold(model: Landmarker, checker: Columns, config: landmarker.Config) -> float:
    """Return the mean variance that 95 % of the faces stay below.

    It is taken over visible and thermal faces alike, whatever the landmarker has learnt from.
    """
    every = config.model_copy(update={"thermal": 1.0})
    rows = {name: checker[name] for name in landmarker.COLUMNS} | {"row": np.arange(len(checker["visible"]))}
    batches = (
        {name: values[k : k + config.batch] for name, values in rows.items()}
        for k in range(0, len(rows["row"]), config.batch)
    )
    with torch.inference_mode():
        return landmarker.validate(model, batches, every)["threshold"]


def augmentation(row: LandmarkRow) -> Augmentation:
    """Return the starter's augmentation; without thermal rows half of the pictures are grey, and `heavy` inverts and blurs
    the grey ones as if they were thermal.
    """
    values: dict[str, Any] = {
        "rotation": 25, "flip": 0.5, "rgb_texture": 0.25, "gain": 0.3, "thermal_noise": (0.3, 1e-4, 0.03), "colour": 0.25
    }  # fmt: skip
    if row.source == "grey" or not row.thermal:
        values["grey"] = GREY
    if row.heavy:
        values |= {"inversion": 0.5, "thermal_blur": 10.0, "rgb_blur": (0.5, 5.0)}
    return Augmentation(**values)


def thermal_pictures(row: LandmarkRow, faces: Columns, folder: str) -> np.ndarray:
    """Return the pictures uint8 [N, C, S, S] that a row takes for thermal ones."""
    if not row.thermal:
        return np.zeros((len(faces["visible"]), 0, *faces["classes"].shape[1:]), np.uint8)
    if row.source == "grey":
        return np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in faces["visible"]])[:, None]
    if row.source == "true":
        return landmarker.levels(faces["thermal"])[:, None]
    return landmarker.predict_thermal(faces, folder)


@dataclass(frozen=True)
class Adapters:
    """Label adapters, learnt from the true points of `faces`: coordinates alone."""

    faces: Columns

    @cached_property
    def dense_to_70(self) -> Adapter:
        return fit_adapter(
            AdapterConfig(source=478, target=70), self.faces["landmarks_478"], self.faces["landmarks_70"]
        )

    @cached_property
    def to_72(self) -> Adapter:
        points = self.faces["landmarks_70"]
        return fit_adapter(AdapterConfig(source=70, target=72), points, contour72(points))


def measure(model: Landmarker, frames: Columns, adapters: Adapters, recipe: Recipe) -> dict[str, list[Any]]:
    """Return the figures of the surest window of every frame, lists with one entry a face.

    identity, high, side (subsets); uncertainty; true: "NME W/H" against the true 70 points; labels: against the 72 noisy
    contour labels, through an adapter (NaN where the frames have none of either). A dense landmarker is adapted to 70
    first.
    """
    # Search every frame; a set's own may be grey levels.
    detector = Detector(model, batch=8)
    mode: Mode = "pixel" if frames["frame"].dtype == np.uint8 else "temperature"
    found, uncertainty = [], []
    for frame, side in zip(frames["frame"], frames["side"], strict=True):
        face = detector.best(frame[:side, :side], mode)
        found.append(face.points)
        uncertainty.append(face.uncertainty)
    # Points as the truth has them, and as the labels have them.
    points = np.stack(found)
    if model.config.standard == 478:
        points = adapt_points(adapters.dense_to_70, points)
    error_to_labels = nme(_as_labels(points, frames, adapters), frames["labels"])
    subsets = split_faces(frames["height"], frames["pose"][:, 0], recipe.high_px, recipe.side_deg)
    return {
        "identity": frames["identity_id"].tolist(),
        "high": subsets["High"].tolist(),
        "side": subsets["Side"].tolist(),
        "uncertainty": [float(f"{u:.4g}") for u in uncertainty],
        "true": np.minimum(nme(points, frames["points"]), FAILURE).round(4).tolist(),
        "labels": np.minimum(error_to_labels, FAILURE).round(4).tolist(),
    }


def _as_labels(points: np.ndarray, frames: Columns, adapters: Adapters) -> np.ndarray:
    """Return 70 points [N, 70, 2] in the standard of the frames' 72 labels.

    The world's own contour is known; a data set's is learnt from the predictions (`convert_to_labels`), as the paper reads one
    model on several conventions.
    """
    if "annotated" not in frames or not frames["annotated"].all():
        return adapt_points(adapters.to_72, points)
    return convert_to_labels(points, frames["labels"], frames["identity_id"])
