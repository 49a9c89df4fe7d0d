"""Sphere tracing of one scene: from rays to hits. A ray that does not converge is background."""

from types import SimpleNamespace

import torch
from torch import Tensor

from models.synthworld.shape import cover, sdf
from models.synthworld.shape.framing import Framing
from models.synthworld.shape.kernels import kernel
from models.synthworld.shape.primitives import smooth_min

SKIN, EYE, HAIR, CLOTH, HAT, MASK, FRAME = range(7)
"""What a ray can meet."""

REACH = 2.35
"""Everything in view lies within this many head units of the head's centre along the ray."""


def surfaces(x: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> tuple[list[Tensor | None], Tensor]:
    """Return the distance to each kind of surface (None where this view has none), and to the bare skin of the head."""
    # Everybody has skin, eyes and clothes; the rest where it is worn.
    skin, eye, base, bare, cloth = kernel(_core, q.wears["clothes"])(q, x, y, z)
    found: list[Tensor | None] = [skin, eye, None, cloth, None, None, None]
    if q.wears["hair"]:
        found[HAIR] = kernel(_hair, q.wears["hair"])(q, x, y, z, base)
    if q.wears["beard"]:
        found[SKIN] = kernel(_beard, q.wears["beard"])(q, x, y, z, skin)
    if q.wears["headwear"]:
        found[HAT] = kernel(_hat, q.wears["headwear"])(q, x, y, z, base)
    if q.wears["facewear"]:
        found[MASK] = kernel(_mask, "")(q, x, y, z, bare)
    if q.wears["glasses"]:
        found[FRAME] = kernel(_frames, "")(q, x, y, z)
    return found, bare


def _core(q: SimpleNamespace, x: Tensor, y: Tensor, z: Tensor, kind: str) -> tuple[Tensor, ...]:
    bare, eye, base = sdf.skin(x, y, z, q)
    torso = sdf.torso(x, y, z, q)
    skin = smooth_min(smooth_min(bare, sdf.neck(x, y, z, q), 0.14), torso + 0.03, 0.16)
    return skin, eye, base, bare, cover.clothing(x, y, z, torso, q, kind)


def _bare(q: SimpleNamespace, x: Tensor, y: Tensor, z: Tensor, kind: str) -> Tensor:
    bare, eye, _ = sdf.skin(x, y, z, q)
    return torch.minimum(bare, eye)


def _hair(q: SimpleNamespace, x: Tensor, y: Tensor, z: Tensor, base: Tensor, kind: str) -> Tensor:
    return cover.hair(x, y, z, base, q, kind)


def _beard(q: SimpleNamespace, x: Tensor, y: Tensor, z: Tensor, skin: Tensor, kind: str) -> Tensor:
    return skin - cover.beard_thickness(x, y, z, q, kind).clamp(min=0.0)


def _hat(q: SimpleNamespace, x: Tensor, y: Tensor, z: Tensor, base: Tensor, kind: str) -> Tensor:
    return cover.headwear(x, y, z, base, q, kind)


def _mask(q: SimpleNamespace, x: Tensor, y: Tensor, z: Tensor, bare: Tensor, kind: str) -> Tensor:
    return cover.mask(x, y, z, bare, q)


def _frames(q: SimpleNamespace, x: Tensor, y: Tensor, z: Tensor, kind: str) -> Tensor:
    return cover.frames(x, y, z, q)


def bare_distance(x: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the distance to the bare head and its eyes: no hair, neck or clothes."""
    found: Tensor = kernel(_bare, "")(q, x, y, z)
    return found


def distance(x: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the distance to the nearest surface of any kind."""
    nearest: Tensor | None = None
    for d in surfaces(x, y, z, q)[0]:
        if d is not None:
            nearest = d if nearest is None else torch.minimum(nearest, d)
    assert nearest is not None
    return nearest


def trace(
    origin: tuple[float, float, float],
    rays: tuple[Tensor, Tensor, Tensor],
    near: Tensor,
    far: float,
    tolerance: float,
    q: SimpleNamespace,
    steps: int = 72,
) -> Tensor:
    """March rays [N] from `origin` and return how far each goes, float32 [N]; infinity where it meets nothing."""
    ox, oy, oz = origin
    dx, dy, dz = rays
    result = torch.full_like(dx, torch.inf)
    index = torch.arange(dx.numel())
    t = near.clone()
    for step in range(steps):
        # Step by a little less than the distance to the nearest surface; after many steps a ray may stop farther from it.
        d = distance(dx * t + ox, dy * t + oy, dz * t + oz, q)
        converged = d.abs() < tolerance * (1.0 + max(0, step - 16) / 14)
        t = t + d * 0.88
        # Every other step takes out the rays that have arrived or left.
        done = converged | (t > far)
        if step % 2 or step == steps - 1:
            result[index[converged]] = t[converged]
            keep = ~done
            index, t, dx, dy, dz = index[keep], t[keep], dx[keep], dy[keep], dz[keep]
            if index.numel() == 0:
                break
    return result


def hits(frame: Framing, q: SimpleNamespace) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Return which pixels of the picture meet the person [N], how far along their rays, and those rays."""
    # A ray through the middle of each pixel, from just before the person.
    axis = torch.arange(frame.size) + 0.5
    py, px = (g.reshape(-1) for g in torch.meshgrid(axis, axis, indexing="ij"))
    rays = frame.rays(px, py)
    near = torch.full_like(px, frame.distance - REACH)
    reach = trace(frame.origin, rays, near, frame.distance + REACH, 0.25 * frame.pixel, q)
    index = torch.nonzero(reach.isfinite()).squeeze(1)
    x, y, z = (ray[index] for ray in rays)
    return index, reach[index], (x, y, z)


def normals(x: Tensor, y: Tensor, z: Tensor, e: float, q: SimpleNamespace) -> tuple[Tensor, Tensor, Tensor]:
    """Return unit normals by four taps on a tetrahedron of size `e`."""
    a = distance(x + e, y - e, z - e, q)
    b = distance(x - e, y - e, z + e, q)
    c = distance(x - e, y + e, z - e, q)
    d = distance(x + e, y + e, z + e, q)
    nx, ny, nz = a - b - c + d, c - a - b + d, b - a - c + d
    inverse = (nx * nx).addcmul_(ny, ny).addcmul_(nz, nz).add_(1e-20).rsqrt_()
    return nx * inverse, ny * inverse, nz * inverse
