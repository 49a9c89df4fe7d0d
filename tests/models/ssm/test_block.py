"""What stands in self-attention's place: windows, scans, interleaved scans."""

import pytest
import torch
import torch.nn.functional as F

from models.ssm.block import SelfMixer, WindowAttention, set_kernel
from models.ssm.config import BlockConfig, Directions


def reach(module: torch.nn.Module, side: int, cell: int, **extra: object) -> torch.Tensor:
    """Return which cells the output at `cell` follows from, bool [side^2]."""
    tokens = torch.randn(1, side**2, 16, requires_grad=True)
    out = module(tokens, side, side) if isinstance(module, WindowAttention) else module(tokens, **extra)
    (gradient,) = torch.autograd.grad(out[0, cell].square().sum(), tokens)
    return gradient[0].abs().sum(-1) > 0


def test_a_window_that_is_the_picture_is_full_attention() -> None:
    torch.manual_seed(0)
    module, tokens = WindowAttention(16, 2, 4), torch.randn(3, 16, 16)
    query, key, value = (p.unflatten(-1, (2, -1)).transpose(1, 2) for p in module.to_qkv(tokens).chunk(3, dim=-1))
    wanted = module.to_out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(tokens, 4, 4), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("side", [8, 6])
def test_windows_see_their_own_cells_alone(shift: bool, side: int) -> None:
    torch.manual_seed(1)
    seen = reach(WindowAttention(16, 2, 4, shift), side, 0).view(side, side)
    wanted = torch.zeros(side, side, dtype=torch.bool)
    wanted[: 2 if shift else 4, : 2 if shift else 4] = True
    assert torch.equal(seen, wanted)


def test_distances_are_biased() -> None:
    """The bias of (row 0 to row 1, same column) alone lets the first cell read the one below it."""
    module = WindowAttention(16, 1, 2)
    with torch.no_grad():
        module.bias[0, int(module.get_buffer("places")[0, 2])] = 50.0
        module.to_out.weight.copy_(torch.eye(16))
        module.to_out.bias.zero_()
    tokens = torch.randn(1, 4, 16)
    below = module.to_qkv(tokens).chunk(3, dim=-1)[2][0, 2]
    torch.testing.assert_close(module(tokens, 2, 2)[0, 0], below, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("directions", [1, 2, 4])
def test_a_scan_reaches_the_whole_picture_by_two_directions(directions: Directions) -> None:
    torch.manual_seed(2)
    module = SelfMixer(16, 2, BlockConfig(window=0, directions=directions, head=8))
    seen = reach(module, 5, 12)
    assert torch.equal(seen, torch.arange(25) <= 12) if directions == 1 else bool(seen.all())


def test_windows_alone_and_nothing() -> None:
    module = SelfMixer(16, 2, BlockConfig(mixing="none", window=4))
    assert module.scan is None and reach(module, 8, 0).sum() == 16
    with pytest.raises(ValueError, match="mixes nothing"):
        SelfMixer(16, 2, BlockConfig(mixing="none", window=0))


def test_an_interleaved_scan_reads_the_condition_of_the_same_place_and_others() -> None:
    torch.manual_seed(3)
    module = SelfMixer(16, 2, BlockConfig(mixing="interleaved", window=0, directions=1, head=8), context=3)
    cells = torch.randn(1, 3, 5, 5, requires_grad=True)
    out = module(torch.randn(1, 25, 16), ip_hidden_states={"cells": cells})
    (gradient,) = torch.autograd.grad(out[0, 12].square().sum(), cells)
    assert torch.equal(gradient[0].abs().sum(0).flatten() > 0, torch.arange(25) <= 12)  # its own place is seen, too
    with pytest.raises(ValueError, match="cells"):
        module(torch.randn(1, 25, 16))


def test_a_picture_that_was_only_drawn_can_be_trained_on() -> None:
    """Orders are kept by size: made while somebody only draws, they must serve training."""
    module, tokens = SelfMixer(16, 2, BlockConfig(window=0, head=8)), torch.randn(1, 49, 16)
    with torch.inference_mode():
        module(tokens)
    module(tokens.requires_grad_()).sum().backward()
    assert tokens.grad is not None


def test_a_kernel_is_set_for_all_scans() -> None:
    module = torch.nn.Sequential(SelfMixer(16, 2, BlockConfig(head=8)), SelfMixer(16, 2, BlockConfig(head=8)))
    set_kernel(module, "vllm")
    assert [m.scan.kernel for m in module] == ["vllm", "vllm"]  # type: ignore[union-attr]
