"""What a latent diffusion of Stable Diffusion's shape is loaded with, what a job may choose of it, and which columns it takes."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.diffusion.names import FILE, SchedulerName, steps_of
from models.errors import UserError
from models.stages import Files, Flow
from models.visible.angles import FILE as HEAD

WEIGHTS = {"model": True, "unet": False, "encoder": False, "vae": False, "tokenizer": False, "scheduler": False}
"""model: a folder with all five below it (`models.visible.model`); another takes the place of the folder of its name."""


NAMES = (FILE, f"scheduler/{FILE}")
"""Where the scheduler is named: in a folder of its own, and in one that holds all parts."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Options(BaseModel):
    """How the part is loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    captions: bool = True
    """False leaves Arc2Face's own prompt alone, which its published encoder was trained on."""


class Settings(BaseModel):
    """What a job or a request may choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(default=20, ge=1, le=1000, description="of the diffusion sampler")
    guidance: float = Field(
        default=2.0, ge=0, le=50, allow_inf_nan=False, description="classifier-free guidance; up to 1: none"
    )
    guidance_interval: tuple[Share, Share] = Field(
        default=(0.0, 1.0), description="noise levels at which guidance acts: 0 = clear, 1 = noise"
    )
    scheduler: SchedulerName = Field(default="folder", description="`folder` is the one that the weights name")
    eta: Share | None = Field(
        default=None, description="share of noise drawn anew at each step (ddim, tcd); none is the scheduler's own"
    )
    size: int = 0
    """Side of the pictures in pixels, by the bundle; 0 is what the U-Net was trained for."""

    @model_validator(mode="after")
    def _check_interval(self) -> "Settings":
        if self.guidance_interval[0] > self.guidance_interval[1]:
            raise ValueError(f"guidance_interval ends before it begins: {list(self.guidance_interval)}")
        return self


def columns(options: Options, settings: Settings, files: Mapping[str, Files]) -> Flow:
    """Return what the stage reads and writes; the caption only where it is looked at.

    Raises a UserError for a number of steps that the scheduler does not take.
    """
    least, most = steps_of(settings.scheduler, _scheduler_config(files))
    if not least <= settings.steps <= most:
        raise UserError(f"scheduler {settings.scheduler} takes {least} to {most} steps, not {settings.steps}.")
    words = ("caption",) if options.captions else ()
    return Flow(reads=("embedding", "noise_id", *words), reads_if_there=("pose_asked",), writes=("visible",))


def takes_pose(files: Mapping[str, Files]) -> bool:
    """Return whether the head can be asked for in degrees: whether the U-Net is shown one (`models.visible.head`)."""
    return HEAD in files["model"]


def _scheduler_config(files: Mapping[str, Files]) -> dict[str, Any]:
    """Return what the weights' scheduler folder states, {} where there is none to be read before loading."""
    places = [(files[weights], name) for weights in ("scheduler", "model") if weights in files for name in NAMES]
    return next((place.json(name) for place, name in places if name in place), {})
