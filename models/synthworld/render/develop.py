"""From linear light to a picture: what is behind the person, and how the camera develops it."""

import math

import torch
from torch import Tensor

from models.seeds import generator
from models.synthworld.sampling.scene import Scene


def background(scene: Scene, size: int) -> Tensor:
    """Return what is behind the person, linear RGB, float32 [size, size, 3]."""
    view = scene.view
    rng = generator("background", scene.person.identity, view.seed, view.background)
    # Every background takes its numbers from one row of 64 draws, and mixes two colours.
    r = torch.rand(64, generator=rng).tolist()
    axis = (torch.arange(size) + 0.5) / size
    x, y = axis[None, :], axis[:, None]
    one = 0.03 + 0.65 * torch.tensor(r[0:3]).lerp(torch.tensor(r[3]).expand(3), 0.55) ** 1.6
    two = 0.03 + 0.65 * torch.tensor(r[4:7]).lerp(torch.tensor(r[7]).expand(3), 0.55) ** 1.6
    # A wall, a little darker away from a light.
    if view.background == "plain":
        light = 1 - 0.25 * ((x - r[8]) ** 2 + (y - r[9]) ** 2)
        return one * light[..., None]
    # A smooth step between the colours in some direction.
    if view.background == "gradient":
        angle = 6.283 * r[8]
        t = ((x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle) + 0.5).clamp(0, 1)[..., None]
        return one + (two - one) * t * t * (3 - 2 * t)
    # Soft spots of the colours: what lies out of focus.
    if view.background == "blurred":
        out = (one * 0.6).expand(size, size, 3).clone()
        for k in range(9):
            cx, cy, w = r[10 + 3 * k], r[11 + 3 * k], 0.06 + 0.18 * r[12 + 3 * k]
            blob = torch.exp(-((((x - cx) ** 2 + (y - cy) ** 2) / w**2) ** 2))[..., None]
            tint = one if k % 3 == 0 else (two if k % 3 == 1 else 0.5 * (one + two) + 0.15)
            out = out + (tint * (0.6 + r[40 + k]) - out) * blob * 0.7
        return out
    # A wall with a cupboard, a window and something dark.
    if view.background == "indoor":
        wall = (0.35 + 0.4 * one) * (1 - 0.3 * (x - r[8]).abs())[..., None]
        soft = 0.02 + 0.03 * r[9]
        out = wall.expand(size, size, 3)
        for k in range(3):
            cx, cy = r[10 + 4 * k], 0.15 + 0.6 * r[11 + 4 * k]
            hw, hh = 0.06 + 0.16 * r[12 + 4 * k], 0.08 + 0.2 * r[13 + 4 * k]
            inside = torch.sigmoid((hw - (x - cx).abs()) / soft) * torch.sigmoid((hh - (y - cy).abs()) / soft)
            tint = (two, torch.tensor((0.85, 0.88, 0.92)), one * 0.4)[k]
            out = out + (tint - out) * inside[..., None] * 0.85
        return out
    # Outdoors: sky over a ridge, and ground.
    horizon = 0.45 + 0.25 * r[8]
    zenith = torch.tensor((0.30, 0.46, 0.72))
    sky = zenith + (torch.tensor((0.75, 0.80, 0.85)) - zenith) * y[..., None]
    ground = torch.tensor((0.10, 0.16, 0.05)).lerp(torch.tensor((0.22, 0.20, 0.17)), r[9])
    ridge = horizon + 0.05 * torch.sin(x * 7 + 6 * r[10]) + 0.03 * torch.sin(x * 17 + 6 * r[11])
    far = torch.sigmoid((y - ridge) / 0.03)[..., None]
    return sky + (ground - sky) * far


def develop(light: Tensor, scene: Scene) -> Tensor:
    """Turn linear RGB [S, S, 3] into uint8 by the view's render style: tone curve, saturation, grain."""
    view = scene.view
    gap = view.style_gap if view.style == "B" else 0.0
    # Exposure and tone curve, then less saturation in style B.
    exposed = light * (1.05 + 0.10 * gap)
    curve = 1.0 - torch.exp(-exposed * (1.25 + 0.35 * gap))
    grey = curve.mean(-1, keepdim=True)
    curve = grey + (curve - grey) * (1.06 - 0.28 * gap)
    # Gamma; style B is warmer and lifts the blacks.
    shown = curve.clamp(0, 1) ** (1 / (2.2 - 0.25 * gap))
    shown = shown * (1 - torch.tensor((0.0, 0.010, 0.045)) * gap) + 0.02 * gap
    # Grain, the same in all channels.
    rng = generator("grain", scene.person.identity, view.seed)
    grain = torch.randn(shown.shape[:2], generator=rng)[..., None] * (0.006 + 0.012 * gap)
    return ((shown + grain).clamp(0, 1) * 255 + 0.5).to(torch.uint8)
