"""What conditions a U-Net, row by row: prompt, identity, pictures beside the latents, a ControlNet's picture."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditions:
    """Inputs of diffusers' U-Nets beside latents and time, each with a row per picture; None where a U-Net takes none."""

    prompt_embeds: Tensor
    """[B, T, hidden]: what cross-attention reads."""
    class_labels: Tensor | None = None
    """[B, n]: beside the time step (diffusers' `class_embed_type`)."""
    beside: Tensor | None = None
    """[B, H, h, w]: beside the latents, as further input channels."""
    control: Tensor | None = None
    """[B, 3, S, S] in [0, 1]: the picture that a ControlNet is shown."""
    pooled: Tensor | None = None
    """[B, g]: SDXL's pooled text."""
    time_ids: Tensor | None = None
    """[B, 6]: SDXL's sizes (original, crop, target)."""
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    """name -> [B, T', width]: what further branches of cross-attention read (`models.diffusion.cross_attention`), and `cells`
    [B, C', h', w'], what interleaved scans read (`models.ssm.block`)."""

    skips: Mapping[str, Tensor] = field(default_factory=dict)
    """level -> [B, C, h, w]: what is added to the U-Net's skip connections in their order, and last to its middle."""

    def join(self, other: "Conditions") -> "Conditions":
        """Return these rows and then those of `other`, which has the same inputs."""
        # Field by field, so that a further input needs no line here.
        joined: dict[str, Any] = {f.name: _join(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return Conditions(**joined)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Conditions":
        """Return these inputs on `device`, in `dtype`."""
        moved: dict[str, Any] = {f.name: _move(getattr(self, f.name), device, dtype) for f in fields(self)}
        return Conditions(**moved)

    def added(self) -> dict[str, Any]:
        """Return what SDXL's networks take as `added_cond_kwargs`."""
        return {} if self.pooled is None else {"text_embeds": self.pooled, "time_ids": self.time_ids}


Input = Tensor | Mapping[str, Tensor] | None


def _join(one: Input, other: Input) -> Input:
    """Return the rows of both. Raises ValueError where only one of the two has the input."""
    if isinstance(one, Mapping) and isinstance(other, Mapping) and one.keys() == other.keys():
        return {name: torch.cat([values, other[name]]) for name, values in one.items()}
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.cat([one, other])
    if one is not None or other is not None:
        raise ValueError("both halves of guidance take the same inputs")
    return None


def _move(values: Input, device: torch.device | str, dtype: torch.dtype | None) -> Input:
    if isinstance(values, Mapping):
        return {name: tensor.to(device, dtype) for name, tensor in values.items()}
    return None if values is None else values.to(device, dtype)
