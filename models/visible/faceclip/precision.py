"""Regions of precision of the released FaceCLIP, which act under an autocast alone; without one all is in the weights' type.

The released path runs an outer autocast to bfloat16, the face ViT's projections in float16 inside it and the fuser in
float32. What is written there as nested contexts follows here from the autocast that surrounds the call.
"""

import contextlib

import torch
from torch import Tensor


def released(like: Tensor) -> contextlib.AbstractContextManager[object]:
    """Compute in the released path's regions, on the device of `like`."""
    return torch.autocast(like.device.type, torch.bfloat16)


def in_half(like: Tensor) -> contextlib.AbstractContextManager[object]:
    """Compute linear layers in float16 where an autocast surrounds the call, on the device of `like`."""
    return torch.autocast(like.device.type, torch.float16) if _surrounded(like) else contextlib.nullcontext()


def in_float(like: Tensor) -> contextlib.AbstractContextManager[object]:
    """Compute without an autocast, on the device of `like`; inputs in lower precision are the caller's to widen."""
    return torch.autocast(like.device.type, enabled=False) if _surrounded(like) else contextlib.nullcontext()


def cast_type(like: Tensor) -> torch.dtype:
    """Return the type of a surrounding autocast, without one that of `like`."""
    return torch.get_autocast_dtype(like.device.type) if _surrounded(like) else like.dtype


def widen(values: Tensor) -> Tensor:
    """Return `values` in float32 if they are of a lower precision and an autocast surrounds the call."""
    narrow = values.dtype in (torch.float16, torch.bfloat16)
    return values.float() if narrow and _surrounded(values) else values


def _surrounded(like: Tensor) -> bool:
    """Whether an autocast surrounds the call; some devices (meta) know none."""
    kind = like.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
