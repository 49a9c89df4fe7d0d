"""What stands in the place of self-attention in a U-Net of diffusers: `models.ssm.block`, one for each transformer block."""

from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock

from models.ssm.block import SelfMixer
from models.ssm.config import BlockConfig


def set_self_mixing(unet: UNet2DConditionModel, config: BlockConfig, context: int = 0) -> None:
    """Replace the self-attention of every transformer block of `unet` by what `config` says; full attention stays as it is.

    context: channels of the condition's cells, which interleaved scans read. Windows of every second block are shifted.
    """
    if config.mixing == "attention":
        return
    blocks = [module for module in unet.modules() if isinstance(module, BasicTransformerBlock)]
    for number, block in enumerate(blocks):
        block.attn1 = SelfMixer(block.dim, block.num_attention_heads, config, number % 2 == 1, context)
