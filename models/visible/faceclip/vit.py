"""The face ViT: insightface's ViT-L (`vit_l_dp005_mask_005`), with its names of weights. One copy lies in each branch."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.visible.faceclip.config import GRID, IMAGE, PATCH, VitConfig
from models.visible.faceclip.precision import in_float, in_half, widen

BATCH_NORM_EPS = 2e-5
MLP_RATIO = 4


class FaceTokens(NamedTuple):
    """What a face ViT makes of a face."""

    patches: Tensor
    """float [B, 144, width], row-major."""
    vector: Tensor
    """float [B, out], not of length one."""


def resize_faces(faces: Tensor, dtype: torch.dtype) -> Tensor:
    """Return faces [B, 3, H, W] as [B, 3, 112, 112] of type `dtype`: bilinear, without antialiasing and without keeping the
    aspect, as published.

    Of a crop of 448 each value is the mean of four pixels out of sixteen. Raises TypeError for faces that are no floats.
    """
    if not faces.is_floating_point():
        raise TypeError(f"faces are {faces.dtype}; give floats in [0, 1] (uint8 / 255), as faces.to_faces does")
    return F.interpolate(faces.to(dtype), size=(IMAGE, IMAGE), mode="bilinear", align_corners=False, antialias=False)


class FaceVit(nn.Module):
    """Patches of 9 pixels, `depth` blocks before the norm, and a head on all patches. Input: float [B, 3, 112, 112] in [0, 1]."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        width, patches = config.width, GRID * GRID
        self.pos_embed = nn.Parameter(torch.zeros(1, patches, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))  # of insightface's training; without influence
        self.patch_embed = _Patches(width)
        self.blocks = nn.ModuleList(_Block(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(
            nn.Linear(patches * width, width, bias=False),
            nn.BatchNorm1d(width, eps=BATCH_NORM_EPS),
            nn.Linear(width, config.out, bias=False),
            nn.BatchNorm1d(config.out, eps=BATCH_NORM_EPS),
        )
        for table in (self.pos_embed, self.mask_token):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, faces: Tensor) -> FaceTokens:
        """Return patches and identity vector of faces."""
        x = self.patch_embed(faces) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        patches = self.norm(widen(x))
        return FaceTokens(patches, self.feature(patches.flatten(1)))


class _Patches(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)

    def forward(self, faces: Tensor) -> Tensor:
        return self.proj(faces).flatten(2).transpose(1, 2)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.attn = _Attention(width, heads)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        with in_half(x):
            return x + self.mlp(self.norm2(x))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        with in_half(x):
            qkv = widen(self.qkv(x))
        # Scores and their product with the values in float32, whatever surrounds them.
        with in_float(x):
            q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        with in_half(x):
            return self.proj(out)


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu6(self.fc1(x)))
