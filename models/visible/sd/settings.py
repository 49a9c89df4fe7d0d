"""What a latent diffusion of Stable Diffusion's shape is loaded with, what a job may choose of it, and which columns it takes."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from models.stages import Files, Flow

WEIGHTS = {"model": True, "unet": False, "encoder": False, "vae": False, "tokenizer": False, "scheduler": False}
"""model: a folder with all five below it (`models.visible.model`); another takes the place of the folder of its name."""


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
    size: int = 0
    """Side of the pictures in pixels, by the bundle; 0 is what the U-Net was trained for."""


def columns(options: Options, settings: Settings, files: Mapping[str, Files]) -> Flow:
    """Return what the stage reads and writes; the caption only where it is looked at."""
    words = ("caption",) if options.captions else ()
    return Flow(reads=("embedding", "noise_id", *words), writes=("visible",))
