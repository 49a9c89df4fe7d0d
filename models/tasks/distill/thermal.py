"""Distil a thermal latent diffusion into a student of few steps.

python -m cluster train distill_thermal --data URI --validation URI --out DIR --set teacher=DIR
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from diffusers import UNet2DConditionModel
from pydantic import Field, field_validator
from torch import Tensor, nn

from models.card import Card
from models.columns import Columns
from models.diffusion.conditions import Conditions
from models.diffusion.consistency import Consistency
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.names import SchedulerName
from models.diffusion.sample import NamedNoise, sample
from models.diffusion.schedulers import load_scheduler
from models.diffusion.students import plain, save_student
from models.errors import UserError
from models.seeds import seed_of
from models.tasks import absolute, thermal_ldm
from models.tasks.distill.student import Student
from models.thermal.latent.network import Loaded, condition, load_latent, save_latent, unpatch
from models.thermal.latent.settings import AUTOENCODER, VAE
from models.visible import cache
from models.weights.networks import device_of

COLUMNS = thermal_ldm.COLUMNS
SUMMARY = """A student of {teacher}: it draws in {steps} steps what its teacher draws in many (consistency distillation, arXiv
2310.04378), in degrees Celsius, for a room in degrees, a word, or a room that nobody names."""


class Config(thermal_ldm.Config):
    steps: int = Field(1500, gt=0)
    lr: float = Field(2e-4, gt=0)
    warmup: int = Field(50, ge=0)
    ema: float = Field(0.99, ge=0, lt=1)
    time: float = Field(1.0, description="mean of the logit-normal time: jumps from noise decide what a picture shows")
    teacher: str = Field("", description="folder of the thermal part that is distilled")
    vae: str = Field("", description="folder of the visible autoencoder; by default the teacher's")
    autoencoder: str = Field("", description="folder of the thermal autoencoder; by default the teacher's")
    sampled: tuple[int, ...] = Field((1, 2, 4), description="numbers of steps that the student may be asked for")
    delta: float = Field(0.02, gt=0, description="width at which the error turns from square to linear")

    _teacher = field_validator("teacher")(absolute)


def weights(config: Config) -> list[Path]:
    """Return the folder that the student is trained beside. Raises UserError where none is named."""
    if not config.teacher:
        raise UserError("distill_thermal needs a teacher: --set teacher=DIR, a part of kind latent-diffusion")
    return [cache.from_root(config.teacher)]


def build(config: Config) -> nn.Module:
    """Return a student that draws as its teacher does."""
    return Student(load_latent({"model": cache.from_root(config.teacher)}))


def _complete(config: Config) -> Config:
    """Return the configuration with the teacher's autoencoders and what its rows were told."""
    own = {
        VAE: config.vae or f"{config.teacher}/{VAE}",
        AUTOENCODER: config.autoencoder or f"{config.teacher}/{AUTOENCODER}",
    }
    return config.model_copy(update=own | {"latent": thermal_ldm.read_config(cache.from_root(config.teacher))})


def prepare(rows: Columns, config: Config) -> Columns:
    """Return what `loss` needs of decoded rows; see `thermal_ldm.prepare`."""
    return thermal_ldm.prepare(rows, _complete(config))


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the consistency error of the rows, each told of its room what it happens to be told."""
    assert isinstance(model, Student)
    teacher, process = model.frozen()
    config = _complete(config)
    # Teacher and student are told the same of the room; neither is guided.
    drawn = thermal_ldm.draw_rows(batch, config, process, batch["draw"])
    told = _told(teacher, drawn)
    rule = Consistency(process, config.delta)
    device = device_of(model)
    weight = drawn.weight / drawn.weight.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-3)
    errors, _ = rule.errors(
        plain(model.unet, told),
        plain(teacher.unet, told),
        drawn.latents.to(device),
        drawn.noise.to(device),
        rule.positions(drawn.timesteps),
        weight.to(device),
    )
    return errors.mean(), {"consistency": errors.mean().item()}


def _told(teacher: Loaded, drawn: thermal_ldm.Drawn) -> Conditions:
    told = condition(teacher.unet, drawn.rooms, teacher.config.conditions, drawn.visible, drawn.shares)
    return told.to(teacher.unet.device)


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return how far a student's draws are from its teacher's of 16 steps from the same noise, in kelvin (`kelvin_4`), and
    the spread of either over the rows (`spread_4`, `teacher_spread`); `score` is minus the most steps' distance."""
    assert isinstance(model, Student)
    teacher, process = model.frozen()
    config = _complete(config)
    found: dict[str, list[float]] = {}
    for decoded in rows:
        seeds = [seed_of("validation", number) for number in decoded["row"]]
        drawn = thermal_ldm.draw_rows(thermal_ldm.prepare(decoded, config), config, process, seeds)
        # The teacher's many steps, and the student's few from the same noise.
        wanted = _draw(teacher.unet, teacher, drawn, decoded["row"], "folder", 16)
        found.setdefault("teacher_spread", []).append(wanted.std(dim=0).mean().item())
        for steps in config.sampled:
            made = _draw(model.unet, teacher, drawn, decoded["row"], "lcm", steps)
            found.setdefault(f"kelvin_{steps}", []).append((made - wanted).abs().mean().item())
            found.setdefault(f"spread_{steps}", []).append(made.std(dim=0).mean().item())
    metrics = {name: float(np.mean(values)) for name, values in found.items()}
    return {"score": -metrics[f"kelvin_{max(config.sampled)}"], **metrics}


def _draw(
    unet: UNet2DConditionModel,
    teacher: Loaded,
    drawn: thermal_ldm.Drawn,
    rows: np.ndarray,
    scheduler: SchedulerName,
    steps: int,
) -> Tensor:
    """Return a draw of each row in degrees Celsius [B, S, S]; the noise follows from the rows' numbers."""
    told = _told(teacher, drawn)
    latents = sample(
        denoiser(unet, told, told, Guidance(1.0)),
        NamedNoise([f"validation {row}" for row in rows], "thermal"),
        drawn.latents.shape[1:],
        load_scheduler(teacher.scheduler, scheduler),
        steps,
        device=unet.device,
    )
    return teacher.autoencoder.decode(unpatch(latents, teacher.cells))


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write a thermal part whose scheduler is LCM and whose `student.json` names its steps, and the card."""
    assert isinstance(model, Student)
    teacher, _ = model.frozen()
    whole = _complete(config)
    silent = teacher.config.model_copy(update={"captions": False})  # a student learns of pictures and rooms alone
    save_latent(model.unet, teacher.autoencoder, cache.from_root(whole.vae), silent, folder)
    save_student(load_scheduler(teacher.scheduler), config.sampled, folder)
    summary = SUMMARY.format(teacher=config.teacher, steps=", ".join(map(str, config.sampled)))
    facts = {"title": "Thermal latent diffusion in few steps", "summary": summary, "limits": thermal_ldm.LIMITS}
    card.model_copy(update=facts).write(folder)
