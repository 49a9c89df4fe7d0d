"""What FaceCLIP-SDXL is loaded with, what a job may choose of it, and which columns it takes."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from models.diffusion.guided import Interval, Length, Moves, NoiseLevels, Share
from models.diffusion.names import FILE, SchedulerName, steps_of
from models.errors import UserError
from models.stages import Files, Flow
from models.visible.faceclip.config import LENGTH

WEIGHTS = {
    "model": True,
    "faces": True,
    "encoder": False,
    "unet": False,
    "vae": False,
    "scheduler": False,
    "lora": False,
}
"""model: a folder with encoder, unet, vae and scheduler below it; another takes the place of the folder of its name. faces: an
insightface pack, which finds the face in a person's picture. lora: of the U-Net, such as one for few steps."""
LORA = "lora"
REFERENCE, CROP = "reference", "crop"
"""The columns of a person's picture, and of the face in one, aligned already."""
NEGATIVE = (
    "blurry, low quality, out of focus, deformed face, extra fingers, bad anatomy, cartoon, painting, watermark, text"
)
"""Not the authors' own text, which is longer and is not written down here."""
NAMES = (FILE, f"scheduler/{FILE}")


class Options(BaseModel):
    """How the part is loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decode_batch: int = Field(0, ge=0)
    """Rows that the autoencoder decodes at once; 0: the whole batch."""
    lora_scale: float = Field(1.0, allow_inf_nan=False)
    """Of the LoRA, which is fused when the part is loaded."""
    lora_file: str = ""
    """Which file, where the LoRA's folder holds several."""
    lora_unet_only: bool = False
    """True leaves out what a LoRA changes in SDXL's text encoders, which are not here; such a LoRA is refused otherwise."""


class Settings(BaseModel):
    """What a job or a request may choose; the defaults are the demo's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(default=50, ge=1, le=1000, description="of the diffusion sampler")
    guidance: float = Field(
        default=5.0, ge=0, le=50, allow_inf_nan=False, description="classifier-free guidance; up to 1: none"
    )
    guidance_interval: NoiseLevels = (0.0, 1.0)
    scheduler: SchedulerName = Field(default="folder", description="`folder` is the one that the weights name")
    eta: Share | None = Field(
        default=None, description="share of noise drawn anew at each step (ddim, tcd); none is the scheduler's own"
    )
    portrait: bool = Field(
        default=False,
        description="people who come without a picture are drawn first by the bundle's part of stage portrait, from their "
        "embedding; without it they are drawn of the caption alone",
    )
    negative: str = Field(default=NEGATIVE, description="text that guidance leads away from, beside no face")
    identity_guidance: Length = 0.0
    identity_moves: Moves = 2
    identity_interval: Interval = (0.25, 1.0)
    """What is predicted of the noisiest latents shows no face that could be moved."""
    size: int = 0
    """Side of the pictures in pixels, by the bundle; 0 is what the U-Net was trained for."""


def columns(options: Options, settings: Settings, files: Mapping[str, Files]) -> Flow:
    """Return what the stage reads and writes.

    Raises:
        UserError: a number of steps that the scheduler does not take, or a negative text that is too long.
    """
    chosen = options.model_dump(include={"lora_scale", "lora_file", "lora_unet_only"}, exclude_defaults=True)
    if chosen and LORA not in files:
        raise UserError(f"options.{next(iter(chosen))}: the part has no LoRA; name one as weights: {LORA}.")
    least, most = steps_of(settings.scheduler, _scheduler_config(files))
    if not least <= settings.steps <= most:
        raise UserError(f"scheduler {settings.scheduler} takes {least} to {most} steps, not {settings.steps}.")
    _check_negative(settings.negative)
    needed, there = ((REFERENCE,), (CROP,)) if settings.portrait else ((), (REFERENCE, CROP))
    return Flow(reads=("caption", "noise_id", *needed), reads_if_there=there, writes=("visible", "caption_cut"))


def _check_negative(text: str) -> None:
    """Raise a UserError for a text of which the encoder would leave out the end."""
    if text == NEGATIVE:
        return
    # Its import takes seconds, which only a text of one's own should wait for.
    from models.visible.faceclip.tokenizer import count_cut

    if over := int(count_cut([text])[0]):
        raise UserError(
            f"negative: {LENGTH + over} tokens with start and end, and the encoder reads {LENGTH}; shorten it by {over}."
        )


def _scheduler_config(files: Mapping[str, Files]) -> dict[str, Any]:
    """Return what the weights' scheduler folder states, {} where there is none to be read before loading."""
    places = [(files[weights], name) for weights in ("scheduler", "model") if weights in files for name in NAMES]
    return next((place.json(name) for place, name in places if name in place), {})
