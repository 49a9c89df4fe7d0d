"""The grid of latent cells: thermal cells laid into the coarser ones of visible latents, and what stands where."""

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from models.classes import CLASSES


def patch(latents: Tensor, cells: int) -> Tensor:
    """Return latents [B, C, h, w] with `cells` x `cells` of them in one: [B, C cells^2, h / cells, w / cells]."""
    return F.pixel_unshuffle(latents, cells)


def unpatch(latents: Tensor, cells: int) -> Tensor:
    """Return what `patch` had."""
    return F.pixel_shuffle(latents, cells)


def class_shares(classes: np.ndarray, side: int) -> np.ndarray:
    """Return the share of each class in every visible cell, float32 [B, 19, side, side], of uint8 [B, S, S].

    Pixels without a class (255) count for none, so that rows without a mask are all zeros.
    """
    count, cell = len(classes), classes.shape[1] // side
    cells = np.asarray(classes).reshape(count, side, cell, side, cell)
    return np.stack([(cells == k).mean(axis=(2, 4), dtype=np.float32) for k in range(len(CLASSES))], axis=1)
