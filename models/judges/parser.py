"""The judge of pixel classes: a trunk and a feature pyramid (FPN, arXiv 1612.03144) whose levels are added up."""

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from models.classes import CLASSES
from models.judges.trunk import Trunk, TrunkConfig, convolve


class ParserConfig(BaseModel):
    """What is stored with the weights. pyramid: channels of every level."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trunk: TrunkConfig = TrunkConfig(side=96, stem=24, widths=(48, 96, 144), inner=(24, 40, 64), depth=2)
    pyramid: int = 32
    classes: int = len(CLASSES)


class ParserJudge(nn.Module):
    """Pictures [B, 3, S, S] in [-1, 1] -> logits float32 [B, classes, S / 2, S / 2]."""

    def __init__(self, config: ParserConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = Trunk(config.trunk)
        self.lateral = nn.ModuleList(
            nn.Conv2d(width, config.pyramid, 1) for width in (config.trunk.stem, *config.trunk.widths)
        )
        self.smooth = convolve(config.pyramid, config.pyramid)
        self.head = nn.Conv2d(config.pyramid, config.classes, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        # From the coarsest level down, each is added to the next finer one.
        levels = [side(found) for side, found in zip(self.lateral, self.trunk(pictures), strict=True)]
        merged = levels.pop()
        while levels:
            finer = levels.pop()
            merged = finer + F.interpolate(merged, scale_factor=2.0, mode="nearest")
        smooth = self.smooth(merged)
        with torch.autocast(smooth.device.type, enabled=False):
            return self.head(smooth.float())


def build_parser(config: dict[str, Any]) -> ParserJudge:
    """Return an untrained judge of the stored configuration."""
    return ParserJudge(ParserConfig(**config))


def upsample(logits: Tensor, side: int) -> Tensor:
    """Return logits [B, classes, h, h] at `side` px, bilinear."""
    return F.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)
