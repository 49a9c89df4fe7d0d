"""Train the thermalizer on radiometric pairs: mean squared error on the network's scale (T-FAKE's first term)."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.augment import Draws, Geometry, Photometry, pictures_of, relight, transforms, warp
from models.card import Card
from models.classes import BACKGROUND
from models.tasks import Rows, TrainConfig
from models.thermal.baselines import Errors
from models.thermal.network import ThermalConfig, Thermalizer, new_thermalizer, save_thermalizer
from models.unet import UNetConfig

COLUMNS = ("visible", "classes", "apparent", "valid", "condition")


class Config(TrainConfig):
    steps: int = Field(900, gt=0)
    batch: int = Field(32, gt=0)
    lr: float = Field(3e-3, gt=0)
    ema: float = Field(0.99, ge=0, lt=1)
    bf16: bool = True
    unet: UNetConfig = UNetConfig(width=16, blocks=(1, 1, 1, 1))
    thermal: ThermalConfig = ThermalConfig(low=0.0, high=45.0)
    geometry: Geometry = Geometry()
    photometry: Photometry = Photometry()
    background: float = Field(
        0.1, ge=0, description="weight of background pixels; the masked picture says nothing of them"
    )


def build(config: Config) -> nn.Module:
    return new_thermalizer(config.thermal, config.unet)


def loss(model: nn.Module, batch: Rows, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted mean squared error of the rows, each through the network of its condition."""
    assert isinstance(model, Thermalizer)
    draws = Draws(batch["draw"])
    matrices, _ = transforms(config.geometry, draws)
    pictures = relight(warp(pictures_of(batch["visible"]), matrices), config.photometry, draws)
    target, weight, classes = _targets(model, batch, matrices, config.background)
    square = pictures.new_zeros(())
    for condition in model.networks:
        rows = torch.from_numpy(batch["condition"] == condition)
        if rows.any():
            found = model.scaled(pictures[rows], classes[rows], condition)
            square = square + ((found - target[rows]) ** 2 * weight[rows]).sum()
    mse = square / weight.sum()
    kelvin = (config.thermal.high - config.thermal.low) * mse.detach().sqrt().item()
    return mse, {"mse": mse.item(), "rmse_kelvin": kelvin}


def _targets(model: Thermalizer, batch: Rows, matrices: Tensor, background: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return scaled temperature, pixel weights and classes, each [B, H, W], warped together without interpolation."""
    layers = [torch.from_numpy(np.asarray(batch[name], np.float32)) for name in ("apparent", "valid", "classes")]
    layers.append(torch.ones_like(layers[0]))
    celsius, valid, classes, inside = warp(torch.stack(layers, dim=1), matrices, nearest=True).unbind(dim=1)
    weight = (valid > 0).float() * inside * torch.where(classes == BACKGROUND, background, 1.0)
    return model.to_scale(celsius.nan_to_num()), weight, classes.to(torch.uint8)


def validate(model: nn.Module, rows: Iterable[Rows], config: Config) -> dict[str, float]:
    """Return the person's temperature error in kelvin: absolute, after removing the image offset, and by condition."""
    assert isinstance(model, Thermalizer)
    errors = Errors()
    for part in rows:
        errors.add(part, predict(model, part))
    metrics = errors.summary()
    return {"score": -metrics["mae"], **metrics}


def predict(model: Thermalizer, rows: Rows) -> np.ndarray:
    """Return degrees Celsius float32 [B, H, W] for rows of mixed conditions."""
    pictures, classes = pictures_of(rows["visible"]), torch.from_numpy(np.ascontiguousarray(rows["classes"]))
    found = torch.zeros(classes.shape)
    for condition in model.networks:
        chosen = torch.from_numpy(rows["condition"] == condition)
        if chosen.any():
            found[chosen] = model(pictures[chosen], classes[chosen], condition)
    return found.numpy()


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the thermalizer's folder and its card."""
    assert isinstance(model, Thermalizer)
    save_thermalizer(model, folder)
    card.write(folder)
