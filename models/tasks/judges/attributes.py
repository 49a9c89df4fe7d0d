"""Train the judge of attributes: a word of every attribute from a visible picture. It is in no bundle, loss or gate."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.card import Card
from models.columns import Columns
from models.judges.attributes import (
    WORDS,
    AttributesConfig,
    AttributesJudge,
    balanced_entropy,
    label,
    mirror,
)
from models.judges.people import check_people
from models.judges.pictures import Augmentation, augment, to_input
from models.metrics import balanced_accuracy
from models.tasks import TrainConfig
from models.weights.networks import device_of, save_network

COLUMNS = ("world_identity", "visible", "attributes")
SUMMARY = """Reads a word of every attribute from a visible picture, as if all words of an attribute were equally frequent.
A VoVNet trunk and a head per attribute; no part of a bundle has this form, and no model was trained, filtered or chosen by it."""
LIMITS = """It knows rendered people of the synthetic world alone. What it reaches on true renders caps what it can say of
generated ones: irises are few pixels, and a cap, a mask or a profile hides words that the figures count all the same.
It says nothing of an attribute that it reads no better than chance on true renders."""


class Config(TrainConfig):
    seed: int = 7921
    steps: int = Field(1200, gt=0)
    batch: int = Field(48, gt=0)
    lr: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    clip: float = Field(5.0, ge=0)
    ema: float = Field(0.995, ge=0, lt=1)
    network: AttributesConfig = AttributesConfig()
    augmentation: Augmentation = Augmentation()


class Trainee(nn.Module):
    """The judge, and how often each word was seen in training: counts float32 [words] by attribute, starting at 0."""

    def __init__(self, config: AttributesConfig) -> None:
        super().__init__()
        self.judge = AttributesJudge(config)
        for name, words in config.words.items():
            self.register_buffer(f"count_{name}", torch.zeros(len(words)))

    def count(self, labels: Tensor) -> dict[str, Tensor]:
        """Add labels int64 [B, attributes] to the counts and return them."""
        counts = {name: self.get_buffer(f"count_{name}") for name in self.judge.config.words}
        for place, seen in enumerate(counts.values()):
            seen += torch.bincount(labels[:, place], minlength=len(seen)).to(seen)
        return counts


def build(config: Config) -> nn.Module:
    """Return a fresh judge with its counts."""
    return Trainee(config.network)


def prepare(rows: Columns, config: Config) -> Columns:
    """Keep the picture and its words as numbers, of people of the split `judges` alone."""
    check_people(rows["world_identity"])
    return {"visible": rows["visible"], "labels": label(rows["attributes"])}


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the mean over attributes of the balanced cross-entropy (`models.judges.attributes.balanced_entropy`)."""
    assert isinstance(model, Trainee)
    # In a mirror the words of a side change with it.
    pictures, _, flipped = augment(batch["visible"], batch["draw"], config.network.trunk.side, config.augmentation)
    labels = torch.from_numpy(np.where(flipped.numpy()[:, None], mirror(batch["labels"]), batch["labels"]))
    pictures, labels = pictures.to(device_of(model)), labels.to(device_of(model))
    # Rare words weigh as much as frequent ones, by how often each was seen so far.
    losses = balanced_entropy(model.judge(pictures), labels, model.count(labels))
    mean = torch.stack(list(losses.values())).mean()
    return mean, {name: value.item() for name, value in losses.items()}


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the balanced accuracy of each attribute, and their mean (`score`)."""
    assert isinstance(model, Trainee)
    # The likeliest word of each attribute beside the true one.
    found, truth = [], []
    for batch in rows:
        logits = model.judge(to_input(batch["visible"], config.network.trunk.side).to(device_of(model)))
        found.append(np.stack([values.argmax(1).cpu().numpy() for values in logits.values()], axis=1))
        truth.append(label(batch["attributes"]))
    predicted, true = np.concatenate(found), np.concatenate(truth)
    # Every word of an attribute counts alike, however rare it is.
    reached = {
        name: balanced_accuracy(predicted[:, place], true[:, place], len(words))
        for place, (name, words) in enumerate(WORDS.items())
    }
    return {"score": float(np.mean(list(reached.values()))), **{f"accuracy_{k}": v for k, v in reached.items()}}


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write `attributes.safetensors` (float16) and the card."""
    assert isinstance(model, Trainee)
    save_network(model.judge, folder / "attributes.safetensors")
    facts = {"title": "Judge of attributes", "summary": SUMMARY, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
