"""Sampling: noise to latents along the scheduler's steps, with classifier-free guidance (arXiv 2207.12598)."""

import copy

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from models.stopping import check_wanted
from models.visible.model import denoise
from models.visible.schedule import Scheduler


def sample(
    unet: UNet2DConditionModel,
    scheduler: Scheduler,
    noise: Tensor,
    prompt_embeds: Tensor,
    embedding: Tensor,
    empty_prompt_embeds: Tensor,
    head: Tensor | None = None,
    *,
    steps: int,
    guidance_scale: float,
) -> Tensor:
    """Return scaled latents float32 [B, C, h, w] from `noise` float32 of that shape.

    prompt_embeds: [B, T, hidden]. embedding: [B, 512], of the person. empty_prompt_embeds: [1, T, hidden], of the prompt "".
    head: [B, H, h, w], what the U-Net is shown beside the latents.

    Guidance is prediction = uncond + guidance_scale * (cond - uncond). The unconditional half has the empty prompt and a zero
    embedding but the same head, so that guidance exaggerates caption and identity and leaves the drawn shape alone. A scale
    of 1 or less is the conditional prediction, at half the cost, as in diffusers.

    The solver is deterministic: all randomness is in `noise`. Its arithmetic stays in float32 whatever the network's dtype.
    """
    scheduler = copy.deepcopy(scheduler)  # it counts steps inside
    scheduler.set_timesteps(steps, device=noise.device)
    latents = noise.float() * scheduler.init_noise_sigma

    # Both halves of guidance run as one batch: the conditional rows first, then the unconditional ones.
    guided = guidance_scale > 1.0
    if guided:
        prompt_embeds = torch.cat([prompt_embeds, empty_prompt_embeds.expand(len(prompt_embeds), -1, -1)])
        embedding = torch.cat([embedding, torch.zeros_like(embedding)])
        head = None if head is None else torch.cat([head, head])
    prompt_embeds = prompt_embeds.to(unet.dtype)

    for timestep in scheduler.timesteps:
        check_wanted()
        model_input = scheduler.scale_model_input(latents, timestep).to(unet.dtype)
        model_input = torch.cat([model_input, model_input]) if guided else model_input
        prediction = denoise(unet, model_input, timestep, prompt_embeds, embedding, head).float()
        if guided:
            cond, uncond = prediction.chunk(2)
            prediction = uncond + guidance_scale * (cond - uncond)
        latents = scheduler.step(prediction, timestep, latents).prev_sample
    return latents
