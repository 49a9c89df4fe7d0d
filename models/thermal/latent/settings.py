"""What thermal latent diffusion may be asked for, and which columns it takes."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from models.diffusion.names import STUDENT, SchedulerName, check_student
from models.stages import Files, Flow
from models.thermal.rooms import UNKNOWN, RoomSettings, check_layers

AUTOENCODER, VAE, TEXT, GUESS = "autoencoder", "vae", "text", "guess"
WEIGHTS = {"model": True, "unet": False, AUTOENCODER: False, VAE: False, TEXT: False, GUESS: False}
"""model: a folder with all (`models.thermal.latent.network`); the others take the place of its folders of their names."""
FILE = "thermal.json"

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Options(BaseModel):
    """How the part is loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latents: bool = True
    """Take the latents that the visible stage made, where they are there and of this part's visible autoencoder; false
    encodes the picture always."""


class Settings(RoomSettings):
    """What a job or a request may choose."""

    steps: int = Field(8, ge=1, le=1000, description="of the diffusion sampler")
    scheduler: SchedulerName = Field(default="folder", description="`folder` is the one that the weights name")
    eta: Share | None = Field(
        default=None, description="share of noise drawn anew at each step (ddim, tcd); none is the scheduler's own"
    )
    captions: bool = Field(default=True, description="read captions, where the weights learned to")


def conditions(files: Mapping[str, Files]) -> tuple[str, ...]:
    """Return the words that may be asked for."""
    return (*_config(files).get("conditions", ()), UNKNOWN)


def columns(options: Options, settings: Settings, files: Mapping[str, Files]) -> Flow:
    """Return what the stage reads and writes. Raises a UserError for a word that it has not learned."""
    check_layers(settings.layers, conditions(files), random=True)
    if "model" in files and STUDENT in files["model"]:
        check_student(settings.steps, 1.0, files["model"].json(STUDENT), settings.scheduler)
    words_read = ("caption",) if settings.captions and _config(files).get("captions") else ()
    return Flow(
        reads=("visible", "noise_id"),
        reads_if_there=("classes", *words_read, *(("latents", "latent_space") if options.latents else ())),
        writes=("thermal", "thermal_clipped", "beyond_rooms"),
    )


def _config(files: Mapping[str, Files]) -> dict[str, Any]:
    return files["model"].json(FILE)
