"""Bare heads and bodies of scenes: where they are and how they are turned, without hair, glasses, colour or light."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import Tensor

from models.synthworld.sampling.scene import Scene
from models.synthworld.shape import cover
from models.synthworld.shape.batch import Figures
from models.synthworld.shape.classify import classify
from models.synthworld.shape.figure import figure
from models.synthworld.shape.framing import Framing, framing
from models.synthworld.shape.kernels import PAD
from models.synthworld.shape.landmarks import seventy
from models.synthworld.shape.march import REACH, distance

STEPS = 72
"""Most steps of a ray."""
AT_ONCE = 2**20
"""Most rays that are followed at once: they take some 50 MB."""


def render_bare_heads(scenes: Sequence[Scene], size: int) -> tuple[Tensor, Tensor]:
    """Return unit normals float32 [B, S, S, 3] in the camera frame (x right, y up, z to the camera; 0 off the person) and
    classes uint8 [B, S, S] of the people of `scenes`, undressed but for a plain top, in each view's pose and expression.

    Compiled kernels are never used: the same numbers on every machine of a kind, whatever is drawn beside a head.
    """
    count = max(1, AT_ONCE // size**2)
    groups = [_render(scenes[first : first + count], size) for first in range(0, len(scenes), count)]
    normals, classes = zip(*groups, strict=True)
    return torch.cat(normals), torch.cat(classes)


def locate_bare_faces(scenes: Sequence[Scene], size: int) -> Tensor:
    """Return where the 70 landmarks of these heads lie in pictures of `size` px, seen or not, float32 [B, 70, 2]."""
    return torch.stack([framing(scene.view, size).project(seventy(_undress(scene)))[0] for scene in scenes])


def _render(scenes: Sequence[Scene], size: int) -> tuple[Tensor, Tensor]:
    """Return what `render_bare_heads` does of as many scenes as are followed at once."""
    # Find where rays meet the people.
    frames = [framing(scene.view, size) for scene in scenes]
    figures = Figures([_undress(scene) for scene in scenes])
    ways = _rays(frames)
    reach = _trace(frames, ways, figures)
    kept = _Kept(reach.isfinite())
    t, *ways = (kept(values) for values in (reach, *ways))
    x, y, z = _along(frames, ways, t)
    # Normals in the camera frame and classes there, nothing elsewhere.
    turned = _normals(x, y, z, _column([max(0.004, 0.35 * frame.pixel) for frame in frames]), figures)
    kinds = figures(_classes, x, y, z)
    normals = torch.zeros(len(scenes), size * size, 3)
    classes = torch.zeros(len(scenes), size * size, dtype=torch.uint8)
    for row, (frame, count) in enumerate(zip(frames, kept.counts, strict=True)):
        index = torch.nonzero(reach[row].isfinite()).squeeze(1)
        normals[row, index] = turned[row, :count] @ frame.turn.T
        classes[row, index] = kinds[row, :count]
    return normals.reshape(-1, size, size, 3), classes.reshape(-1, size, size)


def _undress(scene: Scene) -> SimpleNamespace:
    """Return the figure of a scene's person without what they wear and grow."""
    view = replace(
        scene.view, hair_style="bald", beard="none", glasses="none", headwear="none", facewear="none", clothes="crew"
    )
    plain = replace(scene, view=view)
    q = figure(plain)
    cover.add_covers(plain, q)
    return q


class _Kept:
    """Which of points [B, N] stay: taken out of a tensor and moved to the left of their row, then zeros to a multiple of PAD."""

    def __init__(self, keep: Tensor) -> None:
        self.counts: list[int] = keep.sum(1).tolist()
        self.shape = len(keep), -max(self.counts) // PAD * -PAD
        self.source = torch.nonzero(keep.reshape(-1)).squeeze(1)
        self.target = torch.cat([torch.arange(count) + row * self.shape[1] for row, count in enumerate(self.counts)])

    def __call__(self, values: Tensor) -> Tensor:
        moved = values.new_zeros(self.shape)
        moved.view(-1)[self.target] = values.reshape(-1)[self.source]
        return moved


def _rays(frames: Sequence[Framing]) -> list[Tensor]:
    """Return unit directions x, y, z [B, N] of rays through the middle of each pixel; N is a multiple of PAD."""
    size = frames[0].size
    axis = torch.arange(size) + 0.5
    py, px = (g.reshape(-1) for g in torch.meshgrid(axis, axis, indexing="ij"))
    ways = torch.stack([torch.stack(frame.rays(px, py)) for frame in frames], 1)
    return list(torch.nn.functional.pad(ways, (0, -px.numel() % PAD)))


def _column(values: Sequence[float]) -> Tensor:
    """Return numbers float32 [B, 1]."""
    return torch.tensor(values, dtype=torch.float64).float()[:, None]


def _along(frames: Sequence[Framing], ways: Sequence[Tensor], t: Tensor) -> list[Tensor]:
    """Return points x, y, z [B, N] at `t` along rays from the cameras."""
    origins = zip(*(frame.origin for frame in frames), strict=True)
    return [way * t + _column(origin) for way, origin in zip(ways, origins, strict=True)]


def _trace(frames: Sequence[Framing], ways: Sequence[Tensor], figures: Figures) -> Tensor:
    """Return how far rays [B, N] go, infinity where they meet nothing, by the steps of `march.trace`."""
    far = _column([frame.distance + REACH for frame in frames])
    tolerance = [0.25 * frame.pixel for frame in frames]
    t = _column([frame.distance - REACH for frame in frames]).repeat(1, ways[0].shape[1])
    result = torch.full_like(t, torch.inf)
    # Where in the result each ray stands; -1: no ray.
    pixels = frames[0].size ** 2
    place = torch.arange(result.numel()).reshape(result.shape)
    place[:, pixels:] = -1
    for step in range(STEPS):
        # Step by a little less than the distance to the nearest surface; after many steps a ray may stop farther from it.
        d = figures(distance, *_along(frames, ways, t))
        converged = d.abs() < _column([k * (1.0 + max(0, step - 16) / 14) for k in tolerance])
        t = t + d * 0.88
        # Every other step takes out the rays that have arrived or left.
        if step % 2 or step == STEPS - 1:
            there = place >= 0
            arrived = converged & there
            result.view(-1)[place[arrived]] = t[arrived]
            keep = ~(converged | (t > far)) & there
            if not keep.any():
                break
            kept = _Kept(keep)
            t, *ways = (kept(values) for values in (t, *ways))
            place = kept(place + 1) - 1
    return result


def _normals(x: Tensor, y: Tensor, z: Tensor, e: Tensor, figures: Figures) -> Tensor:
    """Return unit normals [B, N, 3] by four taps on a tetrahedron of size `e` [B, 1], as `march.normals`."""
    a = figures(distance, x + e, y - e, z - e)
    b = figures(distance, x - e, y - e, z + e)
    c = figures(distance, x - e, y + e, z - e)
    d = figures(distance, x + e, y + e, z + e)
    nx, ny, nz = a - b - c + d, c - a - b + d, b - a - c + d
    inverse = (nx * nx).addcmul_(ny, ny).addcmul_(nz, nz).add_(1e-20).rsqrt_()
    return torch.stack((nx * inverse, ny * inverse, nz * inverse), -1)


def _classes(x: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    return classify(x, y, z, q)[0]
