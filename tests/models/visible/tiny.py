"""A U-Net in Stable Diffusion's layout, as small as diffusers makes one."""

from diffusers import UNet2DConditionModel


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
