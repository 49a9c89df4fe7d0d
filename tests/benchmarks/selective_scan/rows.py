"""What is measured: operations alone, with projections, in a block, and whole translators, each as calls of one size."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from models.ssm import kernels, reference, scan
from models.ssm.block import SelfMixer, set_kernel
from models.ssm.config import BlockConfig, KernelName
from models.thermal.latent.autoencoder import AutoencoderConfig, new_autoencoder
from models.translation.network import Translator, TranslatorConfig, save_translator, thermal_channels
from models.translation.settings import VAE, Options, Settings
from models.translation.stage import Stage
from models.visible.autoencoder import load_autoencoder
from models.weights.store import ROOT

WIDTH, HEADS, STATES = 256, 8, 16
STEPS = 8
"""Of the translator's sampler."""
FOLDER = tempfile.TemporaryDirectory(prefix="selective-scan-")
"""Of translators' parts, while the process lives."""
ATTENTION = "attention"
SDPA = "SDPA"

Call = Callable[[], object]
Run = Callable[..., Tensor]


def core(tokens: int, gradient: bool, kernel: KernelName) -> dict[str, Call]:
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
    asking, asked, found = (leaf(tokens // 64, HEADS, 64, WIDTH // HEADS) for _ in range(3))
    rows: dict[str, Call] = {
        "Mamba-1, token by token": partial(one, reference.selective_scan),
        "Mamba-1, chunked": partial(one, scan.selective_scan),
        "SSD (Mamba-2), token by token": partial(two, reference.ssd),
        "SSD": partial(two, scan.ssd),
        SDPA: partial(F.scaled_dot_product_attention, query, key, value),
        "attention in windows of 8 x 8": partial(F.scaled_dot_product_attention, asking, asked, found),
    }
    if kernel != "torch" and not (gradient and kernel == "vllm"):
        rows["SSD, kernel"] = partial(two, partial(kernels.run_ssd, kernel))
    return rows


def self_mixers(kernel: KernelName, gradient: bool) -> dict[str, nn.Module]:
    """Return what may stand in self-attention's place."""
    rows: dict[str, nn.Module] = {ATTENTION: Attention(WIDTH, heads=HEADS, dim_head=WIDTH // HEADS)}
    for directions in (1, 2, 4):
        for window in (0, 8):
            config = BlockConfig(directions=directions, window=window, state=STATES, head=64)
            name = f"Mamba-2, {directions} direction{'s' * (directions > 1)}{', windows' * bool(window)}"
            rows[name] = SelfMixer(WIDTH, HEADS, config)
            if kernel != "torch" and not (gradient and kernel == "vllm"):
                rows[f"{name}, kernel"] = SelfMixer(WIDTH, HEADS, config)
                set_kernel(rows[f"{name}, kernel"], kernel)
    rows["windows alone"] = SelfMixer(WIDTH, HEADS, BlockConfig(mixing="none"))
    return rows


def mixer(tokens: int, gradient: bool, kernel: KernelName) -> dict[str, Call]:
    """Return each of them on `tokens` tokens of a square picture."""
    values = torch.randn(1, tokens, WIDTH).requires_grad_(gradient)
    return {name: partial(module, values) for name, module in self_mixers(kernel, gradient).items()}


def block(tokens: int, gradient: bool, kernel: KernelName) -> dict[str, Call]:
    """Return a transformer block with cross-attention and MLP for each of them."""
    values, prompt = torch.randn(1, tokens, WIDTH).requires_grad_(gradient), torch.randn(1, 16, 64)
    rows: dict[str, Call] = {}
    for name, module in self_mixers(kernel, gradient).items():
        whole = BasicTransformerBlock(WIDTH, HEADS, WIDTH // HEADS, cross_attention_dim=64)
        whole.attn1 = module
        rows[name] = partial(whole, values, encoder_hidden_states=prompt)
    return rows


def translator(size: int, gradient: bool, kernel: KernelName) -> dict[str, Call]:
    """Return the translation of a picture of `size` px, from degrees to pixels, by what stands in self-attention's place."""
    blocks: dict[str, tuple[BlockConfig, KernelName]] = {
        ATTENTION: (BlockConfig(mixing="attention"), "torch"),
        "scan and windows": (BlockConfig(), "torch"),
        "windows alone": (BlockConfig(mixing="none"), "torch"),
    }
    if kernel != "torch":
        blocks["scan and windows, kernel"] = BlockConfig(), kernel
    celsius = torch.randn(1, size, size) + 30
    settings = Settings(steps=STEPS)
    stages = {name: _stage(config, code) for name, (config, code) in blocks.items()}
    return {name: partial(stage.translate, celsius, ["row"], settings, 1, [{}]) for name, stage in stages.items()}


def _stage(config: BlockConfig, kernel: KernelName) -> Stage:
    """Return the stage of an untrained translator of the default shape, with the starter's visible autoencoder."""
    vae = ROOT / "models/starter/visible/vae"
    thermal = new_autoencoder(AutoencoderConfig())
    model = Translator(
        TranslatorConfig(block=config), load_autoencoder(vae).config.latent_channels, thermal_channels(thermal)
    )
    folder = Path(tempfile.mkdtemp(dir=FOLDER.name))
    save_translator(model, thermal, {VAE: vae}, folder)
    return Stage({"model": folder}, Options(kernel=kernel))


ROWS: dict[str, Callable[[int, bool, KernelName], dict[str, Call]]] = {
    "core": core,
    "mixer": mixer,
    "block": block,
    "translator": translator,
}
SIZES = {
    "core": (256, 1024, 4096, 16384),
    "mixer": (256, 1024, 4096),
    "block": (256, 1024, 4096),
    "translator": (128, 256, 512),
}
"""Tokens, for translators pixels."""
