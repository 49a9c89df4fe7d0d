"""The thermalizer: one T-FAKE U-Net per condition, from the masked visible picture to temperature."""

from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from models.classes import BACKGROUND
from models.config import parse_json
from models.errors import EnvironmentFault
from models.unet import UNet, UNetConfig, build_unet
from models.weights.networks import load_network, save_network

CLIP_MARGIN = 1e-3
"""Network values this near to 0 or 1 count as clipped."""


class ThermalConfig(BaseModel):
    """What the numbers of a thermalizer mean. T-FAKE's published weights: 20 to 40 degrees Celsius, background masked.

    low, high: the temperatures of network outputs 0 and 1, in degrees Celsius. blur: sigma in pixels of the Gaussian that
    the masked picture is seen through; the published weights learned with 0.5.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: float = 20.0
    high: float = 40.0
    mask_background: bool = True
    blur: float = Field(0.0, ge=0)
    conditions: tuple[str, ...] = Field(("warm", "cold"), min_length=1)

    @model_validator(mode="after")
    def _check_range(self) -> "ThermalConfig":
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self


class Thermalizer(nn.Module):
    """Pictures [B, 3, H, W] in [0, 1] and their classes -> degrees Celsius float32 [B, H, W], for one condition at a time."""

    def __init__(self, config: ThermalConfig, networks: dict[str, UNet]) -> None:
        super().__init__()
        self.config = config
        self.networks = nn.ModuleDict(networks)

    def predict_scaled(self, pictures: Tensor, classes: Tensor, condition: str, *, whole: bool = False) -> Tensor:
        """Return the network's output in [0, 1], float32 [B, H, W]. classes: uint8 [B, H, W].

        whole: the pictures as they are, neither masked nor blurred.
        """
        if self.config.mask_background and not whole:
            pictures = pictures * (classes != BACKGROUND)[:, None]
        if self.config.blur and not whole:
            pictures = blur(pictures, self.config.blur)
        return self.networks[condition](pictures.contiguous(memory_format=torch.channels_last))[:, 0].float()

    def forward(self, pictures: Tensor, classes: Tensor, condition: str) -> Tensor:
        return self.to_celsius(self.predict_scaled(pictures, classes, condition))

    def to_celsius(self, scaled: Tensor) -> Tensor:
        """Return network values as degrees Celsius."""
        return self.config.low + (self.config.high - self.config.low) * scaled

    def to_scale(self, celsius: Tensor) -> Tensor:
        """Return degrees Celsius as network values, clipped to [0, 1]."""
        return ((celsius - self.config.low) / (self.config.high - self.config.low)).clamp(0, 1)


def blur(pictures: Tensor, sigma: float) -> Tensor:
    """Return pictures [B, C, H, W] under a Gaussian of `sigma` pixels on a kernel of 5 x 5, edges mirrored."""
    line = torch.exp(-0.5 * (torch.arange(-2, 3, device=pictures.device) / sigma) ** 2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    count = pictures.shape[1]
    padded = F.pad(pictures, (2, 2, 2, 2), mode="reflect")
    return F.conv2d(padded, kernel.to(pictures.dtype).expand(count, 1, 5, 5), groups=count)


def clipped_share(scaled: Tensor, person: Tensor) -> Tensor:
    """Return the share of the person's pixels (bool, broadcast to `scaled` [..., H, W]) at an end of the scale, float [...]."""
    clipped = ((scaled <= CLIP_MARGIN) | (scaled >= 1 - CLIP_MARGIN)) & person
    return clipped.sum(dim=(-2, -1)) / person.sum(dim=(-2, -1)).clamp(min=1)


def new_thermalizer(config: ThermalConfig, unet: UNetConfig) -> Thermalizer:
    """Return an untrained thermalizer."""
    return Thermalizer(config, {condition: UNet(unet) for condition in config.conditions})


def save_thermalizer(model: Thermalizer, folder: Path) -> None:
    """Write `thermal.json` and one `CONDITION.safetensors` (float16) per condition."""
    save_config(model.config, folder)
    for condition, network in model.networks.items():
        save_network(network, folder / f"{condition}.safetensors")


def save_config(config: ThermalConfig, folder: Path) -> None:
    """Write `thermal.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "thermal.json").write_text(config.model_dump_json(indent=1) + "\n")


def thermal_config(folder: Path) -> ThermalConfig:
    """Return what the numbers of the thermalizer in `folder` mean; raises EnvironmentFault when it does not say."""
    path = folder / "thermal.json"
    try:
        return ThermalConfig(**parse_json(path.read_text()))
    except (OSError, ValueError) as error:
        raise EnvironmentFault(f"{path}: cannot read the thermalizer's configuration ({error})") from error


def load_thermalizer(folder: Path, dtype: str = "float32") -> Thermalizer:
    """Return the thermalizer of `folder`, in evaluation mode.

    Raises:
        EnvironmentFault: `thermal.json` or a condition's weights are missing, damaged or of another architecture.
    """
    config = thermal_config(folder)
    networks = {name: load_network(folder / f"{name}.safetensors", build_unet, dtype) for name in config.conditions}
    return Thermalizer(config, networks).eval()
