"""The shape of a small U-Net that is trained from nothing, and such a U-Net."""

from collections.abc import Mapping

import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

INPUT = "conv_in.weight"


class UNetShape(BaseModel):
    """Width, heads and attention of each level, finest first; layers of a level; groups of its norms; `hidden`, the width of
    what cross-attention reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: tuple[int, ...]
    heads: tuple[int, ...]
    attend: tuple[bool, ...]
    """Cross- and self-attention by level. At the finest level it costs as much as the rest together."""
    layers: int = Field(1, ge=1)
    groups: int = 16
    hidden: int


def new_unet(shape: UNetShape, side: int, channels: int, beside: int, told: int) -> UNet2DConditionModel:
    """Return a fresh U-Net for latents [channels, side, side], which is shown `beside` channels with them and told a vector of
    `told` numbers beside the time step."""
    unet = UNet2DConditionModel(
        sample_size=side,
        in_channels=channels + beside,
        out_channels=channels,
        layers_per_block=shape.layers,
        norm_num_groups=shape.groups,
        block_out_channels=shape.widths,
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in shape.attend),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(shape.attend)),
        attention_head_dim=shape.heads,  # diffusers means the number of heads
        cross_attention_dim=shape.hidden,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=told,
    )
    nn.init.zeros_(unet.conv_out.weight)  # the first prediction is zero, so early steps do not fight a random output
    return unet


def widen_input(state: Mapping[str, Tensor], unet: UNet2DConditionModel, channels: int) -> dict[str, Tensor]:
    """Return the tensors of a U-Net with zero weights for the last `channels` of its input, which `unet` is shown and it is
    not, so that it makes what it made; as they are, where another number is missing."""
    kernel = state[INPUT]
    missing = unet.config.in_channels - kernel.shape[1]
    return {**state, INPUT: F.pad(kernel, (0, 0, 0, 0, 0, channels if missing == channels else 0))}
