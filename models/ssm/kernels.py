"""Which code computes Mamba-2's scan: torch, or a kernel that is installed. It is chosen once, and then named in the recipe.

torch       everywhere, forward and backward (`models.ssm.scan`)
vllm        vLLM's C++ kernel on x86 CPUs, forward only
mamba_ssm   the authors' Triton kernels on GPUs, forward and backward
"""

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from models.errors import EnvironmentFault
from models.ssm import scan
from models.ssm.config import KernelName, ScanShape

CLOSE = {torch.float32: 1e-4, torch.bfloat16: 2**-5, torch.float16: 2**-8}
"""Largest difference from the torch form, over its largest value, that is taken for equality: of halves, a few roundings."""
SMALL = ScanShape(heads=4, groups=2, head=16, state=16)


class Choice(NamedTuple):
    """The kernel that was chosen, and what was seen of the fastest one, in words."""

    name: KernelName
    why: str


def choose(
    device: torch.device | str = "cpu", shapes: Sequence[ScanShape] = (SMALL,), dtype: torch.dtype = torch.float32
) -> Choice:
    """Return the fastest code for scans of `shapes` on `device` that is installed and agrees with the torch form.

    One that is there and fails, or disagrees, is not taken, and `why` says so.
    """
    name: KernelName = "mamba_ssm" if torch.device(device).type == "cuda" else "vllm"
    if not is_installed(name):
        return Choice("torch", f"{name} is not installed")
    try:
        return Choice(name, f"differs from the torch form by {difference(name, device, shapes, dtype):.0e} at most")
    except Exception as error:  # of somebody else's code
        lines = str(error).strip().splitlines()
        return Choice("torch", f"{name} is installed and not used: {lines[0] if lines else type(error).__name__}")


def is_installed(name: KernelName) -> bool:
    """Whether the package of a kernel is there; nothing of it is imported."""
    return name == "torch" or importlib.util.find_spec(name) is not None


def difference(
    name: KernelName,
    device: torch.device | str = "cpu",
    shapes: Sequence[ScanShape] = (SMALL,),
    dtype: torch.dtype = torch.float32,
) -> float:
    """Return how far kernel `name` on `device` is from the torch form on small scans of `shapes`, over the largest value.

    Raises an EnvironmentFault where it does not run, or is further off than `CLOSE`.
    """
    worst = 0.0
    for shape in shapes:
        # Both forms in the dtype of use: what they differ by is what a picture would differ by.
        inputs = example(device, shape=shape, dtype=dtype)
        with torch.no_grad():
            wanted, found = scan.ssd(*inputs).float(), run_ssd(name, *inputs).float()
        apart = float((found - wanted).abs().max() / wanted.abs().max())
        if not apart <= CLOSE[dtype]:  # so that NaN is refused, too
            raise EnvironmentFault(
                f"scan kernel {name} differs from the torch form by {apart:.1e} of its largest value"
            )
        worst = max(worst, apart)
    return worst


def example(
    device: torch.device | str = "cpu", length: int = 70, shape: ScanShape = SMALL, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return x, delta, A, B, C and D of a small scan of two rows, always the same; delta and A in float32, as mixers have
    them, the others in `dtype`."""
    # Of the size that trained mixers have them: decays from slow to fast, small time steps.
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, length, shape.heads, shape.head, generator=draw)
    delta = torch.rand(2, length, shape.heads, generator=draw) * 0.2
    A = -1 - 8 * torch.rand(shape.heads, generator=draw)
    B, C = (torch.randn(2, length, shape.groups, shape.state, generator=draw) for _ in range(2))
    D = torch.rand(shape.heads, generator=draw)
    x, B, C, D = (values.to(device, dtype) for values in (x, B, C, D))
    return x, delta.to(device), A.to(device), B, C, D


def run_ssd(name: KernelName, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Return what `reference.ssd` returns by kernel `name`; where gradients are asked of a forward-only one, by torch.

    Raises:
        EnvironmentFault: the kernel is not installed, or fails.
    """
    # Of the kernels vLLM's alone has no way back.
    inputs = (x, delta, A, B, C, D)
    wants_gradient = torch.is_grad_enabled() and any(values.requires_grad for values in inputs)
    if name == "torch" or (name == "vllm" and wants_gradient):
        return scan.ssd(*inputs)
    try:
        return _run_vllm(*inputs) if name == "vllm" else _run_mamba_ssm(*inputs)
    except Exception as error:  # whatever somebody else's code raises, no row is to blame
        raise EnvironmentFault(
            f"scan kernel {name} failed ({error}). Repair it and run the same command again, or begin a new run with "
            "--set translate.options.kernel=torch."
        ) from error


def _run_vllm(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """Return the scan by vLLM's kernel, which takes sequences one behind the other."""
    # Every row is a sequence of its own that begins without a state.
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
