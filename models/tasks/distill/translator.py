"""Distil a translator from thermal to visible into a student of few steps.

python -m cluster train distill_translator --data URI --validation URI --out DIR --set teacher=DIR
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
from models.tasks import absolute
from models.tasks.distill.student import Student
from models.tasks.translation import config as translation
from models.tasks.translation.rows import Drawn, draw_rows
from models.tasks.translation.rows import prepare as prepare_rows
from models.tasks.translation.task import COLUMNS as TRANSLATED_COLUMNS
from models.tasks.translation.task import LIMITS, cosine_to_truth, decode_clean
from models.translation.network import Loaded, Translator, load_translator, read_config, save_translator
from models.translation.settings import ATTRIBUTES, AUTOENCODER, LANDMARKS, RECOGNISER, VAE
from models.visible import cache
from models.weights.networks import device_of

COLUMNS = TRANSLATED_COLUMNS
SUMMARY = """A student of {teacher}: it translates in {steps} steps as its teacher does in many (consistency distillation, arXiv
2310.04378), and is told what its teacher is told."""


class Config(translation.Config):
    steps: int = Field(1500, gt=0)
    lr: float = Field(2e-4, gt=0)
    warmup: int = Field(50, ge=0)
    ema: float = Field(0.99, ge=0, lt=1)
    time: float = Field(1.0, description="mean of the logit-normal time: jumps from noise decide what a picture shows")
    identity: float = Field(0.1, ge=0, description="weight of 1 - cosine of the student's jumps to the true picture")
    low_noise: float = Field(1.0, gt=0, le=1, description="largest share of noise of rows that are decoded")
    teacher: str = Field("", description="folder of the translate part that is distilled")
    vae: str = Field("", description="folder of the visible autoencoder; by default the teacher's")
    sampled: tuple[int, ...] = Field((1, 2, 4), description="numbers of steps that the student may be asked for")
    delta: float = Field(0.02, gt=0, description="width at which the error turns from square to linear")

    _teacher = field_validator("teacher")(absolute)


def weights(config: Config) -> list[Path]:
    """Return the folders that the student is trained beside. Raises UserError where no teacher is named."""
    if not config.teacher:
        raise UserError(
            "distill_translator needs a teacher: --set teacher=DIR, a translate part of kind latent-diffusion"
        )
    return [cache.from_root(path) for path in (config.teacher, config.faces if config.identity else "") if path]


def build(config: Config) -> nn.Module:
    """Return a student that translates as its teacher does."""
    return Student(load_translator({"model": cache.from_root(config.teacher)}))


def _complete(config: Config) -> Config:
    """Return the configuration with the teacher's shape, autoencoders and recogniser."""
    home = cache.from_root(config.teacher)
    shape = read_config(home)
    own = {"vae": config.vae or str(home / VAE), "autoencoder": str(home / AUTOENCODER), "shape": shape}
    return config.model_copy(update=own | {"recogniser": str(home / RECOGNISER) if shape.identity else ""})


def prepare(rows: Columns, config: Config) -> Columns:
    """Return what `loss` needs of decoded rows, as the translator's own training does."""
    return prepare_rows(rows, _complete(config))


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the consistency error of the rows, plus `identity` x (1 - cosine) of those that were jumped to from most noise."""
    assert isinstance(model, Student)
    teacher, process = model.frozen()
    config = _complete(config)
    # Teacher and student are told the same; neither is guided.
    drawn = draw_rows(batch, config, process, batch["draw"])
    told, rule, device = _told(teacher, drawn), Consistency(process, config.delta), device_of(model)
    places = rule.positions(drawn.timesteps)
    weight = drawn.weight / drawn.weight.mean(dim=(1, 2, 3), keepdim=True)
    latents, noise = drawn.latents.to(device), drawn.noise.to(device)
    unets = plain(model.unet, told), plain(teacher.unet, told)
    errors, found = rule.errors(*unets, latents, noise, places, weight.to(device))
    total, metrics = errors.mean(), {"consistency": errors.mean().item()}
    # Whom the student's pictures show.
    if config.identity and config.looked_at:
        chosen = places.argsort(descending=True)[: config.looked_at].cpu()
        cosine = cosine_to_truth(decode_clean(found[chosen.to(device)], config), drawn, chosen, config)
        total, metrics["cosine"] = total + config.identity * (1 - cosine).mean(), cosine.mean().item()
    return total, metrics


def _told(teacher: Loaded, drawn: Drawn) -> Conditions:
    device = device_of(teacher.unet)
    who = None if drawn.who is None else drawn.who.to(device)
    told: Conditions = teacher.translator.guide(drawn.told.to(device), drawn.thermal.to(device), who)
    return told.to(device)


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return how far a student's latents are from its teacher's of 16 steps from the same noise, as root mean square (`off_4`),
    beside the teacher's own spread over the rows; `score` is minus the most steps' distance."""
    assert isinstance(model, Student)
    teacher, process = model.frozen()
    config = _complete(config)
    found: dict[str, list[float]] = {}
    for decoded in rows:
        seeds = [seed_of("validation", number) for number in decoded["row"]]
        drawn = draw_rows(prepare_rows(decoded, config), config, process, seeds)
        # The teacher's many steps, and the student's few from the same noise.
        wanted = _draw(teacher.unet, teacher, drawn, decoded["row"], "folder", 16)
        found.setdefault("teacher_spread", []).append(wanted.std(dim=0).mean().item())
        for steps in config.sampled:
            made = _draw(model.unet, teacher, drawn, decoded["row"], "lcm", steps)
            found.setdefault(f"off_{steps}", []).append((made - wanted).square().mean().sqrt().item())
    metrics = {name: float(np.mean(values)) for name, values in found.items()}
    return {"score": -metrics[f"off_{max(config.sampled)}"], **metrics}


def _draw(
    unet: UNet2DConditionModel, teacher: Loaded, drawn: Drawn, rows: np.ndarray, scheduler: SchedulerName, steps: int
) -> Tensor:
    """Return latents of each row, [B, C, h, w]; the noise follows from the rows' numbers."""
    told = _told(teacher, drawn)
    return sample(
        denoiser(unet, told, told, Guidance(1.0)),
        NamedNoise([f"validation {row}" for row in rows], "translate"),
        drawn.latents.shape[1:],
        load_scheduler(teacher.scheduler, scheduler),
        steps,
        device=unet.device,
    )


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write a translate part whose scheduler is LCM and whose `student.json` names its steps, and the card."""
    assert isinstance(model, Student)
    teacher, _ = model.frozen()
    home = cache.from_root(config.teacher)
    translator: Translator = teacher.translator
    translator.unet, own = model.unet, translator.unet
    copied = {name: home / name for name in (VAE, ATTRIBUTES, RECOGNISER, LANDMARKS) if (home / name).is_dir()}
    save_translator(translator, teacher.autoencoder, copied, folder)
    translator.unet = own
    save_student(load_scheduler(teacher.scheduler), config.sampled, folder)
    summary = SUMMARY.format(teacher=config.teacher, steps=", ".join(map(str, config.sampled)))
    facts = {"title": "Thermal to visible in few steps", "summary": summary, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
