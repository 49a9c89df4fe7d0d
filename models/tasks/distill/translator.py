"""Distil a translator from thermal to visible into a student of few steps.

python -m cluster train distill_translator --data URI --validation URI --out DIR --set teacher=DIR
"""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from models.card import Card
from models.columns import Columns
from models.diffusion.conditions import Conditions
from models.diffusion.consistency import Consistency
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.students import guided, plain
from models.seeds import seed_of
from models.tasks.distill.student import TRANSLATOR, Draw, Student, StudentConfig, compare, draw_latents, finish_export
from models.tasks.identity import cosine_to_truth, decode_clean, recogniser_of
from models.tasks.translation import config as translation
from models.tasks.translation.rows import Drawn, draw_rows
from models.tasks.translation.rows import prepare as prepare_rows
from models.tasks.translation.task import COLUMNS, FOUND, LIMITS
from models.translation.network import Loaded, TranslatorConfig, load_translator, read_config, save_translator
from models.translation.settings import ATTRIBUTES, AUTOENCODER, LANDMARKS, RECOGNISER, VAE
from models.visible import cache
from models.weights.networks import device_of

# Its rows are its teacher's; what a task offers is found by name.
__all__ = ["COLUMNS", "FOUND", "Config", "build", "export", "loss", "prepare", "validate", "weights"]
SUMMARY = """A student of {teacher}: it translates in {steps} steps without guidance as its teacher does in many with guidance
{guidance:g} (consistency distillation, arXiv 2310.04378), and is told what its teacher is told."""


class Config(StudentConfig, translation.Config):
    DECIDED: ClassVar = (
        "autoencoder",
        "shape",
        "recogniser",
        "regression",
        "stage1",
        "visible",
        "thermal_attributes",
        "attributes",
        "adversarial",
    )

    guidance: float = Field(
        3.0, ge=1, description="of the teacher, away from what is told no attributes, nor who is shown"
    )
    identity: float = Field(0.1, ge=0, description="weight of 1 - cosine of the student's jumps to the true picture")
    low_noise: float = Field(1.0, gt=0, le=1, description="largest share of noise of rows that are decoded")


def weights(config: Config) -> list[Path]:
    """Return the folders that the student is trained beside. Raises UserError where no teacher is named, or a wrong
    one."""
    config.check_teacher("distill_translator", TRANSLATOR)
    named = (config.teacher, config.vae, config.faces if config.identity else "")
    return [cache.from_root(path) for path in named if path]


def build(config: Config) -> nn.Module:
    """Return a student that translates as its teacher does."""
    return Student(load_translator({"model": cache.from_root(config.teacher)}))


def _complete(config: Config, shape: TranslatorConfig) -> Config:
    """Return the configuration with the teacher's `shape`, autoencoders and recogniser."""
    home = cache.from_root(config.teacher)
    own = {"vae": config.vae or str(home / VAE), "autoencoder": str(home / AUTOENCODER), "shape": shape}
    return config.model_copy(update=own | {"recogniser": str(home / RECOGNISER) if shape.identity else ""})


def prepare(rows: Columns, config: Config) -> Columns:
    """Return what `loss` needs of decoded rows, as the translator's own training does."""
    return prepare_rows(rows, _complete(config, read_config(cache.from_root(config.teacher))))


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the consistency error of the rows, plus `identity` x (1 - cosine) of those that were jumped to from most noise."""
    assert isinstance(model, Student)
    teacher, process = model.frozen()
    config = _complete(config, teacher.translator.config)
    # Teacher and student are told the same; the teacher alone is guided.
    drawn = draw_rows(batch, config, process, batch["draw"])
    (told, untold), rule, device = _told(teacher, drawn), Consistency(process, config.delta), device_of(model)
    places = rule.positions(drawn.timesteps)
    weight = drawn.weight / drawn.weight.mean(dim=(1, 2, 3), keepdim=True)
    latents, noise = drawn.latents.to(device), drawn.noise.to(device)
    unets = plain(model.unet, told), guided(teacher.unet, told, untold, config.guidance)
    errors, found = rule.errors(*unets, latents, noise, places, weight.to(device))
    total, metrics = errors.mean(), {"consistency": errors.mean().item()}
    # Whom the student's pictures show.
    if config.identity and config.looked_at:
        chosen = places.argsort(descending=True)[: config.looked_at].cpu()
        pictures, recogniser = decode_clean(found[chosen.to(device)], config.vae), recogniser_of(config.faces)
        cosine = cosine_to_truth(pictures, drawn.latents[chosen], drawn.align[chosen], recogniser, config.vae)
        total, metrics["cosine"] = total + config.identity * (1 - cosine).mean(), cosine.mean().item()
    return total, metrics


def _told(teacher: Loaded, drawn: Drawn) -> tuple[Conditions, Conditions]:
    """Return what rows are told, and what the teacher is guided away from, as the stage has them."""
    device = device_of(teacher.unet)
    who = None if drawn.who is None else drawn.who.to(device)
    told, thermal = drawn.told.to(device), drawn.thermal.to(device)
    guide = teacher.translator.guide
    return guide(told, thermal, who).to(device), guide(torch.zeros_like(told), thermal).to(device)


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return how far a student's latents are from its teacher's of 16 steps from the same noise, as root mean square (`off_4`),
    beside the teacher's own spread over the rows; `score` is minus the most steps' distance."""
    assert isinstance(model, Student)
    config = _complete(config, model.frozen()[0].translator.config)
    return compare(((_draw(model, decoded, config), _read) for decoded in rows), config.sampled, "off")


def _draw(model: Student[Loaded], decoded: Columns, config: Config) -> Draw:
    """Return what draws decoded rows as latents [B, C, h, w]."""
    teacher, process = model.frozen()
    seeds = [seed_of("validation", number) for number in decoded["row"]]
    drawn = draw_rows(prepare_rows(decoded, config), config, process, seeds)
    told, untold = _told(teacher, drawn)

    def draw(steps: int) -> Tensor:
        alone = denoiser(model.unet, told, told, Guidance(1.0))
        towards = denoiser(teacher.unet, told, untold, Guidance(config.guidance))
        return draw_latents(
            alone if steps else towards, teacher, decoded["row"], "translate", drawn.latents.shape[1:], steps
        )

    return draw


def _read(drawn: Tensor, wanted: Tensor | None) -> dict[str, float]:
    if wanted is None:
        return {"spread": drawn.std(dim=0).mean().item()}
    return {"off": (drawn - wanted).square().mean().sqrt().item()}


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write a translate part whose scheduler is LCM and whose `student.json` names its steps, and the card."""
    assert isinstance(model, Student)
    teacher, _ = model.frozen()
    home = cache.from_root(config.teacher)
    copied = {name: home / name for name in (VAE, ATTRIBUTES, RECOGNISER, LANDMARKS) if (home / name).is_dir()}
    save_translator(teacher.translator, teacher.autoencoder, copied, folder, model.unet)
    facts = {"title": "Thermal to visible in few steps", "summary": SUMMARY, "limits": LIMITS}
    finish_export(teacher, config, folder, card, facts)
