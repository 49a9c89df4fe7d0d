"""The visible stage: a caption, an ArcFace embedding and a name for the noise become a picture."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.columns import Columns
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.names import SchedulerName
from models.diffusion.process import DiscreteProcess
from models.diffusion.sample import NamedNoise, sample
from models.diffusion.schedulers import Scheduler, load_scheduler
from models.diffusion.steering import Goal, Steering, steer
from models.diffusion.unet import Control
from models.errors import EnvironmentFault
from models.faces.pack import Pack
from models.padding import chunks, in_batches
from models.seeds import generators
from models.synthworld.shape.kernels import eagerly
from models.visible.autoencoder import decode, encode, latent_space
from models.visible.head import draw_heads, find_faces, fold_heads, views_of
from models.visible.likeness import Find, finder, likeness, likeness_where_found, open_recogniser
from models.visible.model import condition, folder_of, load_visible
from models.visible.normals import average_measures, draw_normals
from models.visible.sd.adapters import Shown, adapt, shown
from models.visible.sd.embeds_cache import EmbedsCache
from models.visible.sd.settings import FACES, REFERENCE, Options, Settings
from models.visible.text import count_cut, prompts, tokenize
from models.visible.text_branch import TextBranch


class Heads(NamedTuple):
    """The heads that pictures should show; None where nothing looks at them.

    folded: float32 [B, 96, side, side], beside the latents. normals: [B, 3, S, S], for the ControlNet. points: float32
    [B, 5, 2] px, where their faces lie.
    """

    folded: Tensor | None
    normals: Tensor | None
    points: np.ndarray | None


class Stage:
    """`caption`, `embedding` [B, 512], `noise_id` -> `visible` uint8 [B, S, S, 3].

    weights: folders as `models.visible.model.load_visible` takes them, the starter's or Arc2Face's. A caption goes into the
    prompt (`captions` of the options), to a text branch where there is one, or both. A U-Net that is shown the head gets it
    in the pose and expression that a caption says which is read, else as `noise_id` draws them; angles of `pose_asked`
    float32 [B, 3] (degrees, NaN for none), where it is there, go before both. The adapters (`sd.adapters`) look at
    `reference` uint8 [B, S, S, 3] (zeros for none) and `smirk` float32 [B, 55] (NaN for none).
    """

    def __init__(
        self, weights: Mapping[str, Path], options: Options, *, dtype: str = "float32", threads: int = 1
    ) -> None:
        torch.set_num_threads(threads)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.parts = load_visible(weights, dtype)
        for network in self.parts.networks():
            network.to(self.device)
            if options.channels_last:
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.adapted = adapt(self.parts.unet, weights, options)
        if options.compile:
            self.adapted.unet.compile(dynamic=False)  # the one that reads references changes what it attends to
        self.options = options
        self.faces = open_recogniser(weights[FACES]) if FACES in weights else None
        self.pack, self.threads = weights.get(FACES), threads
        self.schedulers: dict[str, Scheduler] = {}
        self.space = latent_space(folder_of(weights, "vae")) if options.latents else ""
        self.prompts, self.words = EmbedsCache(), EmbedsCache()
        with torch.inference_mode():
            self.empty_prompt_embeds = self.parts.text(tokenize(self.parts.tokenizer, [""]).to(self.device))
            self.no_words = self.parts.words.encode([""]) if self.parts.words else None

    def __call__(self, rows: Columns, settings: Settings, batch: int) -> Columns:
        """Return `visible`, `caption_cut` where words are read, and `latents` with their space where the options hand them on.

        Rows are computed in fixed batches, so a row's neighbours never change it.
        """
        words = self.parts.words if settings.scale_of_text else None
        side = settings.size // self.parts.factor if settings.size else self.parts.unet.config.sample_size
        count = len(rows["noise_id"])
        pictures = np.zeros((count, side * self.parts.factor, side * self.parts.factor, 3), np.uint8)
        latents = np.zeros((count, self.parts.unet.config.out_channels, side, side), np.float32)
        for chosen, missing, read in self._batches(rows, batch):
            # The last batch repeats its last row until it is full.
            padded = [*chosen, *[chosen[-1]] * missing]
            batch_pictures, batch_latents = self._pictures(
                [str(rows["caption"][row]) if "caption" in rows else "" for row in padded],
                torch.from_numpy(np.stack([rows["embedding"][row] for row in padded]).astype(np.float32)),
                [str(rows["noise_id"][row]) for row in padded],
                rows["pose_asked"][padded] if "pose_asked" in rows else None,
                shown(read, padded),
                len(chosen),
                side,
                settings,
            )
            pictures[chosen] = batch_pictures.numpy()[: len(chosen)]
            latents[chosen] = batch_latents.numpy()[: len(chosen)]
        made: Columns = {"visible": pictures}
        if self.options.captions or words is not None:
            made["caption_cut"] = self._count_cut([str(text) for text in rows["caption"]], words)
        if self.options.latents:
            made |= {"latents": latents, "latent_space": np.array([self.space] * count, object)}
        return made

    def _count_cut(self, captions: list[str], words: TextBranch | None) -> np.ndarray:
        """Return how many tokens of each caption neither the prompt nor the branch holds, int32 [B]."""
        counts = [count_cut(self.parts.tokenizer, prompts(captions))] if self.options.captions else []
        counts += [words.count_cut(captions)] if words else []
        return np.min(counts, axis=0)

    def _batches(self, rows: Columns, batch: int) -> Iterator[tuple[list[int], int, Columns]]:
        """Yield row numbers of a compute batch, how many it lacks, and what the adapters read: with a reference or without."""
        for group, read in self.adapted.groups(rows):
            for chunk, missing in chunks(len(group), batch):
                yield group[chunk].tolist(), missing, read

    def _heads(
        self,
        captions: list[str],
        embedding: Tensor,
        names: list[str],
        poses: np.ndarray | None,
        count: int,
        side: int,
        locate: bool,
    ) -> "Heads":
        """Return the heads that rows should show. locate: whether it is asked where their faces lie.

        Rows after the first `count` repeat the last of these, and so do their heads, which take long to draw.
        Drawn without compiled kernels: not every machine has built them, and the numbers must be the same on each.
        """
        folded = normals = points = None
        if not self.parts.shows_head and self.parts.controlnet is None:
            return Heads(folded, normals, points)
        size = side * self.parts.factor
        measures = average_measures()[None].repeat(count, axis=0)
        if self.parts.reader is not None:
            measures = self.parts.reader(embedding.numpy())[:count]  # of the whole batch: its size decides the last bit
        views = views_of(captions, names, poses)[:count]
        repeated = [*range(count), *[count - 1] * (len(names) - count)]
        with eagerly():
            if self.parts.shows_head:
                folded = fold_heads(draw_heads(measures, views, side)[repeated]).to(self.device)
            if self.parts.controlnet is not None:
                normals = draw_normals(measures, views, size, self.parts.framing)[repeated].to(self.device)
            if locate:
                points = find_faces(measures, views, size)[repeated]
        return Heads(folded, normals, points)

    @torch.no_grad()  # not inference mode: guidance by a recogniser takes its gradient
    def _pictures(
        self,
        captions: list[str],
        embedding: Tensor,
        names: list[str],
        poses: np.ndarray | None,
        given: Shown,
        count: int,
        side: int,
        settings: Settings,
    ) -> tuple[Tensor, Tensor]:
        """Return pictures uint8 [B, S, S, 3] and scaled latents float32 on the CPU for exactly one compute batch of latents of
        `side`, `count` of them wanted."""
        # What conditions the U-Net: the head in its pose, the prompt with the identity in it, and the identity itself.
        unet = self.parts.unet
        guided = self.faces is not None and settings.identity_guidance > 0
        head, normals, points = self._heads(captions, embedding, names, poses, count, side, guided)
        embedding = F.normalize(embedding, dim=-1)
        prompt_embeds = self._encode_prompts(captions, embedding)
        embedding = embedding.to(self.device)
        words, no_words = self._words(captions, settings.scale_of_text)
        cond = condition(unet, prompt_embeds, embedding, head, normals, words)
        # Guided away from the empty prompt and no identity, but with the same head: the drawn shape is not exaggerated.
        empty = self.empty_prompt_embeds.expand(len(names), -1, -1)
        uncond = condition(unet, empty, torch.zeros_like(embedding), head, normals, no_words)
        cond, uncond = self.adapted.express(given.smirk, settings.expression_scale, cond, uncond)
        # The reference's latents are drawn from the autoencoder's posterior, by the row's name.
        seen = None
        if given.reference is not None:
            seen = encode(self.parts.vae, given.reference.to(self.device), generators(names, REFERENCE, 0))
        control = None
        if self.parts.controlnet is not None:
            control = Control(self.parts.controlnet, settings.control_strength, settings.control_interval)
        # Noise follows from the names of the rows alone: the same on any actor, in any batch.
        guidance, scheduler = (
            Guidance(settings.guidance, settings.guidance_interval),
            self._scheduler(settings.scheduler),
        )
        with self.adapted.show(seen, cond) as denoising:
            denoise = denoiser(denoising, cond, uncond, guidance, control)
            # Each step's picture is moved towards the person.
            if guided:
                steering = Steering(settings.identity_guidance, settings.identity_moves, settings.identity_interval)
                goal = self._likeness(embedding, points)
                denoise = steer(denoise, goal, DiscreteProcess.of(scheduler), steering)
            latents = sample(
                denoise,
                NamedNoise(names, "visible"),
                (unet.config.out_channels, side, side),
                scheduler,
                settings.steps,
                eta=settings.eta,
                device=self.device,
            )
        at_once = self.options.decode_batch or len(latents)
        return in_batches(lambda few: decode(self.parts.vae, few), latents, at_once).cpu(), latents.float().cpu()

    def _likeness(self, embedding: Tensor, points: np.ndarray | None) -> Goal:
        """Return how like the people the pictures of latents are, as the recogniser sees them where the drawn heads have their
        faces (`points`), or where the detector finds them."""
        assert self.faces is not None
        if points is not None:
            return likeness(self.parts.vae, self.faces, embedding, points)
        return likeness_where_found(self.parts.vae, self.faces, embedding, self.find)

    @cached_property
    def find(self) -> Find:
        """What finds the faces where no head is drawn: the detector of the pack. Raises EnvironmentFault where it has none."""
        assert self.pack is not None
        try:
            return finder(Pack(self.pack, threads=self.threads))
        except EnvironmentFault as error:
            raise EnvironmentFault(
                f"identity_guidance: this U-Net is shown no head, so a detector says where the face is. {error}"
            ) from error

    def _encode_prompts(self, captions: list[str], embedding: Tensor) -> Tensor:
        """Return the prompts' embeddings [B, T, hidden], each person's and caption's encoded once. embedding: unit, [B, 512]."""
        texts = prompts(captions if self.options.captions else [""] * len(captions))

        def encode(rows: list[int]) -> Tensor:
            ids = tokenize(self.parts.tokenizer, [texts[row] for row in rows])
            return self.parts.text(ids.to(self.device), embedding[rows].to(self.device))

        return self.prompts.get([(text, one.tobytes()) for text, one in zip(texts, embedding.numpy())], encode)

    def _words(self, captions: list[str], scale: float) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Return what the text branch reads of captions and of empty ones, both [B, T', width]; None where it is off."""
        branch = self.parts.words
        if branch is None or self.no_words is None or not scale:
            return None, None
        branch.branch.scale = scale
        words = self.words.get(captions, lambda rows: branch.encode([captions[row] for row in rows]))
        return words, self.no_words.expand(len(captions), -1, -1)

    def _scheduler(self, name: SchedulerName) -> Scheduler:
        """Return the scheduler of that name on these weights' noise schedule."""
        if name not in self.schedulers:
            self.schedulers[name] = load_scheduler(self.parts.scheduler, name)
        return self.schedulers[name]
