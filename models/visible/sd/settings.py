"""What a latent diffusion of Stable Diffusion's shape is loaded with, what a job may choose of it, and which columns it takes."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from models.diffusion.guided import Interval, Length, Moves, NoiseLevels, Share, Shares
from models.diffusion.names import FILE, STUDENT, SchedulerName, check_student, steps_of
from models.errors import UserError
from models.stages import Files, Flow
from models.visible.angles import FILE as HEAD
from models.visible.smirk import MAP

WEIGHTS = {"model": True, "unet": False, "encoder": False, "vae": False, "tokenizer": False, "scheduler": False,
           "controlnet": False, "head": False, "text_branch": False, "lora": False, "lora_2": False, "lora_3": False,
           "lora_4": False, "reference": False, "expression": False, "faces": False}  # fmt: skip
"""model: a folder with five of them below it (`models.visible.model`); another takes the place of the folder of its name.
controlnet, head: what steers the pose, and what reads a person's head from an embedding. text_branch: what reads captions
beside the prompt (`models.visible.text_branch`). faces: the recogniser whose embeddings are asked for, which identity guidance
reads. The others are `sd.adapters`."""
LATENTS = ("latents", "latent_space")
"""Columns of the latents, and of the autoencoder that they are of."""
LORAS = ("lora", "lora_2", "lora_3", "lora_4")
REFERENCE, EXPRESSION, SMIRK = "reference", "expression", "smirk"
"""Weights of the two adapters, and the columns that they read: the first and the last."""
FACES = "faces"


NAMES = (FILE, f"scheduler/{FILE}")
"""Where the scheduler is named: in a folder of its own, and in one that holds all parts."""

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Options(BaseModel):
    """How the part is loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    captions: bool = True
    """False leaves Arc2Face's own prompt alone, which its published encoder was trained on: words go to a `text_branch`, or
    nowhere."""
    latents: bool = False
    """Hand on the latents beside the picture: a thermal latent diffusion on the same autoencoder need not encode it again."""
    decode_batch: int = Field(0, ge=0)
    """Rows that the autoencoder decodes at once; 0: the whole batch. At 512 pixels it takes more memory than the U-Net."""
    channels_last: bool = False
    """Convolutions in NHWC: faster on GPUs in half precision, slower on CPUs, whose group norm has no such kernel."""
    compile: bool = False
    """Compile the U-Net for its one batch size (torch.compile): minutes at the start, a faster step after. The last bits of
    pictures are another machine's."""
    lora_scale: Finite | dict[str, Finite] = 1.0
    """Of every LoRA, or by its weights' name (1 for others); fused when the part is loaded."""
    lora_file: str | dict[str, str] = ""
    """Which file, where a folder of adapters holds several; or by its weights' name."""
    lora_unet_only: bool = False
    """True leaves out what a LoRA changes in a text encoder, which is refused otherwise."""
    reference_scale: Share = 0.8
    """Of the LoRA that reads references; 0 leaves references aside."""

    def scale_of(self, name: str) -> float:
        """Return the scale of a LoRA among the weights."""
        return self.lora_scale.get(name, 1.0) if isinstance(self.lora_scale, dict) else self.lora_scale

    def file_of(self, name: str) -> str:
        """Return the file of a LoRA among the weights, empty where its folder holds one."""
        return self.lora_file.get(name, "") if isinstance(self.lora_file, dict) else self.lora_file


class Settings(BaseModel):
    """What a job or a request may choose. Identity guidance is towards the person whose embedding is asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(default=20, ge=1, le=1000, description="of the diffusion sampler")
    guidance: float = Field(
        default=2.0, ge=0, le=50, allow_inf_nan=False, description="classifier-free guidance; up to 1: none"
    )
    guidance_interval: NoiseLevels = (0.0, 1.0)
    scheduler: SchedulerName = Field(default="folder", description="`folder` is the one that the weights name")
    eta: Share | None = Field(
        default=None, description="share of noise drawn anew at each step (ddim, tcd); none is the scheduler's own"
    )
    control_strength: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False, description="of the pose ControlNet")
    control_interval: Shares = Field(
        default=(0.0, 1.0), description="share of the steps in which the ControlNet acts: 0 = first, 1 = last"
    )
    text_scale: float | None = Field(
        default=None,
        ge=0,
        le=10,
        allow_inf_nan=False,
        description="of a text branch: 0 = off; none is 1 where there is one",
    )
    expression_scale: Share = Field(default=1.0, description="of the expression adapter, where the part has one")
    identity_guidance: Length = 0.0
    identity_moves: Moves = 2
    identity_interval: Interval = (0.0, 1.0)
    size: int = 0
    """Side of the pictures in pixels, by the bundle; 0 is what the U-Net was trained for."""

    @property
    def scale_of_text(self) -> float:
        """What the output of a text branch is multiplied with."""
        return 1.0 if self.text_scale is None else self.text_scale


def columns(options: Options, settings: Settings, files: Mapping[str, Files]) -> Flow:
    """Return what the stage reads and writes; the caption only where it is looked at.

    Raises a UserError for a number of steps that the scheduler does not take.
    """
    least, most = steps_of(settings.scheduler, _scheduler_config(files))
    if not least <= settings.steps <= most:
        raise UserError(f"scheduler {settings.scheduler} takes {least} to {most} steps, not {settings.steps}.")
    if "model" in files and STUDENT in files["model"]:
        check_student(settings.steps, settings.guidance, files["model"].json(STUDENT), settings.scheduler)
    branched = "text_branch" in files
    if settings.text_scale is not None and not branched:
        raise UserError("text_scale is of a text branch, and the part's weights name no text_branch.")
    if settings.identity_guidance:
        _check_guided(files)
    _check_adapters(options, files)
    # The caption is the prompt's or the branch's, and says the pose that a ControlNet is shown and the expression of a map.
    words = options.captions or bool(branched and settings.scale_of_text)
    mapped = takes_smirk(files) and MAP in files[EXPRESSION]
    shown = ((REFERENCE, takes_reference(options, files)), (SMIRK, takes_smirk(files)))
    return Flow(
        reads=("embedding", "noise_id", *(("caption",) if words or "controlnet" in files or mapped else ())),
        reads_if_there=("pose_asked", *(name for name, there in shown if there)),
        writes=("visible", *(("caption_cut",) if words else ()), *(LATENTS if options.latents else ())),
    )


def _check_guided(files: Mapping[str, Files]) -> None:
    """Raise a UserError for a part that cannot be guided to a person by a recogniser."""
    if FACES not in files:
        raise UserError(
            "settings.identity_guidance: the part names no recogniser: add weights.faces, the insightface pack whose embeddings "
            "it is asked for (for the starter models/starter/faces)."
        )


def takes_reference(options: Options, files: Mapping[str, Files]) -> bool:
    """Return whether a picture of each person is looked at."""
    return REFERENCE in files and options.reference_scale > 0


def takes_smirk(files: Mapping[str, Files]) -> bool:
    """Return whether expressions can be asked for in SMIRK's numbers."""
    return EXPRESSION in files


def lora_names(weights: Collection[str]) -> list[str]:
    """Return the names of the LoRAs among the weights, in the order in which they are fused."""
    return [name for name in LORAS if name in weights]


def _check_adapters(options: Options, files: Mapping[str, Files]) -> None:
    """Raise a UserError for an option of adapters that the part does not have."""
    loras = lora_names(files)
    for name, known in (("lora_scale", loras), ("lora_file", [*loras, *([REFERENCE] if REFERENCE in files else [])])):
        value = getattr(options, name)
        given = set(value) if isinstance(value, dict) else set()
        if unknown := sorted(given - set(known)):
            raise UserError(
                f"options.{name}: the part has no weights {unknown[0]}; it has: {', '.join(known) or 'no LoRA'}."
            )
        if not known and value != Options.model_fields[name].default:
            raise UserError(f"options.{name}: the part has no LoRA; name one as weights: {', '.join(LORAS)}.")


def takes_pose(files: Mapping[str, Files]) -> bool:
    """Return whether the head can be asked for in degrees: whether the U-Net or its ControlNet is shown one."""
    return "controlnet" in files or HEAD in files["model"]


def _scheduler_config(files: Mapping[str, Files]) -> dict[str, Any]:
    """Return what the weights' scheduler folder states, {} where there is none to be read before loading."""
    places = [(files[weights], name) for weights in ("scheduler", "model") if weights in files for name in NAMES]
    return next((place.json(name) for place, name in places if name in place), {})
