"""Distance primitives on separate coordinate tensors: each takes and returns float32 [N], in head units.

Numbers may be floats or 0-d tensors, so that the same code runs eagerly and as one compiled kernel.
"""

import torch
from torch import Tensor

Number = float | Tensor


def smooth_min(a: Tensor, b: Tensor, k: float) -> Tensor:
    """Return the polynomial smooth minimum: within `k` of each other the two surfaces blend."""
    h = (k - (a - b).abs()).clamp(min=0.0)
    return torch.minimum(a, b) - h * h * (0.25 / k)


def smooth_max(a: Tensor, b: Tensor, k: float) -> Tensor:
    """Return the polynomial smooth maximum."""
    h = (k - (a - b).abs()).clamp(min=0.0)
    return torch.maximum(a, b) + h * h * (0.25 / k)


def ellipsoid(x: Tensor, y: Tensor, z: Tensor, rx: Number, ry: Number, rz: Number) -> Tensor:
    """Return the first-order distance to an ellipsoid at the origin."""
    ix, iy, iz = 1.0 / rx, 1.0 / ry, 1.0 / rz
    x, y, z = x * ix, y * iy, z * iz
    k0 = (x * x + y * y + z * z).sqrt()
    x, y, z = x * ix, y * iy, z * iz
    k1 = (x * x + y * y + z * z).sqrt() + 1e-6
    return k0 * (k0 - 1.0) / k1


def sphere(x: Tensor, y: Tensor, z: Tensor, r: Number) -> Tensor:
    """Return the distance to a sphere at the origin."""
    return (x * x + y * y + z * z).sqrt() - r


def capsule(
    x: Tensor,
    y: Tensor,
    z: Tensor,
    a: tuple[Number, Number, Number],
    b: tuple[Number, Number, Number],
    r0: Number,
    r1: Number,
) -> Tensor:
    """Return the distance to the segment `a` - `b` with radius going from `r0` to `r1`."""
    bx, by, bz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    px, py, pz = x - a[0], y - a[1], z - a[2]
    n = 1.0 / (bx * bx + by * by + bz * bz)
    h = (px * (bx * n) + py * (by * n) + pz * (bz * n)).clamp(0.0, 1.0)
    px, py, pz = px - h * bx, py - h * by, pz - h * bz
    return (px * px + py * py + pz * pz).sqrt() - (h * (r1 - r0) + r0)


def bump(u: Tensor, v: Tensor, su: Number, sv: Number) -> Tensor:
    """Return a Gaussian bump in (u, v) with standard deviations su, sv and height 1."""
    u, v = u * (1.0 / su), v * (1.0 / sv)
    return torch.exp((u * u + v * v) * -0.5)


def ramp(value: Tensor, low: Number, high: Number) -> Tensor:
    """Return the smooth step of `value` from 0 at `low` to 1 at `high` (which may be the lower of the two)."""
    t = ((value - low) * (1.0 / (high - low))).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def groove(v: Tensor, s: Number) -> Tensor:
    """Return a ridge of height 1 along v = 0 with standard deviation s."""
    v = v * (1.0 / s)
    return torch.exp(v * v * -0.5)
