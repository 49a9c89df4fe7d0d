"""Train the autoencoder of thermal latents: degrees in, degrees out.

python -m cluster train thermal_vae --data URI --validation URI --out DIR
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.card import Card
from models.classes import BACKGROUND, FACE
from models.columns import Columns
from models.errors import UserError
from models.tasks import TrainConfig
from models.temperature import fill
from models.thermal.latent.autoencoder import (
    AutoencoderConfig,
    ThermalAutoencoder,
    new_autoencoder,
    save_autoencoder,
)
from models.weights.networks import device_of

COLUMNS = ("thermal", "valid", "classes", "condition")
SUMMARY = """Autoencoder of thermal pictures for latent diffusion: 16-bit temperature in, degrees Celsius out, one channel, a
latent cell for {factor} x {factor} pixels with {channels} numbers."""
LIMITS = """Learnt from rendered people of 128 px, indoors and outdoors. Edges finer than a cell are sharpened from their
neighbourhood; where two lie in one cell they are rounded off."""


class Config(TrainConfig):
    steps: int = Field(3000, gt=0)
    batch: int = Field(16, gt=0)
    lr: float = Field(1.5e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    ema: float = Field(0.995, ge=0, lt=1)
    validate_rows: int = Field(512, gt=0)
    crop: int = Field(64, gt=0, multiple_of=8, description="side of the training crops")
    shape: AutoencoderConfig = AutoencoderConfig()
    face: float = Field(4.0, gt=0, description="weight of a face's pixels; the rest of the person has 1")
    background: float = Field(0.2, ge=0, description="weight of background pixels")
    latent_noise: float = Field(
        0.01, ge=0, description="noise on latents in training, as a share of their spread: a sampler is never exact"
    )
    detail: float = Field(1.0, ge=0, description="weight of the error of differences between neighbouring pixels")


def build(config: Config) -> nn.Module:
    """Return a fresh autoencoder."""
    return new_autoencoder(config.shape)


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted mean absolute error of a crop of every row in kelvin, plus `detail` x that of its gradients."""
    assert isinstance(model, ThermalAutoencoder)
    celsius, weight = _crops(batch, config)
    celsius, weight = celsius.to(device_of(model)), weight.to(device_of(model))
    # Latents with the noise that a sampler leaves, and their mean and spread over the steps so far.
    latents = model.encode_raw(celsius)
    _follow(model, latents.detach())
    noise = torch.from_numpy(np.random.default_rng(int(batch["draw"][0])).standard_normal(latents.shape, np.float32))
    noisy = latents + config.latent_noise * noise.to(latents) * model.scale[:, None, None]
    error = model.decode_raw(noisy) - celsius
    absolute = (error.abs() * weight).sum() / weight.sum()
    across, down = error.diff(dim=2).abs() * weight[:, :, 1:], error.diff(dim=1).abs() * weight[:, 1:]
    detail = (across.sum() + down.sum()) / weight.sum()
    return absolute + config.detail * detail, {"kelvin": absolute.item(), "detail": detail.item()}


def _crops(batch: Columns, config: Config) -> tuple[Tensor, Tensor]:
    """Return a seeded crop of every row, mirrored or not: degrees and weights, float32 [B, crop, crop]."""
    _check_degrees(batch)
    celsius, weights = [], []
    for k, seed in enumerate(batch["draw"]):
        rng = np.random.default_rng(int(seed))
        y, x = rng.integers(0, batch["thermal"].shape[1] - config.crop + 1, 2)
        cut = (k, slice(y, y + config.crop), slice(x, x + config.crop))
        layers = [fill(batch["thermal"][cut]), _weigh(batch, cut, config)]
        if rng.random() < 0.5:
            layers = [np.ascontiguousarray(layer[:, ::-1]) for layer in layers]
        celsius.append(torch.from_numpy(layers[0]))
        weights.append(torch.from_numpy(layers[1]))
    return torch.stack(celsius), torch.stack(weights)


def _check_degrees(batch: Columns) -> None:
    """Raise a UserError for grey levels, which are no temperature."""
    if batch["thermal"].dtype == np.uint8:
        raise UserError(
            "the rows' thermal pictures are 8-bit grey, not degrees: an autoencoder of temperatures needs radiometric ones"
        )


def _weigh(batch: Columns, cut: tuple[int, slice, slice], config: Config) -> np.ndarray:
    """Return the weights of the pixels of a crop, float32."""
    classes = batch["classes"][cut]
    weight = np.where(classes == BACKGROUND, config.background, np.where(np.isin(classes, FACE), config.face, 1.0))
    known = (np.asarray(batch["valid"][cut]) > 0) & np.isfinite(batch["thermal"][cut])
    return (weight * known).astype(np.float32)


@torch.no_grad()
def _follow(model: ThermalAutoencoder, latents: Tensor) -> None:
    """Move `mean` and `scale` towards those of a step's latents.

    The scale is the square root of the spread, as for the visible latents: were all channels of one size, what is seldom
    seen would weigh like the temperature itself. It is set so that the mean square is one.
    """
    share = 0.02
    mean, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)).clamp(min=1e-4)
    scale = spread.sqrt() * (spread.mean()) ** 0.5
    model.mean.lerp_(mean, share)
    model.scale.lerp_(scale, share)


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the round trip's errors in kelvin on faces: `p95`, `mae`, by condition, of the whole person, and `score` = -p95."""
    assert isinstance(model, ThermalAutoencoder)
    errors: dict[str, list[np.ndarray]] = {"face": [], "person": []}
    squares = []
    for batch in rows:
        _check_degrees(batch)
        # There and back.
        celsius = torch.from_numpy(np.stack([fill(one) for one in batch["thermal"]])).to(device_of(model))
        latents = model.encode(celsius)
        squares.append(latents.square().mean().item())
        error = (model.decode(latents) - celsius).abs().cpu().numpy()
        # Errors where there was a reading: of faces, of the person, and of faces by condition.
        known = (np.asarray(batch["valid"]) > 0) & np.isfinite(batch["thermal"])
        face = known & np.isin(batch["classes"], FACE)
        errors["face"].append(error[face])
        errors["person"].append(error[known & (batch["classes"] != BACKGROUND)])
        for name in np.unique(batch["condition"]):
            errors.setdefault(str(name), []).append(error[face & (batch["condition"] == name)[:, None, None]])
    # Their quantiles over all pixels.
    found = {name: np.concatenate(values) for name, values in errors.items()}
    if not len(found["face"]):
        raise UserError(
            "the validation rows have no face in their classes: gather them with --bundle, whose parser finds it"
        )
    metrics = {f"p95_{name}": float(np.quantile(values, 0.95)) for name, values in found.items()}
    metrics |= {"mae": float(found["face"].mean()), "latent_rms": float(np.mean(squares)) ** 0.5}
    return {"score": -metrics["p95_face"], "p95": metrics.pop("p95_face"), **metrics}


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write `autoencoder.safetensors` (float32) and the card."""
    assert isinstance(model, ThermalAutoencoder)
    save_autoencoder(model, folder)
    summary = SUMMARY.format(factor=config.shape.factor, channels=config.shape.channels)
    facts = {"title": "Autoencoder of thermal faces", "summary": summary, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
