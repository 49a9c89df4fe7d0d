"""The pinhole camera of a view: pixels to rays and head-frame points to pixels (pixel centres at .5)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.synthworld.sampling.scene import View
from models.synthworld.shape.figure import HEAD_CENTRE, rotation

FACE_HEIGHT = 1.75
"""Chin to hairline of the average person, head units."""


@dataclass(frozen=True)
class Framing:
    """Camera of one picture. turn: 3 x 3 head to camera. window: height of the picture at the head's centre, units."""

    turn: Tensor
    distance: float
    window: float
    shift_x: float
    shift_y: float
    size: int

    @property
    def origin(self) -> tuple[float, float, float]:
        """Return the camera in the head frame."""
        x, y, z = (float(self.turn[2, k]) * self.distance + HEAD_CENTRE[k] for k in range(3))
        return x, y, z

    @property
    def up(self) -> tuple[float, float, float]:
        """Return the camera's upward direction in the head frame."""
        x, y, z = (float(self.turn[1, k]) for k in range(3))
        return x, y, z

    @property
    def pixel(self) -> float:
        """Return a pixel's width at the head's centre, in head units."""
        return self.window / self.size

    def rays(self, px: Tensor, py: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return unit head-frame directions x, y, z [N] through picture points px, py [N] in pixels."""
        slope = self.window / self.distance
        u = (px * (1 / self.size) - 0.5 - self.shift_x) * slope
        v = (py * (1 / self.size) - 0.5 - self.shift_y) * -slope
        inverse = (u * u).addcmul_(v, v).add_(1.0).rsqrt_()
        m = self.turn.tolist()
        x, y, z = ((u * m[0][k] + v * m[1][k] - m[2][k]) * inverse for k in range(3))
        return x, y, z

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return pixels [..., 2] and distances to the camera in head units [...] of head-frame points [..., 3]."""
        seen = (points - torch.tensor(HEAD_CENTRE)) @ self.turn.T
        depth = self.distance - seen[..., 2]
        scale = self.distance / (depth * self.window)
        px = (0.5 + self.shift_x + seen[..., 0] * scale) * self.size
        py = (0.5 + self.shift_y - seen[..., 1] * scale) * self.size
        away = torch.stack([seen[..., 0], seen[..., 1], depth], -1).norm(dim=-1)
        return torch.stack([px, py], -1), away


def framing(view: View, size: int) -> Framing:
    """Return the camera of `view` for pictures of `size` x `size` pixels."""
    turn = torch.tensor(rotation(view.yaw, view.pitch, view.roll), dtype=torch.float32)
    return Framing(turn, view.distance_m * 10.0, FACE_HEIGHT / view.scale, view.shift_x, view.shift_y, size)
