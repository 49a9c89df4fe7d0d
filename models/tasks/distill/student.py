"""What the three students share: what may be chosen, a copy of the teacher's U-Net that learns, and how far it is from it."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from models.card import Card
from models.diffusion.names import PRESETS
from models.diffusion.process import DiscreteProcess
from models.diffusion.sample import Denoise, NamedNoise, sample
from models.diffusion.schedulers import load_scheduler
from models.diffusion.students import save_student
from models.errors import UserError
from models.tasks import Place
from models.visible.autoencoder import latent_space
from models.visible.cache import from_root
from models.weights.networks import device_of

TEACHER_STEPS = 16
"""Of the draws that a student's are compared with."""
VISIBLE, THERMAL, TRANSLATOR = (
    f"a {stage} part of kind latent-diffusion" for stage in ("visible", "thermal", "translate")
)
"""What a teacher is."""
MARKS: dict[str, tuple[str, ...]] = {
    TRANSLATOR: ("translation.json",),
    THERMAL: ("thermal.json", "unet"),
    "a thermal part of kind room-unet": ("thermal.json", "unet.safetensors"),
    "a thermal part of kind unet": ("thermal.json",),
    VISIBLE: ("encoder", "tokenizer", "scheduler"),
    "a visible part of kind faceclip-sdxl": ("unet", "vae", "scheduler"),
}
"""What a folder is -> files and folders that tell it, the first that has all of its own."""


FewSteps = Annotated[int, Field(ge=PRESETS["lcm"].steps[0], le=PRESETS["lcm"].steps[1])]


class StudentConfig(BaseModel):
    """What every student may be trained with. It stands before the teacher's own `Config` among a `Config`'s bases, so that its
    defaults hold."""

    steps: int = Field(1500, gt=0)
    lr: float = Field(1e-5, gt=0, description="a larger one takes the student away from its teacher for good")
    warmup: int = Field(50, ge=0)
    ema: float = Field(0.99, ge=0, lt=1)
    time: float = Field(1.0, description="mean of the logit-normal time: jumps from noise decide what a picture shows")
    teacher: Place = Field("", description="folder of the part that is distilled")
    vae: Place = Field("", description="folder of the visible autoencoder; by default the teacher's")
    sampled: tuple[FewSteps, ...] = Field(
        (1, 2, 4), min_length=1, description="numbers of steps that the student may be asked for"
    )
    delta: float = Field(0.02, gt=0, description="width at which the error turns from square to linear")

    DECIDED: ClassVar[tuple[str, ...]] = ()
    """Fields of the teacher's own training that the teacher has decided on, or that its student does not learn by."""

    @model_validator(mode="after")
    def _leave_to_teacher(self) -> Self:
        fields = type(self).model_fields
        set_ = [name for name in self.DECIDED if getattr(self, name) != fields[name].get_default()]
        if set_:
            raise ValueError(f"{', '.join(set_)}: a student has what its teacher has. Leave it out.")
        return self

    def check_teacher(self, task: str, kind: str) -> None:
        """Raise UserError where no teacher is named, or another than of `kind`, or a visible autoencoder of other latents."""
        if not self.teacher:
            raise UserError(f"{task} needs a teacher: --set teacher=DIR, {kind}")
        # What the folder is, before what is in it.
        folder = from_root(self.teacher)
        if (found := describe_part(folder)) != kind:
            raise UserError(f"teacher: {folder} is {found}, and {task} needs {kind}: --set teacher=DIR")
        # Another autoencoder must make the latents that the teacher knows.
        own = folder / "vae"
        if self.vae and own.is_dir() and latent_space(from_root(self.vae)) != latent_space(own):
            raise UserError(f"vae: {self.vae} makes other latents than the teacher learned from, {own}. Leave it out.")


def describe_part(folder: Path) -> str:
    """Return what a folder is, in words: a part of some kind, or none that a student could learn from."""
    if not folder.is_dir():
        return "no folder"
    marks = MARKS.items()
    return next(
        (what for what, names in marks if all((folder / name).exists() for name in names)), "no diffusion model"
    )


class Teacher(Protocol):
    """A model ready to sample, as it was loaded."""

    @property
    def unet(self) -> UNet2DConditionModel: ...

    @property
    def scheduler(self) -> Path: ...

    def networks(self) -> Sequence[nn.Module]:
        """Return all that runs on the device of what learns."""


T = TypeVar("T", bound=Teacher)


class Student(nn.Module, Generic[T]):
    """The U-Net that learns, beside its teacher, which is no submodule: nobody saves, averages or moves it."""

    def __init__(self, teacher: T) -> None:
        super().__init__()
        self.unet = copy.deepcopy(teacher.unet).requires_grad_(True)
        if not torch.cuda.is_available():  # the backward pass of fused attention costs more on CPUs
            self.unet.set_attn_processor(AttnProcessor())
        self._frozen = (teacher, DiscreteProcess.of(load_scheduler(teacher.scheduler)))

    def frozen(self) -> tuple[T, DiscreteProcess]:
        """Return teacher and process, on the device of what learns."""
        teacher, process = self._frozen
        for network in teacher.networks():
            network.to(device_of(self.unet))
        return teacher, process


Draw = Callable[[int], Tensor]
"""The student's draws [B, ...] of validation rows in so many steps; 0: the teacher's in `TEACHER_STEPS`, from the same noise."""

Read = Callable[[Tensor, Tensor | None], dict[str, float]]
"""(draws, the teacher's) -> figures of the draws; None in the place of the teacher's: they are the teacher's own."""


def draw_latents(
    denoise: Denoise, teacher: Teacher, rows: np.ndarray, stage: str, shape: Sequence[int], steps: int
) -> Tensor:
    """Return latents of each row [B, *shape] as `Draw` says; the noise follows from the rows' numbers. stage: names the noise."""
    noise = NamedNoise([f"validation {row}" for row in rows], stage)
    scheduler = load_scheduler(teacher.scheduler, "lcm" if steps else "folder")
    return sample(denoise, noise, shape, scheduler, steps or TEACHER_STEPS, device=device_of(teacher.unet))


def compare(trials: Iterable[tuple[Draw, Read]], sampled: Sequence[int], distance: str) -> dict[str, float]:
    """Return the mean figures over batches of validation rows: the teacher's (`teacher_spread`), and the student's in each
    number of steps (`off_4`).

    distance: the figure that says how far the student is from its teacher; `score` is minus that of the most steps.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for draw, read in trials:
        # The teacher's many steps, and the student's few from the same noise.
        wanted = draw(0)
        for name, value in read(wanted, None).items():
            found[f"teacher_{name}"].append(value)
        for steps in sampled:
            for name, value in read(draw(steps), wanted).items():
                found[f"{name}_{steps}"].append(value)
    # The loop keeps the checkpoint of the highest score.
    metrics = {name: float(np.mean(values)) for name, values in found.items()}
    return {"score": -metrics[f"{distance}_{max(sampled)}"], **metrics}


def finish_export(teacher: Teacher, config: StudentConfig, folder: Path, card: Card, facts: dict[str, Any]) -> None:
    """Write what makes a part in `folder` a student's: LCM as its scheduler, `student.json` with its steps, and the card.

    facts: of the card; its `summary` may hold {steps} and the config's own values.
    """
    save_student(load_scheduler(teacher.scheduler), config.sampled, folder)
    told = dict(config) | {"steps": ", ".join(map(str, config.sampled))}
    summary = facts["summary"].format(**told)
    card.model_copy(update=facts | {"summary": summary}).write(folder)
