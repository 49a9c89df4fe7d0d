"""Embeddings of prompts that are kept: draws and redraws of a person's view have the same prompt."""

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

MOST = 256
"""Rows that are kept: 60 MB of Stable Diffusion 1.5's prompts in float32."""


class EmbedsCache:
    """Rows of an encoder's output by what they are of, and by the size of the batch, which decides their last bits."""

    def __init__(self) -> None:
        self._rows: dict[tuple[Hashable, int], Tensor] = {}

    def get(self, keys: Sequence[Hashable], encode: Callable[[list[int]], Tensor]) -> Tensor:
        """Return the rows of `keys`, [B, ...]. encode: B row numbers -> their rows; it is asked for those that are not kept,
        padded to a whole batch with the last one, and not at all where there are none."""
        batch = len(keys)
        if len(self._rows) + batch > MOST:
            self._rows.clear()
        places = {(key, batch): row for row, key in enumerate(keys)}
        missing = {key: row for key, row in places.items() if key not in self._rows}
        if missing:
            asked = list(missing.values())
            found = encode([*asked, *[asked[-1]] * (batch - len(asked))])
            self._rows |= {key: row.clone() for key, row in zip(missing, found)}
        return torch.stack([self._rows[key, batch] for key in keys])
