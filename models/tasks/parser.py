"""Train the face parser: pixel classes of the world's pictures under changed light, blur and noise."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.augment.batch import Geometry, Photometry, RowDraws, draw_transforms, relight, to_unit_tensor, warp
from models.card import Card
from models.classes import CLASSES, MIRRORED, paint_classes
from models.columns import Columns
from models.errors import UserError
from models.parser.stage import parse
from models.tasks import TrainConfig
from models.unet import UNet, UNetConfig, build_unet
from models.weights.networks import device_of, load_network, load_strictly, save_network

STAGE = "parser"
COLUMNS = ("visible", "classes")
SUMMARY = """Says which of FaceSynthetics' 19 classes each pixel of a visible face belongs to. A U-Net with a ResNet encoder."""
LIMITS = """Learnt from rendered people: it knows no photograph. Thin classes (brows, lips, the inside of the mouth) are right on
half of their area; beards and glasses on little more. Left and right are the person's own."""


class Config(TrainConfig):
    steps: int = Field(900, gt=0)
    batch: int = Field(32, gt=0)
    lr: float = Field(3e-3, gt=0)
    ema: float = Field(0.99, ge=0, lt=1)
    bf16: bool = True
    unet: UNetConfig = UNetConfig(width=16, blocks=(1, 1, 1, 1), classes=len(CLASSES), activation="none")
    geometry: Geometry = Geometry()
    photometry: Photometry = Photometry()
    dice: float = Field(
        0.5, ge=0, description="weight of the soft Dice term, which keeps small classes from being lost"
    )


def build(config: Config) -> nn.Module:
    """Return a fresh parser: a U-Net of a logit per class."""
    return UNet(config.unet)


def begin(model: nn.Module, folder: Path) -> None:
    """Fill `model` from a parser's folder of the same shape."""
    path = folder / "parser.safetensors"
    load_strictly(model, load_network(path, build_unet).state_dict(), path)


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return cross-entropy plus `dice` times (1 - mean soft Dice over the classes present).

    The soft Dice of a class is 2 sum(p t) / (sum(p) + sum(t)) of its probabilities p and truth t (arXiv 1606.04797, section 3,
    without squares).
    """
    if (batch["classes"] >= len(CLASSES)).any():
        raise UserError("rows without a mask (classes 255) teach a parser nothing: gather them with masks")
    # Picture and classes move together; in a mirror left and right classes change places.
    draws = RowDraws(batch["draw"])
    matrices, flipped = draw_transforms(config.geometry, draws)
    pictures = relight(warp(to_unit_tensor(batch["visible"]), matrices), config.photometry, draws)
    target = warp(torch.from_numpy(batch["classes"])[:, None].float(), matrices, nearest=True)[:, 0].long()
    target = torch.where(flipped[:, None, None], torch.tensor(MIRRORED)[target], target)
    pictures, target = (values.to(device_of(model)) for values in (pictures, target))
    logits = model((pictures * 2 - 1).contiguous(memory_format=torch.channels_last)).float()
    entropy = F.cross_entropy(logits, target)
    # Soft Dice over the batch as a whole, so that a small class counts as much as a large one.
    probability = logits.softmax(dim=1)
    truth = F.one_hot(target, len(CLASSES)).permute(0, 3, 1, 2).float()
    overlap = (probability * truth).sum(dim=(0, 2, 3))
    total = probability.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    present = truth.sum(dim=(0, 2, 3)) > 0
    dice = 1 - (2 * overlap[present] / total[present]).mean()
    return entropy + config.dice * dice, {"entropy": entropy.item(), "dice": dice.item()}


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the intersection over union per class over all pixels, their mean (`score`, `miou`) and pixel accuracy."""
    # Count pixels by (true class, predicted class).
    confusion = torch.zeros(len(CLASSES), len(CLASSES), dtype=torch.int64)
    for batch in rows:
        prediction = parse(model, to_unit_tensor(batch["visible"]).to(device_of(model))).cpu().long().flatten()
        truth = torch.from_numpy(batch["classes"]).long().flatten()
        confusion += torch.bincount(truth * len(CLASSES) + prediction, minlength=len(CLASSES) ** 2).view_as(confusion)
    # Of each class that is there: what is right, over all that is or was taken for it.
    hits = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - hits
    overlap = {name: (hits[k] / union[k]).item() for k, name in enumerate(CLASSES) if union[k] > 0}
    mean = float(np.mean(list(overlap.values())))
    accuracy = (hits.sum() / confusion.sum()).item()
    return {
        "score": mean,
        "miou": mean,
        "accuracy": accuracy,
        **{f"iou_{name.lower()}": v for name, v in overlap.items()},
    }


def pictures(model: nn.Module, rows: Columns, config: Config) -> np.ndarray:
    """Return a sheet of pictures, true and predicted classes, uint8."""
    few = slice(0, 8)
    prediction = parse(model, to_unit_tensor(rows["visible"][few]).to(device_of(model))).cpu().numpy()
    truth = rows["classes"][few]
    colours = np.stack([paint_classes(row) for row in np.concatenate([truth, prediction])])
    return np.concatenate([np.concatenate(list(block), 1) for block in (rows["visible"][few], *np.split(colours, 2))])


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write `parser.safetensors` (float16) and the card."""
    assert isinstance(model, UNet)
    save_network(model, folder / "parser.safetensors")
    facts = {"title": "Face parser", "summary": SUMMARY, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
