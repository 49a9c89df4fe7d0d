"""The multi-attribute classifier, of visible or of thermal pictures, and what a translation is told of attributes.

A thermal picture does not show everything: attributes that are unobservable in it (`models.attributes.ATTRIBUTES`) are never
read from it. They are drawn from how frequent their words are in the training's people, unless the caller gives them.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from models.attributes import ATTRIBUTES
from models.seeds import seed_of
from models.weights.networks import load_network, save_network

FILE = "attributes.safetensors"
GIVEN, ESTIMATED, ASKED = "given", "estimated", "asked"
"""Where a word comes from: the caller, the thermal picture, or the population's shares."""
UNTOLD = -100
"""In place of a word's number where a row does not say it."""
CENTRE, SPAN = 20.0, 20.0
"""Degrees Celsius of a network value 0, and per 1."""


class ClassifierConfig(BaseModel):
    """What is stored with the weights. words: the schema, attribute -> its words in order. cells: of the last features' mean."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    modality: Literal["visible", "thermal"] = "visible"
    side: int = Field(64, ge=32, multiple_of=16, description="side that pictures are resized to")
    widths: tuple[int, ...] = (32, 64, 128, 160)
    cells: int = Field(3, ge=1)
    words: dict[str, tuple[str, ...]] = {name: words for name, (_, _, words) in ATTRIBUTES.items()}

    @model_validator(mode="after")
    def _check_schema(self) -> "ClassifierConfig":
        for name, words in self.words.items():
            if name not in ATTRIBUTES:
                raise ValueError(f"no attribute {name!r}; known: {', '.join(ATTRIBUTES)}")
            if words != ATTRIBUTES[name][2]:
                raise ValueError(f"{name} has the words {', '.join(ATTRIBUTES[name][2])}, not {', '.join(words)}")
        return self


class _Stage(nn.Module):
    """Half the size, and a residual of two convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shrink = nn.Conv2d(inputs, outputs, 3, 2, 1)
        self.first, self.second = (nn.Conv2d(outputs, outputs, 3, 1, 1) for _ in range(2))
        self.norms = nn.ModuleList(nn.GroupNorm(8, outputs) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.shrink(x)
        return x + self.second(F.silu(self.norms[1](self.first(F.silu(self.norms[0](x))))))


class AttributeClassifier(nn.Module):
    """Pictures float32 [B, C, S, S] -> attribute -> logits float32 [B, words].

    Visible pictures have three channels in [-1, 1], thermal ones a single channel in degrees Celsius. `prior_NAME` [words] are
    the shares of the words among the training's rows.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        widths = (3 if config.modality == "visible" else 1, *config.widths)
        self.stages = nn.ModuleList(_Stage(a, b) for a, b in itertools.pairwise(widths))
        inner = config.widths[-1] * config.cells**2
        self.heads = nn.ModuleDict({name: nn.Linear(inner, len(words)) for name, words in config.words.items()})
        for name, words in config.words.items():
            self.register_buffer(f"prior_{name}", torch.full((len(words),), 1 / len(words)))

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        x = resize(pictures.float(), self.config.side)
        if self.config.modality == "thermal":
            x = (x - CENTRE) / SPAN
        for stage in self.stages:
            x = stage(x)
        pooled = F.adaptive_avg_pool2d(F.silu(x), self.config.cells).flatten(1)
        return {name: head(pooled) for name, head in self.heads.items()}

    def prior(self, name: str) -> Tensor:
        """Return the share of each word of an attribute, [words]."""
        return self.get_buffer(f"prior_{name}")


def resize(pictures: Tensor, side: int) -> Tensor:
    """Return pictures [B, C, S, S] at `side` px."""
    if pictures.shape[-1] == side:
        return pictures
    return F.interpolate(pictures, size=(side, side), mode="bilinear", align_corners=False, antialias=True)


def save_classifier(network: AttributeClassifier, folder: Path) -> None:
    """Write `attributes.safetensors` in float16."""
    save_network(network, folder / FILE)


def load_classifier(folder: Path) -> AttributeClassifier:
    """Return the classifier of `folder`, frozen, float32. Raises EnvironmentFault as `load_network`, also for a schema whose
    attributes or words are others than this version knows."""
    return load_network(folder / FILE, _build).requires_grad_(False)


def _build(config: dict[str, Any]) -> AttributeClassifier:
    return AttributeClassifier(ClassifierConfig(**config))


def label_words(rows: Sequence[Mapping[str, str]], schema: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Return the number of each attribute's word, int64 [N, attributes]; `UNTOLD` where a row does not say it."""
    found = [[list(words).index(row[n]) if n in row else UNTOLD for n, words in schema.items()] for row in rows]
    return np.array(found, np.int64).reshape(len(rows), len(schema))


def entropy(logits: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
    """Return the cross-entropy of each attribute over the rows [B, attributes] that say it; zero where none does."""
    losses = {}
    for place, (name, values) in enumerate(logits.items()):
        known = (labels[:, place] != UNTOLD).sum().clamp(min=1)
        losses[name] = F.cross_entropy(values, labels[:, place], ignore_index=UNTOLD, reduction="sum") / known
    return losses


def encode_words(rows: Sequence[Mapping[str, str]], schema: Mapping[str, Sequence[str]]) -> Tensor:
    """Return what a translation is told, float32 [B, values]: for each attribute a one for its word, all zeros where untold."""
    values = torch.zeros(len(rows), sum(map(len, schema.values())))
    starts = np.cumsum([0, *map(len, schema.values())])
    for line, row in zip(values, rows, strict=True):
        for start, (name, words) in zip(starts, schema.items(), strict=False):
            if name in row:
                line[start + list(words).index(row[name])] = 1
    return values


def draw_words(
    predictor: AttributeClassifier | None, celsius: Tensor, names: Sequence[str], given: Mapping[str, str]
) -> list[dict[str, tuple[str, str]]]:
    """Return (word, where it comes from) of each attribute of each row of thermal pictures float32 [B, S, S].

    Observable and weak ones are drawn from what `predictor` sees, unobservable ones from their shares in the population:
    these follow from `names` alone, never from the picture. given: words of the caller, which hold for all rows.
    """
    rows: list[dict[str, tuple[str, str]]] = [{name: (word, GIVEN) for name, word in given.items()} for _ in names]
    if predictor is None:
        return rows
    logits = predictor(celsius[:, None])
    for name, words in predictor.config.words.items():
        if name in given:
            continue
        seen = ATTRIBUTES[name][1] != "unobservable"
        shares = logits[name].softmax(dim=1) if seen else predictor.prior(name).expand(len(names), -1)
        ends = shares.double().cumsum(dim=1).cpu().numpy()
        for row, end, key in zip(rows, ends, names, strict=True):
            draw = np.random.default_rng(seed_of(key, "attributes", name)).random() * end[-1]
            row[name] = words[int(np.searchsorted(end, draw, side="right"))], ESTIMATED if seen else ASKED
    return rows
