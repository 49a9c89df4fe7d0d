"""Translation as a stage: thermal pictures in centikelvin in, visible pictures out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.columns import Columns
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.names import SchedulerName
from models.diffusion.process import DiscreteProcess
from models.diffusion.sample import NamedNoise, sample
from models.diffusion.schedulers import Scheduler, load_scheduler
from models.diffusion.steering import Goal, Steering, steer
from models.padding import chunks
from models.ssm import kernels
from models.ssm.block import scans_of, set_kernel
from models.ssm.config import AUTO
from models.temperature import fill, from_centikelvin
from models.translation.attributes import GIVEN, draw_words, encode_words
from models.translation.identity import embed_thermal
from models.translation.network import Loaded, load_translator, thermal_latents
from models.translation.settings import Options, Settings
from models.visible.autoencoder import decode
from models.visible.likeness import likeness
from models.weights.networks import DTYPES, accelerator


class Stage:
    """`thermal` uint16 [B, C, S, S] centikelvin, of which the first layer is read, and `noise_id` -> `translated` uint8
    [B, S, S, 3], and the `attributes` that it was told with their sources, as JSON.

    Noise and what is drawn of attributes follow from `noise_id`.
    """

    def __init__(
        self, weights: Mapping[str, Path], options: Options, *, dtype: str = "float32", threads: int = 1
    ) -> None:
        torch.set_num_threads(threads)
        self.device = accelerator()
        self.parts: Loaded = load_translator(weights, dtype, threads)
        for network in self.parts.networks():
            network.to(self.device)
        # A kernel that is not there, or not right, is told of before the first picture. Jobs and service have named one.
        scans = self.device, scans_of(self.parts.translator), DTYPES[dtype]
        kernel = kernels.choose(*scans).name if options.kernel == AUTO else options.kernel
        if kernel != "torch":
            kernels.difference(kernel, *scans)
        set_kernel(self.parts.translator, kernel)
        self.schedulers: dict[str, Scheduler] = {}

    @torch.no_grad()  # not inference mode: guidance by a recogniser takes its gradient
    def __call__(
        self, rows: Columns, settings: Settings, batch: int, given: Sequence[Mapping[str, str]] | None = None
    ) -> Columns:
        """Return `translated`, `attributes` and `attributes_source`. given: as for `translate`."""
        celsius = np.stack([fill(from_centikelvin(layers[0])) for layers in rows["thermal"]])
        names = [str(name) for name in rows["noise_id"]]
        pictures, told = self.translate(torch.from_numpy(celsius), names, settings, batch, given)
        texts = [json.dumps({name: word for name, (word, _) in row.items()}) for row in told]
        sources = [json.dumps({name: source for name, (_, source) in row.items()}) for row in told]
        return {
            "translated": pictures.numpy(),
            "attributes": np.array([*texts, None], object)[:-1],
            "attributes_source": np.array([*sources, None], object)[:-1],
        }

    def translate(
        self,
        celsius: Tensor,
        names: Sequence[str],
        settings: Settings,
        batch: int,
        given: Sequence[Mapping[str, str]] | None = None,
    ) -> tuple[Tensor, list[dict[str, tuple[str, str]]]]:
        """Return pictures uint8 [B, S, S, 3] of degrees Celsius [B, S, S], and the words that each was told, with sources.

        names: what the noise and drawn words follow from. given: all that each row is told; by default words are drawn where
        `settings` give none. Computed in full batches.
        """
        parts, made, told = self.parts, [], []
        for chunk, missing in chunks(len(names), batch):
            # The last batch repeats its last row until it is full.
            rows = torch.arange(chunk.start, chunk.stop + missing).clamp(max=chunk.stop - 1)
            own, keys = celsius[rows].to(self.device), [names[row] for row in rows]
            # What each row is told, and whom the thermal picture shows.
            if given is None:
                words = draw_words(parts.attributes, own, keys, settings.attributes)
            else:
                words = [{name: (word, GIVEN) for name, word in given[row].items()} for row in rows]
            who, goal = self._read_people(own, batch)
            pictures = self._draw(
                own, keys, [{n: w for n, (w, _) in row.items()} for row in words], who, goal, settings
            )
            made.append(pictures[: len(keys) - missing].cpu())
            told += words[: len(keys) - missing]
        return torch.cat(made), told

    def _read_people(self, celsius: Tensor, batch: int) -> tuple[Tensor | None, Goal | None]:
        """Return whom pictures show, float32 [B, 512], and how like them translations are; None where that is not told."""
        if self.parts.people is None:
            return None, None
        found, points = embed_thermal(self.parts.people, celsius.cpu().numpy(), batch)
        who = torch.from_numpy(found).to(self.device)
        return who, likeness(self.parts.vae, self.parts.faces, who, points) if self.parts.faces else None

    def _draw(
        self,
        celsius: Tensor,
        names: Sequence[str],
        words: Sequence[Mapping[str, str]],
        who: Tensor | None,
        goal: Goal | None,
        settings: Settings,
    ) -> Tensor:
        model = self.parts.translator
        thermal = thermal_latents(self.parts.autoencoder, celsius)
        told = encode_words(words, model.config.words).to(self.device)
        # What it is told, and for guidance the same picture told nothing, nor whom it shows.
        cond, uncond = model.guide(told, thermal, who), model.guide(torch.zeros_like(told), thermal)
        scheduler = self._scheduler(settings.scheduler)
        denoise = denoiser(model.unet, cond, uncond, Guidance(settings.guidance))
        # Each step's picture is moved towards that person, as a recogniser of visible faces sees it.
        if goal is not None and settings.identity_guidance:
            steering = Steering(settings.identity_guidance, settings.identity_moves, settings.identity_interval)
            denoise = steer(denoise, goal, DiscreteProcess.of(scheduler), steering)
        latents = sample(
            denoise,
            NamedNoise(names, "translate"),
            (model.unet.config.out_channels, *thermal.shape[2:]),
            scheduler,
            settings.steps,
            eta=settings.eta,
            device=self.device,
        )
        return decode(self.parts.vae, latents)

    def _scheduler(self, name: SchedulerName) -> Scheduler:
        """Return the scheduler of that name on these weights' noise schedule."""
        if name not in self.schedulers:
            self.schedulers[name] = load_scheduler(self.parts.scheduler, name)
        return self.schedulers[name]
