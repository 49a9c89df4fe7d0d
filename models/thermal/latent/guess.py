"""The first guess that a thermal latent diffusion may be shown: what a regression of rooms gives for the same picture and room.

As in CorrDiff (arXiv 2309.15214), a regression knows the mean of what is likely, and diffusion is left what it cannot know:
texture, and how far a person may be from the mean. What is made are latents less those of the guess, which also stand beside
them. Shown beside alone, a guess does not help where a room is extreme: the norms of a U-Net take a picture's level away, and
what it makes is drawn to the middle of what it learned from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.augment.batch import to_unit_tensor
from models.classes import IGNORE
from models.errors import EnvironmentFault
from models.thermal.latent.autoencoder import ThermalAutoencoder
from models.thermal.latent.cells import patch
from models.thermal.room_unet.network import RoomUNet, load_room_unet
from models.thermal.rooms import Room
from models.weights.networks import device_of


@dataclass(frozen=True)
class FirstGuess:
    """A thermalizer of rooms, and the autoencoder into whose latents its degrees go. cells: as of `patch`."""

    regression: RoomUNet
    autoencoder: ThermalAutoencoder
    cells: int

    def networks(self) -> tuple[nn.Module, ...]:
        """Return what must be on one device."""
        return self.regression, self.autoencoder

    @torch.no_grad()
    def __call__(self, pictures: np.ndarray, classes: np.ndarray | None, rooms: Sequence[Room]) -> Tensor:
        """Return latents float32 [B, C cells^2, h, w] on the CPU of pictures uint8 [B, S, S, 3] in their rooms.

        classes: uint8 [B, S, S], 255 or None where they are not known. In float32, whatever autocast is on.
        """
        device = device_of(self.regression)
        if classes is None:
            classes = np.full(pictures.shape[:3], IGNORE, np.uint8)
        with torch.autocast(device.type, enabled=False):
            known = torch.from_numpy(np.ascontiguousarray(classes)).to(device)
            celsius = self.regression(to_unit_tensor(pictures).to(device), known, rooms)
            return patch(self.autoencoder.encode(celsius), self.cells).float().cpu()


def load_guess(folder: Path, autoencoder: ThermalAutoencoder, cells: int, words: Sequence[str]) -> FirstGuess:
    """Return the guess of a thermalizer of rooms. words: those that it will be told.

    Raises EnvironmentFault where its files are missing or damaged, or it has not learned one of the words.
    """
    regression = load_room_unet(folder)
    if unknown := [word for word in words if word not in regression.config.conditions]:
        raise EnvironmentFault(
            f"{folder}: it knows the words {', '.join(regression.config.conditions)}, and not {', '.join(unknown)}, which the "
            "latent diffusion is told. They are of different trainings: fetch the part again."
        )
    return FirstGuess(regression.requires_grad_(False), autoencoder, cells)
