"""The visible stage by FaceCLIP-SDXL: a caption and a picture of the person, as one embedding, become a picture."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor

from models.columns import Columns
from models.diffusion.conditions import Conditions
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.lora import fuse_lora, read_lora
from models.diffusion.process import DiscreteProcess
from models.diffusion.sample import NamedNoise, sample
from models.diffusion.schedulers import load_scheduler
from models.diffusion.steering import Goal, Steering, steer
from models.errors import BadRows, EnvironmentFault
from models.faces.gradient.differentiable import DifferentiableRecogniser
from models.faces.pack import Pack
from models.faces.settings import Options as FacesOptions
from models.padding import chunks, in_batches
from models.visible.autoencoder import decode, load_autoencoder, load_part
from models.visible.faceclip.config import CROP_SIDE
from models.visible.faceclip.faces import BadFace, check_colour, cut_face, no_face, recogniser_crops, to_faces
from models.visible.faceclip.files import load_encoder
from models.visible.faceclip.settings import CROP, LORA, REFERENCE, Options, Settings
from models.visible.faceclip.tokenizer import add_prefix, count_cut, tokenize
from models.visible.likeness import finder, likeness_where_found, open_recogniser
from models.visible.model import folder_of


class Embedded(NamedTuple):
    """What SDXL reads of rows: prompt embeddings [B, 77, l + g] and pooled ones [B, g]."""

    prompt_embeds: Tensor
    pooled: Tensor


class Stage:
    """`caption`, `noise_id` and maybe `crop` uint8 [B, 448, 448, 3] or `reference` uint8 [B, S, S, 3] (zeros for none) ->
    `visible` and `caption_cut`.

    A crop is read as it is; in a reference the face is found first. A row without either is drawn of its caption alone.
    """

    def __init__(
        self, weights: Mapping[str, Path], options: Options, *, dtype: str = "float32", threads: int = 1
    ) -> None:
        torch.set_num_threads(threads)
        self.options = options
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.scheduler = folder_of(weights, "scheduler")
        load_scheduler(self.scheduler)
        self.encoder = load_encoder(folder_of(weights, "encoder"), dtype).to(self.device)
        self.unet = load_part(UNet2DConditionModel, folder_of(weights, "unet"), dtype).to(self.device).eval()
        if LORA in weights and options.lora_scale:
            lora = read_lora(weights[LORA], options.lora_file)
            fuse_lora(self.unet, lora, options.lora_scale, unet_only=options.lora_unet_only)
        # SDXL's autoencoder overflows in float16.
        self.vae = load_autoencoder(folder_of(weights, "vae"), "float32" if dtype == "float16" else dtype)
        self.vae.to(self.device).eval()
        self.faces = weights["faces"]
        self.pack = Pack(self.faces, threads=threads)
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self._negative: tuple[str, Embedded] | None = None
        self._check(weights)

    def _check(self, weights: Mapping[str, Path]) -> None:
        """Raise EnvironmentFault, which names all that differs, for parts that do not fit each other."""
        unet, shapes = self.unet.config, self.encoder.config
        added = 6 * (unet.addition_time_embed_dim or 0) + shapes.g.width
        wanted = {
            "addition_embed_type": "text_time",
            "cross_attention_dim": shapes.l.width + shapes.g.width,
            "projection_class_embeddings_input_dim": added,
            "in_channels": self.vae.config.latent_channels,
        }
        wrong = [f"{name} {unet[name]} instead of {value}" for name, value in wanted.items() if unet[name] != value]
        if wrong:
            raise EnvironmentFault(
                f"{folder_of(weights, 'unet')} does not fit the encoder and the autoencoder: {'; '.join(wrong)}."
            )

    def __call__(self, rows: Columns, settings: Settings, batch: int) -> Columns:
        """Return `visible` and `caption_cut`. Rows are computed in fixed batches, so a row's neighbours never change it."""
        captions, names = ([str(text) for text in rows[column]] for column in ("caption", "noise_id"))
        crops, has_face = self._find_faces(rows, len(names))
        side = settings.size // self.factor if settings.size else self.unet.config.sample_size
        pictures = np.zeros((len(names), side * self.factor, side * self.factor, 3), np.uint8)
        texts = add_prefix(captions, has_face.tolist())
        for chunk, missing in chunks(len(names), batch):
            # The last batch repeats its last row until it is full.
            chosen = [*range(chunk.start, chunk.stop), *[chunk.stop - 1] * missing]
            made = self._draw(
                [texts[row] for row in chosen],
                crops[chosen],
                has_face[chosen],
                [names[row] for row in chosen],
                side,
                settings,
            )
            pictures[chunk] = made[: chunk.stop - chunk.start]
        return {"visible": pictures, "caption_cut": count_cut(texts)}

    def _find_faces(self, rows: Columns, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return crops uint8 [B, 448, 448, 3], zeros for rows without a picture, and whether there is one, bool [B].

        Raises:
            BadRows: references with no face or several, and pictures without colour.
        """
        crops, has_face = np.zeros((count, CROP_SIDE, CROP_SIDE, 3), np.uint8), np.zeros(count, bool)
        # The rows of one person have one picture, which is read otherwise in the other column.
        known, refused = dict[tuple[str, bytes], np.ndarray | BadFace](), dict[int, str]()
        for column, read in ((REFERENCE, self._find_face), (CROP, _take_crop)):
            pictures = rows.get(column)
            there = np.zeros(count, bool) if pictures is None else pictures.reshape(count, -1).any(axis=1)
            for row in np.flatnonzero(there):
                assert pictures is not None
                key = (column, pictures[row].tobytes())
                if key not in known:
                    known[key] = read(pictures[row])
                crop = known[key]
                # What a crop shows goes before what a reference does.
                refused.pop(int(row), None)
                if isinstance(crop, BadFace):
                    refused[int(row)] = f"{column}: {crop}"
                else:
                    crops[row], has_face[row] = crop, True
        if refused:
            raise BadRows(refused)
        return crops, has_face

    def _find_face(self, picture: np.ndarray) -> np.ndarray | BadFace:
        """Return the crop of the face that a person's picture is of, or why there is none."""
        (found,) = self.pack.find([picture], FacesOptions().sizes, 1)
        try:
            return cut_face(picture, found)
        except BadFace as error:
            return error

    @torch.no_grad()
    def _embed_negative(self, settings: Settings) -> Embedded | None:
        """Return what guidance leads away from, for one row; None where there is no guidance or the U-Net reads its scale."""
        if settings.guidance <= 1 or self.unet.config.time_cond_proj_dim:
            return None
        if self._negative is None or self._negative[0] != settings.negative:
            # A text without a face: it passes the encoder, too, and is not zeros.
            ids = tokenize([settings.negative]).to(self.device)
            nobody = torch.zeros(1, dtype=torch.bool, device=self.device)
            self._negative = settings.negative, Embedded(*self.encoder(no_face(1, self.device), ids, nobody))
        return self._negative[1]

    @torch.no_grad()  # not inference mode: guidance by a recogniser takes its gradient
    def _draw(
        self,
        texts: list[str],
        crops: np.ndarray,
        has_face: np.ndarray,
        names: list[str],
        side: int,
        settings: Settings,
    ) -> np.ndarray:
        """Return pictures uint8 [B, S, S, 3] for exactly one compute batch of latents of `side`."""
        # Towards the text and the face as one embedding.
        there = torch.from_numpy(has_face).to(self.device)
        given = Embedded(*self.encoder(to_faces(crops, self.device), tokenize(texts).to(self.device), there))
        # Away from the negative, the same for all rows.
        away = self._embed_negative(settings)
        avoided = away and Embedded(*(each.expand(len(names), *each.shape[1:]) for each in away))
        scheduler = load_scheduler(self.scheduler, settings.scheduler)
        denoise = denoiser(
            self.unet,
            self._conditions(given, side),
            avoided and self._conditions(avoided, side),
            Guidance(settings.guidance, settings.guidance_interval),
        )
        # Each step's picture is moved towards the person, where a face was shown.
        if settings.identity_guidance and has_face.any():
            steering = Steering(settings.identity_guidance, settings.identity_moves, settings.identity_interval)
            denoise = steer(denoise, self._likeness(crops, has_face), DiscreteProcess.of(scheduler), steering)
        # Noise follows from the names of the rows alone.
        latents = sample(
            denoise,
            NamedNoise(names, "visible"),
            (self.unet.config.out_channels, side, side),
            scheduler,
            settings.steps,
            eta=settings.eta,
            device=self.device,
        )
        at_once = self.options.decode_batch or len(latents)
        return in_batches(lambda few: decode(self.vae, few), latents, at_once).cpu().numpy()

    def _likeness(self, crops: np.ndarray, has_face: np.ndarray) -> Goal:
        """Return how like the faces of crops the pictures of latents are, by the pack, where it finds one."""
        embeddings = self.pack.embed(recogniser_crops(crops), len(crops)) * has_face[:, None]
        who = F.normalize(torch.from_numpy(embeddings), dim=1).to(self.device)
        return likeness_where_found(self.vae, self._recogniser, who, finder(self.pack))

    @cached_property
    def _recogniser(self) -> DifferentiableRecogniser:
        return open_recogniser(self.faces)

    def _conditions(self, embedded: Embedded, side: int) -> Conditions:
        """Return what the U-Net is given: embeddings, and SDXL's sizes of a picture that is neither cut nor resized."""
        pixels = float(side * self.factor)
        sizes = torch.tensor([pixels, pixels, 0.0, 0.0, pixels, pixels], device=self.device)
        time_ids = sizes.expand(len(embedded.pooled), -1)
        return Conditions(embedded.prompt_embeds, pooled=embedded.pooled, time_ids=time_ids)


def _take_crop(crop: np.ndarray) -> np.ndarray | BadFace:
    """Return a crop that is aligned already, or why it is not read."""
    try:
        check_colour(crop)
    except BadFace as error:
        return error
    return crop
