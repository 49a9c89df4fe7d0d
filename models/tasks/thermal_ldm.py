"""Train the thermal latent diffusion: visible latents and what is known of the room in, thermal latents in degrees out.

python -m cluster train thermal_ldm --data URI --validation URI --out DIR --set autoencoder=DIR

What is told of the room is drawn anew at every visit of a row: its numbers, a part of them, its word, or nothing. So one
network knows the room's mean given its temperature, and the spread over what rooms could be where nobody says.
`--set text=models/starter/visible` makes the caption a condition, too: written from a row's attributes, and left out of
`drop_caption` of the rows. `--set guess=models/starter-rooms` leaves to diffusion what a thermalizer's first guess
(`models.thermal.latent.guess`), made at every visit for the room that is told, lacks.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from pydantic import Field
from torch import Tensor, nn

from models.attributes import mirror_words
from models.captions.grammar import write_caption
from models.card import Card
from models.classes import BACKGROUND, FACE, IGNORE, MIRRORED, MIRRORED_BYTES
from models.columns import Columns
from models.diffusion.process import DiscreteProcess, logit_normal_times, row_errors
from models.diffusion.schedulers import new_scheduler
from models.diffusion.shape import widen_input
from models.diffusion.unet import predict
from models.errors import UserError
from models.padding import in_batches
from models.seeds import seed_of
from models.tasks import Place
from models.tasks.rooms import RoomConfig, draw_room, parse_rows, word_numbers
from models.temperature import fill
from models.thermal.latent.autoencoder import ThermalAutoencoder, load_autoencoder
from models.thermal.latent.captions import CaptionReader, load_captions
from models.thermal.latent.cells import class_shares, patch
from models.thermal.latent.guess import FirstGuess, load_guess
from models.thermal.latent.network import (
    LatentConfig,
    ShapeConfig,
    condition,
    new_latent_unet,
    read_config,
    save_latent,
)
from models.thermal.rooms import Room
from models.visible import cache
from models.visible.autoencoder import SHRINK, load_part
from models.weights.networks import accelerator, load_strictly

STAGE = "thermal"
COLUMNS = ("visible", "classes", "thermal", "valid", "condition", "domain", "ambient_c", "sun_wm2", "wind_ms")
SUMMARY = """Turns a visible face into apparent temperature in degrees Celsius, a draw at a time, for a room in degrees (outdoors
with sun and wind), a word, or a room that nobody names: latent diffusion beside the visible latents, as LaPIG's second half."""
LIMITS = """Learnt from rendered people. A draw is one picture that could be, not a measurement: its error is larger than that of
the mean of several. Of rooms outside of those it learned from (`thermal.json`) it makes pictures that are marked."""


class Config(RoomConfig):
    steps: int = Field(3000, gt=0)
    batch: int = Field(32, gt=0)
    lr: float = Field(1e-3, gt=0)
    warmup: int = Field(200, ge=0)
    ema: float = Field(0.998, ge=0, lt=1)
    channels_last: bool = Field(False, description="group norm is slow in NHWC on CPUs")
    validate_rows: int = Field(512, gt=0)
    size: int = Field(128, gt=0, description="side of the pictures in pixels")
    vae: Place = Field("models/starter/visible/vae", description="folder of the visible autoencoder")
    autoencoder: Place = Field("", description="folder of the thermal one, which `train thermal_vae` writes")
    text: Place = Field(
        "", description="folder of the encoder and tokenizer that read captions; empty: captions are no condition"
    )
    drop_caption: float = Field(
        0.3, ge=0, le=1, description="share of rows without their caption, where it is a condition"
    )
    drop_attribute: float = Field(0.1, ge=0, le=1, description="chance of each attribute to go unsaid in a caption")
    guess: Place = Field(
        "", description="folder of a thermalizer of rooms whose first guess the U-Net is shown; empty: none"
    )
    shape: ShapeConfig = ShapeConfig()
    latent: LatentConfig = LatentConfig()
    face: float = Field(4.0, gt=0, description="weight of the face's cells; the rest of the person has 1")
    background: float = Field(0.2, ge=0, description="weight of background cells")
    time: float = Field(0.3, description="mean of the logit-normal time, 0 = clear, 1 = noise (arXiv 2403.03206, 3.1)")
    flip: float = Field(0.5, ge=0, le=1, description="share of rows that are seen mirrored")
    drop_classes: float = Field(0.15, ge=0, le=1, description="share of rows that are shown no classes")


class Trainee(nn.Module):
    """The U-Net that learns, and what it is told; the autoencoders are looked up (`models.visible.cache`, `_autoencoder`), and
    never learn here."""

    def __init__(self, unet: UNet2DConditionModel, told: LatentConfig) -> None:
        super().__init__()
        self.unet, self.told = unet, told


@lru_cache(maxsize=1)
def _autoencoder(folder: str) -> ThermalAutoencoder:
    return load_autoencoder(cache.from_root(folder)).requires_grad_(False)


@lru_cache(maxsize=1)
def _words(folder: str) -> CaptionReader:
    return load_captions(cache.from_root(folder))


@lru_cache(maxsize=1)
def _guesser(folder: str, autoencoder: str, words: tuple[str, ...]) -> FirstGuess:
    # An encoder of its own: it moves to the device, and what prepares rows stays where it is.
    encoder = load_autoencoder(cache.from_root(autoencoder)).requires_grad_(False)
    guess = load_guess(cache.from_root(folder), encoder, SHRINK // encoder.config.factor, words)
    for network in guess.networks():
        network.to(accelerator())
    return guess


def _told(config: Config) -> LatentConfig:
    """Return what the U-Net is told, captions and first guess as the folders of the configuration say."""
    return config.latent.model_copy(update={"captions": bool(config.text), "guess": bool(config.guess)})


def columns(config: Config) -> tuple[str, ...]:
    """Return the columns that training reads: of rows whose captions are written also their attributes."""
    return (*COLUMNS, "attributes") if config.text else COLUMNS


def weights(config: Config) -> list[Path]:
    """Return the folders that training reads beside `init`. Raises UserError where the thermal autoencoder is not named."""
    if not config.autoencoder:
        raise UserError(
            "thermal_ldm needs an autoencoder of temperatures: train thermal_vae, then --set autoencoder=DIR"
        )
    folders = (config.vae, config.autoencoder, config.text, config.guess)
    return [cache.from_root(folder) for folder in folders if folder]


def build(config: Config) -> nn.Module:
    """Return a fresh U-Net for the latents of both autoencoders."""
    thermal = _autoencoder(config.autoencoder).config
    made = thermal.channels * (SHRINK // thermal.factor) ** 2
    side = config.size // SHRINK
    # Cross-attention is as wide as what reads captions.
    shape = config.shape.model_copy(update={"hidden": _words(config.text).width}) if config.text else config.shape
    told = _told(config)
    unet = new_latent_unet(shape, made, cache.autoencoder(config.vae).config.latent_channels, side, told)
    if not torch.cuda.is_available():  # on CPUs the backward pass of fused attention costs three times the plain one
        unet.set_attn_processor(AttnProcessor())
    return Trainee(unet, told)


def begin(model: nn.Module, folder: Path) -> None:
    """Fill `model` from the folder of a thermal latent diffusion of the same shape. From one that is shown no first guess it
    begins with zero weights for it, and has to learn that it is to be left out.
    """
    assert isinstance(model, Trainee)
    theirs = read_config(folder)
    if theirs.classes != model.told.classes or theirs.guess > model.told.guess:
        shown = ("classes " if theirs.classes else "no classes ") + ("and a first guess" if theirs.guess else "")
        raise UserError(f"{folder} is shown {shown}: set latent.classes and guess alike, and train on from it.")
    state = load_part(UNet2DConditionModel, folder / "unet").state_dict()
    if model.told.guess and not theirs.guess:
        state = widen_input(state, model.unet, model.unet.config.out_channels)
    load_strictly(model.unet, state, folder / "unet")


def prepare(rows: Columns, config: Config) -> Columns:
    """Return what `loss` needs of decoded rows, some 40 kB each (120 with a first guess, which needs the pictures): latents of
    both modalities and of their mirror images, shares of the true and of the parser's classes, cell weights, the room's
    numbers and the number of its word (-1 for none)."""
    # Temperatures known everywhere, encoded at the size of visible latents.
    side = config.size // SHRINK
    autoencoder = _autoencoder(config.autoencoder)
    cells = SHRINK // autoencoder.config.factor
    celsius = torch.from_numpy(np.stack([fill(one) for one in rows["thermal"]]))

    def encode(pictures: Tensor) -> np.ndarray:
        with torch.inference_mode():
            return patch(in_batches(autoencoder.encode, pictures, cache.BATCH), cells).half().numpy()

    # Both modalities, what stands where by the true and the parser's classes, and what the room was.
    parsed = parse_rows(rows, config)
    pictures = {"picture": rows["visible"], "classes": rows["classes"], "parsed_classes": parsed}
    return {
        "visible": cache.encode_latents(rows["visible"], config.vae),
        "visible_mirrored": cache.encode_latents(rows["visible"][:, :, ::-1], config.vae),
        "thermal": encode(celsius),
        "thermal_mirrored": encode(celsius.flip(2)),
        "shares": class_shares(rows["classes"], side).astype(np.float16),
        "parsed": class_shares(parsed, side).astype(np.float16),
        "weight": _cell_weights(rows, side, config),
        "room": np.stack([np.asarray(rows[name], np.float32) for name in ("ambient_c", "sun_wm2", "wind_ms")], axis=1),
        "word": word_numbers(rows, config.latent.conditions, config.unnamed),
        **({"attributes": rows["attributes"]} if config.text else {}),
        **(pictures if config.guess else {}),
    }


def _cell_weights(rows: Columns, side: int, config: Config) -> np.ndarray:
    """Return the weight of each latent cell, float16 [B, side, side]: the mean over its pixels, none for those not read."""
    classes = rows["classes"]
    person = np.where(np.isin(classes, FACE), config.face, 1.0)
    weight = np.where(classes == BACKGROUND, config.background, person)
    weight = weight * ((np.asarray(rows["valid"]) > 0) & np.isfinite(rows["thermal"]))
    pixels = torch.from_numpy(weight.astype(np.float32))[:, None]
    return torch.nn.functional.adaptive_avg_pool2d(pixels, side)[:, 0].half().numpy()


@dataclass(frozen=True)
class Drawn:
    """Rows with all that is drawn for one visit to each. All [B, ...] float32 but `rooms` and `timesteps`. latents: what is to be
    made, less the first guess where there is one."""

    latents: Tensor
    visible: Tensor
    shares: Tensor | None
    weight: Tensor
    rooms: list[Room]
    timesteps: Tensor
    noise: Tensor
    captions: tuple[str, ...] = ()
    """Empty where they are no condition; a row that is told none has an empty one."""
    guess: Tensor | None = None


def draw_rows(batch: Columns, config: Config, process: DiscreteProcess, seeds: Iterable[int]) -> Drawn:
    """Draw what a step needs of its rows, each from its own generator."""
    # Always in this order: flip, room, classes, time step, noise, parser, caption.
    rngs = [np.random.default_rng(int(seed)) for seed in seeds]
    mirrored = np.array([rng.random() < config.flip for rng in rngs])
    rooms = [
        draw_room(rng, numbers, "" if word < 0 else config.latent.conditions[word], config)
        for rng, numbers, word in zip(rngs, batch["room"], batch["word"], strict=True)
    ]
    shown = np.array([rng.random() >= config.drop_classes for rng in rngs])
    timesteps = process.timesteps(logit_normal_times(rngs, config.time))
    noise = np.stack([rng.standard_normal(batch["thermal"].shape[1:], np.float32) for rng in rngs])
    parsed = np.array([rng.random() < config.parsed for rng in rngs])

    captions = draw_captions(batch["attributes"], rngs, mirrored, config) if config.text else ()

    def choose(name: str) -> Tensor:
        both = np.where(mirrored[:, None, None, None], batch[f"{name}_mirrored"], batch[name])
        return torch.from_numpy(both.astype(np.float32))

    shares = np.where(parsed[:, None, None, None], batch["parsed"], batch["shares"]).astype(np.float32)
    flipped = shares[:, list(MIRRORED), :, ::-1]  # left and right eyes, brows and ears change places
    shares = np.where(mirrored[:, None, None, None], flipped, shares) * shown[:, None, None, None]
    weight = np.where(mirrored[:, None, None], batch["weight"][..., ::-1], batch["weight"]).astype(np.float32)
    guess = guess_rows(batch, rooms, mirrored, shown, parsed, config) if config.guess else None
    latents = choose("thermal")
    return Drawn(
        latents if guess is None else latents - guess, choose("visible"),
        torch.from_numpy(shares) if config.latent.classes else None, torch.from_numpy(weight)[:, None], rooms, timesteps,
        torch.from_numpy(noise), captions, guess,
    )  # fmt: skip


def guess_rows(
    batch: Columns, rooms: list[Room], mirrored: np.ndarray, shown: np.ndarray, parsed: np.ndarray, config: Config
) -> Tensor:
    """Return the first guess of rows [B, C, h, w] in the rooms and by the classes that are told of them.

    mirrored, shown, parsed: bool [B], rows seen in a mirror, rows whose classes are shown, and rows whose are the parser's.
    """
    # The classes that are told: the parser's or the true ones, in the mirror with their sides changed, or none.
    flip = mirrored[:, None, None]
    classes = np.where(parsed[:, None, None], batch["parsed_classes"], batch["classes"])
    classes = np.where(flip, np.array(MIRRORED_BYTES, np.uint8)[classes[:, :, ::-1]], classes)
    classes = np.where(shown[:, None, None], classes, IGNORE).astype(np.uint8)
    # The picture that is seen with them.
    pictures = np.where(flip[..., None], batch["picture"][:, :, ::-1], batch["picture"])
    return _guesser(config.guess, config.autoencoder, config.latent.conditions)(pictures, classes, rooms)


def draw_captions(
    attributes: np.ndarray, rngs: Sequence[np.random.Generator], mirrored: np.ndarray, config: Config
) -> tuple[str, ...]:
    """Return a caption of each row's attributes (JSON), some of them unsaid, and none for `drop_caption` of the rows.

    mirrored: bool [B], rows whose pose's word names the other side.
    """
    captions = []
    for text, rng, flipped in zip(attributes, rngs, mirrored, strict=True):
        silent, seed = rng.random() < config.drop_caption, int(rng.integers(2**62))
        words = json.loads(str(text))
        words = mirror_words(words) if flipped else words
        said = {name: word for name, word in words.items() if rng.random() >= config.drop_attribute}
        captions.append("" if silent else write_caption(said, seed))
    return tuple(captions)


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted mean squared error of the predicted velocity (arXiv 2202.00512, section 4).

    Logged as `noisy` and `clear`: its means over the later and the earlier half of the time steps.
    """
    assert isinstance(model, Trainee)
    process = DiscreteProcess.of(new_scheduler())
    drawn = draw_rows(batch, config, process, batch["draw"])
    errors = prediction_error(model.unet, process, drawn, config)
    noisy = (drawn.timesteps >= 500).to(errors.device)
    metrics = {"noisy": errors[noisy].mean().item()} if noisy.any() else {}
    metrics |= {"clear": errors[~noisy].mean().item()} if (~noisy).any() else {}
    return errors.mean(), metrics


def prediction_error(unet: UNet2DConditionModel, process: DiscreteProcess, drawn: Drawn, config: Config) -> Tensor:
    """Return the weighted squared error of what the U-Net predicts per row, float32 [B], of weights of mean one."""
    device = unet.device
    noisy = process.add_noise(drawn.latents, drawn.noise, drawn.timesteps).to(device)
    target = process.target(drawn.latents, drawn.noise, drawn.timesteps).to(device)
    words = _words(config.text).encode(drawn.captions) if config.text else None
    told = condition(unet, drawn.rooms, config.latent.conditions, drawn.visible, drawn.shares, words, drawn.guess).to(
        device
    )
    prediction = predict(unet, noisy, drawn.timesteps.to(device), told)
    weight = (drawn.weight / drawn.weight.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-3)).to(device)
    return row_errors(prediction, target, weight)


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return the training error on fixed draws, and its part at noisy and clear time steps."""
    assert isinstance(model, Trainee)
    process = DiscreteProcess.of(new_scheduler())
    errors, steps = [], []
    # The same draws at every validation.
    for decoded in rows:
        seeds = [seed_of("validation", number) for number in decoded["row"]]
        drawn = draw_rows(prepare(decoded, config), config, process, seeds)
        errors.append(prediction_error(model.unet, process, drawn, config).cpu())
        steps.append(drawn.timesteps)
    # Of all rows, and of the noisy and the clear half of the time.
    error, step = torch.cat(errors), torch.cat(steps)
    mean = error.mean().item()
    return {
        "score": -mean,
        "error": mean,
        "noisy": error[step >= 500].mean().item(),
        "clear": error[step < 500].mean().item(),
    }


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write the folder of the part (`models.thermal.latent.network`) and the card."""
    assert isinstance(model, Trainee)
    autoencoder = load_autoencoder(cache.from_root(config.autoencoder))
    text, guess = (cache.from_root(place) if place else None for place in (config.text, config.guess))
    save_latent(model.unet, autoencoder, cache.from_root(config.vae), _told(config), folder, text, guess)
    facts: dict[str, Any] = {"title": "Thermal latent diffusion", "summary": SUMMARY, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
