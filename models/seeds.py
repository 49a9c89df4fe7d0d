"""Seeds belong to samples, never to batches, actors or retries: every draw is a function of names."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(*parts: object) -> int:
    """Return a 63-bit seed that depends on `parts` (joined as text) alone."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seeds_of(parts: Sequence[object], names: Sequence[bytes]) -> np.ndarray:
    """Return `seed_of(*parts, name)` for each of `names` (text in UTF-8), int64 [N]: as many at once, in half the time."""
    head = "\x1f".join([*map(str, parts), ""]).encode()
    digests = b"".join([hashlib.sha256(head + name).digest() for name in names])
    return (np.frombuffer(digests, ">u8")[::4] >> 1).astype(np.int64)


def shares_of(parts: Sequence[object], names: Sequence[bytes]) -> np.ndarray:
    """Return a number in [0, 1) for each of `names`, float64 [N]: those that `seeds_of` the same stand for."""
    return np.asarray((seeds_of(parts, names) >> 10) / float(1 << 53))


def generator(*parts: object) -> "torch.Generator":
    """Return a CPU generator seeded by `parts`."""
    import torch  # slow to import, and not needed for seeds alone

    return torch.Generator().manual_seed(seed_of(*parts))


def generators(ids: Sequence[str], stage: str, step: int, layer: str = "") -> "list[torch.Generator]":
    """Return a CPU generator for each of `ids`; the k-th depends on (ids[k], stage, layer, step) only."""
    where = (stage, layer) if layer else (stage,)
    return [generator(name, *where, step) for name in ids]
