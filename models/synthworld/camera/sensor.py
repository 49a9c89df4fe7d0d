"""What a microbolometer camera makes of apparent temperature, and the pictures people make of its counts.

`measure` is radiometric (degrees Celsius with a camera's faults); `minmax` and `plateau_agc` are 8-bit pictures, whose
grey levels are never degrees Celsius. `ThermalKind` names which of them an image is.
"""

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from models.seeds import generator

ThermalKind = Literal["kinetic", "apparent", "measured", "predicted", "minmax", "agc"]

ABSOLUTE_ZERO = -273.15


class Camera(BaseModel):
    """The parameters of one thermal camera. Temperatures in kelvin, lengths in native pixels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mtf_px: float = Field(ge=0.0, description="standard deviation of the optical and detector blur")
    netd_mk: float = Field(ge=0.0, description="temporal noise per pixel, millikelvin at 1 sigma")
    row_mk: float = Field(ge=0.0, description="row pattern, millikelvin")
    column_mk: float = Field(ge=0.0, description="column pattern, millikelvin")
    drift_k: float = Field(ge=0.0, description="slow shading over the frame since the last shutter, 1 sigma")
    offset_k: float = Field(ge=0.0, description="calibration offset of the whole frame, 1 sigma, cut at 2 K")
    vignetting_k: float = Field(ge=0.0, description="fall-off from centre to corner for a scene 10 K above the housing")
    housing_c: float = Field(description="temperature of the housing, degC")
    dead: float = Field(ge=0.0, le=0.2, description="share of dead pixels, filled from their neighbours")
    count_k: float = Field(gt=0.0, description="kelvin per count: 0.01 or 0.04 on the usual cores")
    low_c: float = Field(description="below this the signal saturates, degC")
    high_c: float = Field(description="above this the signal saturates, degC")


@dataclass(frozen=True)
class ThermalFrame:
    """One frame: `temperature` float32 [H,W] degC, `valid` bool [H,W], `saturated` pixels."""

    temperature: Tensor
    valid: Tensor
    saturated: int


def resample(image: Tensor, size: int) -> Tensor:
    """Resize float [H,W] to [size,size] as a coarser detector would see it: pixels average over their area."""
    if image.shape[-1] == size:
        return image
    return functional.interpolate(
        image[None, None], (size, size), mode="bilinear", antialias=True, align_corners=False
    )[0, 0]


def native_size(picture: int, face: float, wanted: float) -> int:
    """Return the native frame's width: a face `face` px high of `picture` px shall be `wanted` px high (20..200)."""
    return max(16, round(picture * min(max(wanted, 20.0), 200.0) / max(face, 1.0)))


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of float [H,W] with reflected borders; `sigma` in pixels, 0 leaves the image alone."""
    radius = min(int(np.ceil(3.0 * sigma)), min(image.shape) - 1)
    if sigma <= 0.0 or radius < 1:
        return image
    steps = torch.arange(-radius, radius + 1, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(image[None, None], (radius,) * 4, mode="reflect")
    return functional.conv2d(functional.conv2d(padded, kernel[None, None, None, :]), kernel[None, None, :, None])[0, 0]


def fill_dead(image: Tensor, dead: Tensor) -> Tensor:
    """Replace `dead` pixels (bool [H,W]) by the mean of the live ones around them, as a camera's firmware does."""
    live = (~dead).to(image.dtype)
    box = torch.ones(1, 1, 3, 3, dtype=image.dtype)
    total = functional.conv2d((image * live)[None, None], box, padding=1)[0, 0]
    count = functional.conv2d(live[None, None], box, padding=1)[0, 0]
    return torch.where(dead, torch.where(count > 0, total / count.clamp(min=1.0), image[~dead].mean()), image)


def measure(apparent: Tensor, valid: Tensor, camera: Camera, *name: object) -> ThermalFrame:
    """Return what `camera` reads of one frame. Its noise is a function of `name` (identity, view, condition ...) alone.

    apparent: float32 [H,W] degC at native resolution (`resample` first); valid: bool [H,W].
    A saturated or dead pixel is not `valid`; saturated ones are counted.
    """
    height, width = apparent.shape
    rng = generator("camera", *name)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng)

    # Optics: blur, and a fall-off towards the corners.
    signal = blur(apparent, camera.mtf_px)
    y = torch.linspace(-1.0, 1.0, height)[:, None]
    x = torch.linspace(-1.0, 1.0, width)[None, :]
    fall = camera.vignetting_k / 10.0 * 0.5 * (x**2 + y**2)
    signal = signal - fall * (signal - camera.housing_c)
    # Calibration: an offset of the frame, and shading that drifts since the last shutter.
    offset = (camera.offset_k * normal(1)).clamp(-2.0, 2.0)
    a, b, c = (camera.drift_k * normal(3) / 1.3).unbind()  # a tilted, bowed plane with about drift_k of spread
    signal = signal + offset + a * x + b * y + c * (x**2 - y**2)
    # Noise: of rows, of columns, of pixels.
    signal = signal + (camera.row_mk * normal(height, 1) + camera.column_mk * normal(1, width)) / 1000.0
    signal = signal + camera.netd_mk * normal(height, width) / 1000.0
    # Dead pixels are filled, and what lies out of range is cut off.
    dead = torch.rand(height, width, generator=rng) < camera.dead
    signal = fill_dead(signal, dead)
    saturated = (signal <= camera.low_c) | (signal >= camera.high_c)
    # The file holds whole counts.
    counts = ((signal.clamp(camera.low_c, camera.high_c) - ABSOLUTE_ZERO).double() / camera.count_k).round()
    kelvin = counts * camera.count_k + ABSOLUTE_ZERO
    return ThermalFrame(kelvin.float(), valid & ~saturated & ~dead, int(saturated.sum()))


def minmax(image: Tensor) -> Tensor:
    """Stretch one frame to uint8 [H,W] from its own minimum to its maximum (a constant frame is all zeros)."""
    low, high = image.min(), image.max()
    if high <= low:
        return torch.zeros_like(image, dtype=torch.uint8)
    return ((image - low) / (high - low) * 255.0).round().to(torch.uint8)


def plateau_agc(image: Tensor, plateau: float = 0.02, bins: int = 1024) -> Tensor:
    """Plateau histogram equalisation of one frame to uint8 [H,W]: monotone in temperature within the frame.

    A bin counts at most `plateau` of the pixels, so that a large flat wall does not take all the grey levels.
    """
    low, high = image.min().item(), image.max().item()
    if high <= low:
        return torch.zeros_like(image, dtype=torch.uint8)
    # Histogram of the frame between its extremes, each bin cut at the plateau.
    place = ((image - low) / (high - low) * (bins - 1)).long().clamp(0, bins - 1)
    histogram = torch.bincount(place.flatten(), minlength=bins).float()
    clipped = histogram.clamp(max=max(1.0, plateau * image.numel()))
    # A grey level is the share of counted pixels that are colder.
    levels = (clipped.cumsum(0) - clipped[0]) / (clipped.sum() - clipped[0]).clamp(min=1e-6)
    return (levels[place] * 255.0).round().clamp(0, 255).to(torch.uint8)


def jpeg(image: Tensor, quality: int) -> Tensor:
    """Return uint8 [H,W] or [H,W,3] after a JPEG round trip at `quality` (1..100)."""
    buffer = io.BytesIO()
    Image.fromarray(image.numpy()).save(buffer, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(io.BytesIO(buffer.getvalue()))))
