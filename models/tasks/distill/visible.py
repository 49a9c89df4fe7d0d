"""Distil a visible model into a student of few steps and no guidance, which keeps the identity.

python -m cluster train distill_visible --data URI --validation URI --out DIR --set teacher=models/starter/visible

The student begins as its teacher and learns to jump where the guided teacher's sampler leads (`models.diffusion.consistency`).
Of some rows it is also asked whom its picture shows: decoded, aligned and read by the recogniser that gives the embeddings.
Judges have no part in it.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.augment.canvas import FLIPPED
from models.augment.geometry import mirror_points
from models.card import Card
from models.columns import Columns
from models.diffusion.conditions import Conditions
from models.diffusion.consistency import Consistency
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.students import guided, plain
from models.faces.align import fit_similarities, five_points
from models.faces.gradient.differentiable import DifferentiableRecogniser, align_pictures
from models.tasks import Place, visible
from models.tasks.distill.student import (
    VISIBLE,
    Draw,
    Read,
    Student,
    StudentConfig,
    compare,
    draw_latents,
    finish_export,
)
from models.tasks.identity import recogniser_of
from models.visible import cache
from models.visible.angles import FILE as HEAD
from models.visible.autoencoder import decode_range
from models.visible.head import HeadReader
from models.visible.model import Loaded, VisibleModel, condition, load_visible, save_visible
from models.visible.text import prompts, tokenize
from models.weights.networks import device_of

COLUMNS = visible.COLUMNS
SUMMARY = """A student of {teacher}: it draws in {steps} steps without guidance what its teacher draws in many with guidance
{guidance:g} (consistency distillation, arXiv 2310.04378), and keeps the identity by the recogniser's own gradient."""


class Config(StudentConfig, visible.RowsConfig):
    batch: int = Field(24, gt=0)
    drop_both: float = Field(0.0, ge=0, le=0, description="a student is never asked without conditions")
    teacher: Place = Field("models/starter/visible", description="folder of the visible part that is distilled")
    guidance: float = Field(2.0, ge=1, description="of the teacher")
    identity: float = Field(0.1, ge=0, description="weight of 1 - cosine to the asked identity")
    identity_rows: int = Field(4, ge=0, description="rows of a step that are decoded and read")


class IdentityStudent(Student[Loaded]):
    """A student beside whose teacher stands the recogniser that reads whom its pictures show."""

    def __init__(self, teacher: Loaded, recogniser: DifferentiableRecogniser) -> None:
        super().__init__(teacher)
        self.recogniser = recogniser


def weights(config: Config) -> list[Path]:
    """Return the folders that the student is trained beside. Raises UserError for a wrong teacher."""
    config.check_teacher("distill_visible", VISIBLE)
    return [cache.from_root(path) for path in (config.teacher, config.vae, config.faces) if path]


def build(config: Config) -> nn.Module:
    """Return a student that draws as its teacher does."""
    teacher = load_visible({"model": cache.from_root(config.teacher)})
    return IdentityStudent(teacher, recogniser_of(config.faces))


def _vae(config: Config) -> str:
    return config.vae or f"{config.teacher}/vae"


def prepare(rows: Columns, config: Config) -> Columns:
    """Return what `loss` needs of decoded rows; see `visible.prepare_rows`. `align`: from the picture to the aligned crop, and
    of the mirrored picture, float32 [B, 2, 2, 3]."""
    head = cache.from_root(config.teacher) / HEAD
    reader = HeadReader.load(head) if head.is_file() else None
    made = visible.prepare_rows(rows, config.model_copy(update={"vae": _vae(config)}), "world_identity", reader)
    points = five_points(rows["landmarks_70"])
    mirrored = mirror_points(points, rows["visible"].shape[2], FLIPPED)
    matrices = np.stack([fit_similarities(points), fit_similarities(mirrored)], axis=1)
    return made | {"align": matrices.astype(np.float32)}


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the consistency error of the rows, plus `identity` x (1 - cosine) of some.

    Logged: `consistency`, and `cosine` of the student's jumps from noise to the identity that was asked for.
    """
    assert isinstance(model, IdentityStudent)
    teacher, process = model.frozen()
    # What the rows are drawn under, and where on the grid of jumps each stands.
    drawn = visible.draw_rows(batch, config, process)
    cond, uncond = _conditions(teacher, drawn)
    rule = Consistency(process, config.delta)
    places = rule.positions(drawn.timesteps)
    weight = torch.from_numpy(drawn.batch["weight"]).float()[:, None].to(device_of(model))
    latents = torch.from_numpy(drawn.batch["latents"]).float().to(device_of(model))
    noise = drawn.noise.to(latents)
    # The student alone, against its own jump from where the guided teacher's step leads.
    guide = guided(teacher.unet, cond, uncond, config.guidance)
    errors, found = rule.errors(plain(model.unet, cond), guide, latents, noise, places, weight)
    metrics = {"consistency": errors.mean().item()}
    total = errors.mean()
    # Whom the student's pictures show: the rows that were jumped to from most noise, where the person is still open.
    if config.identity and config.identity_rows:
        rows = places.argsort(descending=True)[: config.identity_rows]
        cosine = _cosine(teacher, model.recogniser, found[rows], drawn, rows)
        total = total + config.identity * (1 - cosine).mean()
        metrics["cosine"] = cosine.mean().item()
    return total, metrics


def _conditions(teacher: Loaded, drawn: visible.Drawn) -> tuple[Conditions, Conditions]:
    """Return what the rows are drawn under, and what the teacher is guided away from, as the stage has them."""
    device = device_of(teacher.unet)
    texts = prompts([str(text or "") for text in drawn.captions])
    embedding = F.normalize(drawn.embedding, dim=-1).to(device)
    head = visible.head_input(drawn.batch, drawn.with_head)
    head = None if head is None else head.to(device)
    with torch.no_grad():
        ids = tokenize(teacher.tokenizer, texts).to(device)
        empty = teacher.text(tokenize(teacher.tokenizer, [""]).to(device)).expand(len(texts), -1, -1)
        cond = condition(teacher.unet, teacher.text(ids, embedding), embedding, head)
        uncond = condition(teacher.unet, empty, torch.zeros_like(embedding), head)
    return cond, uncond


def _cosine(
    teacher: Loaded, recogniser: DifferentiableRecogniser, latents: Tensor, drawn: visible.Drawn, rows: Tensor
) -> Tensor:
    """Return the cosine of latents, decoded and aligned as their rows' own pictures, to the identities asked for, [B]."""
    pictures = (decode_range(teacher.vae, latents) + 1) * 127.5
    chosen = rows.cpu().numpy()
    flipped = drawn.batch["flipped"][chosen].astype(int) if "flipped" in drawn.batch else np.zeros(len(chosen), int)
    matrices = torch.from_numpy(drawn.batch["align"][chosen, flipped]).to(pictures)
    found = F.normalize(recogniser(align_pictures(pictures, matrices)), dim=1)
    asked = F.normalize(drawn.embedding[rows.cpu()], dim=1).to(found)
    return (found * asked).sum(dim=1)


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return how near a student's one and four steps come to the teacher's 16 guided ones from the same noise, as root mean
    square of latents (`score` is minus the four steps'), and their cosines to the asked identity beside the teacher's."""
    assert isinstance(model, IdentityStudent)
    return compare((_trial(model, decoded, config) for decoded in rows), config.sampled, "off")


def _trial(model: IdentityStudent, decoded: Columns, config: Config) -> tuple[Draw, Read]:
    """Return what draws decoded rows as latents [B, C, h, w], the teacher with guidance, and what reads whom they show."""
    teacher, _ = model.frozen()
    # Drawn as every validation draws them, under the teacher's conditions.
    batch = prepare(decoded, config)
    drawn = visible.draw_validation(batch, decoded["row"])
    cond, uncond = _conditions(teacher, drawn)

    def draw(steps: int) -> Tensor:
        towards = denoiser(teacher.unet, cond, uncond, Guidance(config.guidance))
        alone = denoiser(model.unet, cond, cond, Guidance(1.0))
        shape = batch["latents"].shape[1:]
        return draw_latents(alone if steps else towards, teacher, decoded["row"], "visible", shape, steps)

    def read(made: Tensor, wanted: Tensor | None) -> dict[str, float]:
        cosine = _cosine(teacher, model.recogniser, made, drawn, torch.arange(len(made)))
        off = {} if wanted is None else {"off": (made - wanted).square().mean().sqrt().item()}
        return off | {"cosine": cosine.mean().item()}

    return draw, read


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write a visible part whose scheduler is LCM and whose `student.json` names its steps, and the card."""
    assert isinstance(model, IdentityStudent)
    teacher, _ = model.frozen()
    place = cache.from_root(config.teacher)
    reader = HeadReader.load(place / HEAD) if (place / HEAD).is_file() else None
    save_visible(
        VisibleModel(model.unet, teacher.text, teacher.tokenizer), cache.from_root(_vae(config)), folder, reader
    )
    facts = {"title": "Visible face in few steps", "summary": SUMMARY, "limits": visible.LIMITS}
    finish_export(teacher, config, folder, card, facts)
