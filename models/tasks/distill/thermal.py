"""Distil a thermal latent diffusion into a student of few steps.

python -m cluster train distill_thermal --data URI --validation URI --out DIR --set teacher=DIR
"""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from models.card import Card
from models.columns import Columns
from models.diffusion.conditions import Conditions
from models.diffusion.consistency import Consistency
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.students import plain
from models.seeds import seed_of
from models.tasks import thermal_ldm
from models.tasks.distill.student import THERMAL, Draw, Student, StudentConfig, compare, draw_latents, finish_export
from models.thermal.latent.network import LatentConfig, Loaded, condition, load_latent, read_config, save_latent
from models.thermal.latent.settings import AUTOENCODER, GUESS, VAE
from models.visible import cache
from models.weights.networks import device_of

COLUMNS = thermal_ldm.COLUMNS
SUMMARY = """A student of {teacher}: it draws in {steps} steps what its teacher draws in many (consistency distillation, arXiv
2310.04378), in degrees Celsius, for a room in degrees, a word, or a room that nobody names."""


class Config(StudentConfig, thermal_ldm.Config):
    DECIDED: ClassVar = ("autoencoder", "text", "guess", "shape", "latent")


def weights(config: Config) -> list[Path]:
    """Return the folders that the student is trained beside. Raises UserError where no teacher is named, or a wrong one."""
    config.check_teacher("distill_thermal", THERMAL)
    return [cache.from_root(path) for path in (config.teacher, config.vae) if path]


def build(config: Config) -> nn.Module:
    """Return a student that draws as its teacher does."""
    return Student(load_latent({"model": cache.from_root(config.teacher)}))


def _complete(config: Config, latent: LatentConfig) -> Config:
    """Return the configuration with the teacher's autoencoders and what its rows were told, `latent`."""
    own = {
        VAE: config.vae or f"{config.teacher}/{VAE}",
        AUTOENCODER: f"{config.teacher}/{AUTOENCODER}",
        GUESS: f"{config.teacher}/{GUESS}" if latent.guess else "",
    }
    return config.model_copy(update=own | {"latent": latent})


def prepare(rows: Columns, config: Config) -> Columns:
    """Return what `loss` needs of decoded rows; see `thermal_ldm.prepare`."""
    return thermal_ldm.prepare(rows, _complete(config, read_config(cache.from_root(config.teacher))))


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the consistency error of the rows, each told of its room what it happens to be told."""
    assert isinstance(model, Student)
    teacher, process = model.frozen()
    config = _complete(config, teacher.config)
    # Teacher and student are told the same of the room; neither is guided.
    drawn = thermal_ldm.draw_rows(batch, config, process, batch["draw"])
    told = _told(teacher, drawn)
    # The student's jump against its own from where the teacher's step leads.
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
    words = teacher.config.conditions
    told = condition(teacher.unet, drawn.rooms, words, drawn.visible, drawn.shares, guess=drawn.guess)
    return told.to(teacher.unet.device)


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return how far a student's draws are from its teacher's of 16 steps from the same noise, in kelvin (`kelvin_4`), and
    the spread of either over the rows (`spread_4`, `teacher_spread`); `score` is minus the most steps' distance."""
    assert isinstance(model, Student)
    config = _complete(config, model.frozen()[0].config)
    return compare(((_draw(model, decoded, config), _read) for decoded in rows), config.sampled, "kelvin")


def _draw(model: Student[Loaded], decoded: Columns, config: Config) -> Draw:
    """Return what draws decoded rows in degrees Celsius [B, S, S]."""
    teacher, process = model.frozen()
    seeds = [seed_of("validation", number) for number in decoded["row"]]
    drawn = thermal_ldm.draw_rows(thermal_ldm.prepare(decoded, config), config, process, seeds)
    told = _told(teacher, drawn)

    def draw(steps: int) -> Tensor:
        denoise = denoiser(model.unet if steps else teacher.unet, told, told, Guidance(1.0))
        latents = draw_latents(denoise, teacher, decoded["row"], "thermal", drawn.latents.shape[1:], steps)
        return teacher.decode(latents, drawn.guess)

    return draw


def _read(drawn: Tensor, wanted: Tensor | None) -> dict[str, float]:
    spread = {"spread": drawn.std(dim=0).mean().item()}
    return spread if wanted is None else {"kelvin": (drawn - wanted).abs().mean().item()} | spread


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write a thermal part whose scheduler is LCM and whose `student.json` names its steps, and the card."""
    assert isinstance(model, Student)
    teacher, _ = model.frozen()
    whole = _complete(config, teacher.config)
    silent = teacher.config.model_copy(update={"captions": False})  # a student learns of pictures and rooms alone
    guess = cache.from_root(whole.guess) if whole.guess else None
    save_latent(model.unet, teacher.autoencoder, cache.from_root(whole.vae), silent, folder, guess=guess)
    facts = {"title": "Thermal latent diffusion in few steps", "summary": SUMMARY, "limits": thermal_ldm.LIMITS}
    finish_export(teacher, config, folder, card, facts)
