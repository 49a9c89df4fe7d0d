"""The thermal latent diffusion: a U-Net on thermal latents, shown the visible latents, and its folder on disk.

    unet/         diffusers UNet2DConditionModel: noisy thermal latents, and beside them visible latents and classes
    autoencoder/  of thermal pictures (`models.thermal.latent.autoencoder`)
    vae/          of visible pictures, whose latents the U-Net is shown
    scheduler/    diffusers
    text/         what reads captions (`models.thermal.latent.captions`), where they are a condition
    guess/        a thermalizer of rooms that makes the first guess (`models.thermal.latent.guess`), where one is shown
    thermal.json  what the conditions are (`LatentConfig`)

DiffTV (ACM MM 2024) shows its U-Net the other modality by concatenation, too; LaPIG's own layout is not published. The
room goes in beside the time step (`class_embed_type: projection`), as the identity of the starter's visible model does.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from pydantic import Field
from torch import Tensor, nn

from models.classes import CLASSES
from models.config import parse_json
from models.diffusion.conditions import Conditions
from models.diffusion.schedulers import load_scheduler, new_scheduler
from models.diffusion.shape import UNetShape, new_unet
from models.errors import EnvironmentFault
from models.thermal.latent.autoencoder import ThermalAutoencoder, load_autoencoder, save_autoencoder
from models.thermal.latent.captions import CaptionReader, copy_captions, load_captions
from models.thermal.latent.cells import unpatch
from models.thermal.latent.guess import FirstGuess, load_guess
from models.thermal.latent.settings import AUTOENCODER, FILE, GUESS, TEXT, VAE
from models.thermal.rooms import NUMBERS, Room, RoomRange, room_vectors
from models.visible.autoencoder import SHRINK, Vae, load_part
from models.visible.autoencoder import load_autoencoder as load_vae


class LatentConfig(RoomRange):
    """What a thermal latent diffusion was told in training, beside the shapes that its folders state."""

    classes: bool = True
    captions: bool = False
    guess: bool = False
    """Made latents are less those of the first guess of a thermalizer of rooms, which it is shown
    (`models.thermal.latent.guess`)."""


class ShapeConfig(UNetShape):
    """The shape of the U-Net."""

    widths: tuple[int, ...] = (64, 128, 192)
    heads: tuple[int, ...] = (2, 4, 6)
    attend: tuple[bool, ...] = (False, False, True)
    hidden: int = Field(64, description="width of what cross-attention reads; a single zero where no caption is read")


def new_latent_unet(
    shape: ShapeConfig, thermal: int, visible: int, side: int, config: LatentConfig
) -> UNet2DConditionModel:
    """Return a fresh U-Net for `thermal` channels that are made, beside `visible` ones and what else `config` has it shown."""
    beside = shown_channels(thermal, visible, config)
    return new_unet(shape, side, thermal, beside, told=NUMBERS + len(config.conditions))


def shown_channels(thermal: int, visible: int, config: LatentConfig) -> int:
    """Return how many channels a U-Net is shown beside the `thermal` ones that it makes: `condition`'s, in its order."""
    return visible + (len(CLASSES) if config.classes else 0) + (thermal if config.guess else 0)


def condition(
    unet: UNet2DConditionModel,
    rooms: Sequence[Room],
    words: Sequence[str],
    visible: Tensor,
    shares: Tensor | None,
    prompt_embeds: Tensor | None = None,
    guess: Tensor | None = None,
) -> Conditions:
    """Return what the U-Net is told: rooms beside the time step, visible latents [B, C, h, w] and class shares beside its own.

    shares: [B, 19, h, w], or None for a U-Net that is shown no classes. prompt_embeds: [B, T, hidden] of captions;
    zeros, however many, are no caption. guess: latents of the first guess, for a U-Net that is shown one.
    """
    if prompt_embeds is None:
        prompt_embeds = torch.zeros(len(rooms), 1, unet.config.cross_attention_dim)
    beside = torch.cat([values for values in (visible, shares, guess) if values is not None], dim=1)
    return Conditions(prompt_embeds, torch.from_numpy(room_vectors(rooms, words)), beside=beside)


@dataclass(frozen=True)
class Loaded:
    """A thermal latent diffusion ready to sample."""

    unet: UNet2DConditionModel
    autoencoder: ThermalAutoencoder
    vae: Vae
    scheduler: Path
    config: LatentConfig
    words: CaptionReader | None = None
    """What reads captions; None where they are no condition."""
    guess: FirstGuess | None = None

    def is_beyond(self, room: Room) -> bool:
        """Whether what is known of `room` lies outside of what these weights, or those of the first guess, learned from."""
        return self.config.is_beyond(room) or (self.guess is not None and self.guess.regression.config.is_beyond(room))

    def decode(self, made: Tensor, guess: Tensor | None) -> Tensor:
        """Return degrees Celsius float32 [B, S, S] of latents as the U-Net makes them; guess: that was shown beside."""
        whole = made if guess is None else made + guess.to(made)
        return self.autoencoder.decode(unpatch(whole, self.cells))

    @property
    def cells(self) -> int:
        """Return how many thermal cells lie along the side of a visible one."""
        return SHRINK // self.autoencoder.config.factor

    def networks(self) -> tuple[nn.Module, ...]:
        """Return all that runs on the stage's device."""
        beside = (*((self.words.text,) if self.words else ()), *(self.guess.networks() if self.guess else ()))
        return self.unet, self.autoencoder, self.vae, *beside


def save_latent(
    unet: UNet2DConditionModel,
    autoencoder: ThermalAutoencoder,
    vae: Path,
    config: LatentConfig,
    folder: Path,
    text: Path | None = None,
    guess: Path | None = None,
) -> None:
    """Write the folder: the U-Net in float16, the thermal autoencoder in float32, the visible one copied with its card, and
    likewise what reads captions (`text`) and what makes the first guess."""
    unet.half().save_pretrained(str(folder / "unet"))
    save_autoencoder(autoencoder, folder / AUTOENCODER)
    new_scheduler().save_pretrained(str(folder / "scheduler"))
    for source, name in ((vae, VAE), (guess, GUESS)):
        if source is not None:
            shutil.copytree(source, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("files.json"))
    if text is not None:
        copy_captions(text, folder / TEXT)
    (folder / FILE).write_text(config.model_dump_json(indent=1) + "\n")


def load_latent(weights: Mapping[str, Path], dtype: str = "float32") -> Loaded:
    """Return the networks of a part, frozen; the U-Net in `dtype`, the thermal autoencoder in float32.

    weights: `model`, the folder above, and maybe `unet`, `autoencoder`, `vae`, `text` and `guess` in place of the folders of
    these names.
    Raises EnvironmentFault where something is missing, damaged, or does not fit the rest.
    """
    home = weights["model"]
    config = read_config(home)
    load_scheduler(home / "scheduler")
    autoencoder = load_autoencoder(weights.get(AUTOENCODER, home / AUTOENCODER))
    cells = SHRINK // autoencoder.config.factor
    guessing = weights.get(GUESS, home / GUESS)
    loaded = Loaded(
        unet=load_part(UNet2DConditionModel, weights.get("unet", home / "unet"), dtype),
        autoencoder=autoencoder,
        vae=load_vae(weights.get(VAE, home / VAE)),
        scheduler=home / "scheduler",
        config=config,
        words=load_captions(weights.get(TEXT, home / TEXT)) if config.captions else None,
        guess=load_guess(guessing, autoencoder, cells, config.conditions) if config.guess else None,
    )
    # What reads captions must be as wide as what the U-Net attends to.
    attended = loaded.unet.config.cross_attention_dim
    if loaded.words is not None and loaded.words.width != attended:
        raise EnvironmentFault(
            f"{home}: captions are read {loaded.words.width} wide, and the U-Net attends to {attended}. They are of different "
            "trainings: fetch the part again."
        )
    # The latents of both autoencoders must be those that the U-Net takes.
    made = loaded.autoencoder.config.channels * loaded.cells**2
    shown = shown_channels(made, loaded.vae.config.latent_channels, config)
    takes, gives = loaded.unet.config.in_channels, loaded.unet.config.out_channels
    if (takes, gives) != (made + shown, made):
        raise EnvironmentFault(
            f"{home}: the U-Net takes {takes} channels and gives {gives}, the autoencoders, classes and guess make "
            f"{made + shown} and {made}. They are of different trainings: fetch the part again."
        )
    for network in loaded.networks():
        network.requires_grad_(False)
    return loaded


def read_config(folder: Path) -> LatentConfig:
    """Return `thermal.json`. Raises EnvironmentFault where there is none, or not of this kind."""
    try:
        return LatentConfig(**parse_json((folder / FILE).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise EnvironmentFault(f"{folder / FILE}: of no thermal latent diffusion ({error}).") from error
