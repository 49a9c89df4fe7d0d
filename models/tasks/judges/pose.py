"""Train the judge of head pose: yaw, pitch and roll from a visible picture. It is in no bundle, loss or gate."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.card import Card
from models.columns import Columns
from models.judges.people import check_people
from models.judges.pictures import Augmentation, augment, to_input
from models.judges.pose import (
    PoseConfig,
    PoseJudge,
    angle_between,
    angles_of_rotation,
    move_rotation,
    rotation_of_angles,
    scale_likelihood,
)
from models.tasks import TrainConfig
from models.weights.networks import device_of, save_network

COLUMNS = ("world_identity", "visible", "pose")
SUMMARY = """Reads yaw, pitch and roll from a visible picture, to full profile, and says how far off it expects to be. A VoVNet
trunk and a rotation from six numbers; the pipeline's own pose comes from landmarks, and no model was trained, filtered or
chosen by this one."""
LIMITS = """It knows rendered people of the synthetic world alone: heads with the face in the middle of a square picture. Yaw up
to 90, pitch and roll up to 30 degrees were in its training."""


class Config(TrainConfig):
    seed: int = 7927
    steps: int = Field(2000, gt=0)
    batch: int = Field(48, gt=0)
    lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)
    clip: float = Field(5.0, ge=0)
    ema: float = Field(0.995, ge=0, lt=1)
    network: PoseConfig = PoseConfig()
    augmentation: Augmentation = Augmentation()
    scale_weight: float = Field(0.02, ge=0, description="weight of the likelihood that the error's scale is fitted by")


def build(config: Config) -> nn.Module:
    """Return a fresh judge."""
    return PoseJudge(config.network)


def prepare(rows: Columns, config: Config) -> Columns:
    """Keep the picture and its pose, of people of the split `judges` alone."""
    check_people(rows["world_identity"])
    return {"visible": rows["visible"], "pose": rows["pose"]}


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the mean angle between found and true rotation in radians, plus `scale_weight` times -log likelihood of its scale.

    The scale is fitted to errors that it does not change: a judge that may call a hard picture uncertain learns less from it.
    """
    # The true rotation turns with the picture.
    pictures, matrices, flipped = augment(
        batch["visible"], batch["draw"], config.network.trunk.side, config.augmentation
    )
    truth = move_rotation(rotation_of_angles(torch.from_numpy(batch["pose"]).float()), matrices, flipped)
    pictures, truth = pictures.to(device_of(model)), truth.to(device_of(model))
    # How far off the found one is, and how far off it was expected to be.
    turn, scale = model(pictures)
    angle = angle_between(turn, truth)
    likelihood = scale_likelihood(angle.detach(), scale).mean()
    metrics = {"degrees": torch.rad2deg(angle.mean()).item(), "likelihood": likelihood.item()}
    return angle.mean() + config.scale_weight * likelihood, metrics


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the mean absolute errors of yaw, pitch and roll in degrees; `score` is minus the mean of the three."""
    errors = []
    for batch in rows:
        turn, _ = model(to_input(batch["visible"], config.network.trunk.side).to(device_of(model)))
        errors.append(np.abs(angles_of_rotation(turn).cpu().numpy() - batch["pose"]))
    yaw, pitch, roll = np.concatenate(errors).mean(axis=0).tolist()
    return {"score": -(yaw + pitch + roll) / 3, "yaw_mae": yaw, "pitch_mae": pitch, "roll_mae": roll}


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write `pose.safetensors` (float16) and the card."""
    save_network(model, folder / "pose.safetensors")
    facts = {"title": "Judge of head pose", "summary": SUMMARY, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
