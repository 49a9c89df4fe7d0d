"""Distance primitives on separate coordinate tensors: each takes and returns float32 [N], in head units."""

import torch
from torch import Tensor


def smooth_min(a: Tensor, b: Tensor, k: float) -> Tensor:
    """Return the polynomial smooth minimum: within `k` of each other the two surfaces blend."""
    h = (k - (a - b).abs()).clamp_(min=0.0)
    return torch.minimum(a, b).sub_(h.square_().mul_(0.25 / k))


def smooth_max(a: Tensor, b: Tensor, k: float) -> Tensor:
    """Return the polynomial smooth maximum."""
    h = (k - (a - b).abs()).clamp_(min=0.0)
    return torch.maximum(a, b).add_(h.square_().mul_(0.25 / k))


def ellipsoid(x: Tensor, y: Tensor, z: Tensor, rx: float, ry: float, rz: float) -> Tensor:
    """Return the first-order distance to an ellipsoid at the origin."""
    x, y, z = x * (1 / rx), y * (1 / ry), z * (1 / rz)
    x2, y2, z2 = x * x, y * y, z * z
    k0 = (x2 + y2).add_(z2).sqrt_()
    k1 = x2.mul_(1 / rx**2).add_(y2, alpha=1 / ry**2).add_(z2, alpha=1 / rz**2).sqrt_().add_(1e-6)
    return (k0 - 1.0).mul_(k0).div_(k1)


def sphere(x: Tensor, y: Tensor, z: Tensor, r: float) -> Tensor:
    """Return the distance to a sphere at the origin."""
    return (x * x).addcmul_(y, y).addcmul_(z, z).sqrt_().sub_(r)


def capsule(
    x: Tensor, y: Tensor, z: Tensor, a: tuple[float, float, float], b: tuple[float, float, float], r0: float, r1: float
) -> Tensor:
    """Return the distance to the segment `a` - `b` with radius going from `r0` to `r1`."""
    bx, by, bz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    px, py, pz = x - a[0], y - a[1], z - a[2]
    n = bx * bx + by * by + bz * bz
    h = (px * (bx / n)).add_(py, alpha=by / n).add_(pz, alpha=bz / n).clamp_(0.0, 1.0)
    px.sub_(h, alpha=bx)
    py.sub_(h, alpha=by)
    pz.sub_(h, alpha=bz)
    d = px.square_().addcmul_(py, py).addcmul_(pz, pz).sqrt_()
    return d.sub_(h.mul_(r1 - r0).add_(r0))


def bump(u: Tensor, v: Tensor, su: float, sv: float) -> Tensor:
    """Return a Gaussian bump in (u, v) with standard deviations su, sv and height 1."""
    return (u * u).mul_(-0.5 / su**2).addcmul_(v, v, value=-0.5 / sv**2).exp_()


def ramp(value: Tensor, low: float, high: float) -> Tensor:
    """Return the smooth step of `value` from 0 at `low` to 1 at `high`."""
    t = (value - low).mul_(1 / (high - low)).clamp_(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def groove(v: Tensor, s: float) -> Tensor:
    """Return a ridge of height 1 along v = 0 with standard deviation s."""
    return (v * v).mul_(-0.5 / s**2).exp_()
