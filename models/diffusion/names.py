"""Schedulers by the names that a job or a bundle says; importing this imports neither torch nor diffusers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from models.errors import UserError

SchedulerName = Literal["folder", "dpm++2m", "euler", "ddim", "unipc", "lcm", "tcd"]
"""`folder` is the one that the weights' own scheduler folder names, with what it states."""

FILE = "scheduler_config.json"
STUDENT = "student.json"
"""Beside the weights of a student of few steps (`models.diffusion.students`)."""
OF_STUDENT: tuple[SchedulerName, ...] = ("folder", "lcm")
"""Schedulers that lead a student where it learned to jump: the one in its folder is LCM."""
MOST_STEPS = 1000
"""Time steps of training; no sampler has more."""


@dataclass(frozen=True)
class Preset:
    """A scheduler: diffusers' class, what it is told beside the weights' own schedule, and how many steps it takes."""

    kind: str
    values: dict[str, Any] = field(default_factory=dict)
    steps: tuple[int, int] = (1, MOST_STEPS)


PRESETS: dict[str, Preset] = {
    # DPM-Solver++ 2M, arXiv 2211.01095.
    "dpm++2m": Preset("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "euler": Preset("EulerDiscreteScheduler"),
    # DDIM from the last time step on, arXiv 2305.08891, section 3.3; latents are not clipped to the range of pictures.
    "ddim": Preset("DDIMScheduler", {"timestep_spacing": "trailing", "clip_sample": False}),
    "unipc": Preset("UniPCMultistepScheduler"),
    # Both jump between 50 time steps that their students were distilled at (arXiv 2310.04378, 2402.19159).
    "lcm": Preset("LCMScheduler", {"clip_sample": False}, (1, 50)),
    "tcd": Preset("TCDScheduler", {"clip_sample": False}, (1, 50)),
}

OF_KIND = {
    "DDIMScheduler": (1, MOST_STEPS),
    "DDPMScheduler": (1, MOST_STEPS),
    "DEISMultistepScheduler": (1, MOST_STEPS),
    "DPMSolverMultistepScheduler": (1, MOST_STEPS),
    "DPMSolverSinglestepScheduler": (2, MOST_STEPS),
    "EulerAncestralDiscreteScheduler": (1, MOST_STEPS),
    "EulerDiscreteScheduler": (1, MOST_STEPS),
    "FlowMatchEulerDiscreteScheduler": (1, MOST_STEPS),
    "HeunDiscreteScheduler": (1, MOST_STEPS),
    "LCMScheduler": (1, 50),
    "LMSDiscreteScheduler": (1, MOST_STEPS),
    "TCDScheduler": (1, 50),
    "UniPCMultistepScheduler": (1, MOST_STEPS),
}
"""diffusers' schedulers that a folder may name -> the steps that they take, least and most."""
REPLACED = {"PNDMScheduler": "DPMSolverMultistepScheduler"}
"""Stable Diffusion 1.5's folder names PNDM; Arc2Face samples its betas with this solver, and so do we."""


def kind_in(config: Mapping[str, Any]) -> str:
    """Return the class that a scheduler folder's configuration asks for. Raises KeyError where it names none."""
    name = str(config["_class_name"])
    return REPLACED.get(name, name)


def steps_of(name: SchedulerName, config: Mapping[str, Any]) -> tuple[int, int]:
    """Return the least and the most steps of scheduler `name` on weights whose folder states `config`.

    A folder's scheduler that is not known here is not judged here: loading it tells.
    """
    if name != "folder":
        return PRESETS[name].steps
    kind = kind_in(config) if config else ""
    return OF_KIND.get(kind, (1, MOST_STEPS))


def check_student(
    settings_steps: int, guidance: float, student: Mapping[str, Any], scheduler: SchedulerName = "folder"
) -> None:
    """Raise a UserError for steps, guidance or a scheduler that a student was not trained for. student: what its `student.json`
    says."""
    known = [int(steps) for steps in student["steps"]]
    if settings_steps not in known:
        said = ", ".join(map(str, known))
        raise UserError(
            f"these weights are a student of {said} steps, not of {settings_steps}: set steps to one of these."
        )
    if guidance > 1:
        raise UserError(
            f"these weights are a student, which has its teacher's guidance in it: set guidance to 1, not {guidance:g}."
        )
    if scheduler not in OF_STUDENT:
        raise UserError(
            f"these weights are a student, which jumps as LCM does: set scheduler to {' or '.join(OF_STUDENT)}, not {scheduler}."
        )
