"""Recogniser networks: an aligned 112 px crop to a 512-d embedding, trained with ArcFace (arXiv 1801.07698)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Architecture = Literal["residual", "plain"]
EMBEDDING = 512


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; the first may halve the side."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


def residual_trunk() -> nn.Sequential:
    """Return a narrow ResNet, 150 MMAC, 1.3 M parameters: [B, 3, 112, 112] -> [B, 512] before the last norm.

    ReLU and not PReLU: PReLU's backward pass alone costs 30 % of a training step on a CPU. The head is a global
    depthwise convolution (MobileFaceNet, arXiv 1804.07573): it keeps where a feature was, as an average would not.
    """
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True)]
    # Three widths; the first block of each halves the side.
    channels = 32
    for width, depth in ((64, 1), (112, 2), (224, 1)):
        for index in range(depth):
            layers.append(ResidualBlock(channels, width, 2 if index == 0 else 1))
            channels = width
    # One number a channel from the last 7 x 7 map.
    head = [nn.Conv2d(channels, channels, 7, groups=channels, bias=False), nn.BatchNorm2d(channels), nn.Flatten()]
    return nn.Sequential(*layers, *head, nn.Linear(channels, EMBEDDING, bias=False))


def plain_trunk() -> nn.Sequential:
    """Return a VGG-like network without shortcuts: max-pooling, SiLU, a flattened map. For the judge."""
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 5, 2, 2, bias=False), nn.BatchNorm2d(24), nn.SiLU(inplace=True)]
    channels = 24
    for width in (64, 96, 160):
        layers.append(nn.MaxPool2d(2))
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.SiLU(inplace=True)]
            channels = width
    squeeze = [nn.Conv2d(channels, 24, 1, bias=False), nn.BatchNorm2d(24), nn.Flatten()]
    return nn.Sequential(*layers, *squeeze, nn.Linear(24 * 7 * 7, EMBEDDING, bias=False))


class Embedder(nn.Module):
    """A trunk and the last batch norm (no scale: ArcFace looks at directions): [B, 3, 112, 112] -> [B, 512]."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.trunk = residual_trunk() if architecture == "residual" else plain_trunk()
        self.norm = nn.BatchNorm1d(EMBEDDING, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        features = self.trunk(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.norm(features.float())


class ArcFace(nn.Module):
    """Embedder, class centres, and a linear reading of `traits` numbers of a person from the embedding.

    `forward(crops, labels, margin)` gives loss, share classified right, traits float32 [B, traits].
    """

    def __init__(self, architecture: Architecture, classes: int, scale: float, traits: int) -> None:
        super().__init__()
        self.traits = nn.Linear(EMBEDDING, traits)
        self.embedder = Embedder(architecture)
        self.centres = nn.Parameter(torch.randn(classes, EMBEDDING) * 0.01)
        self.scale = scale

    def forward(self, x: Tensor, labels: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
        embedding = self.embedder(x)
        with torch.autocast(x.device.type, enabled=False):
            # Cosines to all centres; the margin makes the row's own class harder.
            embedding = F.normalize(embedding)
            cosines = F.linear(embedding, F.normalize(self.centres.float()))
            loss = F.cross_entropy(arcface_logits(cosines, labels, margin, self.scale), labels)
            return loss, (cosines.argmax(dim=1) == labels).float().mean(), self.traits(embedding * EMBEDDING**0.5)


def arcface_logits(cosines: Tensor, labels: Tensor, margin: float, scale: float) -> Tensor:
    """Return scale * cos(theta + margin) at each row's label, scale * cos(theta) elsewhere (arXiv 1801.07698, eq. 3).

    cosines float [B, classes], labels int64 [B]. Where theta + margin would pass pi, the published code's
    cos(theta) - margin * sin(margin) keeps the target monotonic.
    """
    # cos(theta + m) by the addition theorem.
    target = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
    sine = (1 - target**2).sqrt()
    moved = target * math.cos(margin) - sine * math.sin(margin)
    moved = torch.where(target > math.cos(math.pi - margin), moved, target - margin * math.sin(margin))
    return cosines.scatter(1, labels[:, None], moved) * scale
