"""What a translation may be asked for, and which columns it takes."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.attributes import check_words
from models.diffusion.guided import Interval, Length, Moves, Share
from models.diffusion.names import STUDENT, SchedulerName, check_student
from models.errors import UserError
from models.ssm.config import AUTO, BlockConfig, KernelOption, ScanShape
from models.stages import Files, Flow

AUTOENCODER, VAE, ATTRIBUTES = "autoencoder", "vae", "attributes"
RECOGNISER, LANDMARKS, FACES = "recogniser", "landmarks", "faces"
WEIGHTS = {"model": True, **dict.fromkeys((AUTOENCODER, VAE, ATTRIBUTES, RECOGNISER, LANDMARKS, FACES), False)}
"""model: a folder with all (`models.translation.network`); the others take the place of its folders of their names, or add
the thermal classifier that reads attributes. `recogniser` of thermal faces and `landmarks` to find them are read by translators
that are told who is shown; `faces` is the recogniser of visible faces in whose space that one lies, for `identity_guidance`."""
FILE = "translation.json"


class Options(BaseModel):
    """How the part is loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kernel: KernelOption = AUTO
    """Which code scans (`models.ssm.kernels`); another than torch must be installed where the stage runs, and agree with it."""


class Settings(BaseModel):
    """What a job or a request may choose. Identity guidance is towards whom the thermal face shows."""

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
    identity_guidance: Length = 0.0
    identity_moves: Moves = 2
    identity_interval: Interval = (0.0, 1.0)
    attributes: dict[str, str] = Field(default={}, description="attribute -> its word, in every picture")

    @field_validator("attributes")
    @classmethod
    def _check_attributes(cls, value: dict[str, str]) -> dict[str, str]:
        for name, word in value.items():
            check_words(name, [word])
        return value


def open_scans(options: Options, files: Mapping[str, Files]) -> tuple[ScanShape, ...]:
    """Return the shapes of the scans whose kernel nobody has named, each once; () where one is named, or nothing is scanned."""
    if options.kernel != AUTO:
        return ()
    config = files["model"].json(FILE)
    block = BlockConfig(**config.get("block", {}))
    # The middle of the U-Net attends at the last width, whatever its levels do.
    widths = [width for width, attends in zip(config["widths"], config["attend"], strict=True) if attends]
    shapes = [block.scan_of(width) for width in (*widths, config["widths"][-1]) if block.scans]
    return tuple(dict.fromkeys(shapes))


def columns(options: Options, settings: Settings, files: Mapping[str, Files]) -> Flow:
    """Return what the stage reads and writes. Raises a UserError for an attribute that these weights are not
    told, and for steps that a student was not trained for."""
    if STUDENT in files["model"]:
        check_student(settings.steps, settings.guidance, files["model"].json(STUDENT), settings.scheduler)
    config = files["model"].json(FILE)
    if settings.identity_guidance:
        if not config.get("identity"):
            raise UserError(
                "settings.translate.identity_guidance: this translator is not told who is shown, so there is nobody to be "
                "guided to. Train one with shape.identity and recogniser (docs/translate.md), or leave it at 0."
            )
        if FACES not in files:
            raise UserError(
                "settings.translate.identity_guidance: the part names no recogniser of visible faces: add weights.faces, the "
                "insightface pack whose space its thermal recogniser was trained in (for the starter models/starter/faces)."
            )
    known = config.get("words", {})
    for name in settings.attributes:
        if name not in known:
            raise UserError(
                f"settings.translate.attributes.{name}: this translator is told {', '.join(known) or 'no attributes'}."
            )
    return Flow(reads=("thermal", "noise_id"), writes=("translated", "attributes", "attributes_source"))
