"""What a translator's training sees of rows: latents of both modalities, words, who is shown, and what is drawn at each visit."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.attributes import ATTRIBUTES, mirror_words
from models.augment.canvas import FLIPPED
from models.augment.geometry import mirror_points
from models.columns import Columns
from models.diffusion.process import DiscreteProcess, logit_normal_times
from models.faces.align import CROP, TEMPLATE, align, fit_similarities, five_points
from models.faces.metrics import unit_vectors
from models.faces.pack import Session, embed
from models.landmarks.found import can_align, fill_points
from models.landmarks.intensity import show_thermal
from models.padding import in_batches
from models.tasks.translation.config import Config, autoencoder_of, recogniser_session
from models.temperature import fill, from_grey, stretch
from models.translation.attributes import encode_words
from models.translation.network import (
    thermal_latents,
)
from models.visible import cache


def prepare(rows: Columns, config: Config) -> Columns:
    """Return what `loss` needs of decoded rows: latents of both modalities, and of their mirror images, those of the thermal
    picture as grey levels, too; cell weights, words, and how the picture is aligned for the recogniser.

    Rows of published sets may have grey levels in the place of degrees, and no points: the landmarker looks for their face, and
    one that it does not find is taken for a face that fills the picture, of whom nobody says who it is."""
    # Degrees, and the same as grey levels of the picture's own range.
    autoencoder = autoencoder_of(config.autoencoder)
    celsius = to_degrees(rows["thermal"], config)
    grey = np.stack([stretch(one, config.shape.celsius) for one in celsius])

    def encode(pictures: np.ndarray) -> np.ndarray:
        values = torch.from_numpy(np.ascontiguousarray(pictures))
        with torch.inference_mode():
            return in_batches(lambda few: thermal_latents(autoencoder, few), values, cache.BATCH).half().numpy()

    # Visible latents, and where the face is, in the picture and in its mirror image.
    visible = cache.encode_latents(rows["visible"], config.vae)
    points = five_points(fill_points(rows, cache.from_root(config.landmarks)))
    known = can_align(points)
    points[~known] = TEMPLATE * (rows["visible"].shape[2] / CROP)
    mirrored = mirror_points(points, rows["visible"].shape[2], FLIPPED)
    # All of it twice, as seen and mirrored, in half precision; rows without a known face show nobody.
    return {
        "visible": visible,
        "visible_mirrored": cache.encode_latents(rows["visible"][:, :, ::-1], config.vae),
        "thermal": encode(celsius),
        "thermal_mirrored": encode(celsius[:, :, ::-1]),
        "grey": encode(grey),
        "grey_mirrored": encode(grey[:, :, ::-1]),
        "weight": cache.face_weight(rows["classes"], visible.shape[-1], config.face),
        "attributes": rows["attributes"],
        "align": np.stack([fit_similarities(points), fit_similarities(mirrored)], axis=1).astype(np.float32),
        **{
            name: np.where(known[:, None, None], values, 0).astype(np.float16)
            for name, values in _who(rows["visible"], celsius, (points, mirrored), config).items()
        },
    }


def to_degrees(thermal: np.ndarray, config: Config) -> np.ndarray:
    """Return thermal pictures [B, S, S] as degrees float32, known everywhere; grey levels uint8 by the translator's scale."""
    return np.stack([fill(from_grey(one, config.shape.celsius) if one.dtype == np.uint8 else one) for one in thermal])


def _who(visible: np.ndarray, celsius: np.ndarray, points: tuple[np.ndarray, np.ndarray], config: Config) -> Columns:
    """Return whom rows show, float16 [B, 2, 512]: `who` by the thermal recogniser, `true_who` by the visible one."""
    found = {}
    if config.recogniser:
        thermal = np.stack([show_thermal(one) for one in celsius])
        found["who"] = _embed(thermal, points, recogniser_session(config.recogniser, "recogniser"))
    if config.recogniser and config.true_who:
        found["true_who"] = _embed(visible, points, recogniser_session(config.faces, "faces"))
    return found


def _embed(shown: np.ndarray, points: tuple[np.ndarray, np.ndarray], session: Session) -> np.ndarray:
    """Return whom pictures [B, S, S, 3] and their mirror images show, of `points` each, float16 [B, 2, 512]."""
    both = zip((shown, np.ascontiguousarray(shown[:, :, ::-1])), points, strict=True)
    found = [
        unit_vectors(embed(session, align(pictures, five.astype(np.float32)), cache.BATCH)) for pictures, five in both
    ]
    return np.stack(found, axis=1).astype(np.float16)


@dataclass(frozen=True)
class Drawn:
    """Rows with all that is drawn for one visit to each. Tensors [B, ...] float32 but `timesteps`; words: of the true picture.
    who: embeddings of whom thermal pictures show, zeros in rows that are not told."""

    latents: Tensor
    thermal: Tensor
    told: Tensor
    words: list[dict[str, str]]
    weight: Tensor
    align: Tensor
    timesteps: Tensor
    noise: Tensor
    who: Tensor | None


def draw_rows(batch: Columns, config: Config, process: DiscreteProcess, seeds: Iterable[int]) -> Drawn:
    """Draw what a step needs of its rows, each from its own generator."""
    # Always in this order: flip, grey, attributes, time step, noise, who (whether it is told, then of which picture).
    rngs = [np.random.default_rng(int(seed)) for seed in seeds]
    mirrored = np.array([rng.random() < config.flip for rng in rngs])
    grey = np.array([rng.random() < config.grey for rng in rngs])
    rows = [read_words(text) for text in batch["attributes"]]
    words = [mirror_words(row) if flip else row for row, flip in zip(rows, mirrored, strict=True)]
    told = [draw_told(rng, row, config) for rng, row in zip(rngs, words, strict=True)]
    times = logit_normal_times(rngs, config.time)
    timesteps = process.timesteps(np.ones_like(times) if config.regression else times)
    noise = np.stack([rng.standard_normal(batch["visible"].shape[1:], np.float32) for rng in rngs])

    who = None
    if "who" in batch:
        # Rows that are told no attribute are half of the time not told who either: what guidance leads away from.
        shares = [config.unknown if words_told else max(config.unknown, 0.5) for words_told in told]
        told_who = np.array([rng.random() >= share for rng, share in zip(rngs, shares, strict=True)])
        sides = np.arange(len(rngs)), mirrored.astype(int)
        own = batch["who"][sides].astype(np.float32)
        if config.true_who:
            own = draw_true(rngs, own, batch["true_who"][sides].astype(np.float32), config)
        who = torch.from_numpy(own * told_who[:, None])

    def choose(name: str) -> np.ndarray:
        return np.where(mirrored[:, None, None, None], batch[f"{name}_mirrored"], batch[name]).astype(np.float32)

    thermal = np.where(grey[:, None, None, None], choose("grey"), choose("thermal"))
    weight = np.where(mirrored[:, None, None], batch["weight"][..., ::-1], batch["weight"]).astype(np.float32)
    return Drawn(
        torch.from_numpy(choose("visible")), torch.from_numpy(thermal), encode_words(told, config.shape.words), words,
        torch.from_numpy(weight)[:, None], torch.from_numpy(batch["align"][np.arange(len(rngs)), mirrored.astype(int)]),
        timesteps, torch.from_numpy(noise), who,
    )  # fmt: skip


def read_words(text: str) -> dict[str, str]:
    """Return the words of a row's attributes that are ours; published sets say other things there, too."""
    said = json.loads(text) if text else {}
    return {name: said[name] for name, (_, _, words) in ATTRIBUTES.items() if said.get(name) in words}


def draw_true(
    rngs: Sequence[np.random.Generator], thermal: np.ndarray, visible: np.ndarray, config: Config
) -> np.ndarray:
    """Return embeddings float32 [B, 512] of length one: of a row's visible picture, with noise of a drawn length, or of its
    thermal one."""
    chosen = np.array([rng.random() < config.true_who for rng in rngs])
    length = np.array([rng.random() for rng in rngs])[:, None] * config.who_noise
    directions = unit_vectors(np.stack([rng.standard_normal(visible.shape[1], np.float32) for rng in rngs]))
    return np.where(chosen[:, None], unit_vectors(visible + length * directions), thermal).astype(np.float32)


def draw_told(rng: np.random.Generator, words: dict[str, str], config: Config) -> dict[str, str]:
    """Return the words that a row is told: none, or each with the chance `tell`."""
    nothing, shares = rng.random(), rng.random(len(config.shape.words))
    if nothing < config.tell_nothing:
        return {}
    return {
        n: words[n] for n, share in zip(config.shape.words, shares, strict=True) if share < config.tell and n in words
    }
