"""The picture autoencoder (diffusers `AutoencoderKL`): 3 x S x S in [-1, 1] <-> C x S/8 x S/8 latents."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from models.errors import EnvironmentFault
from models.weights import DTYPES

SHRINK = 8
"""Side of the picture over side of its latents."""


def new_vae(widths: tuple[int, int, int, int], channels: int, groups: int, size: int) -> AutoencoderKL:
    """Return a fresh autoencoder without attention, so that it may train on crops and run on any side."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=groups,
        sample_size=size,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


class Autoencoder(nn.Module):
    """An autoencoder in training and the running mean square of its latents, from which `scaling_factor` follows."""

    square: Tensor

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae
        self.register_buffer("square", torch.ones(()))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return (reconstruction [B, 3, S, S], mean KL per latent value) of pictures in [-1, 1]; the latent is sampled."""
        posterior = self.vae.encode(pictures).latent_dist
        if self.training:
            with torch.no_grad():
                self.square.lerp_(posterior.mean.float().square().mean(), 0.02)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return self.vae.decode(posterior.sample()).sample, kl

    def scaling_factor(self) -> float:
        """Return the factor that gives latents a mean square of one."""
        return float(self.square.clamp_min(1e-12) ** -0.5)


def detail_loss(found: Tensor, truth: Tensor, weight: Tensor, scales: int = 4) -> Tensor:
    """Return the mean absolute difference of image gradients over an averaging pyramid; all [B, C, S, S], weight [B, 1, S, S].

    It stands where a downloaded perceptual network would: edges of eyes and lips count more than flat skin.
    """
    total = found.new_zeros(())
    for scale in range(scales):
        if scale:
            found, truth, weight = (F.avg_pool2d(x, 2) for x in (found, truth, weight))
        difference = found - truth
        across = (difference[..., 1:] - difference[..., :-1]).abs() * weight[..., 1:]
        down = (difference[..., 1:, :] - difference[..., :-1, :]).abs() * weight[..., 1:, :]
        total = total + across.mean() + down.mean()
    return total / scales


def to_network(pictures: Tensor) -> Tensor:
    """Return uint8 [B, S, S, 3] as float32 [B, 3, S, S] in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(values: Tensor) -> Tensor:
    """Return [B, 3, S, S] in [-1, 1] as uint8 [B, S, S, 3]."""
    return ((values.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def encode(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Return scaled latents float32 [B, C, S/8, S/8] (the posterior's mode) of uint8 [B, S, S, 3]."""
    values = to_network(pictures).to(vae.dtype)
    latents: Tensor = vae.encode(values).latent_dist.mode().float() * vae.config.scaling_factor
    return latents


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Return pictures uint8 [B, S, S, 3] of scaled latents [B, C, S/8, S/8]."""
    return to_pictures(vae.decode((latents / vae.config.scaling_factor).to(vae.dtype)).sample)


def load_part(kind: Any, folder: Path, dtype: str = "float32") -> Any:
    """Return `kind.from_pretrained(folder)` in evaluation mode; never looks at a hub.

    Raises:
        EnvironmentFault: the folder is missing, half-written or not of this kind.
    """
    if not (folder / "config.json").is_file():
        raise EnvironmentFault(
            f"{folder} has no config.json: not a {kind.__name__}. Train it, or fetch the bundle again."
        )
    try:
        network, report = kind.from_pretrained(
            str(folder), torch_dtype=DTYPES[dtype], local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise EnvironmentFault(
            f"{folder} does not load as {kind.__name__}: {error}. Fetch the bundle again."
        ) from error
    if report["missing_keys"]:  # both libraries fill what is missing with random numbers, and only warn
        missing = ", ".join(sorted(report["missing_keys"])[:5])
        raise EnvironmentFault(
            f"{folder} lacks {len(report['missing_keys'])} weights ({missing}). Fetch the bundle again."
        )
    return network.eval()
