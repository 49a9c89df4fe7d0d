"""U-Net with a residual encoder: the network of T-FAKE's thermalizer and of the face parser.

`UNetConfig()` is the published T-FAKE network (ResNet-34 encoder, 24,436,369 parameters, 278 state-dict entries) with the
published key names, so the authors' checkpoints load strictly. A smaller `width` and fewer `blocks` give the starter's networks.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

STRIDE = 32
"""Input height and width must be multiples of this."""


class UNetConfig(BaseModel):
    """Shape of a U-Net. The defaults are T-FAKE's published thermalizer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_channels: int = Field(3, ge=1)
    classes: int = Field(1, ge=1)
    width: int = Field(64, ge=8, description="channels of the stem; layer k has width * 2**(k-1)")
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    activation: Literal["sigmoid", "none"] = "sigmoid"

    @property
    def encoder_channels(self) -> tuple[int, int, int, int, int]:
        w = self.width
        return (w, w, 2 * w, 4 * w, 8 * w)

    @property
    def decoder_channels(self) -> tuple[int, int, int, int, int]:
        w = self.width
        return (4 * w, 2 * w, w, w // 2, max(w // 4, 16))


class _Residual(nn.Module):
    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride != 1 or inside != out:
            self.downsample = nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)) + skip, inplace=True)


class _Encoder(nn.Module):
    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        stem, *outs = config.encoder_channels
        self.conv1 = nn.Conv2d(config.in_channels, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        inside = stem
        for index, (out, count) in enumerate(zip(outs, config.blocks, strict=True), start=1):
            stride = 1 if index == 1 else 2
            blocks = [_Residual(inside, out, stride), *(_Residual(out, out, 1) for _ in range(count - 1))]
            setattr(self, f"layer{index}", nn.Sequential(*blocks))
            inside = out

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features at strides 2, 4, 8, 16, 32."""
        features = [F.relu(self.bn1(self.conv1(x)), inplace=True)]
        x = F.max_pool2d(features[0], 3, 2, 1)
        for index in range(1, 5):
            x = getattr(self, f"layer{index}")(x)
            features.append(x)
        return features


def _conv(inside: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class _Up(nn.Module):
    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.conv1 = _conv(inside, out)
        self.conv2 = _conv(out, out)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        return self.conv2(self.conv1(x))


class _Decoder(nn.Module):
    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        skips = [*reversed(config.encoder_channels[:-1]), 0]
        insides = [config.encoder_channels[-1], *config.decoder_channels[:-1]]
        self.blocks = nn.ModuleList(
            _Up(inside + skip, out) for inside, skip, out in zip(insides, skips, config.decoder_channels, strict=True)
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        skips: list[Tensor | None] = [*reversed(features[:-1]), None]
        for block, skip in zip(self.blocks, skips, strict=True):
            x = block(x, skip)
        return x


class UNet(nn.Module):
    """Map pictures [B, in_channels, H, W] float to [B, classes, H, W]; H and W multiples of 32.

    With `activation: sigmoid` the output is in [0, 1] and computed in float32 whatever the autocast type: on T-FAKE's
    scale of 20 to 40 degrees Celsius one bfloat16 step would be 0.08 degrees.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _Encoder(config)
        self.decoder = _Decoder(config)
        self.segmentation_head = nn.Sequential(nn.Conv2d(config.decoder_channels[-1], config.classes, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % STRIDE or x.shape[-2] % STRIDE:
            raise ValueError(f"U-Net input must have sides that are multiples of {STRIDE}, got {tuple(x.shape[-2:])}")
        features = self.decoder(self.encoder(x))
        with torch.autocast(x.device.type, enabled=False):
            logits = self.segmentation_head(features.float())
        return logits.sigmoid() if self.config.activation == "sigmoid" else logits


def build_unet(config: dict[str, Any]) -> UNet:
    """Return an untrained U-Net of the stored configuration `config` (see `UNetConfig`)."""
    return UNet(UNetConfig(**config))
