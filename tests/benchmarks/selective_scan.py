"""Time and memory of scans, attention and whole blocks: `python -m tests.benchmarks.selective_scan [core mixer ...]`.

One thread, one process, all rows of a size in turn, and again (`--rounds`): the least processor time of each counts, so that
other work on the machine hits all alike and little. Batch 1, width 256, float32. Memory is how far the process grew above
what it held before the call (VmHWM); start with MALLOC_MMAP_THRESHOLD_=65536 in the environment, or freed memory hides it.

core    the operation alone: recurrences token by token, chunked Mamba-1 (16 states), SSD (4 heads of 64, 16 states) in torch
        and by the kernel, SDPA (8 heads of 32), attention in windows of 8 x 8 cells
mixer   with projections: attention, Mamba-2 of 1, 2 and 4 directions, torch and kernel
block   a transformer block with cross-attention and MLP, and each of these in self-attention's place
translator  pictures a second of whole translators (8 steps and the decoder; `--sizes` are px): attention, scan and windows
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from models.diffusion.unet import predict
from models.ssm import kernels, reference, scan
from models.ssm.block import BlockConfig, SelfMixer, set_kernel
from models.translation.network import Translator, TranslatorConfig
from models.visible.autoencoder import SHRINK, load_autoencoder

WIDTH, HEADS, STATES = 256, 8, 16
SIZES = {"core": (256, 1024, 4096, 16384), "mixer": (256, 1024, 4096), "block": (256, 1024, 4096)}
STEPS = 8
"""Of the translator's sampler."""
SLOW = 12.0
"""Seconds above which a call is not repeated."""

Call = Callable[[], Tensor]
Run = Callable[..., Tensor]


def core(tokens: int, gradient: bool, kernel: kernels.KernelName) -> dict[str, Call]:
    """Return the operations alone on `tokens` tokens."""
    draw = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw).requires_grad_(gradient)

    x, delta = leaf(1, tokens, WIDTH), leaf(1, tokens, WIDTH)
    B, C, A, D = leaf(1, tokens, STATES), leaf(1, tokens, STATES), leaf(WIDTH, STATES), leaf(WIDTH)
    heads, steps, rate, skip = leaf(1, tokens, 4, 64), leaf(1, tokens, 4), leaf(4), leaf(4)

    def one(run: Run) -> Tensor:
        return run(x, F.softplus(delta - 3), -A.exp(), B, C, D)

    def two(run: Run) -> Tensor:
        return run(heads, F.softplus(steps - 3), -rate.exp(), B[:, :, None], C[:, :, None], skip)

    query, key, value = (leaf(1, HEADS, tokens, WIDTH // HEADS) for _ in range(3))
    side = round(tokens**0.5)
    inside = tuple(leaf(side**2 // 64, HEADS, 64, WIDTH // HEADS) for _ in range(3))
    rows: dict[str, Call] = {
        "Mamba-1 token by token": partial(one, reference.selective_scan),
        "Mamba-1 chunked": partial(one, scan.selective_scan),
        "SSD token by token": partial(two, reference.ssd),
        "SSD": partial(two, scan.ssd),
        "SDPA": lambda: F.scaled_dot_product_attention(query, key, value),
        "window attention": lambda: F.scaled_dot_product_attention(inside[0], inside[1], inside[2]),
    }
    if kernel != "torch" and not (gradient and kernel == "vllm"):
        rows[f"SSD, kernel {kernel}"] = partial(two, partial(kernels.run_ssd, kernel))
    return rows


def self_mixers(kernel: kernels.KernelName, gradient: bool) -> dict[str, nn.Module]:
    """Return what may stand in self-attention's place."""
    rows: dict[str, nn.Module] = {"attention": Attention(WIDTH, heads=HEADS, dim_head=WIDTH // HEADS)}
    for directions in (1, 2, 4):
        for window in (0, 8):
            config = BlockConfig(directions=directions, window=window, state=STATES, head=64)
            name = f"Mamba-2, {directions} direction{'s' * (directions > 1)}{', windows' * bool(window)}"
            rows[name] = SelfMixer(WIDTH, HEADS, config)
            if kernel != "torch" and not gradient:
                rows[f"{name}, kernel {kernel}"] = SelfMixer(WIDTH, HEADS, config)
                set_kernel(rows[f"{name}, kernel {kernel}"], kernel)
    rows["windows alone"] = SelfMixer(WIDTH, HEADS, BlockConfig(mixing="none"))
    return rows


def mixer(tokens: int, gradient: bool, kernel: kernels.KernelName) -> dict[str, Call]:
    values = torch.randn(1, tokens, WIDTH).requires_grad_(gradient)
    return {name: partial(module, values) for name, module in self_mixers(kernel, gradient).items()}


def block(tokens: int, gradient: bool, kernel: kernels.KernelName) -> dict[str, Call]:
    values, prompt = torch.randn(1, tokens, WIDTH).requires_grad_(gradient), torch.randn(1, 16, 64)
    rows: dict[str, Call] = {}
    for name, module in self_mixers(kernel, gradient).items():
        whole = BasicTransformerBlock(WIDTH, HEADS, WIDTH // HEADS, cross_attention_dim=64)
        whole.attn1 = module
        rows[name] = partial(whole, values, encoder_hidden_states=prompt)
    return rows


def translator(size: int, kernel: kernels.KernelName) -> dict[str, tuple[Call, Call]]:
    """Return a step of the denoiser and the decoding of a picture of `size` px, by what stands in self-attention's place."""
    vae = load_autoencoder(Path("models/starter/visible/vae"))
    channels, side = vae.config.latent_channels, size // SHRINK
    noisy, thermal = torch.randn(1, channels, side, side), torch.randn(1, 16, side, side)
    rows: dict[str, tuple[Call, Call]] = {}
    kinds: dict[str, tuple[BlockConfig, kernels.KernelName]] = {
        "attention": (BlockConfig(mixing="attention"), "torch"),
        "scan and windows": (BlockConfig(), "torch"),
        f"scan and windows, kernel {kernel}": (BlockConfig(), kernel),
        "windows alone": (BlockConfig(mixing="none"), "torch"),
    }
    for name, (config, code) in kinds.items():
        model = Translator(TranslatorConfig(block=config), channels, 16).eval()
        set_kernel(model, code)
        conditions = model.guide(torch.zeros(1, model.config.told), thermal)
        step = partial(predict, model.unet, noisy, torch.tensor([500]), conditions)
        rows[name] = step, lambda: vae.decode(noisy).sample
    return rows


def run_translators(sizes: list[int], rounds: int, kernel: kernels.KernelName) -> None:
    for size in sizes:
        rows = translator(size, kernel)
        seconds = {name: [float("inf")] * 2 for name in rows}
        for _ in range(rounds):
            for name, calls in rows.items():
                seconds[name] = [
                    min(old, measure(call, False)[0]) for old, call in zip(seconds[name], calls, strict=True)
                ]
        print(f"translator, {size} px, {STEPS} steps, load {os.getloadavg()[0]:.1f}")
        for name, (step, decoding) in seconds.items():
            whole = STEPS * step + decoding
            print(f"  {name:42} {1000 * step:9.1f} ms a step {1 / whole:8.3f} pictures a second", flush=True)


def held(key: str) -> float:
    """Return MB of `key` of /proc/self/status: VmRSS now, VmHWM at most since it was reset."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) / 1024


def measure(call: Call, gradient: bool) -> tuple[float, float]:
    """Return seconds of the processor and the growth of memory in MB of one call."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the high-water mark begins anew
    except OSError:
        pass
    before, start = held("VmRSS"), time.process_time()
    if gradient:
        call().square().sum().backward()
    else:
        with torch.inference_mode():
            call()
    return time.process_time() - start, max(0.0, held("VmHWM") - before)


def run(what: str, sizes: list[int], rounds: int, kernel: kernels.KernelName) -> None:
    rows_of = {"core": core, "mixer": mixer, "block": block}[what]
    for tokens in sizes:
        for gradient in (False, True):
            rows = rows_of(tokens, gradient, kernel)
            seconds, memory = dict.fromkeys(rows, float("inf")), dict.fromkeys(rows, 0.0)
            for turn in range(rounds):
                for name, call in rows.items():
                    if turn and seconds[name] > SLOW:
                        continue
                    spent, grown = measure(call, gradient)
                    seconds[name], memory[name] = min(seconds[name], spent), max(memory[name], grown)
            base = seconds["SDPA" if what == "core" else "attention"]
            print(
                f"{what}, {tokens} tokens, {'forward and backward' if gradient else 'forward'}, load {os.getloadavg()[0]:.1f}"
            )
            for name, spent in seconds.items():
                print(f"  {name:42} {1000 * spent:9.1f} ms {base / spent:7.2f}x {memory[name]:8.1f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*SIZES, "translator", []], default=list(SIZES))
    parser.add_argument("--sizes", type=int, nargs="+", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kernel = kernels.choose()
    print(
        f"{platform.machine()}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, kernel {kernel}"
    )
    for what in args.what:
        if what == "translator":
            run_translators(args.sizes or [128, 256, 512], args.rounds, kernel)
            continue
        run(what, args.sizes or list(SIZES[what]), args.rounds, kernel)


if __name__ == "__main__":
    main()
