"""Train the judge of pixel classes: FaceSynthetics' 19 from a visible picture. It is in no bundle, loss or gate."""

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.augment.batch import warp
from models.card import Card
from models.classes import CLASSES, MIRRORED
from models.columns import Columns
from models.judges.parser import ParserConfig, ParserJudge, upsample
from models.judges.people import check_people
from models.judges.pictures import Augmentation, augment, to_input
from models.tasks import TrainConfig
from models.weights.networks import device_of, save_network

COLUMNS = ("world_identity", "visible", "classes")
SUMMARY = """Says which of FaceSynthetics' 19 classes each pixel of a visible face belongs to. A VoVNet trunk and a feature
pyramid; the bundle's parser is a U-Net, and no model was trained, filtered or chosen by this one."""
LIMITS = """It knows rendered people of the synthetic world alone. It decides on a grid of 48 x 48, so what is thinner than
a cell is lost. Left and right are the person's own."""


class Config(TrainConfig):
    seed: int = 7933
    steps: int = Field(1100, gt=0)
    batch: int = Field(24, gt=0)
    lr: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)
    clip: float = Field(5.0, ge=0)
    ema: float = Field(0.995, ge=0, lt=1)
    network: ParserConfig = ParserConfig()
    augmentation: Augmentation = Augmentation()
    power: float = Field(0.3, ge=0, le=1, description="a class of share s of the pixels weighs s ** -power")


def build(config: Config) -> nn.Module:
    """Return a fresh judge."""
    return ParserJudge(config.network)


def prepare(rows: Columns, config: Config) -> Columns:
    """Keep the picture and its classes, of people of the split `judges` alone."""
    check_people(rows["world_identity"])
    return {"visible": rows["visible"], "classes": rows["classes"]}


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the cross-entropy of the pixels, each weighted by its class (`class_weights`)."""
    pictures, matrices, flipped = augment(
        batch["visible"], batch["draw"], config.network.trunk.side, config.augmentation
    )
    # Classes move with the picture, onto the grid of the logits; in a mirror left and right ones change places.
    logits = model(pictures.to(device_of(model)))
    classes = torch.from_numpy(batch["classes"])[:, None].float()
    target = warp(classes, matrices, nearest=True, side=logits.shape[-1])[:, 0].long()
    target = torch.where(flipped[:, None, None], torch.tensor(MIRRORED)[target], target).to(logits.device)
    # Small classes weigh more than their pixels would.
    entropy = F.cross_entropy(logits, target, class_weights(target, config.power))
    accuracy = (logits.argmax(1) == target).float().mean()
    return entropy, {"accuracy": accuracy.item()}


def class_weights(target: Tensor, power: float) -> Tensor:
    """Return the weight of each class, float32 [classes]: its share of the pixels of `target` to the power `-power`."""
    counts = torch.bincount(target.flatten(), minlength=len(CLASSES)).float()
    return (counts.clamp(min=1) / counts.sum()) ** -power


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the mean intersection over union of the classes that occur (`score`, `miou`) and pixel accuracy."""
    # How many pixels of each true class were found to be of each.
    confusion = torch.zeros(len(CLASSES), len(CLASSES), dtype=torch.int64)
    for batch in rows:
        logits = model(to_input(batch["visible"], config.network.trunk.side).to(device_of(model)))
        found = upsample(logits, batch["classes"].shape[-1]).argmax(1).cpu().flatten()
        truth = torch.from_numpy(batch["classes"]).long().flatten()
        confusion += torch.bincount(truth * len(CLASSES) + found, minlength=len(CLASSES) ** 2).view_as(confusion)
    # Classes that are neither there nor found have no intersection over union.
    hits = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - hits
    mean = (hits[union > 0] / union[union > 0]).mean().item()
    return {"score": mean, "miou": mean, "accuracy": (hits.sum() / confusion.sum()).item()}


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write `parser.safetensors` (float16) and the card."""
    save_network(model, folder / "parser.safetensors")
    facts = {"title": "Judge of pixel classes", "summary": SUMMARY, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
