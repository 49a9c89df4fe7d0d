"""What thermal latent diffusion may be asked for, and which columns it takes."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from models.diffusion.names import STUDENT, SchedulerName, check_student
from models.errors import UserError
from models.layers import Layer, check_words, degrees_of
from models.stages import Files, Flow
from models.thermal.rooms import UNKNOWN

AUTOENCODER, VAE = "autoencoder", "vae"
WEIGHTS = {"model": True, "unet": False, AUTOENCODER: False, VAE: False}
"""model: a folder with all (`models.thermal.latent.network`); the others take the place of its folders of their names."""
FILE = "thermal.json"

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Options(BaseModel):
    """How the part is loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latents: bool = True
    """Take the latents that the visible stage made, where they are there and of this part's visible autoencoder; false
    encodes the picture always."""


class Settings(BaseModel):
    """What a job or a request may choose. The room itself is a condition: `22.5`, a word, or `any`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(8, ge=1, le=1000, description="of the diffusion sampler")
    scheduler: SchedulerName = Field(default="folder", description="`folder` is the one that the weights name")
    eta: Share | None = Field(
        default=None, description="share of noise drawn anew at each step (ddim, tcd); none is the scheduler's own"
    )
    sun: float | None = Field(
        default=0.0, ge=0, le=1400, allow_inf_nan=False, description="W/m2 of conditions in degrees; none: not known"
    )
    wind: float | None = Field(
        default=None, ge=0, le=40, allow_inf_nan=False, description="m/s of conditions in degrees; none: not known"
    )
    layers: tuple[Layer, ...] = ()


def conditions(files: Mapping[str, Files]) -> tuple[str, ...]:
    """Return the words that may be asked for."""
    return (*_config(files).get("conditions", ()), UNKNOWN)


def columns(options: Options, settings: Settings, files: Mapping[str, Files]) -> Flow:
    """Return what the stage reads and writes. Raises a UserError for a word that it has not learned."""
    words = [layer for layer in settings.layers if degrees_of(layer.condition) is None]
    try:
        check_words(words, conditions(files), "this thermalizer", random=True)
    except ValueError as error:
        raise UserError(f"{error}, and rooms in degrees Celsius.") from None
    if "model" in files and STUDENT in files["model"]:
        check_student(settings.steps, 1.0, files["model"].json(STUDENT))
    return Flow(
        reads=("visible", "noise_id"),
        reads_if_there=("classes", *(("latents", "latent_space") if options.latents else ())),
        writes=("thermal", "thermal_clipped", "beyond_rooms"),
    )


def _config(files: Mapping[str, Files]) -> dict[str, Any]:
    return files["model"].json(FILE)
