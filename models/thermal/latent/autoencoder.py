"""The thermal autoencoder: degrees Celsius [B, S, S] <-> latents [B, C, S / f, S / f]. One channel in, no 8-bit step anywhere.

Each side is a learned linear map of the pixels of an f x f cell plus a residual network on the grid of cells. What is smooth
goes through the linear maps, which have no ceiling and no rounding: a face of 45 degrees is as exact as one of 20. The
networks spend the latents on what the linear maps leave: edges of hair, glasses and nostrils. Our choice: the paper (LaPIG)
does not say what its thermal autoencoder is.
"""

from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.weights.networks import load_network, save_network

FILE = "autoencoder.safetensors"


class AutoencoderConfig(BaseModel):
    """Shape of a thermal autoencoder. factor: pixels of a cell's side. centre, span: degC of a network value 0, and per 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factor: Literal[4, 8] = 4
    channels: int = Field(4, ge=1, le=4)
    width: int = Field(64, ge=8)
    encoder_blocks: int = Field(2, ge=0)
    decoder_blocks: int = Field(6, ge=0)
    centre: float = 20.0
    span: float = Field(20.0, gt=0)


class _Block(nn.Module):
    """A residual block without normalisation, which would lose the picture's own level."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


class _Residual(nn.Module):
    """A linear map of each cell, plus a network of its neighbourhood that begins at zero."""

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(inputs, outputs, 1)
        last = nn.Conv2d(width, outputs, 3, padding=1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(
            nn.Conv2d(inputs, width, 3, padding=1), *(_Block(width) for _ in range(blocks)), nn.SiLU(), last
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.network(x)


class ThermalAutoencoder(nn.Module):
    """Degrees Celsius float32 [B, S, S] <-> latents float32 [B, C, S / f, S / f]; S is a multiple of f.

    `mean` and `scale` [C] are the latents' own over the training rows: `encode` gives latents of about mean square one.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        pixels = config.factor**2
        self.encoder = _Residual(pixels, config.channels, config.width, config.encoder_blocks)
        self.decoder = _Residual(config.channels, pixels, config.width, config.decoder_blocks)
        self.register_buffer("mean", torch.zeros(config.channels))
        self.register_buffer("scale", torch.ones(config.channels))

    def encode_raw(self, celsius: Tensor) -> Tensor:
        """Return latents as the encoder makes them, not yet of mean square one."""
        scaled = (celsius - self.config.centre) / self.config.span
        return self.encoder(F.pixel_unshuffle(scaled[:, None], self.config.factor))

    def decode_raw(self, latents: Tensor) -> Tensor:
        """Return degrees Celsius of latents as `encode_raw` makes them."""
        values = F.pixel_shuffle(self.decoder(latents), self.config.factor)[:, 0]
        return values * self.config.span + self.config.centre

    def encode(self, celsius: Tensor) -> Tensor:
        """Return latents of about mean square one."""
        return (self.encode_raw(celsius) - self.mean[:, None, None]) / self.scale[:, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Return degrees Celsius of `encode`'s latents."""
        return self.decode_raw(latents * self.scale[:, None, None] + self.mean[:, None, None])

    def forward(self, celsius: Tensor) -> Tensor:
        return self.decode_raw(self.encode_raw(celsius))


def new_autoencoder(config: AutoencoderConfig) -> ThermalAutoencoder:
    """Return a fresh autoencoder whose linear maps are the lowest cosines of a cell, from where they learn."""
    model = ThermalAutoencoder(config)
    # Cosines in the order of their frequency: mean, across, down, then both at once or the second across.
    side, pixels = config.factor, config.factor**2
    waves = sorted(((down, across) for down in range(side) for across in range(side)), key=lambda w: (w[0] + w[1], w))
    place = (torch.arange(side) + 0.5) * torch.pi / side
    basis = torch.stack([torch.outer((place * d).cos(), (place * a).cos()).flatten() for d, a in waves])
    basis = F.normalize(basis[: config.channels], dim=1)  # orthonormal, so that the transpose is the inverse
    with torch.no_grad():
        model.encoder.linear.weight.copy_(basis.view(config.channels, pixels, 1, 1))
        model.decoder.linear.weight.copy_(basis.T.view(pixels, config.channels, 1, 1))
        for linear in (model.encoder.linear, model.decoder.linear):
            assert linear.bias is not None
            linear.bias.zero_()
    return model


def save_autoencoder(model: ThermalAutoencoder, folder: Path) -> None:
    """Write `autoencoder.safetensors` in float32: float16 weights would cost hundredths of a degree."""
    save_network(model, folder / FILE, half=False)


def load_autoencoder(folder: Path) -> ThermalAutoencoder:
    """Return the autoencoder of `folder`, in evaluation mode, float32. Raises as `load_network`."""
    return load_network(folder / FILE, _build)


def _build(config: dict[str, Any]) -> ThermalAutoencoder:
    return ThermalAutoencoder(AutoencoderConfig(**config))
