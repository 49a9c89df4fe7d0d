"""In which orders the cells of a picture are scanned: along rows and columns, forwards and backwards."""

from functools import lru_cache

import torch
from torch import Tensor

from models.ssm.config import Directions


@lru_cache(64)
@torch.inference_mode(False)  # what is kept serves training as well
def scan_orders(height: int, width: int, directions: Directions) -> Tensor:
    """Return orders int64 [K, H W]: the k-th visits cell `orders[k, t]` (row by row) at its step t."""
    rows = torch.arange(height * width)
    columns = rows.view(height, width).T.flatten()
    found = {1: [rows], 2: [rows, rows.flip(0)], 4: [rows, rows.flip(0), columns, columns.flip(0)]}
    return torch.stack(found[directions])


@lru_cache(64)
@torch.inference_mode(False)
def inverse_orders(height: int, width: int, directions: Directions) -> Tensor:
    """Return where each cell stands in each order, int64 [K, H W]: what puts outputs back in place."""
    return scan_orders(height, width, directions).argsort(dim=1)


def side_of(tokens: int) -> int:
    """Return the side of a square picture of so many cells. Raises ValueError where there is none."""
    side = round(tokens**0.5)
    if side * side != tokens:
        raise ValueError(f"{tokens} tokens are no square picture: name its height and width")
    return side
