"""The judge of attributes: a trunk and, for every attribute of `models.attributes.ATTRIBUTES`, a head over its words."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from models.attributes import ATTRIBUTES
from models.judges.trunk import Trunk, TrunkConfig

WORDS = {name: words for name, (_, _, words) in ATTRIBUTES.items()}
"""attribute -> its words in order: the classes of its head."""


class AttributesConfig(BaseModel):
    """What is stored with the weights. cells: the last features are averaged over cells x cells."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trunk: TrunkConfig = TrunkConfig(side=96, widths=(48, 96, 160), inner=(32, 48, 64), depth=3)
    cells: int = 3
    words: dict[str, tuple[str, ...]] = WORDS


class AttributesJudge(nn.Module):
    """Pictures [B, 3, S, S] in [-1, 1] -> attribute -> logits float32 [B, words]."""

    def __init__(self, config: AttributesConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = Trunk(config.trunk)
        width = config.trunk.widths[-1] * config.cells**2
        self.heads = nn.ModuleDict({name: nn.Linear(width, len(words)) for name, words in config.words.items()})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        last = self.trunk(pictures)[-1]
        pooled = F.adaptive_avg_pool2d(last, self.config.cells).flatten(1)
        with torch.autocast(pooled.device.type, enabled=False):
            return {name: head(pooled.float()) for name, head in self.heads.items()}


def build_attributes(config: dict[str, Any]) -> AttributesJudge:
    """Return an untrained judge of the stored configuration."""
    return AttributesJudge(AttributesConfig(**config))


def label(texts: Iterable[str]) -> np.ndarray:
    """Return the number of each attribute's word, int64 [B, attributes], of `attributes` as the record holds them (JSON)."""
    rows = [json.loads(text) for text in texts]
    return np.array([[words.index(row[name]) for name, words in WORDS.items()] for row in rows], np.int64)


def mirror(labels: np.ndarray) -> np.ndarray:
    """Return the labels int64 [B, attributes] of the pictures flipped left to right: only `pose` names a side."""
    place, words = list(WORDS).index("pose"), WORDS["pose"]
    swapped = [words.index(_other_side(word)) for word in words]
    mirrored = labels.copy()
    mirrored[:, place] = np.array(swapped)[labels[:, place]]
    return mirrored


def _other_side(word: str) -> str:
    """Return a word of `POSES` with left and right in each other's place."""
    return " ".join({"left": "right", "right": "left"}.get(part, part) for part in word.split())


def balanced_entropy(logits: Mapping[str, Tensor], labels: Tensor, counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return each attribute's cross-entropy under logits + log(share of the word): logit adjustment (arXiv 2007.07314, eq. 10).

    labels: int64 [B, attributes]. counts: attribute -> how often each word was seen, [words]. What is trained so estimates the
    words as if all were equally frequent, which balanced accuracy asks for.
    """
    losses = {}
    for place, (name, values) in enumerate(logits.items()):
        share = (counts[name] + 1) / (counts[name] + 1).sum()
        losses[name] = F.cross_entropy(values + share.log(), labels[:, place])
    return losses
