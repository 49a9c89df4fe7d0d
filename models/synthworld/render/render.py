"""Pictures of scenes with everything that is true of them: `render(scenes, size)`.

Each scene is traced alone, so a picture's bytes do not depend on what else is in the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from models.synthworld.heat import balance
from models.synthworld.render.develop import background, develop
from models.synthworld.render.shade import albedo, lighting, occlusion, shade
from models.synthworld.render.visibility import locate_landmarks
from models.synthworld.sampling.scene import Scene
from models.synthworld.shape import cover as covers
from models.synthworld.shape.classify import classify
from models.synthworld.shape.figure import figure
from models.synthworld.shape.framing import framing
from models.synthworld.shape.gbuffer import GBuffer
from models.synthworld.shape.lenses import lenses
from models.synthworld.shape.march import hits, normals


@dataclass
class Rendering:
    """B pictures of S x S pixels. Points in pixels, centres at .5; temperatures in degrees Celsius.

    rgb uint8 [B,S,S,3]; kinetic, apparent float32 [B,S,S]; valid bool [B,S,S]; classes uint8 [B,S,S] (`classes.CLASSES`);
    depth float32 [B,S,S] metres, 0 off the person; normals float32 [B,S,S,3] camera frame; landmarks_70 [B,70,2],
    landmarks_478 [B,478,2] float32; seen_* bool [B,70] or [B,478]; bbox float32 [B,4] x0 y0 x1 y1; pose [B,3] degrees.
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
    seen_70_visible: Tensor
    seen_70_thermal: Tensor
    seen_478_visible: Tensor
    seen_478_thermal: Tensor
    bbox: Tensor
    pose: Tensor
    gbuffer: GBuffer


def render(scenes: Sequence[Scene], size: int) -> Rendering:
    """Render `scenes` at `size` x `size` pixels. Deterministic: the same scene gives the same picture.

    Neighbours that differ in their surroundings only (the conditions of one view) are traced once.
    """
    # Trace and shade each view once.
    ones: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    for k, scene in enumerate(scenes):
        # The same view in other surroundings has been traced already.
        before = scenes[k - 1] if k else None
        again = before is not None and (scene.person, scene.view, scene.domain) == (
            before.person,
            before.view,
            before.domain,
        )
        ones.append(ones[-1] if again else _render_one(scene, size))
    # Temperatures of all scenes, from their geometry and surroundings.
    buffer = GBuffer(*(torch.stack([one[0][f.name] for one in ones]) for f in fields(GBuffer)))
    kinetic, apparent, valid = balance.temperature(buffer, scenes)
    found = {name: torch.stack([one[1][name] for one in ones]) for name in ones[0][1]}
    return Rendering(
        kinetic=kinetic, apparent=apparent, valid=valid, classes=buffer.classes, depth=buffer.depth,
        normals=buffer.normal, gbuffer=buffer, **found,
    )  # fmt: skip


def _render_one(scene: Scene, size: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the G-buffer of one scene by its names in `GBuffer`, and what else is true of it by its names in `Rendering`."""
    # The figure, its camera, and where the rays meet it.
    q = figure(scene)
    covers.add_covers(scene, q)
    frame = framing(scene.view, size)
    index, t, way = hits(frame, q)
    x, y, z = (way[k] * t + frame.origin[k] for k in range(3))
    p = (x, y, z)
    n = normals(x, y, z, max(0.004, 0.35 * frame.pixel), q)
    # What is there, and how light reaches it.
    classes, layers = classify(x, y, z, q)
    light = lighting(scene, frame)
    sky, open_key = occlusion(p, n, light, q)
    facing = n[0] * light[0] + n[1] * light[1] + n[2] * light[2]
    # Colour in that light, with spectacle lenses in front.
    colour = albedo(p, classes, layers, frame.pixel, scene, q)
    lit = shade(colour, n, way, classes, sky, open_key, facing, light, frame.up, scene)
    glass = lenses(scene, q, frame.origin, way, t, p, n, classes, lit)
    # Normals in the camera frame, and the cosine of the view angle.
    normal = torch.stack(glass.normal, -1) @ frame.turn.T
    cosine = -(glass.normal[0] * way[0] + glass.normal[1] * way[1] + glass.normal[2] * way[2])

    # Values of hits become pictures that are 0 off the person.
    def picture(values: Tensor) -> Tensor:
        flat = torch.zeros(size * size, *values.shape[1:], dtype=values.dtype)
        flat[index] = values
        return flat.reshape(size, size, *values.shape[1:])

    buffer = {
        "hit": picture(torch.ones_like(t, dtype=torch.bool)), "classes": picture(glass.classes),
        "position": picture(torch.stack(glass.position, -1)), "normal": picture(normal),
        "cosine": picture(cosine.clamp(0, 1)), "depth": picture(glass.t * 0.1), "lens": picture(glass.lens),
        **{name: picture(layers[name]) for name in ("hair", "beard", "cloth", "headwear", "facewear")},
        "sun": picture(facing.clamp(min=0.0) * open_key), "sky": picture(sky),
    }  # fmt: skip
    # Person before background, developed; landmarks last.
    linear = torch.where(buffer["hit"][..., None], picture(glass.colour), background(scene, size))
    found = locate_landmarks(scene, q, frame, buffer, picture(t * 0.1))
    found["rgb"] = develop(linear, scene)
    return buffer, found
