"""What a latent diffusion of Stable Diffusion's shape is loaded with, what a job may choose of it, and which columns it takes."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.diffusion.names import FILE, SchedulerName, steps_of
from models.errors import UserError
from models.stages import Files, Flow
from models.visible.angles import FILE as HEAD

WEIGHTS = {"model": True, "unet": False, "encoder": False, "vae": False, "tokenizer": False, "scheduler": False,
           "controlnet": False, "head": False, "text_branch": False}  # fmt: skip
"""model: a folder with five of them below it (`models.visible.model`); another takes the place of the folder of its name.
controlnet, head: what steers the pose, and what reads a person's head from an embedding. text_branch: what reads captions
beside the prompt (`models.visible.text_branch`)."""


NAMES = (FILE, f"scheduler/{FILE}")
"""Where the scheduler is named: in a folder of its own, and in one that holds all parts."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Options(BaseModel):
    """How the part is loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    captions: bool = True
    """False leaves Arc2Face's own prompt alone, which its published encoder was trained on: words go to a `text_branch`, or
    nowhere."""
    decode_batch: int = Field(0, ge=0)
    """Rows that the autoencoder decodes at once; 0: the whole batch. At 512 pixels it takes more memory than the U-Net."""
    channels_last: bool = False
    """Convolutions in NHWC: faster on GPUs in half precision, slower on CPUs, whose group norm has no such kernel."""
    compile: bool = False
    """Compile the U-Net for its one batch size (torch.compile): minutes at the start, a faster step after. The last bits of
    pictures are another machine's."""


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
    control_strength: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False, description="of the pose ControlNet")
    control_interval: tuple[Share, Share] = Field(
        default=(0.0, 1.0), description="share of the steps in which the ControlNet acts: 0 = first, 1 = last"
    )
    text_scale: float | None = Field(
        default=None,
        ge=0,
        le=10,
        allow_inf_nan=False,
        description="of a text branch: 0 = off; none is 1 where there is one",
    )
    size: int = 0
    """Side of the pictures in pixels, by the bundle; 0 is what the U-Net was trained for."""

    @property
    def scale_of_text(self) -> float:
        """What the output of a text branch is multiplied with."""
        return 1.0 if self.text_scale is None else self.text_scale

    @model_validator(mode="after")
    def _check_intervals(self) -> "Settings":
        for name in ("guidance_interval", "control_interval"):
            begin, end = getattr(self, name)
            if begin > end:
                raise ValueError(f"{name} ends before it begins: [{begin}, {end}]")
        return self


def columns(options: Options, settings: Settings, files: Mapping[str, Files]) -> Flow:
    """Return what the stage reads and writes; the caption only where it is looked at.

    Raises a UserError for a number of steps that the scheduler does not take.
    """
    least, most = steps_of(settings.scheduler, _scheduler_config(files))
    if not least <= settings.steps <= most:
        raise UserError(f"scheduler {settings.scheduler} takes {least} to {most} steps, not {settings.steps}.")
    branched = "text_branch" in files
    if settings.text_scale is not None and not branched:
        raise UserError("text_scale is of a text branch, and the part's weights name no text_branch.")
    # The caption is the prompt's or the branch's, and says the pose that a ControlNet is shown.
    words = options.captions or bool(branched and settings.scale_of_text)
    return Flow(
        reads=("embedding", "noise_id", *(("caption",) if words or "controlnet" in files else ())),
        reads_if_there=("pose_asked",),
        writes=("visible", *(("caption_cut",) if words else ())),
    )


def takes_pose(files: Mapping[str, Files]) -> bool:
    """Return whether the head can be asked for in degrees: whether the U-Net or its ControlNet is shown one."""
    return "controlnet" in files or HEAD in files["model"]


def _scheduler_config(files: Mapping[str, Files]) -> dict[str, Any]:
    """Return what the weights' scheduler folder states, {} where there is none to be read before loading."""
    places = [(files[weights], name) for weights in ("scheduler", "model") if weights in files for name in NAMES]
    return next((place.json(name) for place, name in places if name in place), {})
