"""The judge of head pose: a rotation from six numbers (arXiv 1812.07035, section 5.2), and how far off it expects to be."""

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from models.judges.trunk import Trunk, TrunkConfig

NARROWEST = 0.003
"""Smallest scale of the error, radians."""


class PoseConfig(BaseModel):
    """What is stored with the weights. cells: the last features are averaged over cells x cells."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trunk: TrunkConfig = TrunkConfig(side=64, stem=24, widths=(48, 96, 144), inner=(32, 48, 64), depth=2)
    cells: int = 4
    hidden: int = 96


class PoseJudge(nn.Module):
    """Pictures [B, 3, S, S] in [-1, 1] -> rotations from head to camera [B, 3, 3] and scales of their error [B] in radians."""

    def __init__(self, config: PoseConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = Trunk(config.trunk)
        self.hidden = nn.Linear(config.trunk.widths[-1] * config.cells**2, config.hidden)
        self.head = nn.Linear(config.hidden, 7)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        last = self.trunk(pictures)[-1]
        pooled = F.adaptive_avg_pool2d(last, self.config.cells).flatten(1)
        with torch.autocast(pooled.device.type, enabled=False):
            found = self.head(F.relu(self.hidden(pooled.float())))
        return rotation_of_six(found[:, :6]), F.softplus(found[:, 6] - 2) + NARROWEST


def build_pose(config: dict[str, Any]) -> PoseJudge:
    """Return an untrained judge of the stored configuration."""
    return PoseJudge(PoseConfig(**config))


def rotation_of_six(values: Tensor) -> Tensor:
    """Return rotations [B, 3, 3] of [B, 6]: Gram-Schmidt on two rows, added to those of the head that looks ahead."""
    ahead = values.new_tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    one, two = (values + ahead).split(3, dim=1)
    first = F.normalize(one, dim=1)
    second = F.normalize(two - (first * two).sum(1, keepdim=True) * first, dim=1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=1)


def rotation_of_angles(degrees: Tensor) -> Tensor:
    """Return rotations from head to camera [B, 3, 3] of yaw, pitch, roll in degrees [B, 3]; signs of the world's `View`."""
    cos, sin = torch.deg2rad(degrees).cos().unbind(1), torch.deg2rad(degrees).sin().unbind(1)
    zero, one = torch.zeros_like(cos[0]), torch.ones_like(cos[0])

    def matrix(*values: Tensor) -> Tensor:
        return torch.stack(values, dim=1).view(-1, 3, 3)

    turn = matrix(cos[0], zero, sin[0], zero, one, zero, -sin[0], zero, cos[0])
    nod = matrix(one, zero, zero, zero, cos[1], sin[1], zero, -sin[1], cos[1])
    tilt = matrix(cos[2], sin[2], zero, -sin[2], cos[2], zero, zero, zero, one)
    return tilt @ nod @ turn


def angles_of_rotation(turn: Tensor) -> Tensor:
    """Return yaw, pitch, roll in degrees [B, 3] of rotations from head to camera [B, 3, 3]."""
    pitch = torch.asin((-turn[:, 2, 1]).clamp(-1, 1))
    yaw, roll = torch.atan2(-turn[:, 2, 0], turn[:, 2, 2]), torch.atan2(turn[:, 0, 1], turn[:, 1, 1])
    return torch.rad2deg(torch.stack([yaw, pitch, roll], dim=1))


def move_rotation(turn: Tensor, matrices: Tensor, flipped: Tensor) -> Tensor:
    """Return the rotations [B, 3, 3] of heads whose pictures were sampled through `matrices` (`augment.batch.draw_transforms`).

    flipped: bool [B]. A mirror changes the sign of everything across; then the picture turns in its plane.
    """
    mirror = torch.diag_embed(torch.stack([1 - 2 * flipped.float(), *[torch.ones(len(turn))] * 2], dim=1)).to(turn)
    # Sampling goes from the result to the source, and rows go down: both turn the other way, and cancel.
    linear = matrices[:, :, :2].to(turn) @ mirror[:, :2, :2]
    plane = F.normalize(linear[:, :, 0], dim=1)
    cos, sin, zero = plane[:, 0], plane[:, 1], torch.zeros_like(plane[:, 0])
    spin = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, torch.ones_like(zero)], dim=1).view(-1, 3, 3)
    return spin @ mirror @ turn @ mirror


def angle_between(one: Tensor, other: Tensor) -> Tensor:
    """Return the angle in radians [B] of the rotation between rotations [B, 3, 3], with a gradient also where it is 0 or pi."""
    chord = ((one - other).pow(2).sum(dim=(1, 2)) + 1e-8).sqrt()  # 2 sqrt(2) sin(angle / 2)
    return 2 * torch.atan2(chord, (8 - chord.pow(2)).clamp(min=1e-8).sqrt())


def scale_likelihood(angle: Tensor, scale: Tensor) -> Tensor:
    """Return -log density [B], up to a constant, of errors of size `angle` under exp(-angle / scale) / (8 pi scale^3).

    That density is over vectors of rotation, isotropic and with tails as a Laplace distribution has; its mean angle is 3 scale.
    """
    return angle / scale + 3 * scale.log()
