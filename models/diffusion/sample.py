"""The sampling loop: noise to latents along a scheduler's steps. It knows no prompts, pictures or identities.

All that is random is drawn by `noise`: one CPU generator per row and step, so that a row is the same alone, in a batch, on
another machine's actor, or in a run that was resumed.
"""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.diffusion.schedulers import Scheduler, check_steps
from models.seeds import generators
from models.stopping import check_wanted


@dataclass(frozen=True)
class Step:
    """Where a sampling stands: step `index` of `count`, at the scheduler's `timestep` (of 1,000 in training, 0 = clear)."""

    index: int
    count: int
    timestep: Tensor


Denoise = Callable[[Tensor, Step], Tensor]
"""(model input [B, C, h, w], step) -> what the scheduler's prediction type says, of that shape."""


class Noise(Protocol):
    """Where randomness comes from: step 0 is the first noise, step k + 1 what a scheduler draws at its k-th step."""

    def __call__(self, step: int) -> list[torch.Generator]: ...


@dataclass(frozen=True)
class NamedNoise:
    """Noise by the names of rows; `layer` tells several samplings of one row apart."""

    names: Sequence[str]
    stage: str
    layer: str = ""

    def __call__(self, step: int) -> list[torch.Generator]:
        return generators(self.names, self.stage, step, self.layer)


def sample(
    denoise: Denoise,
    noise: Noise,
    shape: Sequence[int],
    scheduler: Scheduler,
    steps: int,
    *,
    eta: float | None = None,
    device: torch.device | str = "cpu",
    callback: Callable[[Step, Tensor], None] | None = None,
) -> Tensor:
    """Return latents float32 [B, *shape], a row for each generator of `noise`.

    eta: how much of a step's noise is drawn anew, for schedulers that know it (DDIM's eta, TCD's gamma); None is the
    scheduler's own. callback: is shown every step's latents. The arithmetic is float32 whatever the network's dtype.

    Raises:
        UserError: steps that the scheduler does not take.
        Abandoned: nobody waits for the rows any longer (`models.stopping`).
    """
    check_steps(scheduler, steps)
    scheduler = copy.deepcopy(scheduler)  # it counts steps inside
    scheduler.set_timesteps(steps, device=device)
    first = torch.stack([torch.randn(tuple(shape), generator=rows) for rows in noise(0)])
    latents = first.to(device) * getattr(scheduler, "init_noise_sigma", 1.0)

    # Each scheduler is given what it takes: deterministic ones draw nothing.
    takes = inspect.signature(scheduler.step).parameters
    chosen = {"eta": eta} if eta is not None and "eta" in takes else {}
    scale = getattr(scheduler, "scale_model_input", lambda values, timestep: values)

    for index, timestep in enumerate(scheduler.timesteps):
        check_wanted()
        step = Step(index, len(scheduler.timesteps), timestep)
        prediction = denoise(scale(latents, timestep), step).float()
        drawn = {"generator": noise(index + 1)} if "generator" in takes else {}
        latents = scheduler.step(prediction, timestep, latents, **chosen, **drawn).prev_sample
        if callback is not None:
            callback(step, latents)
    return latents
