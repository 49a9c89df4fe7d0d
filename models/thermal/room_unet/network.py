"""A U-Net from a visible picture, its classes and what is known of the room to degrees Celsius.

T-FAKE's network (`models.unet`) has one set of weights for each word. Here one takes the room's numbers as constant planes
beside the picture, so what it makes follows the room without steps. It gives the mean of what is likely, and no draws.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.classes import CLASSES
from models.config import parse_json
from models.errors import EnvironmentFault
from models.thermal.rooms import NUMBERS, Room, RoomRange, room_vectors
from models.unet import UNet, UNetConfig, build_unet
from models.weights.networks import load_network, save_network

FILE, WEIGHTS_FILE = "thermal.json", "unet.safetensors"


class RoomUNetConfig(RoomRange):
    """What the numbers mean. centre, scale: degrees Celsius of the network's 0, and kelvin of its 1."""

    centre: float = 28.0
    scale: float = 8.0
    classes: bool = True

    @property
    def channels(self) -> int:
        """Channels of the network's input: colours, classes, the room's numbers."""
        return 3 + (len(CLASSES) if self.classes else 0) + NUMBERS + len(self.conditions)


class RoomUNet(nn.Module):
    """Pictures [B, 3, H, W] in [0, 1], classes uint8 [B, H, W] and B rooms -> degrees Celsius float32 [B, H, W].

    Pixels of no class (255) are shown none.
    """

    def __init__(self, config: RoomUNetConfig, unet: UNet) -> None:
        super().__init__()
        self.config = config
        self.unet = unet

    def forward(self, pictures: Tensor, classes: Tensor, rooms: Sequence[Room]) -> Tensor:
        height, width = pictures.shape[-2:]
        planes = [pictures]
        if self.config.classes:
            known = classes.long().clamp(max=len(CLASSES))
            shown = F.one_hot(known, len(CLASSES) + 1)[..., :-1]
            planes.append(shown.permute(0, 3, 1, 2).to(pictures))
        numbers = torch.from_numpy(room_vectors(rooms, self.config.conditions)).to(pictures)
        planes.append(numbers[:, :, None, None].expand(-1, -1, height, width))
        values = self.unet(torch.cat(planes, dim=1).contiguous(memory_format=torch.channels_last))
        return self.config.centre + self.config.scale * values[:, 0].float()


def new_room_unet(config: RoomUNetConfig, shape: UNetConfig) -> RoomUNet:
    """Return an untrained network of the width and depth of `shape`."""
    fitting = shape.model_copy(update={"in_channels": config.channels, "classes": 1, "activation": "none"})
    return RoomUNet(config, UNet(fitting))


def save_room_unet(model: RoomUNet, folder: Path) -> None:
    """Write `thermal.json` and `unet.safetensors` (float16)."""
    save_network(model.unet, folder / WEIGHTS_FILE)
    (folder / FILE).write_text(model.config.model_dump_json(indent=1) + "\n")


def load_room_unet(folder: Path, dtype: str = "float32") -> RoomUNet:
    """Return the network of `folder`, in evaluation mode. Raises EnvironmentFault where its files are missing or do not fit."""
    try:
        config = RoomUNetConfig(**parse_json((folder / FILE).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise EnvironmentFault(f"{folder / FILE}: of no thermalizer of rooms ({error}).") from error
    unet = load_network(folder / WEIGHTS_FILE, build_unet, dtype)
    if unet.config.in_channels != config.channels:
        raise EnvironmentFault(
            f"{folder}: {WEIGHTS_FILE} takes {unet.config.in_channels} channels, {FILE} describes {config.channels}. They "
            "are of different trainings: fetch the part again."
        )
    return RoomUNet(config, unet).eval()
