"""Mamba mixers with the authors' names of weights: checkpoints of `mamba_ssm` and of transformers load strictly.

Sequences [B, L, width] in and out. With `directions`, the Mamba-2 mixer scans a picture's cells in several orders; its
projections in and out, gate and norm are shared, and each direction has a convolution, B, C, steps and decays of its own,
as VMamba's SS2D (arXiv 2401.10166).
"""

import math

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from models.ssm import scan
from models.ssm.config import Directions, KernelName
from models.ssm.kernels import run_ssd
from models.ssm.orders import inverse_orders, scan_orders

STEPS = (0.001, 0.1)
"""Between which the first steps are drawn, evenly in their logarithm (arXiv 2312.00752, section 3.6)."""
LEAST_STEP = 1e-4


class Mamba1Config(BaseModel):
    """Shape of a Mamba-1 mixer. rank: of the steps' projection, by default a sixteenth of `width`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(ge=1)
    expand: int = Field(2, ge=1)
    state: int = Field(16, ge=1)
    conv: int = Field(4, ge=1)
    rank: int = Field(0, ge=0)
    chunk: int = Field(scan.SCAN_CHUNK, ge=1)

    @property
    def inner(self) -> int:
        """Channels that are scanned."""
        return self.width * self.expand

    @property
    def step_rank(self) -> int:
        return self.rank or math.ceil(self.width / 16)


class Mamba1Mixer(nn.Module):
    """Mamba-1 (arXiv 2312.00752, section 3.4): tokens [B, L, width] -> [B, L, width]."""

    def __init__(self, config: Mamba1Config) -> None:
        super().__init__()
        self.config = config
        inner, rank = config.inner, config.step_rank
        self.in_proj = nn.Linear(config.width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, config.conv, groups=inner, padding=config.conv - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * config.state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, config.state + 1).log().repeat(inner, 1))  # S4D-real
        self.A_log._no_weight_decay = True  # type: ignore[attr-defined]  # the authors' mark, which the training loop reads
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, config.width, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():
            self.dt_proj.bias.copy_(draw_step_bias(inner))

    def forward(self, tokens: Tensor) -> Tensor:
        x, gate = self.in_proj(tokens).chunk(2, dim=-1)
        x = convolve_causally(x, self.conv1d.weight, self.conv1d.bias)
        # Steps and what is written and read depend on the token: that is the selection.
        config = self.config
        low, B, C = self.x_proj(x).split([config.step_rank, config.state, config.state], dim=-1)
        # The bias is added in float32 as it is: a step of 0.001 is below what bfloat16 keeps beside it.
        delta = F.softplus(F.linear(low, self.dt_proj.weight).float() + self.dt_proj.bias.float())
        y = scan.selective_scan(x, delta, -self.A_log.float().exp(), B, C, self.D, config.chunk)
        found: Tensor = self.out_proj(y.to(x.dtype) * F.silu(gate))
        return found


class Mamba2Config(BaseModel):
    """Shape of a Mamba-2 mixer. head: channels of a head. directions: orders in which a picture is scanned."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(ge=1)
    expand: int = Field(2, ge=1)
    state: int = Field(64, ge=1)
    head: int = Field(64, ge=1)
    groups: int = Field(1, ge=1)
    conv: int = Field(4, ge=1)
    chunk: int = Field(scan.SSD_CHUNK, ge=1)
    directions: Directions = 1

    @property
    def inner(self) -> int:
        """Channels that are scanned in each direction."""
        return self.width * self.expand

    @property
    def heads(self) -> int:
        """Heads of one direction."""
        return self.inner // self.head

    @property
    def writes(self) -> int:
        """Numbers of a token that are written, or read, in each direction."""
        return self.groups * self.state

    @model_validator(mode="after")
    def _check_heads(self) -> "Mamba2Config":
        if self.inner % self.head or self.heads % self.groups:
            raise ValueError(
                f"{self.inner} channels are not whole heads of {self.head}, in whole groups of {self.groups}"
            )
        return self


class GatedNorm(nn.Module):
    """RMS norm of y SiLU(gate), [..., width] (arXiv 2405.21060, section 7.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, y: Tensor, gate: Tensor) -> Tensor:
        gated = y.float() * F.silu(gate.float())
        scale = torch.rsqrt(gated.square().mean(-1, keepdim=True) + 1e-5)
        return (self.weight.float() * gated * scale).to(gate.dtype)


class Mamba2Mixer(nn.Module):
    """Mamba-2 (arXiv 2405.21060, section 7): tokens [B, L, width] -> [B, L, width].

    `kernel` says which code scans (`models.ssm.kernels`); it is no weight and no part of the configuration.
    """

    def __init__(self, config: Mamba2Config, kernel: KernelName = "torch") -> None:
        super().__init__()
        self.config, self.kernel = config, kernel
        inner, heads, count = config.inner, config.heads, config.directions
        scanned = count * (inner + 2 * config.writes)
        self.in_proj = nn.Linear(config.width, 2 * inner + count * (2 * config.writes + heads), bias=False)
        self.conv1d = nn.Conv1d(scanned, scanned, config.conv, groups=scanned, padding=config.conv - 1)
        self.dt_bias = nn.Parameter(draw_step_bias(count * heads))
        self.A_log = nn.Parameter(torch.empty(count * heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(count * heads))
        self.norm = GatedNorm(inner)
        self.out_proj = nn.Linear(inner, config.width, bias=False)

    def forward(self, tokens: Tensor, orders: Tensor | None = None, inverse: Tensor | None = None) -> Tensor:
        """Return the mixed tokens, each where it stood.

        orders, inverse: int64 [K, L] for K directions, as `models.ssm.orders` makes them; a single direction needs none.
        """
        config, count = self.config, self.config.directions
        if (1 if orders is None else len(orders)) != count:
            raise ValueError(f"a mixer of {count} directions takes as many orders")
        writes = count * config.writes
        gate, x, B, C, delta = self.in_proj(tokens).split(
            [config.inner, config.inner, writes, writes, count * config.heads], dim=-1
        )
        # Each direction sees the same tokens in its own order. Directions are then further heads: [B, L, K ...].
        x = _reorder(x, orders)
        B, C, delta = (_reorder(values.unflatten(-1, (count, -1)), orders) for values in (B, C, delta))
        # One after the other, so that each is one piece of memory, as the scan reads it.
        parts, bias = [count * config.inner, writes, writes], self.conv1d.bias
        assert bias is not None
        x, B, C = map(convolve_causally, (x, B, C), self.conv1d.weight.split(parts), bias.split(parts))
        steps = F.softplus(delta.float() + self.dt_bias.float())
        y = self._scan(
            x.unflatten(-1, (count * config.heads, config.head)),
            steps,
            B.unflatten(-1, (count * config.groups, -1)),
            C.unflatten(-1, (count * config.groups, -1)),
        )
        # Back in place, and the directions added up.
        y = _reorder(y.flatten(2).unflatten(2, (count, -1)), inverse).unflatten(2, (count, -1)).sum(dim=2)
        found: Tensor = self.out_proj(self.norm(y, gate))
        return found

    def _scan(self, x: Tensor, steps: Tensor, B: Tensor, C: Tensor) -> Tensor:
        A = -self.A_log.float().exp()
        if self.kernel == "torch":
            return scan.ssd(x, steps, A, B, C, self.D, self.config.chunk)
        return run_ssd(self.kernel, x, steps, A, B, C, self.D)


class Directional(nn.Module):
    """A mixer of sequences for each direction over a picture's cells [B, H W, width], their outputs added up."""

    def __init__(self, mixers: list[nn.Module]) -> None:
        super().__init__()
        self.mixers = nn.ModuleList(mixers)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        count: Directions = len(self.mixers)  # type: ignore[assignment]
        orders, inverse = scan_orders(height, width, count), inverse_orders(height, width, count)
        found = [m(tokens[:, there])[:, back] for m, there, back in zip(self.mixers, orders, inverse, strict=True)]
        return torch.stack(found).sum(dim=0)


def _reorder(values: Tensor, orders: Tensor | None) -> Tensor:
    """Return tokens [B, L, K C], those of the k-th direction in the k-th order of `orders` [K, L].

    values: [B, L, C], which every direction reads, or [B, L, K, C], in which each has its own.
    """
    if orders is None:
        return values.flatten(2)
    # Whole tokens are copied, which is several times faster than to gather numbers.
    places = orders.to(values.device)
    if values.ndim == 4:
        places = places * len(orders) + torch.arange(len(orders), device=values.device)[:, None]
        values = values.flatten(1, 2)
    return values.index_select(1, places.T.flatten()).unflatten(1, (-1, len(orders))).flatten(2)


def convolve_causally(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return SiLU of the depthwise convolution of tokens [B, L, C] by weight [C, 1, k], each seeing itself and those before."""
    # As a picture of one row, whose channels lie together: so no token has to be turned over before and after.
    picture = tokens.transpose(1, 2)[:, :, None]
    before = weight.shape[2] - 1
    found = F.conv2d(picture, weight[:, :, None], bias, padding=(0, before), groups=len(weight))
    return F.silu(found[:, :, 0, : tokens.shape[1]].transpose(1, 2))


def draw_step_bias(count: int) -> Tensor:
    """Return biases [count] under softplus of which steps are spread evenly in their logarithm over `STEPS`."""
    low, high = (math.log(step) for step in STEPS)
    steps = torch.exp(torch.rand(count) * (high - low) + low).clamp(min=LEAST_STEP)
    return steps + torch.log(-torch.expm1(-steps))
