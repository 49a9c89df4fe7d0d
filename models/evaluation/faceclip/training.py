"""One task for all ways: the U-Net of `train faceclip_visible`, its data, loss and compute, and another way of being told.

A module of the form that `models.tasks.Task` describes.
"""

import contextlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.columns import Columns
from models.diffusion.conditions import Conditions
from models.diffusion.cross_attention import attach, new_branch
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.sample import NamedNoise, sample
from models.diffusion.schedulers import new_scheduler
from models.evaluation.faceclip.ways import ADAPTER, Projection, Way, tell
from models.tasks.faceclip import visible
from models.visible import cache
from models.visible.autoencoder import SHRINK, decode
from models.visible.faceclip.encoder import FaceClip
from models.visible.faceclip.files import load_encoder
from models.weights.networks import device_of

COLUMNS = visible.COLUMNS
begin, prepare, validate, export = visible.begin, visible.prepare, visible.validate, visible.export
BATCH = 16
"""Pictures that are drawn together."""


class Config(visible.Config):
    """The task's own, and the way."""

    way: Way = "FaceCLIP"


class Trained(visible.Trained):
    """The U-Net told in a way, with the adapter where that is one."""

    def __init__(self, config: Config, encoder: FaceClip) -> None:
        super().__init__(visible.new_unet(config, encoder), encoder)
        self.way, self.size = config.way, config.size // SHRINK
        if config.way == "adapter":
            width = self.unet.config.cross_attention_dim
            self.projection = Projection(encoder.config.vit.out, width)
            self.adapter = new_branch(self.unet, width)
            attach(self.unet, ADAPTER, self.adapter)

    def condition(self, crops: np.ndarray, texts: list[str], has_face: np.ndarray, side: int) -> Conditions:
        """Return what the U-Net is given for latents of `side`; see `visible.Trained.condition`."""
        device = device_of(self)
        with torch.autocast(device.type, enabled=False):
            told = tell(self.way, self.encoder(), crops, texts, has_face)
        extra = {ADAPTER: self.projection(told.identity)} if self.way == "adapter" else {}
        sizes = visible.sizes_of(side, len(texts), device)
        return Conditions(told.embeds, pooled=told.pooled, time_ids=sizes, extra=extra)


def build(config: Config) -> nn.Module:
    """Return a fresh U-Net for the way."""
    return Trained(config, load_encoder(Path(config.encoder)))


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the task's own loss; without the fused attention on CPUs, whose backward pass costs more."""
    plain = device_of(model).type == "cpu"
    with sdpa_kernel(SDPBackend.MATH) if plain else contextlib.nullcontext():
        return visible.loss(model, batch, config, step)


@torch.inference_mode()
def draw_pictures(
    model: Trained, config: Config, crops: np.ndarray, texts: list[str], names: list[str], steps: int, guidance: float
) -> np.ndarray:
    """Return pictures uint8 [N, S, S, 3] of faces uint8 [N, 112, 112, 3] and captions; names: of the rows' noise.

    Guided away from what a tenth of the training's rows were told: an empty text and no face.
    """
    vae, pictures = cache.autoencoder(config.vae), []
    for first in range(0, len(texts), BATCH):
        few = slice(first, first + BATCH)
        rows = len(texts[few])
        # What guidance leads away from, and then the rows themselves; a row's noise is its name's.
        away = model.condition(np.zeros_like(crops[few]), [""] * rows, np.zeros(rows, bool), model.size)
        latents = sample(
            denoiser(
                model.unet,
                model.condition(crops[few], texts[few], np.ones(rows, bool), model.size),
                away,
                Guidance(guidance),
            ),
            NamedNoise(names[few], "visible"),
            (model.unet.config.out_channels, model.size, model.size),
            new_scheduler(),
            steps,
            device=device_of(model),
        )
        pictures.append(decode(vae, latents).cpu().numpy())
    return np.concatenate(pictures)
