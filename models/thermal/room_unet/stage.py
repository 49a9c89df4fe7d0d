"""The thermalizer of rooms as a stage: visible pictures and their classes in, 16-bit centikelvin out, layer by layer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from models.augment.batch import to_unit_tensor
from models.classes import BACKGROUND, IGNORE
from models.columns import Columns
from models.padding import chunks
from models.stages import NoOptions
from models.temperature import to_centikelvin
from models.thermal.room_unet.network import load_room_unet
from models.thermal.rooms import Room, RoomSettings
from models.weights.networks import accelerator, device_of


class Stage:
    """`visible` uint8 [B, S, S, 3], maybe `classes` uint8 [B, S, S] -> `thermal` uint16 [B, C, S, S] centikelvin,
    `thermal_clipped` and `beyond_rooms`, both [B, C].

    C are the layers of the settings, in order. `thermal_clipped` is the share of the person that is colder or warmer than
    anybody in training. Without classes the person is the picture.
    """

    def __init__(
        self, weights: Mapping[str, Path], options: NoOptions, *, dtype: str = "float32", threads: int = 1
    ) -> None:
        torch.set_num_threads(threads)
        self.model = load_room_unet(weights["model"], dtype).to(accelerator())
        self.dtype = next(self.model.parameters()).dtype

    @torch.inference_mode()
    def __call__(self, rows: Columns, settings: RoomSettings, batch: int) -> Columns:
        """Return `thermal`, `thermal_clipped` and `beyond_rooms`."""
        count, rooms = len(rows["visible"]), [settings.room(layer) for layer in settings.layers]
        celsius = np.stack([self.predict(rows, [room] * count, batch) for room in rooms], axis=1)
        person = rows["classes"] != BACKGROUND if "classes" in rows else np.ones(rows["visible"].shape[:3], bool)
        beyond = np.array([self.model.config.is_beyond(room) for room in rooms], bool)
        return {
            "thermal": to_centikelvin(celsius),
            "thermal_clipped": self.model.config.clipped_share(celsius, person[:, None]),
            "beyond_rooms": np.tile(beyond, (count, 1)),
        }

    @torch.inference_mode()
    def predict(self, rows: Columns, rooms: Sequence[Room], batch: int) -> np.ndarray:
        """Return degrees Celsius float32 [B, S, S] of every row in its room, computed in full batches."""
        device, pictures = device_of(self.model), to_unit_tensor(rows["visible"])
        unknown = np.full(rows["visible"].shape[:3], IGNORE, np.uint8)
        classes = torch.from_numpy(np.ascontiguousarray(rows.get("classes", unknown)))
        made = []
        for chunk, missing in chunks(len(pictures), batch):
            # The last batch repeats its last row until it is full.
            few = torch.arange(chunk.start, chunk.stop + missing).clamp(max=chunk.stop - 1)
            inputs = pictures[few].to(device, self.dtype), classes[few].to(device)
            celsius = self.model(*inputs, [rooms[row] for row in few])
            made.append(celsius[: len(celsius) - missing].cpu().numpy())
        return np.concatenate(made)
