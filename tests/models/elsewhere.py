"""A device without numbers (`meta`) in the place of the GPU: operations that mix it with the CPU's tensors are refused."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.fx.experimental import _config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Refuse mixed operations within; autocast, which knows no `meta`, does nothing."""
    with pytest.MonkeyPatch.context() as patch, _config.patch(meta_nonzero_assume_all_nonzero=True), Elsewhere():
        patch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
        yield


class Elsewhere(TorchDispatchMode):
    """Refuse operations on tensors of two devices, and answer what `meta` cannot tell: numbers."""

    MAY_MIX = (aten.copy_.default, aten._to_copy.default)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.ndim}
        assert len(devices) < 2 or func in self.MAY_MIX, f"{func} of tensors on {devices}"
        if tensors and tensors[0].is_meta:
            if func is aten._local_scalar_dense.default:
                return 1.0
            if func is aten._to_copy.default and str(kwargs.get("device")) == "cpu":
                return torch.zeros(tensors[0].shape, dtype=kwargs.get("dtype") or tensors[0].dtype)
        return func(*args, **kwargs)
