"""Regions of precision of the released FaceCLIP, which act under an autocast alone; without one all is in the weights' type.

The released path runs an outer autocast to bfloat16, the face ViT's projections in float16 inside it and the fuser in
float32. What is written there as nested contexts follows here from the autocast that surrounds the call.
"""

import contextlib

import torch
from torch import Tensor


def in_half(like: Tensor) -> contextlib.AbstractContextManager[object]:
    """Compute linear layers in float16 where an autocast surrounds the call, on the device of `like`."""
    kind = like.device.type
    if not torch.is_autocast_enabled(kind):
        return contextlib.nullcontext()
    return torch.autocast(kind, torch.float16)


def in_float(like: Tensor) -> contextlib.AbstractContextManager[object]:
    """Compute without an autocast, on the device of `like`; inputs in lower precision are the caller's to widen."""
    return torch.autocast(like.device.type, enabled=False)


def cast_type(like: Tensor) -> torch.dtype:
    """Return the type of a surrounding autocast, without one that of `like`."""
    kind = like.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype


def widen(values: Tensor) -> Tensor:
    """Return `values` in float32 if they are of a lower precision and an autocast surrounds the call."""
    narrow = values.dtype in (torch.float16, torch.bfloat16)
    return values.float() if narrow and torch.is_autocast_enabled(values.device.type) else values
