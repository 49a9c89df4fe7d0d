"""The parser as a stage: a U-Net with an output per class."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.classes import CLASSES
from models.columns import Columns
from models.padding import in_batches
from models.stages import NoOptions
from models.unet import STRIDE, build_unet
from models.weights.networks import accelerator, device_of, load_network


def parse(network: nn.Module, pictures: Tensor) -> Tensor:
    """Classify the pixels of [B, 3, H, W] float pictures in [0, 1]; returns class ids uint8 [B, H, W]."""
    return network(pictures * 2 - 1).argmax(dim=1).to(torch.uint8)


class Stage:
    """`visible` uint8 [B, S, S, 3] -> `classes` uint8 [B, S, S]. S must be a multiple of 32."""

    def __init__(
        self, weights: Mapping[str, Path], options: NoOptions, *, dtype: str = "float32", threads: int = 1
    ) -> None:
        torch.set_num_threads(threads)
        path = weights["model"] / "parser.safetensors"
        self.network = load_network(path, build_unet, dtype).to(accelerator())
        if self.network.config.classes != len(CLASSES):
            raise ValueError(f"{path}: a parser has {len(CLASSES)} classes, this one {self.network.config.classes}")

    @torch.inference_mode()
    def __call__(self, rows: Columns, settings: NoOptions, batch: int) -> Columns:
        pictures = rows["visible"]
        if pictures.shape[1] % STRIDE or pictures.shape[2] % STRIDE:
            raise ValueError(f"the parser takes sides that are multiples of {STRIDE}, got {pictures.shape[1:3]}")

        def run(part: Tensor) -> Tensor:
            pictures = part.to(device_of(self.network)).permute(0, 3, 1, 2).float() / 255
            return parse(self.network, pictures).cpu()

        return {"classes": in_batches(run, torch.from_numpy(np.ascontiguousarray(pictures)), batch).numpy()}
