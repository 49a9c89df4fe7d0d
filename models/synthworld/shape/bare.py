"""The bare head and body of a scene: where they are and how they are turned, without hair, glasses, colour or light."""

from dataclasses import replace

import torch
from torch import Tensor

from models.synthworld.sampling.scene import Scene
from models.synthworld.shape import cover
from models.synthworld.shape.classify import classify
from models.synthworld.shape.figure import figure
from models.synthworld.shape.framing import framing
from models.synthworld.shape.march import hits, normals


def render_bare_head(scene: Scene, size: int) -> tuple[Tensor, Tensor]:
    """Return unit normals float32 [S, S, 3] in the camera frame (x right, y up, z to the camera; 0 off the person) and
    classes uint8 [S, S] of the person of `scene`, undressed but for a plain top, in the view's pose and expression."""
    # Undress the person.
    view = replace(
        scene.view, hair_style="bald", beard="none", glasses="none", headwear="none", facewear="none", clothes="crew"
    )
    scene = replace(scene, view=view)
    # Find where rays meet them.
    q = figure(scene)
    cover.add_covers(scene, q)
    frame = framing(view, size)
    index, t, way = hits(frame, q)
    x, y, z = (way[k] * t + frame.origin[k] for k in range(3))
    # Normals in the camera frame and classes there, nothing elsewhere.
    turned = torch.stack(normals(x, y, z, max(0.004, 0.35 * frame.pixel), q), -1) @ frame.turn.T
    found = torch.zeros(size * size, 3), torch.zeros(size * size, dtype=torch.uint8)
    found[0][index] = turned
    found[1][index] = classify(x, y, z, q)[0]
    return found[0].reshape(size, size, 3), found[1].reshape(size, size)
