"""The thermal stage of a job: visible pictures and their classes in, 16-bit centikelvin out, one layer per condition."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.augment import pictures_of
from models.classes import BACKGROUND
from models.errors import UserError
from models.padding import chunks
from models.temperature import to_centikelvin
from models.thermal.unet.network import clipped_share, load_thermalizer
from models.weights.networks import accelerator, device_of


class ThermalStage:
    """`visible` uint8 [B, S, S, 3], `classes` uint8 [B, S, S] -> `thermal` uint16 [B, C, S, S] centikelvin and
    `thermal_clipped` float32 [B, C], the share of the person's pixels at either end of the network's scale.

    conditions: the C conditions wanted, in order; each must be among the thermalizer's.
    """

    def __init__(
        self, weights: Path, *, conditions: Sequence[str], dtype: str = "float32", threads: int = 1, batch: int = 32
    ) -> None:
        torch.set_num_threads(threads)
        self.model = load_thermalizer(Path(weights), dtype).to(accelerator())
        self.dtype = next(self.model.parameters()).dtype
        self.conditions, self.batch = self._known(conditions), batch

    def with_conditions(self, conditions: Sequence[str]) -> "ThermalStage":
        """Return this stage for other conditions, weights shared. Raises a UserError for one that it has not learned."""
        other = copy.copy(self)
        other.conditions = self._known(conditions)
        return other

    def _known(self, conditions: Sequence[str]) -> tuple[str, ...]:
        unknown = [name for name in conditions if name not in self.model.networks]
        if unknown:
            known = ", ".join(self.model.networks)
            raise UserError(f"this bundle has no thermalizer for condition {unknown[0]!r}; it has: {known}")
        return tuple(conditions)

    @torch.inference_mode()
    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        inputs = (pictures_of(batch["visible"]), torch.from_numpy(np.ascontiguousarray(batch["classes"])))
        pictures, classes = (values.to(device_of(self.model)) for values in inputs)
        layers = torch.stack([self._layer(pictures, classes, name) for name in self.conditions], dim=1)
        share = clipped_share(layers, (classes != BACKGROUND)[:, None])
        thermal = to_centikelvin(self.model.celsius(layers).cpu().numpy())
        return {**batch, "thermal": thermal, "thermal_clipped": share.float().cpu().numpy()}

    def _layer(self, pictures: Tensor, classes: Tensor, condition: str) -> Tensor:
        out = []
        for part, missing in chunks(len(pictures), self.batch):
            rows = torch.arange(part.start, part.stop + missing).clamp(max=part.stop - 1)
            found = self.model.scaled(pictures[rows].to(self.dtype), classes[rows], condition)
            out.append(found[: len(found) - missing])
        return torch.cat(out)
