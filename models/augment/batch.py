"""Seeded augmentations of a batch of pictures: one geometry for pictures and targets, one photometry for pictures alone."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor


class Geometry(BaseModel):
    """Ranges of a random similarity transform.

    rotation: degrees. scale: factor on the size. shift: share of the picture's side. flip: probability.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotation: float = 15.0
    scale: tuple[float, float] = (0.85, 1.2)
    shift: float = 0.06
    flip: float = 0.5


class Photometry(BaseModel):
    """Ranges of random changes of light, colour and sharpness, on pictures in [0, 1].

    brightness, contrast, saturation: factors of 1 +- this. grey (no colour), blur: probabilities. noise: largest standard
    deviation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.3
    grey: float = 0.05
    blur: float = 0.4
    noise: float = 0.03


class RowDraws:
    """Random numbers for a batch in which row k depends on `seeds[k]` alone, whoever computes it.

    seeds: int64 [B], one per visit to a row.
    """

    def __init__(self, seeds: np.ndarray) -> None:
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return uniform numbers in [low, high), float32 [B]."""
        return torch.cat([torch.rand(1, generator=g) for g in self.generators]) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal noise, float32 [B, *shape]."""
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators])


def draw_transforms(geometry: Geometry, draws: RowDraws) -> tuple[Tensor, Tensor]:
    """Draw a transform per row: sampling matrices float32 [B, 2, 3] for `warp`, and which rows are flipped, bool [B]."""
    # Sampling runs from the result to the source: a larger face is a smaller scale.
    angle = draws.uniform(-geometry.rotation, geometry.rotation) * math.pi / 180
    scale = 1 / draws.uniform(*geometry.scale)
    flipped = draws.uniform() < geometry.flip
    # The sampling grid goes from -1 to 1: a side is 2.
    reach = 2 * geometry.shift
    shift = torch.stack([draws.uniform(-reach, reach), draws.uniform(-reach, reach)], dim=-1)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    sign = torch.where(flipped, -1.0, 1.0)
    rotation = torch.stack([torch.stack([cos * sign, -sin], -1), torch.stack([sin * sign, cos], -1)], -2)
    return torch.cat([rotation, shift[:, :, None]], dim=-1), flipped


def warp(pictures: Tensor, matrices: Tensor, *, nearest: bool = False, side: int | None = None) -> Tensor:
    """Sample [B, C, H, W] float pictures through `matrices`; outside is zero. `nearest` for class ids and temperatures.

    side: of the result, square; that of the pictures by default.
    """
    height, width = (side, side) if side else pictures.shape[2:]
    grid = F.affine_grid(matrices, [len(pictures), pictures.shape[1], height, width], align_corners=False)
    mode = "nearest" if nearest else "bilinear"
    return F.grid_sample(pictures, grid, mode=mode, padding_mode="zeros", align_corners=False)


def _soften(pictures: Tensor) -> Tensor:
    """Return pictures [B, 3, H, W] blurred by two 3 x 3 means (a standard deviation of about 1.2 px)."""
    for _ in range(2):
        pictures = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return pictures


def relight(pictures: Tensor, photometry: Photometry, draws: RowDraws) -> Tensor:
    """Change light, colour and sharpness of [B, 3, H, W] pictures in [0, 1]; the result stays in [0, 1]."""

    def factor(spread: float) -> Tensor:
        return draws.uniform(1 - spread, 1 + spread).view(-1, 1, 1, 1)

    # Contrast about the mean, brightness of the mean.
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    out = (pictures - mean) * factor(photometry.contrast) + mean * factor(photometry.brightness)
    # Saturation, or no colour at all.
    grey = out.mean(dim=1, keepdim=True)
    coloured = (draws.uniform() >= photometry.grey).float().view(-1, 1, 1, 1)
    out = grey + (out - grey) * factor(photometry.saturation) * coloured
    # Sharpness and noise.
    blurred = (draws.uniform() < photometry.blur).view(-1, 1, 1, 1)
    out = torch.where(blurred, _soften(out), out)
    level = draws.uniform(0.0, photometry.noise).view(-1, 1, 1, 1)
    return (out + level * draws.normal(*out.shape[1:])).clamp(0, 1)


def to_unit_tensor(rows: np.ndarray) -> Tensor:
    """Return uint8 pictures [B, H, W, 3] as float32 [B, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(rows)).permute(0, 3, 1, 2).float() / 255
