"""Spectacle lenses: thin planes met analytically before the surface behind them."""

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

from models.classes import GLASSES
from models.synthworld.sampling.scene import Scene
from models.synthworld.shape.cover import lens_plane

TILT = 0.16
"""How fast a lens recedes to the side."""

Point = tuple[Tensor, Tensor, Tensor]


@dataclass
class Lenses:
    """Hits after glass: class, colour, distance, position and normal of what is seen first; lens 0 | 1 clear | 2 opaque."""

    classes: Tensor
    colour: Tensor
    t: Tensor
    position: Point
    normal: Point
    lens: Tensor


def lenses(
    scene: Scene, q: SimpleNamespace, origin: tuple[float, float, float], way: Point, t: Tensor, p: Point, n: Point,
    classes: Tensor, lit: Tensor,
) -> Lenses:  # fmt: skip
    """Put the lenses of `scene`, if any, in front of hits at distances t [N] along rays `way`."""
    result = Lenses(classes, lit, t, p, n, torch.zeros_like(classes))
    if scene.view.glasses == "none":
        return result
    opaque = scene.view.glasses == "opaque"
    for side in (-1.0, 1.0):
        # Where each ray meets the plane of this lens.
        slope = torch.tensor([side * TILT, 0.0, 1.0])
        unit = slope / slope.norm()
        nx, nz = float(unit[0]), float(unit[2])
        offset = (q.g_z + TILT * 0.1) * nz
        s = (offset - origin[0] * nx - origin[2] * nz) / (way[0] * nx + way[2] * nz)
        x, y, z = (way[k] * s + origin[k] for k in range(3))
        # On the glass, and before anything else.
        on = (lens_plane(x.abs(), y, q) < 0) & (x * side > 0) & (s < result.t) & (s > 0) & (classes != GLASSES)
        # Glass tints what is behind it; a band of sheen lies on its front.
        front = (way[0] * nx + way[2] * nz) < 0
        tint = torch.tensor((0.010, 0.010, 0.012)) if opaque else torch.tensor((0.90, 0.92, 0.92))
        band = torch.exp(-((x * 0.8 + y * 1.1 - 0.15 * side) * 7).square()) * (0.10 if opaque else 0.05)
        sheen = (band + 0.02 + 0.05 * (y - q.ey + 0.2).clamp(min=0.0))[:, None] * torch.tensor((0.85, 0.95, 1.0))
        glass = (tint.expand_as(lit) if opaque else lit * tint) + sheen * front[:, None]
        result.colour = torch.where(on[:, None], glass, result.colour)
        if opaque:
            result.classes = torch.where(on, torch.full_like(classes, GLASSES), result.classes)
        # What is seen first is the lens now: normal (towards the viewer), position, distance.
        flip = torch.where(front, 1.0, -1.0)
        result.normal = _put(on, (nx * flip, 0.0 * flip, nz * flip), result.normal)
        result.position = _put(on, (x, y, z), result.position)
        result.t = torch.where(on, s, result.t)
        result.lens = torch.where(on, torch.full_like(result.lens, 2 if opaque else 1), result.lens)
    return result


def _put(on: Tensor, new: Point, old: Point) -> Point:
    x, y, z = (torch.where(on, a, b) for a, b in zip(new, old, strict=True))
    return x, y, z
