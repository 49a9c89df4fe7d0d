"""Landmarks in the picture, the box around them, and which of them each modality sees."""

from types import SimpleNamespace

import torch
from torch import Tensor

from models.synthworld.sampling.scene import Scene
from models.synthworld.shape.classify import among
from models.synthworld.shape.framing import Framing
from models.synthworld.shape.landmarks import landmarks


def locate_landmarks(
    scene: Scene, q: SimpleNamespace, frame: Framing, buffer: dict[str, Tensor], depth: Tensor
) -> dict[str, Tensor]:
    """Return landmarks in pixels, their visibility, the box and the pose of one picture, by their names in `Rendering`.

    depth: float32 [S, S], distance in metres of what is behind lenses, 0 off the person.
    """
    seventy, dense = landmarks(q)
    # Points lie on the skin: a beard in front of it must not hide them.
    skin = torch.where(depth > 0, depth + buffer["beard"] * 1e-3, depth)
    found: dict[str, Tensor] = {}
    for name, places in (("70", seventy), ("478", dense)):
        pixels, away = frame.project(places)
        found[f"landmarks_{name}"] = pixels
        found[f"seen_{name}_visible"], found[f"seen_{name}_thermal"] = visible_points(pixels, away * 0.1, buffer, skin)
    # The box reaches from the landmarks up to the hairline.
    forehead, _ = frame.project(torch.tensor([[0.0, q.brow_y + 0.36, 0.78]]))
    pixels = torch.cat([found["landmarks_70"], forehead])
    found["bbox"] = torch.cat([pixels.amin(0), pixels.amax(0)])
    found["pose"] = torch.tensor([scene.view.yaw, scene.view.pitch, scene.view.roll])
    return found


def visible_points(pixels: Tensor, away: Tensor, buffer: dict[str, Tensor], depth: Tensor) -> tuple[Tensor, Tensor]:
    """Return which points [N, 2] at distances [N] (metres) RGB and thermal see, bool [N] each.

    A point is hidden when its pixel, or all pixels around, show something clearly nearer, when hair, cloth, hat, mask or
    frames cover it, and outside the picture. A beard hides nothing: the skin's line stays readable. Lenses hide points
    from thermal, opaque ones from both.
    """
    size = depth.shape[0]
    # The pixel that each point lies in.
    column, row = pixels[:, 0].floor().long(), pixels[:, 1].floor().long()
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    column, row = column.clamp(0, size - 1), row.clamp(0, size - 1)
    # Its own pixel, and one of those around it, must show nothing clearly nearer.
    near = torch.zeros_like(inside)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            around = depth[(row + dy).clamp(0, size - 1), (column + dx).clamp(0, size - 1)]
            near |= (around == 0) | (around > away - 0.006)
    # Hair, clothes and what is worn hide it where they lie in front of it.
    here, cover, lens = depth[row, column], buffer["classes"][row, column], buffer["lens"][row, column]
    near &= (here == 0) | (here > away - 0.012)
    over = among(cover, "HAIR", "CLOTHING", "HEADWEAR", "FACEWEAR") & (here < away - 0.001) & (here > 0)
    visible = inside & near & ~over & (lens != 2) & ~(among(cover, "GLASSES") & (lens == 0))
    return visible, visible & (lens == 0)
