"""Which code computes Mamba-2's scan: torch, or a kernel that is installed. It is chosen once, and then named in the recipe.

torch       everywhere, forward and backward (`models.ssm.scan`)
vllm        vLLM's C++ kernel on x86 CPUs, forward only
mamba_ssm   the authors' Triton kernels on GPUs, forward and backward
"""

import importlib.util
import warnings
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from models.errors import EnvironmentFault
from models.ssm import scan

KernelName = Literal["torch", "vllm", "mamba_ssm"]

CLOSE = 1e-4
"""Largest difference from the torch form, over its largest value, that `choose` takes for equality in float32."""


def choose(device: torch.device | str = "cpu") -> KernelName:
    """Return the fastest code for Mamba-2's scan on `device` that is installed and agrees with the torch form.

    One that is there and fails, or disagrees, is warned of once, and torch is taken.
    """
    name: KernelName = "mamba_ssm" if torch.device(device).type == "cuda" else "vllm"
    if not is_installed(name):
        return "torch"
    try:
        check(name, device)
    except (EnvironmentFault, RuntimeError) as error:
        warnings.warn(f"scan kernel {name} is installed and not used: {error}", stacklevel=2)
        return "torch"
    return name


def is_installed(name: KernelName) -> bool:
    """Whether the package of a kernel is there; nothing of it is imported."""
    return name == "torch" or importlib.util.find_spec(name) is not None


def check(name: KernelName, device: torch.device | str = "cpu") -> None:
    """Raise an EnvironmentFault unless kernel `name` runs on `device` and agrees with the torch form on a small input."""
    inputs = example(device)
    wanted, found = scan.ssd(*inputs), run_ssd(name, *inputs)
    error = float((found - wanted).abs().max() / wanted.abs().max())
    if not error <= CLOSE:
        raise EnvironmentFault(f"scan kernel {name} differs from the torch form by {error:.1e} of its largest value")


def example(
    device: torch.device | str = "cpu", length: int = 70
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return x, delta, A, B, C and D of a small scan, always the same: two rows, four heads of 16 in two groups."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, length, 4, 16, generator=draw)
    delta = torch.rand(2, length, 4, generator=draw) * 0.2
    A = -1 - 8 * torch.rand(4, generator=draw)
    B, C = (torch.randn(2, length, 2, 16, generator=draw) for _ in range(2))
    D = torch.rand(4, generator=draw)
    return tuple(values.to(device) for values in (x, delta, A, B, C, D))  # type: ignore[return-value]


def run_ssd(name: KernelName, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Return what `reference.ssd` returns by kernel `name`; where gradients are asked of a forward-only one, by torch.

    Raises:
        EnvironmentFault: the kernel is not installed, or fails.
    """
    inputs = (x, delta, A, B, C, D)
    wants_gradient = torch.is_grad_enabled() and any(values.requires_grad for values in inputs)
    if name == "torch" or (name == "vllm" and wants_gradient):
        return scan.ssd(*inputs)
    try:
        return _run_vllm(*inputs) if name == "vllm" else _run_mamba_ssm(*inputs)
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        raise EnvironmentFault(
            f"scan kernel {name} failed ({error}). Repair it and run the same command again, or begin a new run with "
            "options.kernel=torch."
        ) from error


def _run_vllm(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Return the scan by vLLM's kernel, which takes sequences one behind the other."""
    rows, length, heads, width = x.shape
    flat = [values.flatten(0, 1).contiguous() for values in (x, delta.float(), B, C)]
    out = torch.empty_like(flat[0])
    states = torch.zeros(rows, heads, width, B.shape[3])
    starts = torch.arange(rows + 1, dtype=torch.int32) * length
    vllm_operator()(out, states, flat[0], flat[1], A.float(), flat[2], flat[3], D.float(), None, starts)
    return out.view_as(x)


@cache
def vllm_operator() -> torch._ops.OpOverloadPacket:
    """Return vLLM's operator, from the library built for this processor's instructions; vLLM itself is not imported.

    Raises EnvironmentFault where vLLM is not installed, or is a build without the operator.
    """
    found = importlib.util.find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        raise EnvironmentFault("vLLM is not installed")
    # As vLLM's own platform chooses: the wrong library ends the process with an illegal instruction.
    variant = "_C_AVX2"
    if torch.cpu._is_avx512_supported():
        variant = "_C" if torch.cpu._is_avx512_bf16_supported() else "_C_AVX512"
    path = Path(found.submodule_search_locations[0]) / f"{variant}.abi3.so"
    try:
        torch.ops.load_library(str(path))
        operator: torch._ops.OpOverloadPacket = torch.ops._C.mamba_chunk_scan_fwd_cpu
    except (OSError, AttributeError) as error:
        raise EnvironmentFault(f"{path} has no scan for CPUs ({error})") from error
    return operator


def _run_mamba_ssm(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Return the scan by the authors' Triton kernels."""
    module = importlib.import_module("mamba_ssm.ops.triton.ssd_combined")  # no build of it goes with the locked stack
    found: Tensor = module.mamba_chunk_scan_combined(x, delta, A, B, C, scan.SSD_CHUNK, D=D)
    return found
