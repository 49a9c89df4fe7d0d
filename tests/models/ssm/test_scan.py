"""The parallel scans against the recurrences token by token: values, gradients, precision, chunks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.errors import EnvironmentFault
from models.ssm import kernels, reference, scan
from models.ssm.config import ScanShape
from tests.models.ssm import installed

Scan = Callable[..., Tensor]


def draw_mamba1(length: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return x, delta, A, B, C and D of two rows, 6 channels and 4 states."""
    draw = torch.Generator().manual_seed(length)
    x, B, C = (torch.randn(2, length, size, generator=draw) for size in (6, 4, 4))
    delta = torch.rand(2, length, 6, generator=draw) * 0.3
    A, D = -4 * torch.rand(6, 4, generator=draw), torch.randn(6, generator=draw)
    return [values.to(dtype) for values in (x, delta, A, B, C, D)]


def draw_mamba2(length: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [values.to(dtype) for values in kernels.example(length=length)]


SCANS = [
    pytest.param(scan.selective_scan, reference.selective_scan, draw_mamba1, id="mamba1"),
    pytest.param(scan.ssd, reference.ssd, draw_mamba2, id="mamba2"),
]


@pytest.mark.parametrize(("fast", "slow", "draw"), SCANS)
@pytest.mark.parametrize(("length", "chunk"), [(1, 64), (7, 64), (32, 8), (45, 16), (45, 1)])
def test_equals_the_recurrence(
    fast: Scan, slow: Scan, draw: Callable[..., list[Tensor]], length: int, chunk: int
) -> None:
    inputs = draw(length)
    torch.testing.assert_close(fast(*inputs, chunk=chunk), slow(*inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("fast", "slow", "draw"), SCANS)
def test_gradients_equal_those_of_the_recurrence(fast: Scan, slow: Scan, draw: Callable[..., list[Tensor]]) -> None:
    inputs = [values.requires_grad_() for values in draw(45)]
    weight = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad((fast(*inputs, chunk=16) * weight).sum(), inputs)
    wanted = torch.autograd.grad((slow(*inputs) * weight).sum(), inputs)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("fast", "slow", "draw"), SCANS)
def test_gradients_by_finite_differences(fast: Scan, slow: Scan, draw: Callable[..., list[Tensor]]) -> None:
    inputs = [values.double().requires_grad_() for values in draw(7)]
    assert torch.autograd.gradcheck(lambda *args: fast(*args, chunk=3), inputs, fast_mode=True)


@pytest.mark.parametrize(("fast", "slow", "draw"), SCANS)
def test_bfloat16_inputs_are_computed_in_float32(fast: Scan, slow: Scan, draw: Callable[..., list[Tensor]]) -> None:
    """Stated bound: the rounding of the output alone, half a step of bfloat16 (2^-9 of the value)."""
    inputs = [values.bfloat16() for values in draw(45)]
    found, wanted = fast(*inputs), slow(*[values.float() for values in inputs])
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=1e-5, rtol=2**-8)


@pytest.mark.parametrize("length", [1, 2, 3, 8, 13])
def test_linear_recurrence_of_any_length(length: int) -> None:
    draw = torch.Generator().manual_seed(length)
    decay, pushed = torch.rand(2, length, 3, generator=draw), torch.randn(2, length, 3, generator=draw)
    state, wanted = torch.zeros(2, 3), []
    for t in range(length):
        state = decay[:, t] * state + pushed[:, t]
        wanted.append(state)
    torch.testing.assert_close(scan.scan_linear(decay, pushed), torch.stack(wanted, dim=1))


def test_strong_decays_overflow_nowhere() -> None:
    """Over a long chunk of fast decays the products are zero, never infinite: sums stand in the exponent, no quotients."""
    x, delta, A, B, C, D = draw_mamba2(128)
    inputs = [values.requires_grad_() for values in (x, delta + 50, A, B, C, D)]
    fast: Scan = scan.ssd
    found = fast(*inputs, chunk=128)
    torch.testing.assert_close(found, reference.ssd(*inputs), atol=1e-3, rtol=1e-5)
    assert all(torch.isfinite(one).all() for one in torch.autograd.grad(found.sum(), inputs))


def test_what_is_kept_for_the_backward_pass_does_not_hold_all_states() -> None:
    """Mamba-1 keeps a state a chunk, not one a token: [B, L, C, N] numbers are never saved."""
    inputs = [values.requires_grad_() for values in draw_mamba1(256)]
    saved: list[int] = []

    def keep(values: Tensor) -> Tensor:
        saved.append(values.numel())
        return values

    fast: Scan = scan.selective_scan
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values):
        fast(*inputs, chunk=16)
    states = inputs[0].numel() * inputs[2].shape[1]
    assert sum(saved) - sum(values.numel() for values in inputs) < states / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [kernels.SMALL, ScanShape(heads=8, groups=2, head=36, state=16)])
def test_kernel_of_vllm_equals_torch_where_it_is_installed(shape: ScanShape, dtype: torch.dtype) -> None:
    if not kernels.is_installed("vllm"):
        pytest.skip("vLLM is not installed")
    found = kernels.choose("cpu", (kernels.SMALL, shape), dtype)
    assert found.name == "vllm" and found.why.startswith("differs from the torch form by")
    inputs = kernels.example(length=130, shape=shape)
    torch.testing.assert_close(kernels.run_ssd("vllm", *inputs), scan.ssd(*inputs), atol=2e-5, rtol=1e-5)


def test_a_forward_only_kernel_leaves_gradients_to_torch() -> None:
    inputs = [values.requires_grad_() for values in draw_mamba2(20)]
    assert kernels.run_ssd("vllm", *inputs).requires_grad


def test_a_kernel_that_is_there_and_broken_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed.write_vllm(tmp_path)
    installed.install(tmp_path, monkeypatch)
    found = kernels.choose()
    assert found.name == "torch"
    assert found.why.startswith("vllm is installed and not used: ") and f"{tmp_path}/vllm/_C" in found.why


def test_a_kernel_whose_numbers_are_wrong_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed.write_mamba_ssm(tmp_path, installed.WRONG)
    installed.install(tmp_path, monkeypatch)
    with pytest.raises(EnvironmentFault, match="mamba_ssm differs from the torch form by"):
        kernels.difference("mamba_ssm")


def test_one_that_is_nearly_right_is_held_to_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernels.is_installed("vllm"):
        pytest.skip("vLLM is not installed")
    monkeypatch.setitem(kernels.CLOSE, torch.float32, 1e-9)  # less than its numbers can tell
    found = kernels.choose()
    assert found.name == "torch" and "differs from the torch form" in found.why


def test_a_kernel_that_fails_later_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = installed.write_mamba_ssm(tmp_path, installed.RIGHT)
    installed.install(tmp_path, monkeypatch)
    assert kernels.difference("mamba_ssm") == 0
    (home / "worn").touch()
    with pytest.raises(EnvironmentFault, match="no such instruction.*--set translate.options.kernel=torch"):
        kernels.run_ssd("mamba_ssm", *kernels.example())
