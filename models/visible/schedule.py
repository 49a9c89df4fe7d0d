"""Which solver samples a visible model: the one that its scheduler folder names."""

from pathlib import Path
from typing import Any

import diffusers

from models.config import parse_json
from models.errors import EnvironmentFault, UserError

FILE = "scheduler_config.json"
SOLVERS = (
    "DDIMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "UniPCMultistepScheduler",
)
"""Deterministic ones: all randomness is in the first noise, which follows from a row's name."""
REPLACED = {"PNDMScheduler": "DPMSolverMultistepScheduler"}
"""Stable Diffusion 1.5's folder names PNDM; Arc2Face samples its betas with this solver, and so do we."""

Scheduler = Any
"""One of diffusers' `SOLVERS`; the library has no types."""


def load_scheduler(folder: Path) -> Scheduler:
    """Return the scheduler that `folder` names, with what it states.

    Raises:
        EnvironmentFault: the folder has no readable `scheduler_config.json`.
        UserError: a scheduler that draws noise at each step, or that is not known.
    """
    path = folder / FILE
    try:
        config = parse_json(path.read_text())
        name = REPLACED.get(config["_class_name"], config["_class_name"])
    except FileNotFoundError:
        raise EnvironmentFault(f"{folder} has no {FILE}. Fetch the bundle again.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnvironmentFault(f"{path} names no scheduler ({error!r}). Fetch the bundle again.") from None
    if name not in SOLVERS or str(config.get("algorithm_type", "")).startswith("sde"):
        raise UserError(f"{path} names {name}, which cannot be sampled with here: take one of {', '.join(SOLVERS)}.")
    return getattr(diffusers, name).from_pretrained(str(folder), local_files_only=True)
