"""T-FAKE's landmarker: a MobileNetV2 that gives every landmark a place and a variance.

`LandmarkerConfig()` is the published network (2,492,882 parameters with 70 landmarks, 4,060,826 with 478, 314 state-dict
entries) with the published key names, so the authors' checkpoints load strictly. Width, input side and head are config:
the starter's small network is the same code. MobileNetV2: Sandler et al. 2018, table 2.
"""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.weights.networks import load_network, load_strictly, read_checkpoint

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What the network subtracts from and divides pictures in [0, 1] by, per channel (the ImageNet statistics)."""

FLOOR = 1e-6
"""Smallest variance, (crop units)^2: a standard deviation of a thousandth of the crop's side."""

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and first stride of each stage."""


class LandmarkerConfig(BaseModel):
    """Shape of a landmarker. The defaults are the published network for 70 landmarks.

    outputs: `leaky` is published, LeakyReLU on x, y and variance alike, so the variance can come out negative and must be
    clamped; `softplus` leaves x and y free (a landmark may lie outside the crop) and makes the variance positive.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    standard: Literal[70, 478] = Field(70, description="landmarks: 70 (iBUG-68 and pupils) or 478 (dense)")
    size: int = Field(224, ge=32, description="side of the square input in pixels")
    width: float = Field(1.0, gt=0, le=2, description="factor on the channels of every stage")
    head: int = Field(1280, ge=8, description="channels of the last convolution")
    cells: int = Field(
        1, ge=1, le=7, description="the last features are averaged over cells x cells; published: over all"
    )
    outputs: Literal["leaky", "softplus"] = "leaky"


def channels(base: int, width: float) -> int:
    """Return `base * width` rounded to a multiple of 8 and never below 90 % of it, as MobileNetV2 scales."""
    scaled = base * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


class _SeparableBlock(nn.Module):
    """The first block: depthwise and pointwise, no expansion."""

    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(inside, inside, 3, 1, 1, groups=inside, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv_pw = nn.Conv2d(inside, out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x)), inplace=True)))


class _InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the input is added where shapes allow."""

    def __init__(self, inside: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inside * expansion
        self.conv_pw = nn.Conv2d(inside, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv_dw = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.conv_pwl = nn.Conv2d(wide, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.same = stride == 1 and inside == out

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn1(self.conv_pw(x)), inplace=True)
        y = F.relu6(self.bn2(self.conv_dw(y)), inplace=True)
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.same else y


class _Features(nn.Module):
    def __init__(self, config: LandmarkerConfig) -> None:
        super().__init__()
        inside = channels(32, config.width)
        self.conv_stem = nn.Conv2d(3, inside, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        # Seven stages; the first block of each changes channels and size.
        stages = []
        for expansion, base, count, stride in STAGES:
            out, blocks = channels(base, config.width), list[nn.Module]()
            for index in range(count):
                step = stride if index == 0 else 1
                blocks.append(
                    _SeparableBlock(inside, out) if expansion == 1 else _InvertedResidual(inside, out, step, expansion)
                )
                inside = out
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = nn.Conv2d(inside, config.head, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(config.head)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn1(self.conv_stem(x)), inplace=True)
        return F.relu6(self.bn2(self.conv_head(self.blocks(x))), inplace=True)


class Landmarker(nn.Module):
    """Normalised crops [B, 3, S, S] -> [B, L, 3] float32: x (right) and y (down) in crop units, 0 to 1, and the variance.

    The variance is in (crop units)^2, one number for both axes. Its head is computed in float32 whatever the autocast type:
    a bfloat16 step would be 0.9 pixels of 224.
    """

    def __init__(self, config: LandmarkerConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_network = _Features(config)
        self.fc = nn.Linear(config.head * config.cells**2, 3 * config.standard)

    def forward(self, x: Tensor) -> Tensor:
        features = self.feature_network(x).float()
        with torch.autocast(x.device.type, enabled=False):
            pooled = F.adaptive_avg_pool2d(features, self.config.cells).flatten(1)
            weight, bias = self.fc.weight.float(), self.fc.bias.float()
            raw = F.linear(pooled, weight, bias).unflatten(1, (self.config.standard, 3))
            return activate(raw, self.config.outputs)


def activate(raw: Tensor, outputs: Literal["leaky", "softplus"]) -> Tensor:
    """Return x, y and variance [..., 3] of the last layer's numbers [..., 3]."""
    if outputs == "leaky":
        return F.leaky_relu(raw, 0.01)
    return torch.cat([raw[..., :2], F.softplus(raw[..., 2:]) + FLOOR], dim=-1)


def normalise(pictures: Tensor) -> Tensor:
    """Return pictures [B, 3, H, W] float in [0, 1] as the network takes them."""
    mean, spread = (torch.tensor(v, dtype=pictures.dtype, device=pictures.device) for v in (MEAN, SPREAD))
    return (pictures - mean[:, None, None]) / spread[:, None, None]


def new_landmarker(config: LandmarkerConfig) -> Landmarker:
    """Return an untrained landmarker whose first answer is the middle of the crop with a variance of a few hundredths."""
    model = Landmarker(config)
    nn.init.normal_(model.fc.weight, std=1e-3)
    with torch.no_grad():
        start = torch.tensor([0.5, 0.5, 0.03 if config.outputs == "leaky" else -3.5])
        model.fc.bias.copy_(start.repeat(config.standard))
    return model


def build_landmarker(config: dict[str, Any]) -> Landmarker:
    """Return an untrained landmarker of the stored configuration `config` (see `LandmarkerConfig`)."""
    return Landmarker(LandmarkerConfig(**config))


def load_landmarker(path: Path, dtype: str = "float32") -> Landmarker:
    """Read a landmarker: a safetensors file of this project, or a published checkpoint (`70.pt`, `478.pt`).

    Raises:
        EnvironmentFault: the file is missing, damaged or of another architecture; the message lists what differs.
    """
    if path.suffix in (".pt", ".pth"):
        return load_published(path)
    return load_network(path, build_landmarker, dtype)


def load_published(path: Path) -> Landmarker:
    """Read the authors' checkpoint strictly, whatever wraps it (`read_checkpoint`). Never unpickles code."""
    state = read_checkpoint(path)
    # The number of outputs says which of the two networks it is.
    rows = [len(value) for key, value in state.items() if key == "fc.bias"]
    standard: Literal[70, 478] = 478 if rows == [3 * 478] else 70
    model = Landmarker(LandmarkerConfig(standard=standard))
    load_strictly(model, state, path)
    return model.eval()


def fold_batch_norms(model: Landmarker) -> Landmarker:
    """Return a copy for inference with every batch norm folded into the convolution before it."""
    model = copy.deepcopy(model).eval().requires_grad_(False)
    # Stem and head, then every block.
    pairs = (("conv_stem", "bn1"), ("conv_head", "bn2"))
    _fold(model.feature_network, pairs)
    for block in model.feature_network.modules():
        if isinstance(block, _SeparableBlock):
            _fold(block, (("conv_dw", "bn1"), ("conv_pw", "bn2")))
        elif isinstance(block, _InvertedResidual):
            _fold(block, (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")))
    return model


def fuse_activations(model: Landmarker, batch: int) -> Callable[[Tensor], Tensor]:
    """Return a float32 model with folded batch norms whose activations are computed inside the convolutions, on a CPU.

    It takes batches of `batch` crops. The answers are the model's up to rounding, in about half the time.
    """

    class Whole(nn.Module):
        """To the tracer one module with constants: to build each of the model's hundreds anew takes longer than the rest."""

        def forward(self, crops: Tensor) -> Tensor:
            return cast(Tensor, model(crops))

    example = torch.zeros(batch, 3, model.config.size, model.config.size).contiguous(memory_format=torch.channels_last)
    # Tracing freezes shapes and weights; the optimiser then fuses.
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # scripting is deprecated, and nothing else fuses without compiling for a minute
        traced = torch.jit.trace(Whole().eval(), example, check_trace=False)
        return torch.jit.optimize_for_inference(torch.jit.freeze(traced))


def _fold(module: nn.Module, pairs: tuple[tuple[str, str], ...]) -> None:
    for conv, norm in pairs:
        setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
        setattr(module, norm, nn.Identity())
