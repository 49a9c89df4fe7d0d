"""Seeds belong to samples, never to batches, actors or retries: every draw is a function of names."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def seed_of(*parts: object) -> int:
    """Return a 63-bit seed that depends on `parts` (joined as text) alone."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: object) -> torch.Generator:
    """Return a CPU generator seeded by `parts`."""
    return torch.Generator().manual_seed(seed_of(*parts))


def noise(ids: Sequence[str], stage: str, step: int, shape: Sequence[int]) -> Tensor:
    """Return standard normal noise, float32 [len(ids), *shape]; row k depends on (ids[k], stage, step) only."""
    return torch.stack([torch.randn(tuple(shape), generator=generator(name, stage, step)) for name in ids])
