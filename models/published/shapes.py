"""Networks of published shapes with random weights: how fast a device is with them is known without their weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import Tensor, nn

from models.landmarks.network import Landmarker, LandmarkerConfig
from models.published.faceclip import SDXL
from models.unet import UNet, UNetConfig
from models.visible.faceclip.encoder import FaceClip

TOKENS = 77
SD15 = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
"""What the U-Net of Stable Diffusion 1.5, and so Arc2Face's, has that is not diffusers' default."""
KL = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
"""The autoencoder of Stable Diffusion, 1.5 and XL."""

Inputs = Callable[[int, int], dict[str, Any]]
"""From rows and the side of their pictures in pixels to what a network is called with: tensors, or dicts of them."""


@dataclass(frozen=True)
class Network:
    """build: returns it with random weights. half: it computes in bfloat16 on a GPU, as its stage does; the others in float32.

    calls: use -> calls a picture takes; with guidance a step is two.
    """

    build: Callable[[], nn.Module]
    inputs: Inputs
    half: bool
    calls: Mapping[str, int]


class Decoder(nn.Module):
    """The half of an autoencoder that makes pictures."""

    def __init__(self, autoencoder: AutoencoderKL | AutoencoderTiny) -> None:
        super().__init__()
        # What encodes takes no part, and no memory.
        for name in ("encoder", "quant_conv"):
            autoencoder.register_module(name, None)
        self.autoencoder = autoencoder

    def forward(self, latents: Tensor) -> Tensor:
        found: Tensor = self.autoencoder.decode(latents).sample
        return found


def _latents(rows: int, side: int) -> dict[str, Tensor]:
    return {"latents": torch.randn(rows, 4, side // 8, side // 8)}


def _noisy(width: int) -> Inputs:
    def inputs(rows: int, side: int) -> dict[str, Tensor]:
        told = {"timestep": torch.full((rows,), 500), "encoder_hidden_states": torch.randn(rows, TOKENS, width)}
        return {"sample": _latents(rows, side)["latents"], **told}

    return inputs


def _sdxl(rows: int, side: int) -> dict[str, Any]:
    told = {"text_embeds": torch.randn(rows, 1280), "time_ids": torch.full((rows, 6), float(side))}
    return _noisy(2048)(rows, side) | {"added_cond_kwargs": told}


def _face(rows: int, side: int) -> dict[str, Tensor]:
    ids = torch.randint(1, 49_406, (rows, TOKENS))
    return {"faces": torch.rand(rows, 3, 448, 448), "ids": ids, "has_face": torch.ones(rows, dtype=torch.bool)}


NETWORKS: dict[str, Network] = {
    "SD 1.5 U-Net": Network(
        lambda: UNet2DConditionModel(**SD15), _noisy(768), True, {"25 guided steps": 50, "4 steps": 4, "2 steps": 2}
    ),
    "decoder": Network(lambda: Decoder(AutoencoderKL(**KL)), _latents, True, {"": 1}),
    "tiny decoder": Network(lambda: Decoder(AutoencoderTiny()), _latents, True, {"": 1}),
    "thermal U-Net": Network(
        lambda: UNet(UNetConfig()), lambda rows, side: {"x": torch.rand(rows, 3, side, side)}, False, {"": 1}
    ),
    "landmarker": Network(
        lambda: Landmarker(LandmarkerConfig()), lambda rows, side: {"x": torch.randn(rows, 3, 224, 224)}, False, {"": 1}
    ),
    "FaceCLIP-SDXL U-Net": Network(
        lambda: UNet2DConditionModel(**SDXL), _sdxl, True, {"50 guided steps": 100, "4 steps": 4}
    ),
    "FaceCLIP encoder": Network(FaceClip, _face, False, {"": 1}),
}
"""Name -> network. A landmarker's and the FaceCLIP encoder's pictures are of their own sides, whatever is asked for."""
LARGE = ("FaceCLIP-SDXL U-Net", "FaceCLIP encoder")
"""Those that are built only by name: they take 10 and 6 GB before they are cast."""
