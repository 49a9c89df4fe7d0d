"""One call of a U-Net of diffusers, with the ControlNet that may steer it."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from models.diffusion.conditions import Conditions
from models.diffusion.sample import Step


@dataclass(frozen=True)
class Control:
    """A ControlNet (arXiv 2302.05543), how strong it is, and in which share of the steps it acts."""

    network: ControlNetModel
    strength: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)

    def acts(self, step: Step) -> bool:
        """Whether it acts at a step: as in diffusers, where the whole step lies within the interval."""
        begin, end = self.interval
        return self.strength != 0 and step.index / step.count >= begin and (step.index + 1) / step.count <= end


def predict(
    unet: UNet2DConditionModel,
    noisy_latents: Tensor,
    timestep: Tensor,
    conditions: Conditions,
    *,
    control: Control | None = None,
    embedded_guidance: float | None = None,
) -> Tensor:
    """Return what `unet` predicts [B, C, h, w] for noisy latents of that shape: velocity, noise or flow, as it was trained.

    timestep: int64 [B], or one for all rows. conditions: in the U-Net's dtype, B rows. control: one that acts at this step.
    embedded_guidance: the scale that a U-Net with `time_cond_proj_dim` reads as an embedding (arXiv 2210.03142).
    """
    extra: dict[str, Any] = {}
    if embedded_guidance is not None:
        extra["timestep_cond"] = guidance_embedding(embedded_guidance, unet.config.time_cond_proj_dim).to(noisy_latents)
    if conditions.extra:
        extra["cross_attention_kwargs"] = {"ip_hidden_states": conditions.extra}
    # What the U-Net reads beside the latents, the time step and the prompt.
    model_input = noisy_latents
    if conditions.beside is not None:
        model_input = torch.cat([model_input, conditions.beside], dim=1)
    shared: dict[str, Any] = {}
    if conditions.class_labels is not None:
        shared["class_labels"] = conditions.class_labels
    if added := conditions.added():
        shared["added_cond_kwargs"] = added
    prompt = {"encoder_hidden_states": conditions.prompt_embeds, "return_dict": False}
    # A ControlNet's features join the U-Net's skip connections.
    if control is not None:
        down, mid = control.network(
            noisy_latents,
            timestep,
            controlnet_cond=conditions.control,
            conditioning_scale=control.strength,
            **prompt,
            **shared,
        )
        extra |= {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
    # So do features of the condition at every level; where there are both, they add up.
    if conditions.skips:
        *down, mid = conditions.skips.values()
        if control is not None:
            down = [a + b for a, b in zip(down, extra["down_block_additional_residuals"], strict=True)]
            mid = mid + extra["mid_block_additional_residual"]
        extra |= {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": mid}
    prediction: Tensor = unet(model_input, timestep, **prompt, **shared, **extra)[0]
    return prediction


def guidance_embedding(scale: float, width: int) -> Tensor:
    """Return the embedding float32 [1, width] of a guidance scale: sines and cosines of 1000 (scale - 1)."""
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
    angles = 1000.0 * (scale - 1.0) * rates[None]
    return torch.nn.functional.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))
