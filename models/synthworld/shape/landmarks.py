"""True landmarks of the head model: 70 (iBUG-68 order and two pupils) and 478 of our own fixed topology, `world478`.

Points are defined on the bare head in the head frame, move with shape and expression, and are projected through the
head whether or not they are seen ("3DA-2D"). `world478` carries a fixed pattern over the face by thin-plate splines from
the 70 points of the person, then drops it onto the skin. It is not MediaPipe's topology.
"""

import functools
import math
from types import SimpleNamespace

import torch
from torch import Tensor

from models.synthworld.sampling.scene import Person, Scene
from models.synthworld.shape import sdf
from models.synthworld.shape.classify import brow_line
from models.synthworld.shape.cover import add_covers
from models.synthworld.shape.figure import figure
from models.synthworld.shape.march import bare_distance

RIGHT_PUPIL, LEFT_PUPIL = 68, 69
MIRROR_70 = (
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
    41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65, 69, 68,
)  # fmt: skip
"""Index of each point's mirror image."""

Rays = list[tuple[tuple[float, float, float], tuple[float, float, float]]]


def landmarks(q: SimpleNamespace) -> tuple[Tensor, Tensor]:
    """Return head-frame points float32 [70, 3] and [478, 3] of the figure `q`, in head units."""
    points = seventy(q)
    return points, _dense(points, q)


def seventy(q: SimpleNamespace) -> Tensor:
    """Return the 70 points, float32 [70, 3]: jaw and frontal points dropped onto the head, and the pupils."""
    rays: Rays = [*_jaw(), *(((x, y, 3.0), (0.0, 0.0, -1.0)) for x, y in _frontal(q))]
    pupils = torch.tensor([_pupil(q, -1.0), _pupil(q, 1.0)])
    return torch.cat([cast(rays, q), pupils])


def cast(rays: Rays, q: SimpleNamespace) -> Tensor:
    """Return where rays (start, unit direction) meet the bare head or eyes, float32 [N, 3]."""
    start = torch.tensor([r[0] for r in rays])
    way = torch.tensor([r[1] for r in rays])
    return _drop(start, way, q)


def _drop(start: Tensor, way: Tensor, q: SimpleNamespace) -> Tensor:
    """Return where rays [N, 3] from `start` along unit `way` meet the bare head: 28 steps of sphere tracing."""
    t = torch.zeros(len(start))
    for _ in range(28):
        x, y, z = (start + way * t[:, None]).T.contiguous()
        t = (t + bare_distance(x, y, z, q) * 0.9).clamp(max=6.0)
    return start + way * t[:, None]


def _jaw() -> Rays:
    """Points 0-16: along the edge of the face from the subject's right ear by the chin to the left ear."""
    rays: Rays = []
    for k in range(17):
        # s goes from 1 at the right ear by 0 at the chin to -1 at the left ear.
        s = (8 - k) / 8
        angle = (1 - abs(s)) * math.pi / 2
        side = -1.0 if s > 0 else 1.0
        way = (side * math.cos(angle), -0.78 * math.sin(angle), 0.62 * math.sin(angle) + 0.30 * math.sin(2 * angle))
        if k == 8:
            way = (0.0, way[1], way[2])
        # Rays run inwards along that direction from outside the head.
        length = math.sqrt(sum(c * c for c in way))
        out = (way[0] / length, way[1] / length, way[2] / length)
        centre = (0.0, 0.02 - 0.62 * (1 - abs(s)), 0.12 + 0.10 * (1 - abs(s)))
        start = (centre[0] + 2.6 * out[0], centre[1] + 2.6 * out[1], centre[2] + 2.6 * out[2])
        rays.append((start, (-out[0], -out[1], -out[2])))
    return rays


def _frontal(q: SimpleNamespace) -> list[tuple[float, float]]:
    """Points 17-67 as (x, y) in the head frame, before they are dropped onto the skin along z."""
    points: list[tuple[float, float]] = []
    # 17-26: brows.
    for side, order in ((-1.0, (1.0, 0.5, 0.0, -0.5, -0.95)), (1.0, (-0.95, -0.5, 0.0, 0.5, 1.0))):
        for t in order:
            x = side * (q.ex + 0.22 * t)
            y = float(brow_line(torch.tensor([t]), torch.tensor([x]), q)) + 0.3 * q.brow_thick
            points.append((x, y))
    # 27-35: bridge and base of the nose.
    tip = q.n_bot + 0.075 + q.n_up
    points += [(0.0, q.n_top + (tip - q.n_top) * k / 3) for k in range(4)]
    base, wide = q.n_bot - 0.02, q.n_ala + 0.35 * q.n_wing
    points += [(-wide, base + 0.02), (-0.55 * wide, base), (0.0, base - 0.012)]
    points += [(0.55 * wide, base), (wide, base + 0.02)]
    # 36-47: eyes, along the upper lid and back along the lower.
    for side in (-1.0, 1.0):
        along = [side * t for t in (-1.0, -0.36, 0.36, 1.0)]
        points += [_lid(q, side, t, True) for t in along]
        points += [_lid(q, side, t, False) for t in (along[2], along[1])]
    # 48-67: lips. Then the face's asymmetry.
    points += _lips(q)
    warp = [q.asym * float(_ramp(y)) for _, y in points]
    return [(x - w, y) for (x, y), w in zip(points, warp, strict=True)]


def _ramp(y: float) -> float:
    """Return how much of the face's asymmetry applies at height y, from 0 at 0.5 to 1 at -1: as in `sdf.skin`."""
    t = min(1.0, max(0.0, (y - 0.5) / -1.5))
    return t * t * (3 - 2 * t)


def _lid(q: SimpleNamespace, side: float, t: float, upper: bool) -> tuple[float, float]:
    """Return a point (x, y) on a lid: t in [-1, 1] runs along the eye, outwards for positive t."""
    arc = 1 - t * t
    height = arc * (1 - 0.22 * t) * q.eh_up if upper else -arc * (1 + 0.25 * t) * q.eh_low
    return side * (q.ex + t * q.ew), q.ey + t * q.ew * q.tilt + height


def _lips(q: SimpleNamespace) -> list[tuple[float, float]]:
    """Points 48-67: outer lip from the right corner over the top, then the inner lip the same way."""
    xs = torch.tensor([-1.0, -0.62, -0.16, 0.0, 0.16, 0.62, 1.0, 0.55, 0.22, 0.0, -0.22, -0.55]) * q.m_w
    top, in_up, in_low, bottom = sdf.lip_edges(xs, q)
    line, _ = sdf.mouth_curve(xs, q)
    heights = [line[0], *top[1:6], line[6], *bottom[7:]]
    outer = [(float(x), float(y)) for x, y in zip(xs, heights, strict=True)]
    xi = torch.tensor([-0.92, -0.40, 0.0, 0.40, 0.92, 0.40, 0.0, -0.40]) * q.m_w
    _, in_up, in_low, _ = sdf.lip_edges(xi, q)
    line, _ = sdf.mouth_curve(xi, q)
    inner = [line[0], *(in_up[1:4] + 0.008), line[4], *(in_low[5:] - 0.008)]
    return outer + [(float(x), float(y)) for x, y in zip(xi, inner, strict=True)]


def _pupil(q: SimpleNamespace, side: float) -> tuple[float, float, float]:
    """Return the centre of the pupil, a point of the eyeball."""
    gx, gy = math.sin(q.gaze_x), math.sin(q.gaze_y)
    depth = math.sqrt(max(0.0, 1 - gx * gx - gy * gy))
    warp = q.asym * _ramp(q.ey)
    return side * q.ex + gx * q.er - warp, q.ey + gy * q.er, q.ez + depth * q.er


@functools.cache
def _pattern() -> Tensor:
    """Return weights [478, 70]: how each dense point's place on the face follows the 70 points of a person."""
    average = Scene(Person(0))
    q = figure(average)
    add_covers(average, q)
    return _spline(_flatten(seventy(q)), _spiral(478))


def _flatten(points: Tensor) -> Tensor:
    """Return (angle around the face in radians, height) of head-frame points [N, 3]."""
    return torch.stack([torch.atan2(points[:, 0], points[:, 2] + 0.35), points[:, 1] * 1.1], -1)


def _spiral(count: int) -> Tensor:
    """Return `count` evenly spread places (angle, height) over the face, denser around eyes, nose and mouth."""
    places = []
    for k in range(count):
        r, a = math.sqrt((k + 0.5) / count), k * math.pi * (3 - math.sqrt(5))
        r = r * (0.72 + 0.28 * r)
        places.append((1.08 * r * math.cos(a), -0.20 + 0.92 * r * math.sin(a)))
    return torch.tensor(places)


def _spline(known: Tensor, wanted: Tensor) -> Tensor:
    """Return thin-plate weights W, so that W @ values at `known` interpolates them at `wanted`."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        r2 = (a[:, None] - b[None]).square().sum(-1).double()
        return 0.5 * r2 * torch.log(r2 + 1e-12)

    # Smoothed thin-plate spline (Wahba): kernel and affine part in one linear system.
    n = len(known)
    ones = torch.ones(n, 1)
    affine = torch.cat([ones, known], 1).double()
    system = torch.zeros(n + 3, n + 3, dtype=torch.float64)
    system[:n, :n] = kernel(known, known) + 2e-3 * torch.eye(n, dtype=torch.float64)
    system[:n, n:], system[n:, :n] = affine, affine.T
    solved = torch.linalg.inv(system)[:, :n]
    # Its solution, read at the wanted places, is linear in the values.
    at = torch.cat([kernel(wanted, known), torch.ones(len(wanted), 1, dtype=torch.float64), wanted.double()], 1)
    return (at @ solved).float()


def _dense(seventy: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the 478 points, float32 [478, 3]: the pattern laid around the person's face, dropped onto the skin."""
    flat = _pattern() @ _flatten(seventy)
    angle, height = flat[:, 0], flat[:, 1] / 1.1
    way = torch.stack([torch.sin(angle), torch.zeros_like(angle), torch.cos(angle)], -1)
    centre = torch.stack([torch.zeros_like(angle), height, torch.full_like(angle, -0.35)], -1)
    return _drop(centre + 2.6 * way, -way, q)
