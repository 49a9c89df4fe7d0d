"""Regions of precision of the released FaceCLIP, which act within `released` alone; elsewhere all is as the caller has it.

The released path runs an outer autocast to bfloat16, the face ViT's projections in float16 inside it and the fuser in
float32. A training's own autocast is none of it: without `released` no region is entered, whatever surrounds the call.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import Tensor

_released = ContextVar("released", default=False)


@contextlib.contextmanager
def released(like: Tensor) -> Iterator[None]:
    """Compute in the released path's regions, on the device of `like`."""
    token = _released.set(True)
    try:
        with torch.autocast(like.device.type, torch.bfloat16):
            yield
    finally:
        _released.reset(token)


def in_half(like: Tensor) -> contextlib.AbstractContextManager[object]:
    """Compute linear layers in float16 in the released path, on the device of `like`."""
    return torch.autocast(like.device.type, torch.float16) if _released.get() else contextlib.nullcontext()


def in_float(like: Tensor) -> contextlib.AbstractContextManager[object]:
    """Leave the released path's autocast, on the device of `like`; inputs in lower precision are the caller's to widen."""
    return torch.autocast(like.device.type, enabled=False) if _released.get() else contextlib.nullcontext()


def cast_type(like: Tensor) -> torch.dtype:
    """Return the type that the released path casts words to, elsewhere that of `like`."""
    return torch.bfloat16 if _released.get() else like.dtype


def widen(values: Tensor) -> Tensor:
    """Return `values` in float32 if they are of a lower precision and the path is the released one."""
    return values.float() if _released.get() and values.dtype in (torch.float16, torch.bfloat16) else values
