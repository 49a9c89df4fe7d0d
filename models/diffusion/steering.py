"""Guidance by another network: at each step the clean latents that a prediction implies are moved so that it likes them more.

Universal guidance (arXiv 2302.07121), section 3.2, "backward": what is found for the clean latents is written back into the
prediction, so every scheduler goes on from it. The denoiser itself is not differentiated; a move costs one pass of the other
network and back.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.diffusion.process import Process
from models.diffusion.sample import Denoise, Step

Goal = Callable[[Tensor], Tensor]
"""Clean latents float32 [B, C, h, w] -> how well each does, [B], with gradient."""
STILL = 1e-12
"""A gradient as small moves nothing: of a row of which the goal says nothing it is zero."""


@dataclass(frozen=True)
class Steering:
    """scale: the length of a move, root mean square over a row's latents. moves: at each step. interval: shares of the steps
    [start, stop) at which it acts."""

    scale: float
    moves: int = 2
    interval: tuple[float, float] = (0.0, 1.0)

    def acts(self, step: Step) -> bool:
        """Whether the latents of a step are moved."""
        return self.scale > 0 and self.interval[0] * step.count <= step.index < self.interval[1] * step.count


def steer(denoise: Denoise, goal: Goal, process: Process, steering: Steering) -> Denoise:
    """Return `denoise` with predictions under which the clean latents do better by `goal`."""

    def steered(model_input: Tensor, step: Step) -> Tensor:
        prediction = denoise(model_input, step)
        if not steering.acts(step):
            return prediction
        noisy, timesteps = model_input.float(), step.timestep.expand(len(model_input))
        clean = process.clean(prediction.float(), noisy, timesteps)
        better = climb(clean, goal, steering)
        # Of a row that is not moved the prediction stays as it was, to the bit: its neighbours do not count.
        moved = (better != clean).flatten(1).any(dim=1)[:, None, None, None]
        return torch.where(moved, process.predict(better, noisy, timesteps), prediction.float())

    return steered


def climb(clean: Tensor, goal: Goal, steering: Steering) -> Tensor:
    """Return latents after `moves` steps of equal length up the gradient of `goal`, each row by its own."""
    for _ in range(steering.moves):
        with torch.enable_grad():
            here = clean.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(goal(here).sum(), here)
        length = slope.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        clean = torch.where(length > STILL, clean + steering.scale * slope / length.clamp(min=STILL), clean)
    return clean.detach()
