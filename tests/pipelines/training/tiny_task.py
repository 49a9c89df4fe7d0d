"""A small real task: the mean temperature of a picture from its colours. Its loss is a plain mean over rows."""

import os
import signal
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.card import Card
from models.columns import Columns
from models.tasks import TrainConfig

COLUMNS = ("visible", "thermal")


class Config(TrainConfig):
    steps: int = 12
    batch: int = 8
    lr: float = 3e-3
    ema: float = 0.9
    validate_every: int = 6
    width: int = 8
    dies: str = ""
    """File whose absence makes the worker end itself, as SIGKILL would, at step 8; it leaves the file."""


def build(config: Config) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, config.width, 3, stride=2), nn.GroupNorm(2, config.width), nn.SiLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * config.width, 1),
    )  # fmt: skip


def takes_grey(config: Config) -> bool:
    return True


def prepare(rows: Columns, config: Config) -> Columns:
    return {"visible": rows["visible"], "mean": np.nanmean(rows["thermal"], axis=(1, 2))}


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    if config.dies and step == 8 and not Path(config.dies).exists():
        Path(config.dies).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    light = [np.random.default_rng(int(seed)).uniform(0.8, 1.2) for seed in batch["draw"]]
    pictures = torch.from_numpy(batch["visible"]).permute(0, 3, 1, 2) / 255 * torch.tensor(light)[:, None, None, None]
    error = model(pictures.float())[:, 0].float() - (torch.from_numpy(batch["mean"]) - 25) / 10
    value = (error**2).mean()
    return value, {"rmse_kelvin": 10 * value.item() ** 0.5}


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    errors = []
    for part in rows:
        found = model(torch.from_numpy(part["visible"]).permute(0, 3, 1, 2) / 255)[:, 0] * 10 + 25
        errors.append(np.abs(found.numpy() - part["thermal"].mean(axis=(1, 2))))
    return {"score": -float(np.concatenate(errors).mean())}


def pictures(model: nn.Module, rows: Columns, config: Config) -> np.ndarray:
    return np.concatenate(list(rows["visible"][:4]), axis=1)


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    save_file(model.state_dict(), folder / "model.safetensors")
    card.write(folder)
