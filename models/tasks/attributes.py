"""Train a classifier of attributes: of visible pictures, whose gradient guides the translator, or of thermal ones, which says
what the translator is told.

python -m cluster train attributes --data URI --validation URI --out DIR --set network.modality=thermal

No judge: it is part of models, so nothing that is claimed of them is read from it.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models.attributes import mirror_words
from models.augment.batch import Geometry, Photometry, RowDraws, draw_transforms, relight, to_unit_tensor, warp
from models.card import Card
from models.columns import Columns
from models.metrics import balanced_accuracy
from models.tasks import TrainConfig
from models.temperature import fill
from models.translation.attributes import (
    UNTOLD,
    AttributeClassifier,
    ClassifierConfig,
    entropy,
    label_words,
    resize,
    save_classifier,
)
from models.weights.networks import device_of

SUMMARY = """Reads a word of each attribute from a {modality} picture, with the shares that words have in the training's
people."""
LIMITS = """Learnt from rendered people. Of thermal pictures skin tone, hair colour, iris, make-up, clothes' colour, light and
background cannot be read: for these it only knows how frequent each word is."""


class Config(TrainConfig):
    steps: int = Field(1500, gt=0)
    batch: int = Field(48, gt=0)
    lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    ema: float = Field(0.995, ge=0, lt=1)
    validate_rows: int = Field(1000, gt=0)
    network: ClassifierConfig = ClassifierConfig()
    geometry: Geometry = Geometry(rotation=10, scale=(0.85, 1.15), shift=0.05)
    photometry: Photometry = Photometry(contrast=0.3, grey=0.1, blur=0.0, noise=0.03)
    offset: float = Field(3.0, ge=0, description="spread in kelvin of what is added to a thermal picture")


class Trainee(nn.Module):
    """The classifier, whose shares of words follow the rows that it sees."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.classifier = AttributeClassifier(config)


def columns(config: Config) -> tuple[str, ...]:
    """Return the columns that are read."""
    return ("attributes", "visible" if config.network.modality == "visible" else "thermal")


COLUMNS = ("attributes", "visible", "thermal")


def build(config: Config) -> nn.Module:
    """Return a fresh classifier."""
    return Trainee(config.network)


def prepare(rows: Columns, config: Config) -> Columns:
    """Return small pictures float16 [B, C, side, side], in [0, 1] or degrees Celsius, and words as numbers, of the mirrored
    picture, too. Rows may say some attributes alone."""
    words = [json.loads(text) for text in rows["attributes"]]
    return {
        "pictures": _pictures(rows, config).half().numpy(),
        "labels": label_words(words, config.network.words),
        "labels_mirrored": label_words([mirror_words(row) for row in words], config.network.words),
    }


def _pictures(rows: Columns, config: Config) -> Tensor:
    if config.network.modality == "visible":
        return resize(to_unit_tensor(rows["visible"]), config.network.side)
    celsius = torch.from_numpy(np.stack([fill(one) for one in rows["thermal"]]))
    return resize(celsius[:, None], config.network.side)


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the mean cross-entropy over the attributes, of pictures that are turned, moved and changed in tone."""
    assert isinstance(model, Trainee)
    # Pictures moved, and changed in tone: visible ones in light, thermal ones by an offset of all degrees.
    pictures, draws = torch.from_numpy(batch["pictures"]).float(), RowDraws(batch["draw"])
    matrices, flipped = draw_transforms(config.geometry, draws)
    if config.network.modality == "visible":
        moved = relight(warp(pictures, matrices), config.photometry, draws) * 2 - 1
    else:
        # What lies outside of a moved picture has its mean, not zero degrees.
        mean = pictures.mean(dim=(2, 3), keepdim=True)
        offset = [np.random.default_rng(int(seed)).normal(0, config.offset) for seed in batch["draw"]]
        moved = warp(pictures - mean, matrices) + mean + torch.tensor(offset, dtype=torch.float32).view(-1, 1, 1, 1)
    # The words of what is seen then, counted for their shares.
    chosen = np.where(flipped.numpy()[:, None], batch["labels_mirrored"], batch["labels"])
    device = device_of(model)
    labels = torch.from_numpy(chosen).to(device)
    _count(model.classifier, labels, step)
    losses = entropy(model.classifier(moved.to(device)), labels)
    return torch.stack(list(losses.values())).mean(), {name: value.item() for name, value in losses.items()}


@torch.no_grad()
def _count(classifier: AttributeClassifier, labels: Tensor, step: int) -> None:
    """Let the shares of words follow those of the rows: their mean over the steps so far, over 200 at most."""
    for place, name in enumerate(classifier.config.words):
        prior = classifier.prior(name)
        known = labels[labels[:, place] != UNTOLD, place]
        if len(known):
            shares = torch.bincount(known, minlength=len(prior)).to(prior) / len(known)
            prior.lerp_(shares, 1 / min(step + 1, 200))


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return each attribute's balanced accuracy and that of the most frequent word (`majority_*`); `score` is their mean."""
    assert isinstance(model, Trainee)
    found, truth = [], []
    # What is read in every picture.
    for batch in rows:
        pictures = _pictures(batch, config).to(device_of(model))
        logits = model.classifier(pictures * 2 - 1 if config.network.modality == "visible" else pictures)
        found.append(torch.stack([values.argmax(1) for values in logits.values()], dim=1).cpu().numpy())
        truth.append(label_words([json.loads(text) for text in batch["attributes"]], config.network.words))
    predicted, true = np.concatenate(found), np.concatenate(truth)
    # Attribute by attribute, of rows that are told it.
    metrics = {}
    for place, (name, words) in enumerate(config.network.words.items()):
        told = true[:, place] != UNTOLD
        if told.any():
            metrics[f"accuracy_{name}"] = balanced_accuracy(predicted[told, place], true[told, place], len(words))
            metrics[f"majority_{name}"] = 1 / len(np.unique(true[told, place]))
    reached = [value for name, value in metrics.items() if name.startswith("accuracy_")]
    return {"score": float(np.mean(reached)) if reached else 0.0, **metrics}


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write `attributes.safetensors` and the card."""
    assert isinstance(model, Trainee)
    save_classifier(model.classifier, folder)
    summary = SUMMARY.format(modality=config.network.modality)
    facts = {"title": f"Attributes of {config.network.modality} faces", "summary": summary, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
