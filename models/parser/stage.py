"""The face parser: a picture in, FaceSynthetics' 19 pixel classes out."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.classes import CLASSES
from models.padding import in_batches
from models.unet import STRIDE, build_unet
from models.weights.networks import accelerator, device_of, load_network


def parse(network: nn.Module, pictures: Tensor) -> Tensor:
    """Classify the pixels of [B, 3, H, W] float pictures in [0, 1]; returns class ids uint8 [B, H, W]."""
    return network(pictures * 2 - 1).argmax(dim=1).to(torch.uint8)


class ParserStage:
    """`visible` uint8 [B, S, S, 3] -> `classes` uint8 [B, S, S]. S must be a multiple of 32."""

    def __init__(self, weights: Path, *, dtype: str = "float32", threads: int = 1, batch: int = 32) -> None:
        torch.set_num_threads(threads)
        self.batch = batch
        self.network = load_network(Path(weights) / "parser.safetensors", build_unet, dtype).to(accelerator())
        if self.network.config.classes != len(CLASSES):
            raise ValueError(f"{weights}: a parser has {len(CLASSES)} classes, this one {self.network.config.classes}")

    @torch.inference_mode()
    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        pictures = batch["visible"]
        if pictures.shape[1] % STRIDE or pictures.shape[2] % STRIDE:
            raise ValueError(f"the parser takes sides that are multiples of {STRIDE}, got {pictures.shape[1:3]}")
        rows = torch.from_numpy(np.ascontiguousarray(pictures))

        def run(part: Tensor) -> Tensor:
            pictures = part.to(device_of(self.network)).permute(0, 3, 1, 2).float() / 255
            return parse(self.network, pictures).cpu()

        return {**batch, "classes": in_batches(run, rows, self.batch).numpy()}
