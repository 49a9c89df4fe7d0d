"""Networks of the published shapes, as small as diffusers makes them, with weights that react to every input."""

import torch
from diffusers import AutoencoderKL, ControlNetModel, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn

HIDDEN, POOLED = 24, 20
SD15 = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000,
        "steps_offset": 1}  # fmt: skip
_SHAPE = {
    "sample_size": 4,
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": 2,
    "cross_attention_dim": HIDDEN,
}


def new_unet(**more: object) -> UNet2DConditionModel:
    """Return a U-Net of Stable Diffusion 1.5's layout for latents of 4 x 4."""
    return wake(UNet2DConditionModel(**(_SHAPE | more)))


def new_sdxl_unet() -> UNet2DConditionModel:
    """Return a U-Net that reads pooled text and sizes beside the time step, as SDXL's does."""
    return new_unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=POOLED + 6 * 8,
        use_linear_projection=True,
    )


def new_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """Return a ControlNet of `unet` for pictures of 16 x 16, whose outputs are not zero as a fresh one's are."""
    return wake(ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 16)))


def wake(network: nn.Module) -> nn.Module:
    """Return `network` with seeded weights of a size that lets every input matter, those at zero too."""
    draw = torch.Generator().manual_seed(len(list(network.parameters())))
    for parameter in network.parameters():
        size = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
        parameter.data += torch.randn(parameter.shape, generator=draw) * size
    return network.eval().requires_grad_(False)


def new_vae() -> AutoencoderKL:
    """Return an autoencoder whose latents are a fourth of the picture; diffusers' pipelines want one."""
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    return AutoencoderKL(block_out_channels=(8,) * 3, norm_num_groups=8, **levels)


def pipeline_of(kind: type[StableDiffusionPipeline], unet: UNet2DConditionModel, scheduler: object, **more: object):
    """Return diffusers' pipeline without text encoders, silent."""
    absent = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipeline = kind(vae=new_vae(), unet=unet, scheduler=scheduler, **absent, requires_safety_checker=False, **more)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
