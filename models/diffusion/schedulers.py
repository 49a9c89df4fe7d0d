"""Schedulers as objects of diffusers, made of the folder beside the weights."""

from pathlib import Path
from typing import Any

import diffusers

from models.config import parse_json
from models.diffusion.names import FILE, OF_KIND, PRESETS, SchedulerName, kind_in
from models.errors import EnvironmentFault, UserError

Scheduler = Any
"""A scheduler of diffusers; the library has no types."""


def load_scheduler(folder: Path, name: SchedulerName = "folder") -> Scheduler:
    """Return scheduler `name` on the noise schedule of `folder`: the folder's own, or another with the same betas,
    prediction type and spacing of time steps, as far as the folder states them.

    Raises:
        EnvironmentFault: the folder has no readable `scheduler_config.json`.
        UserError: the folder names a scheduler that is not known.
    """
    # What the folder states: its own kind of scheduler, and the noise schedule of the weights.
    path = folder / FILE
    try:
        config = parse_json(path.read_text())
        kind = kind_in(config)
    except FileNotFoundError:
        raise EnvironmentFault(f"{folder} has no {FILE}. Fetch the bundle again.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnvironmentFault(f"{path} names no scheduler ({error!r}). Fetch the bundle again.") from None
    if kind not in OF_KIND:
        raise UserError(
            f"{path} names {kind}, which cannot be sampled with here: take one of {', '.join(OF_KIND)} there, or set "
            f"the part's scheduler to one of {', '.join(PRESETS)}."
        )
    # Another kind by its name takes that schedule over; diffusers ignores what it does not know of it.
    values: dict[str, Any] = {}
    if name != "folder":
        kind, values = PRESETS[name].kind, PRESETS[name].values
    return getattr(diffusers, kind).from_config(config, **values)


def new_scheduler() -> Scheduler:
    """Return the schedule of what is trained here: cosine, zero terminal SNR (arXiv 2305.08891), v-prediction, sampled by
    DPM-Solver++ 2M.

    Without signal at its end a sampler that begins with noise alone finds a picture's mean brightness, or temperature, itself.
    """
    return diffusers.DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        algorithm_type="dpmsolver++",
        solver_order=2,
    )


def check_steps(scheduler: Scheduler, steps: int) -> None:
    """Raise a UserError for a number of steps that `scheduler` does not take."""
    least, most = OF_KIND[type(scheduler).__name__]
    if not least <= steps <= most:
        raise UserError(f"{type(scheduler).__name__} takes {least} to {most} steps, not {steps}.")
