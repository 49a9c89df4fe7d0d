"""The judges' trunk: one-shot aggregation (VoVNet, arXiv 1904.09730), which no part of a bundle is built of."""

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class TrunkConfig(BaseModel):
    """Shape of a trunk. side: what pictures are resized to, px. Stage k has `widths[k]` channels at stride 4 * 2**k."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    side: int = Field(96, ge=32, multiple_of=16)
    stem: int = Field(24, ge=8)
    widths: tuple[int, int, int] = (64, 112, 176)
    inner: tuple[int, int, int] = (32, 48, 64)
    depth: int = Field(3, ge=1, description="3 x 3 convolutions of a stage")


def convolve(inputs: int, outputs: int, side: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class OneShot(nn.Module):
    """3 x 3 convolutions in sequence, all of whose results are mixed once by a 1 x 1 convolution; no shortcut."""

    def __init__(self, inputs: int, inner: int, outputs: int, depth: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(convolve(inner if k else inputs, inner) for k in range(depth))
        self.mix = convolve(inputs + depth * inner, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for step in self.steps:
            found.append(step(found[-1]))
        return self.mix(torch.cat(found, dim=1))


class Trunk(nn.Module):
    """Pictures [B, 3, S, S] in [-1, 1] -> features at strides 2, 4, 8 and 16: `stem` and `widths` channels."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.stem = convolve(3, config.stem, 3, 2)
        inputs = config.stem
        stages = []
        for inner, width in zip(config.inner, config.widths, strict=True):
            stages.append(OneShot(inputs, inner, width, config.depth))
            inputs = width
        self.stages = nn.ModuleList(stages)
        self.shrink = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.stem(x)]
        for stage in self.stages:
            features.append(stage(self.shrink(features[-1])))
        return features
