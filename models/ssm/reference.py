"""The recurrences token by token, as the papers write them: what every faster form is tested against. Slow on purpose."""

import torch
from torch import Tensor


def selective_scan(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Return Mamba-1's scan [B, L, C] (arXiv 2312.00752, algorithm 2) of inputs x [B, L, C].

        h_t = exp(delta_t A) h_(t-1) + delta_t x_t B_t,    y_t = h_t C_t + D x_t

    delta: steps [B, L, C], positive. A: [C, N], negative. B, C: [B, L, N]. D: [C].
    """
    state = x.new_zeros(x.shape[0], x.shape[2], A.shape[1])
    outputs = []
    for x_t, delta_t, B_t, C_t in zip(*(values.unbind(1) for values in (x, delta, B, C)), strict=True):
        state = torch.exp(delta_t[..., None] * A) * state + (delta_t * x_t)[..., None] * B_t[:, None]
        outputs.append((state * C_t[:, None]).sum(-1) + D * x_t)
    return torch.stack(outputs, dim=1)


def ssd(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Return Mamba-2's scan [B, L, H, P] (arXiv 2405.21060, section 3) of inputs x [B, L, H, P]: one decay a head.

        h_t = exp(delta_t A) h_(t-1) + delta_t x_t B_t^T,    y_t = h_t C_t + D x_t

    delta: steps [B, L, H], positive. A: [H], negative. B, C: [B, L, G, N], each group shared by H / G heads. D: [H].
    """
    B, C = (values.repeat_interleave(x.shape[2] // values.shape[2], dim=2) for values in (B, C))
    state = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[3])
    outputs = []
    for x_t, delta_t, B_t, C_t in zip(*(values.unbind(1) for values in (x, delta, B, C)), strict=True):
        pushed = (delta_t[..., None] * x_t)[..., None] * B_t[:, :, None]
        state = torch.exp(delta_t * A)[..., None, None] * state + pushed
        outputs.append((state * C_t[:, :, None]).sum(-1) + D[:, None] * x_t)
    return torch.stack(outputs, dim=1)
