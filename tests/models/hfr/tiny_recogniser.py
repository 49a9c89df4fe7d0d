"""Recognisers of torch as users bring them: a small one that works, and those that do not."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Tiny(nn.Module):
    """Convolutions, a batch norm, a PReLU, attention over places, dropout: an ONNX reader of convolutions knows not all of it."""

    def __init__(self, width: int = 8, size: int = 512) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 8, 8), nn.BatchNorm2d(width), nn.PReLU(width), nn.MaxPool2d(2))
        self.norm, self.keys = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(49 * width, size)

    def forward(self, crops: Tensor) -> Tensor:
        places = self.stem(crops).flatten(2).transpose(1, 2)
        query, key, value = self.keys(self.norm(places)).chunk(3, dim=-1)
        places = places + F.softmax(query @ key.transpose(1, 2) / query.shape[-1] ** 0.5, dim=-1) @ value
        return self.head(self.drop(places.flatten(1)))


def make_tiny(width: int = 8) -> Tiny:
    """As some publish theirs: a function that makes the network."""
    return Tiny(width)


class WithNorm(Tiny):
    """Gives the length beside the vector."""

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        found = super().forward(crops)
        return found, found.norm(dim=1)


class Frozen(Tiny):
    """Learns nothing."""

    @torch.no_grad()
    def forward(self, crops: Tensor) -> Tensor:
        return super().forward(crops)


class Scaling(Tiny):
    """Takes raw pixels."""

    def forward(self, crops: Tensor) -> Tensor:
        return super().forward((crops - 0.5) * 2.0)


class Deciding(Tiny):
    """Takes another way for other batches: a trace keeps one of them."""

    def forward(self, crops: Tensor) -> Tensor:
        return super().forward(crops if len(crops) == 2 else crops.flip(3))


NOTHING = dict
