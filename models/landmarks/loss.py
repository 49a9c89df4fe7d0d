"""The landmarker's negative log-likelihood: every landmark an isotropic normal distribution (T-FAKE, section 2.2 of its code).

mean over batch, landmarks and axes of  0.5 * (log v + (mu - y)^2 / v)
"""

import torch
from torch import Tensor

from models.landmarks.network import FLOOR


class _Clamp(torch.autograd.Function):
    """max(v, FLOOR) going forward, the identity going back: the published clamp, invisible to autograd.

    A variance below the floor still gets a gradient, that of the floor.
    """

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return values.clamp(min=FLOOR)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


def nll(found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of each row [B], and the share of variances that were clamped (a scalar without gradient).

    found: [B, L, 3] of `Landmarker`, variance last. truth: [B, L, 2] in crop units; a point that is not known is NaN and does
    not count, and every row needs one that is known. With `outputs: softplus` no variance lies below the floor, so none is
    clamped.
    """
    # Variances below the floor count as the floor.
    variance = _Clamp.apply(found[..., 2:])
    clipped = (found[..., 2] < FLOOR).float().mean().detach()
    # Mean over the points that are known.
    known = torch.isfinite(truth).all(dim=2)
    each = 0.5 * (variance.log() + (found[..., :2] - truth.nan_to_num()) ** 2 / variance).mean(dim=2)
    return (each * known).sum(dim=1) / known.sum(dim=1), clipped
