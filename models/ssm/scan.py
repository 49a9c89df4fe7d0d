"""The scans in parallel form, in plain torch, forward and backward. No loop goes over tokens.

Mamba-1 goes chunk by chunk; inside a chunk its states come from a scan of logarithmic depth, and what is kept for the
backward pass is one state a chunk: the rest is computed again. Mamba-2 is four matrix products (SSD).
All is computed in float32 at least: decays are products of many numbers near one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

SCAN_CHUNK = 64
"""Tokens of which Mamba-1's states are in memory at once."""
SSD_CHUNK = 64
"""Tokens of a chunk of SSD: larger ones do more work, smaller ones have smaller matrices."""


def scan_linear(decay: Tensor, pushed: Tensor) -> Tensor:
    """Return h_t = decay_t h_(t-1) + pushed_t with h_(-1) = 0 for all t at once, over dimension 1 of [B, T, ...].

    Neighbours are joined, the half as long sequence is solved, and the others follow from it (Blelloch 1990): 2 log2(T)
    steps, about twice the multiplications of the loop.
    """
    length = pushed.shape[1]
    if length == 1:
        return pushed
    # Two steps as one: h_(2k+1) = (d_(2k+1) d_(2k)) h_(2k-1) + (d_(2k+1) p_(2k) + p_(2k+1)).
    pairs = length // 2
    first_decay, second_decay = decay[:, : 2 * pairs].unflatten(1, (pairs, 2)).unbind(2)
    first, second = pushed[:, : 2 * pairs].unflatten(1, (pairs, 2)).unbind(2)
    odd = scan_linear(first_decay * second_decay, torch.addcmul(second, second_decay, first))
    # Those between follow from the one before each.
    between = torch.addcmul(first[:, 1:], first_decay[:, 1:], odd[:, :-1])
    even = torch.cat([pushed[:, :1], between], dim=1)
    found = torch.stack([even, odd], dim=2).flatten(1, 2)
    if length % 2:
        last = torch.addcmul(pushed[:, -1], decay[:, -1], odd[:, -1])
        found = torch.cat([found, last[:, None]], dim=1)
    return found


def selective_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, chunk: int = SCAN_CHUNK
) -> Tensor:
    """Return what `reference.selective_scan` returns, in x's dtype; at most `chunk` tokens' states are held at once.

    Shapes as there. Memory is B L C / chunk x N numbers for the backward pass, and a few of B chunk C N at any time.
    """
    dtype = x.dtype
    x, delta, A, B, C, D = (_widen(values) for values in (x, delta, A, B, C, D))
    state = x.new_zeros(x.shape[0], x.shape[2], A.shape[1])
    outputs = []
    for part in zip(*(values.split(chunk, dim=1) for values in (x, delta, B, C)), strict=True):
        if torch.is_grad_enabled():
            y, state = checkpoint(_scan_chunk, state, A, *part, use_reentrant=False, preserve_rng_state=False)
        else:
            y, state = _scan_chunk(state, A, *part)
        outputs.append(y)
    return (torch.cat(outputs, dim=1) + D * x).to(dtype)


def _scan_chunk(state: Tensor, A: Tensor, x: Tensor, delta: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs [B, Q, C] of a chunk, and the state [B, C, N] behind its last token, of the one before its first."""
    decay = torch.exp(delta[..., None] * A)
    pushed = (delta * x)[..., None] * B[:, :, None]
    # The state that comes in is one more push at the first token.
    pushed = torch.cat([torch.addcmul(pushed[:, :1], decay[:, :1], state[:, None]), pushed[:, 1:]], dim=1)
    states = scan_linear(decay, pushed)
    return (states @ C[..., None])[..., 0], states[:, -1]


def ssd(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, chunk: int = SSD_CHUNK) -> Tensor:
    """Return what `reference.ssd` returns, in x's dtype, as masked attention inside chunks and a scan between them.

    Shapes as there (arXiv 2405.21060, section 6). Memory is linear in L: B H L (chunk + P + P N / chunk) numbers.
    """
    dtype, length, heads, groups = x.dtype, x.shape[1], x.shape[2], B.shape[2]
    chunk = min(chunk, length)
    x, delta, A, B, C, D = (_widen(values) for values in (x, delta, A, B, C, D))
    # Chunks of tokens [B, c, Q, ...]; what fills up the last one neither decays nor pushes.
    missing = -length % chunk
    cut = [F.pad(v, (0, 0) * (v.ndim - 2) + (0, missing)).unflatten(1, (-1, chunk)) for v in (x, delta, B, C)]
    tokens, steps, B, C = cut
    per_group = (groups, heads // groups)
    pushed = (steps[..., None] * tokens).unflatten(3, per_group)
    # Logarithm of the decay from token j to token i of a chunk, as sums of what lies between: [B, c, G, H/G, Q, Q].
    logs = (steps * A).movedim(3, 2).unflatten(2, per_group)
    decay = _segment_sums(logs).exp()
    to_end = logs.flip(-1).cumsum(-1).flip(-1)[..., 1:]
    to_end = F.pad(to_end, (0, 1)).exp()  # decay behind token j up to the end of its chunk
    from_start = logs.cumsum(-1)
    # 1. Inside a chunk: token i reads what j pushed.
    scores = torch.einsum("bcign,bcjgn->bcgij", C, B)
    within = torch.einsum("bcghij,bcjghp->bcighp", scores[:, :, :, None] * decay, pushed)
    # 2. and 3. What each chunk leaves behind, and what therefore stands before each: [B, c, G, H/G, P, N].
    left = torch.einsum("bcghj,bcjghp,bcjgn->bcghpn", to_end, pushed, B)
    states = scan_linear(from_start[..., -1, None, None].exp(), left)
    before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)
    # 4. Across chunks: token i reads the state before its chunk, decayed to it.
    across = torch.einsum("bcign,bcghpn->bcighp", C, before) * from_start.exp().movedim(-1, 2)[..., None]
    found = (within + across).flatten(3, 4).flatten(1, 2)[:, :length]
    return (found + D[:, None] * x).to(dtype)


def _segment_sums(logs: Tensor) -> Tensor:
    """Return sums of logs[..., j + 1 .. i] at [..., i, j], -inf for j > i, of [..., Q].

    Summed under a mask: as a difference of two cumulative sums they would lose their last digits.
    """
    count = logs.shape[-1]
    mask = torch.ones(count, count, dtype=torch.bool, device=logs.device)
    rows = logs[..., None].expand(*logs.shape, count).masked_fill(~mask.tril(-1), 0)
    return rows.cumsum(dim=-2).masked_fill(~mask.tril(), -torch.inf)


def _widen(values: Tensor) -> Tensor:
    """Return values in float32, or as they are in float64."""
    return values if values.dtype == torch.float64 else values.float()
