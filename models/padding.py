"""Fixed compute batches: every forward pass sees the same number of rows, so a row's bytes never depend on its neighbours."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def chunks(count: int, batch: int) -> Iterator[tuple[slice, int]]:
    """Yield (rows, missing) over `count` rows: slices of at most `batch` rows and how many rows the last one lacks."""
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        yield slice(start, stop), batch - (stop - start)


def in_batches(function: Callable[[Tensor], Tensor], rows: Tensor, batch: int) -> Tensor:
    """Apply `function` to `rows` [N, ...] in batches of exactly `batch` rows (the last repeats its last row, cut after)."""
    out = []
    for part, missing in chunks(len(rows), batch):
        piece = rows[part]
        if missing:
            piece = torch.cat([piece, piece[-1:].expand(missing, *piece.shape[1:])])
        result = function(piece)
        out.append(result[: len(result) - missing])
    return torch.cat(out)
