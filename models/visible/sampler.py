"""Sampling: noise to latents along the scheduler, guided away from nobody and nothing (classifier-free guidance)."""

import copy

import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import Tensor

from models.visible.model import denoise


def sample(
    unet: UNet2DConditionModel,
    scheduler: DPMSolverMultistepScheduler,
    noise: Tensor,
    states: Tensor,
    embedding: Tensor,
    nothing: Tensor,
    head: Tensor | None = None,
    *,
    steps: int,
    guidance: float,
) -> Tensor:
    """Return scaled latents float32 [B, C, h, w] from `noise` float32 of that shape.

    states [B, T, hidden] and embedding [B, 512] say who and what; nothing [1, T, hidden] is the empty prompt's states.
    head [B, H, h, w] is what the U-Net is shown beside the latents; nobody is shown it too, so that guidance leaves shape alone.
    The solver is deterministic: all randomness is in `noise`. Its arithmetic stays in float32 whatever the network's dtype.
    """
    scheduler = copy.deepcopy(scheduler)  # it counts steps inside
    scheduler.set_timesteps(steps, device=noise.device)
    latents = noise.float() * scheduler.init_noise_sigma
    dtype = unet.dtype
    guided = guidance != 1.0
    if guided:
        states = torch.cat([states, nothing.expand(len(states), -1, -1)])
        embedding = torch.cat([embedding, torch.zeros_like(embedding)])
        head = None if head is None else torch.cat([head, head])
    for time in scheduler.timesteps:
        given = scheduler.scale_model_input(latents, time).to(dtype)
        given = torch.cat([given, given]) if guided else given
        answer = denoise(unet, given, time, states.to(dtype), embedding, head).float()
        if guided:
            asked, free = answer.chunk(2)
            answer = free + guidance * (asked - free)
        latents = scheduler.step(answer, time, latents).prev_sample
    return latents
