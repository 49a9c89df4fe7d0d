"""Pictures of scenes with everything that is true of them: `render(scenes, size)`.

Each scene is traced alone, so a picture's bytes do not depend on what else is in the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from models.synthworld import cover as covers
from models.synthworld import heat
from models.synthworld.classify import classify
from models.synthworld.develop import background, develop
from models.synthworld.figure import figure
from models.synthworld.framing import framing
from models.synthworld.gbuffer import GBuffer
from models.synthworld.landmarks import landmarks
from models.synthworld.lenses import lenses
from models.synthworld.march import REACH, normals, trace
from models.synthworld.scene import Scene
from models.synthworld.shade import albedo, lighting, occlusion, shade


@dataclass
class Rendered:
    """B pictures of S x S pixels. Points in pixels, centres at .5; temperatures in degrees Celsius.

    rgb uint8 [B,S,S,3]; kinetic, apparent float32 [B,S,S]; valid bool [B,S,S]; classes uint8 [B,S,S] (`scene.CLASSES`);
    depth float32 [B,S,S] metres, 0 off the person; normals float32 [B,S,S,3] camera frame; landmarks_70 [B,70,2],
    landmarks_478 [B,478,2] float32; visible_* bool [B,70] or [B,478]; bbox float32 [B,4] x0 y0 x1 y1; pose [B,3] degrees.
    """

    rgb: Tensor
    kinetic: Tensor
    apparent: Tensor
    valid: Tensor
    classes: Tensor
    depth: Tensor
    normals: Tensor
    landmarks_70: Tensor
    landmarks_478: Tensor
    visible_70_rgb: Tensor
    visible_70_thermal: Tensor
    visible_478_rgb: Tensor
    visible_478_thermal: Tensor
    bbox: Tensor
    pose: Tensor
    gbuffer: GBuffer


def render(scenes: Sequence[Scene], size: int) -> Rendered:
    """Render `scenes` at `size` x `size` pixels. Deterministic: the same scene gives the same picture.

    Neighbours that differ in their surroundings only (the conditions of one view) are traced once.
    """
    ones: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    for k, scene in enumerate(scenes):
        before = scenes[k - 1] if k else None
        again = before is not None and (scene.person, scene.view, scene.domain) == (
            before.person,
            before.view,
            before.domain,
        )
        ones.append(ones[-1] if again else _render_one(scene, size))
    buffer = GBuffer(*(torch.stack([one[0][f.name] for one in ones]) for f in fields(GBuffer)))
    kinetic, apparent, valid = heat.temperature(buffer, scenes)
    found = {name: torch.stack([one[1][name] for one in ones]) for name in ones[0][1]}
    return Rendered(
        kinetic=kinetic, apparent=apparent, valid=valid, classes=buffer.classes, depth=buffer.depth,
        normals=buffer.normal, gbuffer=buffer, **found,
    )  # fmt: skip


def _render_one(scene: Scene, size: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    q = figure(scene)
    covers.cover(scene, q)
    frame = framing(scene.view, size)
    origin = frame.origin
    axis = torch.arange(size) + 0.5
    py, px = (g.reshape(-1) for g in torch.meshgrid(axis, axis, indexing="ij"))
    rays = frame.rays(px, py)
    near = torch.full_like(px, frame.distance - REACH)
    reach = trace(origin, rays, near, frame.distance + REACH, 0.25 * frame.pixel, q)
    index = torch.nonzero(reach.isfinite()).squeeze(1)
    t = reach[index]
    way = tuple(r[index] for r in rays)
    p = tuple(way[k] * t + origin[k] for k in range(3))
    n = normals(*p, max(0.004, 0.35 * frame.pixel), q)
    classes, layers = classify(*p, q)
    light = lighting(scene, frame)
    sky, open_key = occlusion(p, n, light, q)
    facing = n[0] * light[0] + n[1] * light[1] + n[2] * light[2]
    colour = albedo(p, classes, layers, frame.pixel, scene, q)
    up = tuple(float(frame.turn[1, k]) for k in range(3))
    lit = shade(colour, n, way, classes, sky, open_key, facing, light, up, scene)
    glass = lenses(scene, q, origin, way, t, p, n, classes, lit)

    def picture(values: Tensor) -> Tensor:
        flat = torch.zeros(size * size, *values.shape[1:], dtype=values.dtype)
        flat[index] = values
        return flat.reshape(size, size, *values.shape[1:])

    position = torch.stack(glass.position, -1)
    seen_normal = torch.stack(glass.normal, -1) @ frame.turn.T
    cosine = -(glass.normal[0] * way[0] + glass.normal[1] * way[1] + glass.normal[2] * way[2])
    buffer = {
        "hit": picture(torch.ones_like(t, dtype=torch.bool)), "classes": picture(glass.classes),
        "position": picture(position), "normal": picture(seen_normal), "cosine": picture(cosine.clamp(0, 1)),
        "depth": picture(glass.t * 0.1), "lens": picture(glass.lens),
        **{name: picture(layers[name]) for name in ("hair", "beard", "cloth", "headwear", "facewear")},
        "sun": picture(facing.clamp(min=0.0) * open_key), "sky": picture(sky),
    }  # fmt: skip
    behind = background(scene, size)
    linear = torch.where(buffer["hit"][..., None], picture(glass.colour), behind)
    found = _points(scene, q, frame, buffer, picture(t * 0.1))
    found["rgb"] = develop(linear, scene)
    return buffer, found


def _points(scene: Scene, q: object, frame: object, buffer: dict[str, Tensor], depth: Tensor) -> dict[str, Tensor]:
    """Return landmarks in pixels, their visibility, the box and the pose. depth: of what is behind lenses, metres."""
    seventy, dense = landmarks(q)  # type: ignore[arg-type]
    found: dict[str, Tensor] = {}
    for name, points in (("70", seventy), ("478", dense)):
        pixels, away = frame.project(points)  # type: ignore[attr-defined]
        found[f"landmarks_{name}"] = pixels
        found[f"visible_{name}_rgb"], found[f"visible_{name}_thermal"] = visibility(pixels, away * 0.1, buffer, depth)
    pixels = found["landmarks_70"]
    low, high = pixels.amin(0), pixels.amax(0)
    forehead, _ = frame.project(torch.tensor([[0.0, q.brow_y + 0.36, 0.78]]))  # type: ignore[attr-defined]
    low, high = torch.minimum(low, forehead[0]), torch.maximum(high, forehead[0])
    found["bbox"] = torch.cat([low, high])
    found["pose"] = torch.tensor([scene.view.yaw, scene.view.pitch, scene.view.roll])
    return found


def visibility(pixels: Tensor, away: Tensor, buffer: dict[str, Tensor], depth: Tensor) -> tuple[Tensor, Tensor]:
    """Return which points [N, 2] at distances [N] (metres) RGB and thermal see, bool [N] each.

    A point is hidden when another surface lies more than 6 mm nearer in its pixel and in the neighbours; lenses hide
    it from thermal, opaque ones from both. Points outside the picture are not visible.
    """
    size = depth.shape[0]
    column, row = pixels[:, 0].floor().long(), pixels[:, 1].floor().long()
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    column, row = column.clamp(0, size - 1), row.clamp(0, size - 1)
    seen = torch.zeros_like(inside)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            r, c = (row + dy).clamp(0, size - 1), (column + dx).clamp(0, size - 1)
            seen |= (depth[r, c] == 0) | (depth[r, c] > away - 0.006)
    lens = buffer["lens"][row, column]
    hit_here = (depth[row, column] > 0) & (depth[row, column] > away - 0.012) | ~buffer["hit"][row, column]
    cover = buffer["classes"][row, column]
    covered = (cover == 13) | (cover == 15) | (cover == 17) | (cover == 18)
    worn = covered & (depth[row, column] < away - 0.001) & (depth[row, column] > 0)
    visible = inside & seen & hit_here & ~worn & (lens != 2) & ~((cover == 16) & (lens == 0))
    return visible, visible & (lens == 0)
