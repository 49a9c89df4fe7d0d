"""What is around and behind the person: radiant temperature by direction, the background, and what absorbs the sun."""

import math

import torch
from torch import Tensor

from models.seeds import generator
from models.synthworld.sampling.environment import Environment
from models.synthworld.sampling.scene import Scene

_COLOUR_ABSORBS = {
    "black": 0.92, "white": 0.30, "grey": 0.65, "red": 0.65, "orange": 0.55, "yellow": 0.45, "green": 0.72,
    "blue": 0.75, "purple": 0.78, "brown": 0.82,
}  # fmt: skip


def radiant(environment: Environment, up: Tensor) -> Tensor:
    """Return the temperature, degC, of what a surface faces; `up` is its normal's upward part in [-1, 1]."""
    share = 0.5 * (1.0 + up.clamp(-1.0, 1.0))
    return environment.radiant_c + (environment.sky_c - environment.radiant_c) * share


def outdoors(environment: Environment) -> bool:
    """Say whether an open sky is overhead: far colder than any ceiling."""
    return environment.sky_c < environment.ambient_c - 5.0


def absorptivity(scene: Scene) -> dict[str, float]:
    """Return the share of sunlight that each cover of the person absorbs."""
    hair = 0.92 - 0.55 * max(scene.person.hair_rgb)
    view = scene.view
    return {
        "hair": hair,
        "beard": hair,
        "cloth": _COLOUR_ABSORBS.get(view.clothing_colour, 0.65),
        "headwear": _COLOUR_ABSORBS.get(view.headwear_colour, 0.65),
        "facewear": _COLOUR_ABSORBS.get(view.facewear_colour, 0.5),
    }


def background(scene: Scene, size: int) -> Tensor:
    """Return the temperature behind the person, float32 [size,size] degC: a room with a wall, or ground and sky."""
    rng = generator("thermal background", scene.person.identity, scene.view.seed)
    axis = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    wall = scene.environment.background_c + _clouds(x, y, rng)
    if outdoors(scene.environment):
        return _landscape(wall, x, y, scene.environment, rng)
    # A wall is warmer towards the ceiling (y = 0), and sometimes there is a box on it.
    wall = wall + (0.5 - y) * float(0.8 * torch.rand(1, generator=rng))
    kind, left, top, width, height, strength = torch.rand(6, generator=rng).tolist()
    inside = _box(x, y, left * 1.2 - 0.3, top * 0.7 - 0.1, 0.2 + 0.4 * width, 0.3 + 0.5 * height)
    if kind < 0.15:  # a window, colder than the wall
        wall = wall - (1.5 + 4.0 * strength) * inside
    elif kind < 0.28:  # a radiator, a screen, a lamp
        wall = wall + (2.0 + 9.0 * strength) * inside
    return wall


def _clouds(x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    """Return slow variation over the picture, SD about 0.2 degC."""
    total = torch.zeros_like(x)
    for a, b, phase in torch.rand(6, 3, generator=rng).tolist():
        total += 0.12 * torch.cos(9.0 * (a - 0.5) * x + 9.0 * (b - 0.5) * y + 2.0 * math.pi * phase)
    return total


def _landscape(ground: Tensor, x: Tensor, y: Tensor, environment: Environment, rng: torch.Generator) -> Tensor:
    """Return the temperature of an open place, float32 [S, S] degC: `ground` below a horizon, sky above it, perhaps a tree."""
    horizon, tree, place, width = torch.rand(4, generator=rng).tolist()
    line = 0.15 + 0.6 * horizon + 0.05 * torch.sin(7.0 * x + 6.0 * tree)
    # The sky is colder the higher.
    above = torch.sigmoid((line - y) / 0.02)
    sky = environment.sky_c + (environment.ambient_c - environment.sky_c) * 0.5 * (y / 0.75).clamp(max=1.0)
    scene = ground + (sky - ground) * above
    if tree < 0.5:  # foliage stays near the air
        trunk = _box(x, y, place - 0.3, -0.1, 0.2 + 0.4 * width, 0.9)
        scene = scene + (environment.ambient_c + 0.3 * (ground - environment.background_c) - scene) * trunk
    return scene


def _box(x: Tensor, y: Tensor, left: float, top: float, width: float, height: float) -> Tensor:
    """Return a soft-edged box, [0, 1]."""
    across = torch.sigmoid((x - left) / 0.006) * torch.sigmoid((left + width - x) / 0.006)
    return across * torch.sigmoid((y - top) / 0.006) * torch.sigmoid((top + height - y) / 0.006)
