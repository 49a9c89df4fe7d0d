"""How fast this device is with networks of published shapes: rows a second, arithmetic, memory, and the best batch."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.errors import EnvironmentFault
from models.published.shapes import Network

GAIN = 1.05
"""A batch twice as large is better where it makes at least this many times as many rows a second."""
CONTEXT_MB = 600
"""What a process takes of a GPU beside its tensors: CUDA's context and kernels."""
USABLE = 0.92
"""Share of a GPU's memory that processes may fill together."""
TIMES = 5
"""Times that a batch is called at least, of which the median counts."""


@dataclass(frozen=True)
class Speed:
    """One network at its best batch.

    parameters: their number. tflop: 10^12 floating-point operations of a row, counted (a multiplication and an addition are two).
    rows: the batch. rows_per_second, tflops: 10^12 operations a second. share: of what a large matrix product reaches in the
    same type on the same device. mb: weights and all that is computed, None on a processor. actors: how many such
    processes a GPU's memory holds. pictures: use -> pictures a second of this network alone.
    """

    network: str
    dtype: str
    parameters: int
    tflop: float
    rows: int
    rows_per_second: float
    tflops: float
    share: float
    mb: float | None
    actors: int | None
    pictures: dict[str, float]


def count(network: Network, side: int) -> tuple[int, float]:
    """Return a network's parameters and the operations of one row of pictures of `side` px, counted without computing them."""
    with torch.device("meta"):
        module = network.build().eval()
    # The parts of attention, which are one operation that nobody counts otherwise.
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        module = module.to_empty(device="cpu")
        with FlopCounterMode(display=False) as counter:
            module(**network.inputs(1, side))
    return sum(one.numel() for one in module.parameters()), float(counter.get_total_flops())


def held(network: Network, side: int) -> tuple[int, int]:
    """Return the bytes of a network's weights, and the most that one row of pictures of `side` px holds beside them, in the
    type that it computes in on a GPU. By the sizes of tensors that are never made; attention keeps no scores, as on a GPU."""
    dtype = torch.bfloat16 if network.half else torch.float32
    with torch.device("meta"):
        module = nn.Module.to(network.build().eval(), dtype)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        module = module.to_empty(device="cpu")
        # What is there before the call is followed as weights, what the call makes as the row's.
        tracker = MemTracker()
        tracker.track_external(module)
        with tracker:
            module(**_move(network.inputs(1, side), torch.device("cpu"), dtype))
        (parts,) = tracker.get_tracker_snapshot("peak").values()
    weights = sum(value for kind, value in parts.items() if str(kind).endswith(("PARAM", "BUFFER")))
    return weights, parts["Total"] - weights


def measure(networks: Mapping[str, Network], side: int, most: int, seconds: float = 1.0) -> Iterator[Speed]:
    """Yield the speed of each network on the GPU, or on the processor where there is none.

    side: of the pictures in pixels, a multiple of 32. most: largest batch tried, from 1 on by doubling. seconds: least time that
    each batch is called for.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    peaks: dict[torch.dtype, float] = {}
    for name, network in networks.items():
        dtype = torch.bfloat16 if network.half and device.type == "cuda" else torch.float32
        if dtype not in peaks:
            peaks[dtype] = peak(device, dtype, seconds)
        yield _measure(name, network, side, most, seconds, device, dtype, peaks[dtype])


def peak(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Return the operations a second that the product of two large square matrices reaches."""
    side = 8192 if device.type == "cuda" else 1024
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / _time(lambda: one @ other, device, seconds)


@torch.inference_mode()
def _measure(
    name: str,
    network: Network,
    side: int,
    most: int,
    seconds: float,
    device: torch.device,
    dtype: torch.dtype,
    top: float,
) -> Speed:
    # What it is, counted, and the network itself.
    parameters, flop = count(network, side)
    with device:
        module = nn.Module.to(network.build().eval(), dtype)  # diffusers' own `to` warns of a cast, whatever it is
    # Twice as many rows as long as that pays and fits.
    rows, rate, used = 1, 0.0, None
    for tried in (2**k for k in range(int(math.log2(most)) + 1)):
        with suppress(torch.OutOfMemoryError):
            found, memory = _call(module, network.inputs(tried, side), device, dtype, seconds)
            if tried / found > rate * (GAIN if rate else 0):
                rows, rate, used = tried, tried / found, memory
                continue
        break
    if not rate:
        raise EnvironmentFault(f"{name}: one row of {side} px does not fit the GPU's memory; try a smaller --side.")
    # How many processes at that batch a GPU holds: each has a context of its own beside its tensors.
    whole = torch.cuda.get_device_properties(device).total_memory / 2**20 if used is not None else 0
    return Speed(
        name, str(dtype).removeprefix("torch."), parameters, flop / 1e12, rows, rate, flop * rate / 1e12, flop * rate / top,
        used, None if used is None else int(USABLE * whole / (used + CONTEXT_MB)),
        {use: rate / calls for use, calls in network.calls.items()},
    )  # fmt: skip


def _call(
    module: nn.Module, inputs: dict[str, Any], device: torch.device, dtype: torch.dtype, seconds: float
) -> tuple[float, float | None]:
    """Return the seconds of a call, and the MB that the device held at most (None on a processor)."""
    given = _move(inputs, device, dtype)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    found = _time(lambda: module(**given), device, seconds)
    return found, torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None


def _move(inputs: dict[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    def move(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device, dtype if value.is_floating_point() else None)
        return {name: move(one) for name, one in value.items()}

    return {name: move(value) for name, value in inputs.items()}


def _time(call: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return the median seconds of a call, after one for nothing."""
    call()
    taken, until = list[float](), time.perf_counter() + seconds
    while len(taken) < TIMES or time.perf_counter() < until:
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return sorted(taken)[len(taken) // 2]
