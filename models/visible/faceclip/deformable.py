"""Deformable self-attention over the grid of face patches (arXiv 2010.04159, equation 2), with its authors' names of weights."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.visible.faceclip.config import GRID


class DeformableAttention(nn.Module):
    """Every head of every patch reads `points` places of the grid, at distances that the query says, in cells."""

    def __init__(self, width: int, heads: int, points: int) -> None:
        super().__init__()
        self.heads, self.points = heads, points
        self.sampling_offsets = nn.Linear(width, heads * points * 2)
        self.attention_weights = nn.Linear(width, heads * points)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self._initialise()

    def _initialise(self) -> None:
        """Point the heads along as many directions, 1 to `points` cells away, all points of equal weight."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin()], -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        cells = directions[:, None] * torch.arange(1, self.points + 1)[:, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(cells.flatten())

    def forward(self, query: Tensor, value: Tensor) -> Tensor:
        """Return [B, P, width] of queries and values [B, P, width], P = 144 in row-major order."""
        batch, patches, width = value.shape
        # Values as one picture per head.
        pictures = self.value_proj(value).transpose(1, 2).reshape(batch * self.heads, width // self.heads, GRID, GRID)
        # Places in [0, 1]: the patch's own centre plus the offset in cells.
        offsets = self.sampling_offsets(query).view(batch, patches, self.heads, self.points, 2)
        places = _centres(offsets)[None, :, None, None] + offsets / GRID
        grid = (2 * places - 1).transpose(1, 2).flatten(0, 1)
        # Zeros lie outside the picture.
        read = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        weights = self.attention_weights(query).view(batch, patches, self.heads, self.points).softmax(-1)
        mixed = (read * weights.transpose(1, 2).flatten(0, 1)[:, None]).sum(-1)
        return self.output_proj(mixed.view(batch, width, patches).transpose(1, 2))


def _centres(like: Tensor) -> Tensor:
    """Return the (x, y) of the patches' centres, float [144, 2], row by row."""
    line = (torch.arange(GRID, device=like.device, dtype=like.dtype) + 0.5) / GRID
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1)
