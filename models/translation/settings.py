"""What a translation may be asked for, and which columns it takes."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.attributes import check_words
from models.diffusion.names import STUDENT, SchedulerName, check_student
from models.errors import UserError
from models.stages import Files, Flow

AUTOENCODER, VAE, ATTRIBUTES = "autoencoder", "vae", "attributes"
RECOGNISER, LANDMARKS = "recogniser", "landmarks"
WEIGHTS = {"model": True, AUTOENCODER: False, VAE: False, ATTRIBUTES: False, RECOGNISER: False, LANDMARKS: False}
"""model: a folder with all (`models.translation.network`); the others take the place of its folders of their names, or add
the thermal classifier that reads attributes. `recogniser` of thermal faces and `landmarks` to find them are read by translators
that are told who is shown."""
FILE = "translation.json"

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Options(BaseModel):
    """How the part is loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kernel: Literal["torch", "vllm", "mamba_ssm"] = "torch"
    """Which code scans (`models.ssm.kernels`); another than torch must be installed where the stage runs, and agree with it."""


class Settings(BaseModel):
    """What a job or a request may choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(8, ge=1, le=1000, description="of the diffusion sampler")
    scheduler: SchedulerName = Field(default="folder", description="`folder` is the one that the weights name")
    eta: Share | None = Field(default=None, description="share of noise drawn anew at each step (ddim, tcd)")
    guidance: float = Field(
        1.0,
        ge=0,
        le=30,
        allow_inf_nan=False,
        description="away from what is told no attributes, nor who is shown; 1 is none",
    )
    attributes: dict[str, str] = Field(default={}, description="attribute -> its word, in every picture")

    @field_validator("attributes")
    @classmethod
    def _check_attributes(cls, value: dict[str, str]) -> dict[str, str]:
        for name, word in value.items():
            check_words(name, [word])
        return value


def columns(options: Options, settings: Settings, files: Mapping[str, Files]) -> Flow:
    """Return what the stage reads and writes. Raises a UserError for an attribute that these weights are not
    told, and for steps that a student was not trained for."""
    if STUDENT in files["model"]:
        check_student(settings.steps, settings.guidance, files["model"].json(STUDENT))
    known = files["model"].json(FILE).get("words", {})
    for name in settings.attributes:
        if name not in known:
            raise UserError(
                f"settings.translate.attributes.{name}: this translator is told {', '.join(known) or 'no attributes'}."
            )
    return Flow(reads=("thermal", "noise_id"), writes=("translated", "attributes", "attributes_source"))
