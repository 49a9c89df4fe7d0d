"""Train a label adapter on the world's true points: coordinates alone, no pictures.

python -m cluster train adapter --data URI --validation URI --out DIR --set source=70 --set target=68
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.augment.batch import RowDraws
from models.card import Card
from models.columns import Columns
from models.landmarks.adapt import Adapter, AdapterConfig, adapt_points, adaptation_loss
from models.landmarks.metrics import nme
from models.landmarks.standards import Standard, to_standard
from models.tasks import TrainConfig
from models.weights.networks import save_network

COLUMNS = ("landmarks_70", "landmarks_478")

SUMMARY = "Turns {source} landmarks into {target}: five fully connected layers on coordinates, centred and scaled by the face."
LIMITS = """Learnt from the synthetic world's geometry. Its 72 points stand for a contour standard whose index is not
published, and its 478 are not MediaPipe's."""


class Config(TrainConfig):
    steps: int = Field(1500, gt=0)
    lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    ema: float = Field(0.99, ge=0, lt=1)
    source: Standard = 70
    target: Standard = 68
    hidden: int = Field(128, ge=1)
    turn: float = Field(15.0, ge=0, description="rows are turned by up to so many degrees")
    jitter: float = Field(0.01, ge=0, description="noise on the source, in face sizes: predictions are not exact")


def build(config: Config) -> nn.Module:
    """Return a fresh adapter between the two standards."""
    return Adapter(AdapterConfig(source=config.source, target=config.target, hidden=config.hidden))


def _pair(rows: Columns, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Return the true points of both standards, source [B, L, 2] and target [B, L', 2] px."""
    points = np.asarray(rows["landmarks_70"]), np.asarray(rows["landmarks_478"])
    return to_standard(*points, config.source), to_standard(*points, config.target)


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the mean squared distance in face sizes, on turned and jittered rows."""
    assert isinstance(model, Adapter)
    source, target = (torch.from_numpy(np.asarray(v, np.float32)) for v in _pair(batch, config))
    # Turn both about the middle of the source.
    draws = RowDraws(batch["draw"])
    angle = draws.uniform(-config.turn, config.turn) * (torch.pi / 180)
    turn = torch.stack([torch.stack([angle.cos(), angle.sin()], -1), torch.stack([-angle.sin(), angle.cos()], -1)], -2)
    middle = source.mean(dim=1, keepdim=True)
    source, target = ((v - middle) @ turn for v in (source, target))
    # Noise on the source alone, in shares of the face's size: the landmarker's predictions are not exact either.
    size = source.square().sum(dim=2).mean(dim=1).sqrt()[:, None, None]
    source = source + config.jitter * size * draws.normal(*source.shape[1:])
    value = adaptation_loss(model, source, target)
    return value, {"rms": value.item() ** 0.5}


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the "NME W/H" of converted true points."""
    assert isinstance(model, Adapter)
    errors = [nme(adapt_points(model, source), target) for source, target in (_pair(batch, config) for batch in rows)]
    error = float(np.concatenate(errors).mean())
    return {"score": -error, "nme": error}


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write `SOURCE-TARGET/adapter.safetensors` (float16) and its card."""
    own = folder / f"{config.source}-{config.target}"
    save_network(model, own / "adapter.safetensors")
    names = {"source": config.source, "target": config.target}
    facts = {"title": "Label adapter {source} to {target}".format(**names), "summary": SUMMARY.format(**names)}
    card.model_copy(update={**facts, "limits": LIMITS}).write(own)
