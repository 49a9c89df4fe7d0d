"""T-FAKE's thermalizer as a stage: visible pictures and their classes in, 16-bit centikelvin out, layer by layer."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.augment.batch import to_unit_tensor
from models.classes import BACKGROUND
from models.columns import Columns
from models.padding import chunks
from models.stages import NoOptions
from models.temperature import to_centikelvin
from models.thermal.unet.network import clipped_share, load_thermalizer
from models.thermal.unet.settings import Settings
from models.weights.networks import accelerator, device_of


class Stage:
    """`visible` uint8 [B, S, S, 3], `classes` uint8 [B, S, S] -> `thermal` uint16 [B, C, S, S] centikelvin and
    `thermal_clipped` float32 [B, C], the share of the person's pixels at either end of the network's scale.

    C are the layers of the settings, in order. Without classes (a thermalizer that masks nothing) the person is the picture.
    """

    def __init__(
        self, weights: Mapping[str, Path], options: NoOptions, *, dtype: str = "float32", threads: int = 1
    ) -> None:
        torch.set_num_threads(threads)
        self.model = load_thermalizer(weights["model"], dtype).to(accelerator())
        self.dtype = next(self.model.parameters()).dtype

    @torch.inference_mode()
    def __call__(self, rows: Columns, settings: Settings, batch: int) -> Columns:
        """Return `thermal` and `thermal_clipped`."""
        device, pictures = device_of(self.model), to_unit_tensor(rows["visible"])
        everywhere = np.full(rows["visible"].shape[:3], BACKGROUND + 1, np.uint8)
        classes = torch.from_numpy(np.ascontiguousarray(rows.get("classes", everywhere)))
        pictures, classes = pictures.to(device), classes.to(device)
        layers = torch.stack(
            [self._layer(pictures, classes, layer.condition, batch) for layer in settings.layers], dim=1
        )
        share = clipped_share(layers, (classes != BACKGROUND)[:, None])
        thermal = to_centikelvin(self.model.to_celsius(layers).cpu().numpy())
        return {"thermal": thermal, "thermal_clipped": share.float().cpu().numpy()}

    def _layer(self, pictures: Tensor, classes: Tensor, condition: str, batch: int) -> Tensor:
        """Return the network's output for one condition, float32 [B, S, S], computed in full batches."""
        outputs = []
        for chunk, missing in chunks(len(pictures), batch):
            # The last batch repeats its last row until it is full.
            rows = torch.arange(chunk.start, chunk.stop + missing).clamp(max=chunk.stop - 1)
            scaled = self.model.predict_scaled(pictures[rows].to(self.dtype), classes[rows], condition)
            outputs.append(scaled[: len(scaled) - missing])
        return torch.cat(outputs)
