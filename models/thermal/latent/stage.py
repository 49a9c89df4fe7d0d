"""Thermal latent diffusion as a stage: visible pictures in, 16-bit centikelvin out, a draw of the room's for each layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.classes import BACKGROUND, CLASSES
from models.columns import Columns
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.names import SchedulerName
from models.diffusion.sample import NamedNoise, sample
from models.diffusion.schedulers import Scheduler, load_scheduler
from models.errors import UserError
from models.padding import chunks, in_batches
from models.temperature import to_centikelvin
from models.thermal.latent.cells import class_shares
from models.thermal.latent.network import Loaded, condition, load_latent
from models.thermal.latent.settings import VAE, Options, Settings
from models.thermal.rooms import Room
from models.visible.autoencoder import SHRINK, encode, latent_space
from models.weights.networks import accelerator


@dataclass(frozen=True)
class Seen:
    """What is seen of rows, whatever their room; rows first in all.

    visible: scaled latents float32 [B, C, S/8, S/8]. shares: of classes, float32 [B, 19, S/8, S/8]; None for a U-Net that is
    shown none. words: what is read of captions, float32 [B, T, hidden]; None where they are no condition. pictures, classes:
    uint8 [B, S, S, 3] and [B, S, S], for the first guess; None where none is shown, or nothing is known.
    """

    visible: Tensor
    shares: Tensor | None = None
    words: Tensor | None = None
    pictures: np.ndarray | None = None
    classes: np.ndarray | None = None


class Stage:
    """`visible` uint8 [B, S, S, 3], `noise_id`, maybe `classes` uint8 [B, S, S], `caption` and the visible stage's `latents` ->
    `thermal` uint16 [B, C, S, S] centikelvin, `thermal_clipped` and `beyond_rooms`, both [B, C].

    C are the layers of the settings, in order. Noise follows from `noise_id` and the layer's name. `thermal_clipped` is the
    share of the person that is colder or warmer than anybody in training.
    """

    def __init__(
        self, weights: Mapping[str, Path], options: Options, *, dtype: str = "float32", threads: int = 1
    ) -> None:
        torch.set_num_threads(threads)
        self.device = accelerator()
        self.parts: Loaded = load_latent(weights, dtype)
        for network in self.parts.networks():
            network.to(self.device)
        self.space = latent_space(weights.get(VAE, weights["model"] / VAE))
        self.schedulers: dict[str, Scheduler] = {}

    @torch.inference_mode()
    def __call__(self, rows: Columns, settings: Settings, batch: int) -> Columns:
        """Return `thermal`, `thermal_clipped` and `beyond_rooms`."""
        seen, names = self.see(rows, settings, batch), [str(name) for name in rows["noise_id"]]
        layers, guesses = list[Tensor](), dict[str, Tensor | None]()
        for layer in settings.layers:
            rooms = [settings.room(layer)] * len(names)
            # All draws of a room follow from one guess.
            if layer.condition not in guesses:
                guesses[layer.condition] = self.guess(rooms, seen, batch)
            layers.append(self.draw(rooms, seen, guesses[layer.condition], names, layer.name, settings, batch))
        celsius = torch.stack(layers, dim=1).cpu().numpy()
        beyond = [self.parts.is_beyond(settings.room(layer)) for layer in settings.layers]
        return {
            "thermal": to_centikelvin(celsius),
            "thermal_clipped": self._clipped(celsius, rows.get("classes")),
            "beyond_rooms": np.tile(np.array(beyond, bool), (len(names), 1)),
        }

    def see(self, rows: Columns, settings: Settings, batch: int) -> Seen:
        """Return what the weights read of rows of `visible` and what else is there."""
        guessed = self.parts.guess is not None
        return Seen(
            self._visible_latents(rows, batch),
            self._class_shares(rows),
            self._prompt_embeds(rows, settings, batch),
            np.asarray(rows["visible"]) if guessed else None,
            np.asarray(rows["classes"]) if guessed and "classes" in rows else None,
        )

    def _visible_latents(self, rows: Columns, batch: int) -> Tensor:
        """Return scaled latents of the visible pictures, float32 [B, C, S/8, S/8]: those that came, or encoded ones."""
        if "latents" in rows:
            if foreign := next((str(space) for space in rows["latent_space"] if str(space) != self.space), None):
                raise UserError(
                    f"the visible stage's latents are of autoencoder {foreign[:12]}, and this thermal part was trained on "
                    f"those of {self.space[:12]}: set the thermal part's options.latents to false, and it encodes the picture."
                )
            return torch.from_numpy(np.stack(list(rows["latents"])).astype(np.float32))
        pictures = torch.from_numpy(np.ascontiguousarray(rows["visible"]))
        return in_batches(lambda few: encode(self.parts.vae, few.to(self.device)).cpu(), pictures, batch)

    def _class_shares(self, rows: Columns) -> Tensor | None:
        """Return class shares float32 [B, 19, S/8, S/8], zeros without masks; None for a U-Net that is shown none."""
        if not self.parts.config.classes:
            return None
        side = rows["visible"].shape[1] // SHRINK
        if "classes" not in rows:
            return torch.zeros(len(rows["visible"]), len(CLASSES), side, side)
        return torch.from_numpy(class_shares(rows["classes"], side))

    def _prompt_embeds(self, rows: Columns, settings: Settings, batch: int) -> Tensor | None:
        """Return what is read of the rows' captions float32 [B, T, hidden]; None where they are no condition, or not there."""
        reader = self.parts.words
        if reader is None or not settings.captions or "caption" not in rows:
            return None
        captions = [str(text) for text in rows["caption"]]
        made = []
        for chunk, missing in chunks(len(captions), batch):
            own = captions[chunk]
            made.append(reader.encode([*own, *[own[-1]] * missing])[: len(own)])
        return torch.cat(made)

    def guess(self, rooms: Sequence[Room], seen: Seen, batch: int) -> Tensor | None:
        """Return the first guess of every row in its room, latents float32 [B, C, S/8, S/8], computed in full batches; None
        where the weights are shown none."""
        if self.parts.guess is None or seen.pictures is None:
            return None
        made = []
        for chunk, missing in chunks(len(rooms), batch):
            few = np.arange(chunk.start, chunk.stop + missing).clip(max=chunk.stop - 1)
            classes = None if seen.classes is None else seen.classes[few]
            guess = self.parts.guess(seen.pictures[few], classes, [rooms[row] for row in few])
            made.append(guess[: len(guess) - missing])
        return torch.cat(made)

    def draw(
        self,
        rooms: Sequence[Room],
        seen: Seen,
        guess: Tensor | None,
        names: Sequence[str],
        layer: str,
        settings: Settings,
        batch: int,
    ) -> Tensor:
        """Return a draw of every row in its room, degrees Celsius float32 [B, S, S], computed in full batches.

        guess: what `guess` says of these rooms. names, layer: what the noise follows from.
        """
        unet, made = self.parts.unet, []
        for chunk, missing in chunks(len(names), batch):
            # The last batch repeats its last row until it is full.
            rows = torch.arange(chunk.start, chunk.stop + missing).clamp(max=chunk.stop - 1)
            shares, words, guessed = (
                None if values is None else values[rows] for values in (seen.shares, seen.words, guess)
            )
            told_rooms, told_words = [rooms[row] for row in rows], self.parts.config.conditions
            told = condition(unet, told_rooms, told_words, seen.visible[rows], shares, words, guessed)
            latents = sample(
                denoiser(unet, told, told, Guidance(1.0)),
                NamedNoise([names[row] for row in rows], "thermal", layer),
                (unet.config.out_channels, *seen.visible.shape[2:]),
                self._scheduler(settings.scheduler),
                settings.steps,
                eta=settings.eta,
                device=self.device,
            )
            celsius = self.parts.decode(latents, guessed)
            made.append(celsius[: len(celsius) - missing])
        return torch.cat(made)

    def _clipped(self, celsius: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
        """Return the share of the person beyond the temperatures of training, float32 [B, C]."""
        person = np.ones((len(celsius), 1, *celsius.shape[2:]), bool)
        if classes is not None:
            person = (classes != BACKGROUND)[:, None]
        return self.parts.config.clipped_share(celsius, person)

    def _scheduler(self, name: SchedulerName) -> Scheduler:
        """Return the scheduler of that name on these weights' noise schedule."""
        if name not in self.schedulers:
            self.schedulers[name] = load_scheduler(self.parts.scheduler, name)
        return self.schedulers[name]
