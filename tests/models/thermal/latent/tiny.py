"""A thermal latent diffusion with random weights that reacts to all that it is told."""

from pathlib import Path

import torch

from models.thermal.latent.autoencoder import AutoencoderConfig, new_autoencoder
from models.thermal.latent.network import LatentConfig, ShapeConfig, new_latent_unet, save_latent
from models.visible.autoencoder import new_vae, save_autoencoder
from tests.models.diffusion.tiny import wake

SHAPE = ShapeConfig(widths=(16, 32), heads=(1, 2), attend=(False, True), groups=8, hidden=16)


def write_part(folder: Path, side: int) -> Path:
    """Write a part for pictures of `side` px below `folder`, and return where."""
    torch.manual_seed(0)
    save_autoencoder(new_vae(8, (1, 1, 1, 1)), folder / "visible")
    unet = wake(new_latent_unet(SHAPE, 16, 12, side // 8, LatentConfig()))
    save_latent(unet, new_autoencoder(AutoencoderConfig(width=8)), folder / "visible", LatentConfig(), folder / "part")
    return folder / "part"
