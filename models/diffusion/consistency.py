"""Consistency distillation: a student that jumps from any noise to the picture which its teacher's sampler would reach.

Latent consistency models (arXiv 2310.04378), learned as in arXiv 2310.14189 (section 3.2: the target is the student itself
without gradient). The time steps are the 50 that diffusers' `LCMScheduler` and `TCDScheduler` jump between, so either
samples a student in one step or a few.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.diffusion.process import DiscreteProcess, levels

JUMPS = 50
"""Time steps of the grid; `original_inference_steps` of diffusers' schedulers."""
SIGMA_DATA, SCALING = 0.5, 10.0
"""Of the boundary condition, as `LCMScheduler` has them (arXiv 2310.04378, section 4.2 and its code)."""

Predict = Callable[[Tensor, Tensor], Tensor]
"""(noisy latents [B, C, h, w], time steps int64 [B]) -> what the process' prediction type says, of that shape."""


@dataclass(frozen=True)
class Consistency:
    """How a student learns from a teacher on one process. delta: the width at which the error turns from square to linear."""

    process: DiscreteProcess
    delta: float = 0.01

    @property
    def stride(self) -> int:
        """Return how many of the process' time steps lie between two of the grid."""
        return int(self.process.scheduler.config.num_train_timesteps) // JUMPS

    def timesteps(self, positions: Tensor) -> Tensor:
        """Return the time steps of places on the grid, int64: 0 is the first above clear, `JUMPS` - 1 noise."""
        return (positions + 1) * self.stride - 1

    def positions(self, timesteps: Tensor) -> Tensor:
        """Return the place on the grid at or above each time step, int64."""
        return torch.div(timesteps.long(), self.stride, rounding_mode="floor").clamp(0, JUMPS - 1)

    def jump(self, predict: Predict, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """Return the consistency function f(z, t) = c_skip(t) z + c_out(t) clean(z, t): at t = 0 z itself."""
        clean = self.process.clean(predict(noisy, timesteps), noisy, timesteps)
        scaled = timesteps.to(noisy).view(-1, *[1] * (noisy.ndim - 1)) * SCALING
        skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
        return skip * noisy + scaled / (scaled**2 + SIGMA_DATA**2).sqrt() * clean

    @torch.no_grad()
    def step_back(self, teacher: Predict, noisy: Tensor, positions: Tensor) -> Tensor:
        """Return the teacher's DDIM step (arXiv 2010.02502, eq. 12 without noise) to the next place below; from the first one
        to the clean latents."""
        timesteps = self.timesteps(positions)
        clean = self.process.clean(teacher(noisy, timesteps), noisy, timesteps)
        alpha, sigma = levels(self.process.scheduler, timesteps, noisy)
        # Below the first place lies the picture itself: alpha 1, sigma 0.
        below, spread = levels(self.process.scheduler, self.timesteps((positions - 1).clamp(min=0)), noisy)
        first = (positions == 0).view(-1, *[1] * (noisy.ndim - 1)).to(noisy.device)
        below, spread = torch.where(first, 1.0, below), torch.where(first, 0.0, spread)
        return below * clean + spread * (noisy - alpha * clean) / sigma

    def errors(
        self,
        student: Predict,
        teacher: Predict,
        latents: Tensor,
        noise: Tensor,
        positions: Tensor,
        weight: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the error of each row, float32 [B], and the latents that the student jumped to, with gradient.

        The student's jump from a place on the grid is compared with its own, without gradient, from where the teacher's
        step leads: pseudo-Huber, sqrt(d^2 + delta^2) - delta, over delta (arXiv 2310.14189, section 3.3).
        """
        # Two places on one trajectory: noised latents, and where the teacher's step leads from there.
        timesteps = self.timesteps(positions)
        noisy = self.process.add_noise(latents, noise, timesteps)
        below = self.step_back(teacher, noisy, positions)
        # The student's jump from the lower place is the target; from the first place it is the clean picture itself.
        with torch.no_grad():
            lower = self.timesteps((positions - 1).clamp(min=0))
            jumped = self.jump(student, below, lower)
            first = (positions == 0).view(-1, *[1] * (noisy.ndim - 1)).to(noisy.device)
            target = torch.where(first, below, jumped)
        found = self.jump(student, noisy, timesteps)
        square = (found - target).float() ** 2
        square = square if weight is None else square * weight
        mean = square.flatten(1).mean(dim=1)
        return ((mean + self.delta**2).sqrt() - self.delta) / self.delta, found
