"""The forward process and what a network learns of it: noising, targets, loss weights and training times, once for all tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from models.diffusion.schedulers import Scheduler
from models.errors import UserError

PredictionType = Literal["epsilon", "v_prediction", "sample"]


class Process(Protocol):
    """How latents become noise. timesteps: float or int [B], 0 = clear; the network is told these numbers."""

    def timesteps(self, times: np.ndarray) -> Tensor:
        """Return time steps [B] of times in [0, 1], 1 = noise."""

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return noisy latents [B, C, h, w]."""

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the network should predict [B, C, h, w]."""

    def clean(self, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """Return the latents that a prediction says are under the noise."""

    def predict(self, clean: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """Return the prediction that says that `clean` is under the noise: the inverse of `clean`."""


@dataclass(frozen=True)
class DiscreteProcess:
    """z_t = alpha_t z + sigma_t noise at 1,000 steps (arXiv 2006.11239), alpha and sigma of a scheduler of diffusers."""

    scheduler: DDPMScheduler

    @classmethod
    def of(cls, scheduler: Scheduler) -> "DiscreteProcess":
        """Return the process that `scheduler` samples: its betas and prediction type."""
        return cls(DDPMScheduler.from_config(scheduler.config))

    def timesteps(self, times: np.ndarray) -> Tensor:
        last = self.scheduler.config.num_train_timesteps
        return torch.tensor([min(last - 1, int(last * time)) for time in times])

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return self.scheduler.add_noise(latents, noise, timesteps)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return noise, v = alpha noise - sigma latents (arXiv 2202.00512, section 4), or the latents themselves."""
        kind = self.scheduler.config.prediction_type
        if kind == "v_prediction":
            return self.scheduler.get_velocity(latents, noise, timesteps)
        return {"epsilon": noise, "sample": latents}[kind]

    def clean(self, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        kind = self.scheduler.config.prediction_type
        alpha, sigma = levels(self.scheduler, timesteps, noisy)
        if kind == "v_prediction":
            return alpha * noisy - sigma * prediction
        return prediction if kind == "sample" else (noisy - sigma * prediction) / alpha

    def predict(self, clean: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        kind = self.scheduler.config.prediction_type
        alpha, sigma = levels(self.scheduler, timesteps, noisy)
        if kind == "v_prediction":
            return (alpha * noisy - clean) / sigma
        return clean if kind == "sample" else (noisy - alpha * clean) / sigma

    def min_snr(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Return loss weights float32 [B] that bound the signal-to-noise ratio at `gamma` (arXiv 2303.09556, section 3.4).

        In terms of the error of the clean latents the weight is min(snr, gamma) for every prediction type.
        """
        kind = self.scheduler.config.prediction_type
        alpha, sigma = (level.flatten() for level in levels(self.scheduler, timesteps, torch.zeros(len(timesteps), 1)))
        snr = (alpha / sigma) ** 2
        if kind == "epsilon" and (snr == 0).any():
            raise UserError("a schedule without signal at its end cannot train a network that predicts noise")
        # The squared error of the clean latents is that of the prediction over this.
        per_snr = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones_like(snr)}[kind]
        return snr.clamp(max=gamma) / per_snr


def levels(scheduler: DDPMScheduler, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return alpha and sigma of time steps [B], to multiply tensors of the shape of `like`."""
    # alpha^2 at those steps; sigma^2 is the rest, as the variance is kept.
    kept = scheduler.alphas_cumprod.to(like.device)[timesteps.to(like.device).long()]
    kept = kept.view(-1, *[1] * (like.ndim - 1))
    return kept.sqrt(), (1 - kept).sqrt()


@dataclass(frozen=True)
class FlowProcess:
    """z_t = (1 - t) z + t noise, learnt as noise - z: rectified flow (arXiv 2209.03003; 2403.03206, section 2)."""

    time_steps: int = 1000

    def timesteps(self, times: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(times, np.float32)) * self.time_steps

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        share = self._share(latents, timesteps)
        return (1 - share) * latents + share * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return noise - latents

    def clean(self, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        return noisy - self._share(noisy, timesteps) * prediction

    def predict(self, clean: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        return (noisy - clean) / self._share(noisy, timesteps)

    def _share(self, like: Tensor, timesteps: Tensor) -> Tensor:
        return (timesteps.to(like.device, like.dtype) / self.time_steps).view(-1, *[1] * (like.ndim - 1))


def logit_normal_times(rngs: Sequence[np.random.Generator], mean: float, spread: float = 1.0) -> np.ndarray:
    """Return training times float64 [B] in (0, 1), 1 = noise, one by each generator (arXiv 2403.03206, section 3.1)."""
    return np.array([1 / (1 + np.exp(-rng.normal(mean, spread))) for rng in rngs])


def row_errors(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the (weighted) mean squared error of each row, float32 [B]; weight: broadcast over a row's values."""
    error = (prediction.float() - target) ** 2
    return (error if weight is None else error * weight).flatten(1).mean(dim=1)
