"""RGB2Thermal, T-FAKE's loss of a thermalizer (arXiv 2408.15127): pairs, patch distributions, and a temperature prior.

    L = mse * MSE(T(x), y) + patches * mean over sizes of W2^2(patches of T(x), patches of thermal pictures) / pixels
        + prior * R(T(x))

All terms are in squared values of the network's scale, where [0, 1] is 20 to 40 degrees Celsius by default.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from models.classes import BACKGROUND, CLASSES
from models.thermal import wasserstein


class Defects(NamedTuple):
    """What the authors' released training code does otherwise than the paper says, or than this loss."""

    patches_without_gradient: bool
    """Patches are cut where autograd is off, so that their term moves no weight."""
    person_masked: bool
    """The mask of the synthetic side is inverted: patches come from the background, the person is set to zero."""
    mask_interpolated: bool
    """Class ids are shrunk bilinearly, which makes pixels between two classes look like a third."""
    grey_as_temperature: bool
    """Pictures stretched from their own minimum to their maximum are taken for 20 to 40 degrees Celsius, in all terms; what
    augmentation moves in from outside is as cold as the coldest pixel, and counts."""
    background_in_prior: bool
    """The background is a region of the prior, at 20 degrees Celsius."""
    pairs_whole: bool
    """Pairs are shown with their background and without blur, though all other pictures are masked and blurred."""
    zero_is_background: bool
    """Of real pictures the pixels of exactly 0 are background, whatever a mask says."""
    sizes_enlarged: bool
    """Pictures smaller than a size are enlarged to it; where there are fewer patches than `count`, all are taken, once."""


Defect = Literal[
    "patches_without_gradient",
    "person_masked",
    "mask_interpolated",
    "grey_as_temperature",
    "background_in_prior",
    "pairs_whole",
    "zero_is_background",
    "sizes_enlarged",
]


class LossConfig(BaseModel):
    """Weights and settings of the three terms; the paper's are mse 1, patches 0.01, prior 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mse: float = Field(1.0, ge=0, description="weight of the paired term")
    patches: float = Field(0.0, ge=0, description="weight of the patch term; the paper's is 0.01")
    prior: float = Field(0.0, ge=0, description="weight of the temperature prior; the paper's is 1")
    fidelity: Literal["paper", "code"] = Field("paper", description="code: with all the defects that `Defects` names")
    defects: tuple[Defect, ...] = Field((), description="single ones of the released code beside `fidelity: paper`")
    paired_scale: Literal["radiometric", "minmax", "affine"] = Field(
        "radiometric", description="what the pairs' values are: degrees, or grey levels of each picture's own scale"
    )
    solver: Literal["auto", "exact", "sinkhorn", "symmetric"] = Field(
        "auto",
        description="auto: on a CPU `exact`, which is both faster and exact there, else `sinkhorn`. symmetric: as released",
    )
    blur: float = Field(1e-3, gt=0, description="of the entropic solvers: the smallest distance of patches that counts")
    annealing: float = Field(0.5, gt=0, lt=1, description="of the entropic solvers: factor of blur from level to level")
    sweeps: int = Field(10, gt=0, description="of `sinkhorn`: iterations of a level")
    sizes: tuple[int, ...] = Field((256, 128, 64, 32, 16), min_length=1, description="sides that patches are cut at")
    patch: int = Field(8, ge=2, description="side of a patch")
    count: int = Field(512, ge=2, description="patches drawn a size and side")
    reference: dict[str, dict[str, float]] = Field(
        {}, description="degrees Celsius by condition and class in place of T-FAKE's prior: your own room's"
    )

    @field_validator("reference")
    @classmethod
    def _check_classes(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for condition, table in value.items():
            if odd := set(CLASSES) ^ set(table):
                raise ValueError(f"{condition} must give one temperature to each class; see {', '.join(sorted(odd))}")
        return value

    @property
    def repeats(self) -> Defects:
        """Which of the released code's defects are repeated."""
        return Defects(*(self.fidelity == "code" or name in self.defects for name in get_args(Defect)))


def paired_error(prediction: Tensor, target: Tensor, weight: Tensor, config: LossConfig) -> Tensor:
    """Return the weighted sum of squared errors of pictures float32 [B, H, W]; pixels of weight 0 do not count.

    With `paired_scale`
    radiometric: both are temperatures on the network's scale.
    minmax: both are first stretched to [0, 1] over the picture's own range, so the error says nothing of temperature.
    affine: `prediction` is first mapped by the picture's best gain * prediction + offset (least squares, gain >= 0).
    So the last two leave the temperature to the prior. The released code takes the stretched targets for temperatures.
    """
    if config.paired_scale != "radiometric":
        target = stretch(target, weight > 0)
        if not config.repeats.grey_as_temperature:
            minmax = config.paired_scale == "minmax"
            prediction = stretch(prediction, weight > 0) if minmax else _fit_gain_and_offset(prediction, target, weight)
    return ((prediction - target) ** 2 * weight).sum()


def stretch(values: Tensor, keep: Tensor) -> Tensor:
    """Return values float [B, H, W] with the minimum and maximum over `keep` (bool) of each picture at 0 and 1."""
    low = values.masked_fill(~keep, torch.inf).amin(dim=(1, 2), keepdim=True)
    high = values.masked_fill(~keep, -torch.inf).amax(dim=(1, 2), keepdim=True)
    some = keep.any(dim=2, keepdim=True).any(dim=1, keepdim=True)  # a picture without a kept pixel has no range
    low, high = torch.where(some, low, 0.0), torch.where(some, high, 1.0)
    return (values - low) / (high - low).clamp(min=1e-6)


def _fit_gain_and_offset(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return `prediction` [B, H, W] through the gain >= 0 and offset of each picture that take it nearest to `target`."""
    total = weight.sum(dim=(1, 2), keepdim=True).clamp(min=1e-6)

    def mean(values: Tensor) -> Tensor:
        return (values * weight).sum(dim=(1, 2), keepdim=True) / total

    # Weighted least squares: gain = cov(prediction, target) / var(prediction).
    centred, centred_target = prediction - mean(prediction), target - mean(target)
    gain = (mean(centred * centred_target) / mean(centred**2).clamp(min=1e-8)).clamp(min=0)
    return gain * centred + mean(target)


def patch_distance(
    prediction: Tensor, classes: Tensor, real: Tensor, real_keep: Tensor, config: LossConfig, generator: torch.Generator
) -> Tensor:
    """Return the mean over sizes of W2^2 per pixel between patches of two sets of pictures, a scalar.

    prediction: float32 [B, H, W] with gradient; classes: uint8 [B, H, W]. real: float32 [R, H, W]; real_keep: bool, pixels
    that count. Background is left out: no patch of it alone is drawn, and in others it is set to zero. Sizes above the
    pictures' own are left out, and those where a side shows no person.
    """
    with torch.autocast(
        prediction.device.type, enabled=False
    ):  # distances of patches are smaller than bfloat16's steps
        clouds = list(_clouds(prediction, classes, real, real_keep, config, generator))
        if not clouds:
            return prediction.new_zeros(())
        # Clouds of one size are solved together.
        same = len({(len(ours), len(theirs)) for ours, theirs in clouds}) == 1
        problems = [clouds] if same else [[pair] for pair in clouds]
        squared = [_solve(some, config) for some in problems]
        return torch.cat(squared).mean() / config.patch**2


def _solve(clouds: list[tuple[Tensor, Tensor]], config: LossConfig) -> Tensor:
    """Return W2^2 of each pair of clouds, all of one size, float [len(clouds)], by the solver that is asked for."""
    ours, theirs = (torch.stack(side) for side in zip(*clouds, strict=True))
    solver = config.solver
    if solver == "auto":
        solver = "exact" if ours.device.type == "cpu" else "sinkhorn"
    if solver == "exact":
        return wasserstein.exact(ours, theirs)
    if solver == "symmetric":
        return wasserstein.symmetric(ours, theirs, blur=config.blur, annealing=config.annealing)
    return wasserstein.sinkhorn(ours, theirs, blur=config.blur, annealing=config.annealing, sweeps=config.sweeps)


def _clouds(
    prediction: Tensor, classes: Tensor, real: Tensor, real_keep: Tensor, config: LossConfig, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the patches of both sides at every size, float [count, patch^2] each."""
    defects = config.repeats
    if defects.patches_without_gradient:
        prediction = prediction.detach()
    keep = classes != BACKGROUND
    visible = torch.ones_like(keep) if defects.person_masked else keep
    # Grey pictures have no temperature: both sides are compared over their own range.
    if config.paired_scale != "radiometric" and not defects.grey_as_temperature:
        prediction, real = stretch(prediction, keep), stretch(real, real_keep)
    largest = max(config.sizes) if defects.sizes_enlarged else min(prediction.shape[-2:])
    once = defects.sizes_enlarged
    for size in config.sizes:
        if not config.patch <= size <= largest:
            continue
        # Real pictures draw first, as in the released code, whose draws are then these.
        if defects.zero_is_background:
            shrunk = shrink(real, torch.ones_like(real_keep), size)[0]
            theirs = cut(shrunk, shrunk != 0, config.patch, config.count, generator, once=once)
        small, person = shrink(prediction, visible, size)
        if defects.mask_interpolated or defects.person_masked:
            person = _released_mask(classes, size, defects)
        ours = cut(small, person, config.patch, config.count, generator, once=once)
        if not defects.zero_is_background:
            theirs = cut(*shrink(real, real_keep, size), config.patch, config.count, generator, once=once)
        if ours is not None and theirs is not None:
            yield ours, theirs


def _released_mask(classes: Tensor, size: int, defects: Defects) -> Tensor:
    """Return which pixels of the synthetic side count in the released code, bool [B, h, w]."""
    mode: dict[str, Any] = (
        {"mode": "bilinear", "antialias": True} if defects.mask_interpolated else {"mode": "nearest-exact"}
    )
    ids = F.interpolate(classes[:, None].float(), _smaller(classes, size), **mode)[:, 0]
    return ids == BACKGROUND if defects.person_masked else ids != BACKGROUND


def shrink(values: Tensor, keep: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return pictures float [B, h, w] whose shorter side is `size`, and which pixels count, bool.

    Pixels that do not count do not bleed into those that do.
    """
    share = keep[:, None].to(values.dtype)
    wanted = _smaller(values, size)
    # Normalised averaging: the kept values and the mask are shrunk alike, and divided.
    layers = torch.cat([torch.where(keep[:, None], values[:, None], 0.0), share], dim=1)
    total, covered = F.interpolate(layers, wanted, mode="bilinear", antialias=True).unbind(dim=1)
    kept = F.interpolate(share, wanted, mode="nearest-exact")[:, 0] > 0.5
    return total / covered.clamp(min=1e-3), kept & (covered > 1e-3)


def _smaller(values: Tensor, size: int) -> tuple[int, int]:
    """Return height and width of pictures [..., H, W] whose shorter side becomes `size`."""
    height, width = values.shape[-2:]
    return round(height * size / min(height, width)), round(width * size / min(height, width))


def cut(
    values: Tensor, keep: Tensor, patch: int, count: int, generator: torch.Generator, *, once: bool = False
) -> Tensor | None:
    """Return `count` random patches (each at most once, if there are so many) of pictures [B, h, w] that show a kept pixel.

    Float [count, patch^2], other pixels zero; None when nothing is kept. once: where there are fewer, these alone.
    """
    # Every position whose window holds a kept pixel, in random order, repeated where there are too few.
    showing = F.max_pool2d(keep[:, None].float(), patch, stride=1)[:, 0].nonzero().cpu()  # [P, 3]: picture, row, column
    if not len(showing):
        return None
    order = torch.randperm(len(showing), generator=generator)
    chosen = showing[order.repeat(1 if once else -(-count // len(showing)))[:count]]
    # Cut all patches at once, by the flat index of each of their pixels.
    height, width = values.shape[-2:]
    corner = (chosen[:, 0] * height + chosen[:, 1]) * width + chosen[:, 2]
    inside = (torch.arange(patch)[:, None] * width + torch.arange(patch)).flatten()
    index = (corner[:, None] + inside).to(values.device)
    masked = torch.where(keep, values, 0.0).flatten()
    return masked[index]
