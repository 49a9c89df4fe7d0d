"""Visible models of random weights, as small as they can be: a U-Net in Stable Diffusion's layout, and our own whole."""

from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTokenizer

from models.visible.autoencoder import new_vae, save_autoencoder
from models.visible.head import HeadReader
from models.visible.model import VisibleConfig, new_visible, save_visible

SMALL = VisibleConfig(widths=(16, 32), heads=(1, 2), groups=8, hidden=32, text_layers=1, text_heads=2)


def new_unet(cross_attention: int) -> UNet2DConditionModel:
    """Return random weights for latents of 4 x 4; cross_attention: width of the prompt embeds."""
    return UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=2,
        cross_attention_dim=cross_attention,
    )


def write_visible(folder: Path, tokenizer: CLIPTokenizer) -> None:
    """Write a model of our layout into `folder`, which draws pictures of 32 pixels of random weights."""
    torch.manual_seed(0)
    save_autoencoder(new_vae(8, (1, 1, 1, 1)), folder / "trained")
    model = new_visible(SMALL, tokenizer, channels=12, side=4)
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.2)
    draw = np.random.default_rng(0)
    reader = HeadReader(draw.normal(0, 3, (58, 512)).astype(np.float32), np.zeros(58, np.float32))
    save_visible(model, folder / "trained", folder, reader)
