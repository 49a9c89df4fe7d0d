"""RGB2Thermal, T-FAKE's loss of a thermalizer (arXiv 2408.15127): pairs, patch distributions, and a temperature prior.

    L = mse * MSE(T(x), y) + patches * mean over sizes of W2^2(patches of T(x), patches of thermal pictures) / pixels
        + prior * R(T(x))

All terms are in squared values of the network's scale, where [0, 1] is 20 to 40 degrees Celsius by default.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from models.classes import BACKGROUND, CLASSES
from models.thermal import wasserstein


class Released(NamedTuple):
    """What the authors' released training code does otherwise than the paper says."""

    patches_without_gradient: bool
    """Patches are cut where autograd is off, so that their term moves no weight."""
    person_masked: bool
    """The mask of the synthetic side is inverted: patches come from the background, the person is set to zero."""
    mask_interpolated: bool
    """Class ids are shrunk bilinearly, which makes classes along borders that nobody put there."""
    grey_as_temperature: bool
    """Pictures stretched from their own minimum to their maximum are taken for 20 to 40 degrees Celsius."""
    background_in_prior: bool
    """The background is a region of the prior, at 20 degrees Celsius."""


FIDELITY = {"paper": Released(*[False] * 5), "code": Released(*[True] * 5)}


class LossConfig(BaseModel):
    """Weights and settings of the three terms; the paper's are mse 1, patches 0.01, prior 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mse: float = Field(1.0, ge=0, description="weight of the paired term")
    patches: float = Field(0.0, ge=0, description="weight of the patch term; the paper's is 0.01")
    prior: float = Field(0.0, ge=0, description="weight of the temperature prior; the paper's is 1")
    fidelity: Literal["paper", "code"] = Field("paper", description="code: with the defects that `Released` names")
    paired_scale: Literal["radiometric", "minmax", "affine"] = Field(
        "radiometric", description="what the pairs' values are: degrees, or grey levels of each picture's own scale"
    )
    solver: Literal["auto", "exact", "sinkhorn"] = Field(
        "auto", description="auto: on a CPU `exact`, which is both faster and exact there, else `sinkhorn`"
    )
    blur: float = Field(1e-3, gt=0, description="of `sinkhorn`: the smallest distance of patches that counts")
    annealing: float = Field(0.5, gt=0, lt=1, description="of `sinkhorn`: factor of blur from level to level")
    sweeps: int = Field(10, gt=0, description="of `sinkhorn`: iterations of a level")
    sizes: tuple[int, ...] = Field((256, 128, 64, 32, 16), min_length=1, description="sides that patches are cut at")
    patch: int = Field(8, ge=2, description="side of a patch")
    count: int = Field(512, ge=2, description="patches drawn a size and side")
    reference: dict[str, dict[str, float]] = Field(
        {}, description="degrees Celsius by condition and class in place of T-FAKE's prior: your own room's"
    )

    @field_validator("reference")
    @classmethod
    def _whole(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for condition, table in value.items():
            if odd := set(CLASSES) ^ set(table):
                raise ValueError(f"{condition} must give one temperature to each class; see {', '.join(sorted(odd))}")
        return value

    @property
    def released(self) -> Released:
        """Which of the released code's defects are wanted."""
        return FIDELITY[self.fidelity]


def paired_error(found: Tensor, target: Tensor, weight: Tensor, config: LossConfig) -> Tensor:
    """Return the weighted sum of squared errors of pictures float32 [B, H, W]; pixels of weight 0 do not count.

    With `paired_scale`
    radiometric: both are temperatures on the network's scale.
    minmax: both are first stretched to [0, 1] over the picture's own range, so the error says nothing of temperature.
    affine: `found` is first mapped by the picture's best gain * found + offset (least squares, gain >= 0).
    So the last two leave the temperature to the prior. The released code holds stretched targets for temperatures.
    """
    if config.paired_scale != "radiometric":
        target = stretched(target, weight > 0)
        if not config.released.grey_as_temperature:
            minmax = config.paired_scale == "minmax"
            found = stretched(found, weight > 0) if minmax else _fitted(found, target, weight)
    return ((found - target) ** 2 * weight).sum()


def stretched(values: Tensor, keep: Tensor) -> Tensor:
    """Return values float [B, H, W] with the minimum and maximum over `keep` (bool) of each picture at 0 and 1."""
    low = values.masked_fill(~keep, torch.inf).amin(dim=(1, 2), keepdim=True)
    high = values.masked_fill(~keep, -torch.inf).amax(dim=(1, 2), keepdim=True)
    some = keep.any(dim=2, keepdim=True).any(dim=1, keepdim=True)  # a picture without a kept pixel has no range
    low, high = torch.where(some, low, 0.0), torch.where(some, high, 1.0)
    return (values - low) / (high - low).clamp(min=1e-6)


def _fitted(found: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    total = weight.sum(dim=(1, 2), keepdim=True).clamp(min=1e-6)

    def mean(values: Tensor) -> Tensor:
        return (values * weight).sum(dim=(1, 2), keepdim=True) / total

    about, around = found - mean(found), target - mean(target)
    gain = (mean(about * around) / mean(about**2).clamp(min=1e-8)).clamp(min=0)
    return gain * about + mean(target)


def patch_distance(
    found: Tensor, classes: Tensor, real: Tensor, real_keep: Tensor, config: LossConfig, generator: torch.Generator
) -> Tensor:
    """Return the mean over sizes of W2^2 per pixel between patches of two sets of pictures, a scalar.

    found: float32 [B, H, W] with gradient; classes: uint8 [B, H, W]. real: float32 [R, H, W]; real_keep: bool, pixels
    that count. Background is left out: no patch of it alone is drawn, and in others it is set to zero. Sizes above the
    pictures' own are left out, and those where a side shows no person.
    """
    with torch.autocast(found.device.type, enabled=False):  # distances of patches are smaller than bfloat16's steps
        clouds = list(_clouds(found, classes, real, real_keep, config, generator))
        if not clouds:
            return found.new_zeros(())
        ours, theirs = (torch.stack(side) for side in zip(*clouds, strict=True))
        solver = config.solver
        if solver == "auto":
            solver = "exact" if ours.device.type == "cpu" else "sinkhorn"
        if solver == "exact":
            squared = wasserstein.exact(ours, theirs)
        else:
            settings = {"blur": config.blur, "annealing": config.annealing, "sweeps": config.sweeps}
            squared = wasserstein.sinkhorn(ours, theirs, **settings)  # type: ignore[arg-type]
        return squared.mean() / config.patch**2


def _clouds(
    found: Tensor, classes: Tensor, real: Tensor, real_keep: Tensor, config: LossConfig, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the patches of both sides at every size, float [count, patch^2] each."""
    released = config.released
    if released.patches_without_gradient:
        found = found.detach()
    keep = classes != BACKGROUND
    seen = torch.ones_like(keep) if released.person_masked else keep
    if config.paired_scale != "radiometric" and not released.grey_as_temperature:
        found, real = stretched(found, keep), stretched(real, real_keep)
    for size in config.sizes:
        if not config.patch <= size <= min(found.shape[-2:]):
            continue
        small, person = shrunk(found, seen, size)
        if released.mask_interpolated or released.person_masked:
            person = _released_mask(classes, size, released)
        ours = cut(small, person, config.patch, config.count, generator)
        theirs = cut(*shrunk(real, real_keep, size), config.patch, config.count, generator)
        if ours is not None and theirs is not None:
            yield ours, theirs


def _released_mask(classes: Tensor, size: int, released: Released) -> Tensor:
    mode: dict[str, Any] = (
        {"mode": "bilinear", "antialias": True} if released.mask_interpolated else {"mode": "nearest-exact"}
    )
    ids = F.interpolate(classes[:, None].float(), _smaller(classes, size), **mode)[:, 0]
    return ids == BACKGROUND if released.person_masked else ids != BACKGROUND


def shrunk(values: Tensor, keep: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return pictures float [B, h, w] whose shorter side is `size`, and which pixels count, bool.

    Pixels that do not count do not bleed into those that do.
    """
    share = keep[:, None].to(values.dtype)
    wanted = _smaller(values, size)
    layers = torch.cat([torch.where(keep[:, None], values[:, None], 0.0), share], dim=1)
    total, covered = F.interpolate(layers, wanted, mode="bilinear", antialias=True).unbind(dim=1)
    kept = F.interpolate(share, wanted, mode="nearest-exact")[:, 0] > 0.5
    return total / covered.clamp(min=1e-3), kept & (covered > 1e-3)


def _smaller(values: Tensor, size: int) -> tuple[int, int]:
    height, width = values.shape[-2:]
    return round(height * size / min(height, width)), round(width * size / min(height, width))


def cut(values: Tensor, keep: Tensor, patch: int, count: int, generator: torch.Generator) -> Tensor | None:
    """Return `count` random patches (each at most once, if there are so many) of pictures [B, h, w] that show a kept pixel.

    Float [count, patch^2], other pixels zero; None when nothing is kept.
    """
    showing = F.max_pool2d(keep[:, None].float(), patch, stride=1)[:, 0].nonzero().cpu()  # [P, 3]: picture, row, column
    if not len(showing):
        return None
    order = torch.randperm(len(showing), generator=generator)
    chosen = showing[order.repeat(-(-count // len(showing)))[:count]]
    height, width = values.shape[-2:]
    corner = (chosen[:, 0] * height + chosen[:, 1]) * width + chosen[:, 2]
    inside = (torch.arange(patch)[:, None] * width + torch.arange(patch)).flatten()
    index = (corner[:, None] + inside).to(values.device)
    masked = torch.where(keep, values, 0.0).flatten()
    return masked[index]
