"""T-FAKE's temperature prior: what the regions of a face average in a warm and in a cold room (third term of RGB2Thermal).

It is compared with temperatures of the world, so the world is never made from it (a test asserts that).
"""

import numpy as np
import torch
from scipy.ndimage import binary_fill_holes
from torch import Tensor

from models.classes import BACKGROUND, CLASSES, GLASSES

PRIOR_CELSIUS: dict[str, dict[str, float]] = {
    "warm": {
        "BACKGROUND": 20, "SKIN": 35, "NOSE": 35, "RIGHT_EYE": 35, "LEFT_EYE": 35, "RIGHT_BROW": 34, "LEFT_BROW": 34,
        "RIGHT_EAR": 35, "LEFT_EAR": 35, "MOUTH_INTERIOR": 35, "TOP_LIP": 35, "BOTTOM_LIP": 35, "NECK": 35, "HAIR": 30,
        "BEARD": 32, "CLOTHING": 32, "GLASSES": 20, "HEADWEAR": 28, "FACEWEAR": 28,
    },
    "cold": {
        "BACKGROUND": 20, "SKIN": 33, "NOSE": 31.5, "RIGHT_EYE": 34, "LEFT_EYE": 34, "RIGHT_BROW": 31, "LEFT_BROW": 31,
        "RIGHT_EAR": 32, "LEFT_EAR": 32, "MOUTH_INTERIOR": 35, "TOP_LIP": 32.5, "BOTTOM_LIP": 32.5, "NECK": 34,
        "HAIR": 30, "BEARD": 31, "CLOTHING": 30, "GLASSES": 20, "HEADWEAR": 28, "FACEWEAR": 28,
    },
}  # fmt: skip
"""Degrees Celsius by condition and class: 18 regions of the person, and the background of the released code."""


def prior_celsius(condition: str, table: dict[str, dict[str, float]] | None = None) -> Tensor:
    """Return what every class id averages in degrees Celsius, float32 [19], by T-FAKE or by `table`, where there is one."""
    celsius = (table or PRIOR_CELSIUS)[condition]
    return torch.tensor([celsius[name] for name in CLASSES], dtype=torch.float32)


def fill_lenses(classes: Tensor) -> Tensor:
    """Return classes uint8 [B, H, W] with all that rims enclose as GLASSES: in LWIR clear lenses are opaque, too.

    T-FAKE does the same before its prior: what is behind a lens is not seen by a thermal camera.
    """
    glasses = (classes == GLASSES).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
    if not glasses:
        return classes
    filled = classes.clone()
    for row in glasses:
        holes = binary_fill_holes((classes[row] == GLASSES).cpu().numpy())
        filled[row][torch.from_numpy(np.asarray(holes)).to(classes.device)] = GLASSES
    return filled


def region_means(values: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of values float [B, H, W] in every class (0 in absent ones) and its share of the picture, [B, 19]."""
    place, pixels = classes.flatten(1).long(), values.flatten(1)
    empty = pixels.new_zeros(len(pixels), len(CLASSES))
    total, count = empty.scatter_add(1, place, pixels), empty.scatter_add(1, place, torch.ones_like(pixels))
    return total / count.clamp(min=1), count / classes[0].numel()


def temperature_prior(values: Tensor, classes: Tensor, wanted: Tensor, *, background: bool = False) -> Tensor:
    """Return R, the mean over pictures of sum_k share_k (mean of region k - wanted_k)^2, a scalar; absent regions are left out.

    values: float32 [B, H, W]; wanted: [19], both on one scale. classes: uint8 [B, H, W]; lenses are filled here.
    Only region means are compared, so what varies within a region is the pairs' to say. background: as a region, too.
    """
    means, share = region_means(values, fill_lenses(classes))
    if not background:
        share[:, BACKGROUND] = 0
    return (share * (means - wanted.to(values)) ** 2).sum(dim=1).mean()
