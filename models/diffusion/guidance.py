"""Classifier-free guidance (arXiv 2207.12598), within an interval of noise levels (arXiv 2404.07724), or embedded."""

from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from models.diffusion.conditions import Conditions
from models.diffusion.cross_attention import check_contexts
from models.diffusion.sample import Denoise, Step
from models.diffusion.unet import Control, predict


@dataclass(frozen=True)
class Guidance:
    """prediction = uncond + scale * (cond - uncond). A scale of 1 or less is cond alone, at half the cost, as in diffusers.

    interval: least and greatest noise level, as a share of the training's time steps (0 = clear, 1 = noise), at which
    guidance acts; elsewhere the prediction is cond alone.
    """

    scale: float
    interval: tuple[float, float] = (0.0, 1.0)
    time_steps: int = 1000

    def acts(self, step: Step) -> bool:
        """Whether both predictions are needed at a step."""
        return self.scale > 1.0 and self.interval[0] <= float(step.timestep) / self.time_steps <= self.interval[1]


def denoiser(
    unet: UNet2DConditionModel,
    cond: Conditions,
    uncond: Conditions | None,
    guidance: Guidance,
    control: Control | None = None,
) -> Denoise:
    """Return the closure that `sample` asks: a U-Net under its conditions, guided away from `uncond` of as many rows.

    uncond: None where nothing guides. A U-Net that reads the scale as an embedding (`time_cond_proj_dim`) is asked once a step
    and never for it.
    """
    check_contexts(unet, cond.extra)
    embedded = guidance.scale if unet.config.time_cond_proj_dim else None
    cond = cond.to(unet.device, unet.dtype)
    # Both halves run as one batch: the conditional rows first, then the unconditional ones.
    alone = uncond is None or embedded is not None or guidance.scale <= 1
    both = None if uncond is None or alone else cond.join(uncond.to(unet.device, unet.dtype))

    def denoise(model_input: Tensor, step: Step) -> Tensor:
        guided = both is not None and guidance.acts(step)
        model_input = model_input.to(unet.dtype)
        steered = control if control is not None and control.acts(step) else None
        prediction = predict(
            unet,
            torch.cat([model_input, model_input]) if guided else model_input,
            step.timestep,
            both if guided and both is not None else cond,
            control=steered,
            embedded_guidance=embedded,
        ).float()
        if not guided:
            return prediction
        cond_pred, uncond_pred = prediction.chunk(2)
        return uncond_pred + guidance.scale * (cond_pred - uncond_pred)

    return denoise
