"""Pictures as the judges see them, and how true renders are worn down in training to look like generated ones."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from models.augment.batch import Geometry, Photometry, RowDraws, draw_transforms, relight, to_unit_tensor, warp


class Wear(BaseModel):
    """Ranges of `wear_down`. resize, blur, jpeg: probabilities. sides: px; sigma: px at 128; quality: of JPEG."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resize: float = 0.6
    sides: tuple[int, int] = (48, 128)
    blur: float = 0.35
    sigma: tuple[float, float] = (0.4, 1.5)
    jpeg: float = 0.35
    quality: tuple[int, int] = (35, 95)


class Augmentation(BaseModel):
    """How a picture is changed before a judge in training sees it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wear: Wear = Wear()
    geometry: Geometry = Geometry(rotation=10, scale=(0.85, 1.15), shift=0.05)
    photometry: Photometry = Photometry(contrast=0.3, grey=0.1, blur=0.0, noise=0.03)


def to_input(pictures: np.ndarray, side: int) -> Tensor:
    """Return uint8 pictures [B, S, S, 3] as float32 [B, 3, side, side] in [-1, 1], smoothed where they shrink."""
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise ValueError(f"judges read uint8 pictures [B, S, S, 3], not {pictures.dtype} {list(pictures.shape)}")
    return resize(to_unit_tensor(pictures), side) * 2 - 1


def resize(pictures: Tensor, side: int) -> Tensor:
    """Return float pictures [B, C, S, S] at `side` px."""
    if pictures.shape[-2:] == (side, side):
        return pictures
    return F.interpolate(pictures, size=(side, side), mode="bilinear", align_corners=False, antialias=True)


def wear_down(picture: np.ndarray, seed: int, wear: Wear) -> np.ndarray:
    """Return a picture uint8 [S, S, 3] that lost detail: made small and large again, blurred, stored as JPEG; each at random."""
    rng = np.random.default_rng(seed)
    whole = picture.shape[0]
    if rng.random() < wear.resize:
        side = int(rng.integers(wear.sides[0], wear.sides[1] + 1))
        small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        larger = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(3))]
        picture = cv2.resize(small, (whole, whole), interpolation=larger)
    if rng.random() < wear.blur:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(*wear.sigma) * whole / 128)
    if rng.random() < wear.jpeg:
        quality = int(rng.integers(wear.quality[0], wear.quality[1] + 1))
        _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
    return picture


def augment(pictures: np.ndarray, seeds: np.ndarray, side: int, ranges: Augmentation) -> tuple[Tensor, Tensor, Tensor]:
    """Return augmented pictures float32 [B, 3, side, side] in [-1, 1], their sampling matrices and which are flipped.

    pictures: uint8 [B, S, S, 3]. seeds: int64 [B]; row k depends on `seeds[k]` alone. The matrices [B, 2, 3] and the flips
    [B] move what belongs to the pictures with them (`models.augment.batch`).
    """
    worn = np.stack([wear_down(*row, ranges.wear) for row in zip(pictures, seeds, strict=True)])
    draws = RowDraws(seeds)
    matrices, flipped = draw_transforms(ranges.geometry, draws)
    moved = warp(resize(to_unit_tensor(worn), side), matrices)
    seen = relight(moved, ranges.photometry, draws) * 2 - 1
    return seen.contiguous(memory_format=torch.channels_last), matrices, flipped
