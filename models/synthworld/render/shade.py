"""Colour of what each pixel sees: skin, eyes, hair, cloth, light. Linear RGB, float32 [N, 3]."""

import math
from types import SimpleNamespace

import torch
from torch import Tensor

from models.synthworld.sampling.scene import Person, Scene
from models.synthworld.shape import sdf
from models.synthworld.shape.classify import among, brow_amount
from models.synthworld.shape.framing import Framing
from models.synthworld.shape.march import distance
from models.synthworld.shape.primitives import bump, groove, ramp

Point = tuple[Tensor, Tensor, Tensor]

COLOUR_RGB = {
    "black": (0.015, 0.015, 0.017), "white": (0.78, 0.78, 0.76), "grey": (0.22, 0.22, 0.23), "red": (0.45, 0.03, 0.03),
    "orange": (0.70, 0.22, 0.03), "yellow": (0.75, 0.55, 0.06), "green": (0.05, 0.25, 0.08),
    "blue": (0.04, 0.10, 0.38), "purple": (0.20, 0.05, 0.28), "brown": (0.16, 0.08, 0.04),
}  # fmt: skip
"""Linear RGB of clothes and hats."""

_TONES = ((0.055, 0.027, 0.017), (0.150, 0.075, 0.045), (0.300, 0.165, 0.100),
          (0.450, 0.270, 0.180), (0.600, 0.395, 0.290), (0.720, 0.525, 0.425))  # fmt: skip


def skin_rgb(person: Person) -> tuple[float, float, float]:
    """Return the person's linear skin colour, continuous in tone and undertone."""
    place = person.tone * (len(_TONES) - 1)
    k = min(int(place), len(_TONES) - 2)
    low, high, f = _TONES[k], _TONES[k + 1], place - k
    red, green, blue = (low[i] * (1 - f) + high[i] * f for i in range(3))
    warm = person.undertone
    return red * (1 - 0.02 * warm), green * (1 + 0.035 * warm), blue * (1 - 0.10 * warm)


def _mix(colour: Tensor, other: Tensor | tuple[float, float, float], amount: Tensor) -> Tensor:
    other = other if isinstance(other, Tensor) else torch.tensor(other)
    return colour + (other - colour) * amount[:, None]


def _noise(p: Point, f: float, phase: float) -> Tensor:
    """Return smooth noise of spatial frequency `f` in [-1, 1]."""
    x, y, z = p
    a = torch.sin(x * f + 1.7 * torch.sin(y * (0.7 * f) + phase))
    a = a * torch.sin(y * (1.1 * f) + 1.3 * torch.sin(z * (0.8 * f)))
    return a * torch.sin(z * (0.9 * f) + phase + 1.1 * torch.sin(x * (0.6 * f)))


def albedo(
    p: Point, classes: Tensor, layers: dict[str, Tensor], pixel: float, scene: Scene, q: SimpleNamespace
) -> Tensor:
    """Return the diffuse colour of points with their classes."""
    view = scene.view
    # Skin everywhere, then hair where there is some; a thin beard lets the skin through.
    colour = _skin(p, pixel, scene, q)
    strands = _strands(p, pixel, scene, q)
    colour = torch.where(among(classes, "HAIR")[:, None], strands, colour)
    if view.beard != "none":
        dense = 0.45 if view.beard == "stubble" else 0.93
        amount = (layers["beard"] / (0.6 if view.beard == "stubble" else 2.0)).clamp(0, 1) * dense
        colour = _mix(colour, strands * 0.9, amount * among(classes, "BEARD", "SKIN"))
    # Brows, which thin out into the skin, eyes, the open mouth.
    bare = among(classes, "RIGHT_BROW", "LEFT_BROW", "SKIN")
    colour = torch.where(bare[:, None], _brows(colour, p, scene, q), colour)
    colour = torch.where(among(classes, "RIGHT_EYE", "LEFT_EYE")[:, None], _eyes(p, pixel, scene, q), colour)
    colour = torch.where(among(classes, "MOUTH_INTERIOR")[:, None], _mouth(p, q), colour)
    # What is worn: cloth, hat, mask, spectacle frames.
    colour = torch.where(among(classes, "CLOTHING")[:, None], _cloth(p, pixel, scene, q), colour)
    hat = torch.tensor(COLOUR_RGB[view.headwear_colour]) * (1 + 0.12 * _noise(p, 9.0, q.h_phase))[:, None]
    colour = torch.where(among(classes, "HEADWEAR")[:, None], hat, colour)
    mask = torch.tensor(COLOUR_RGB[view.facewear_colour]) * 0.7 + 0.22
    pleat = 1 - 0.22 * groove(torch.remainder(p[1] + 0.07, 0.14) - 0.07, 0.014) * _fade(60.0, pixel)
    colour = torch.where(among(classes, "FACEWEAR")[:, None], mask * pleat[:, None], colour)
    return torch.where(among(classes, "GLASSES")[:, None], torch.tensor(view.glasses_rgb), colour)


def _strands(p: Point, pixel: float, scene: Scene, q: SimpleNamespace) -> Tensor:
    """Return the colour of hair: the person's own, in clumps and finer strands."""
    x, y, z = p
    fine = _noise((x, y * 0.3, z), 34.0, q.h_phase + 1) * _fade(34.0, pixel)
    clump = _noise((x, y * 0.45, z), 16.0, q.h_phase) * 0.5 + fine * 0.5
    return torch.tensor(scene.person.hair_rgb) * (1.0 + 0.38 * clump)[:, None]


def _mouth(p: Point, q: SimpleNamespace) -> Tensor:
    """Return the colour of the mouth's inside: teeth, tongue, dark."""
    x, y, _ = p
    _, in_up, in_low, _ = sdf.lip_edges(x, q)
    teeth = ramp(y, in_up - 0.075, in_up - 0.06) * ramp(x.abs(), 0.85 * q.m_w, 0.6 * q.m_w)
    inside = _mix(torch.tensor((0.10, 0.022, 0.02)).expand(len(x), 3), (0.72, 0.68, 0.60), teeth)
    tongue = ramp(y, in_low + 0.055, in_low + 0.02)
    return _mix(inside, (0.36, 0.10, 0.09), tongue * (1 - teeth))


def _fade(frequency: float, pixel: float) -> float:
    """Return 1 while a pixel resolves a texture of this frequency and 0 when it would alias."""
    return max(0.0, min(1.0, 2.0 - frequency * pixel / 0.9))


def _skin(p: Point, pixel: float, scene: Scene, q: SimpleNamespace) -> Tensor:
    """Return the colour of skin, with all that is painted on it."""
    x, y, z = p
    ax, person = x.abs(), scene.person
    skin = torch.tensor(skin_rgb(person))
    # The skin's own colour, mottled.
    colour = skin * (1 + 0.05 * _noise(p, 11.0, q.h_phase) + 0.05 * _fade(45.0, pixel) * _noise(p, 45.0, 2.0))[:, None]
    # Blood near the surface of cheeks, nose and ears; shadow in the eye sockets.
    flush = bump(ax - 0.40, y + 0.20, 0.15, 0.13) * 0.8 + bump(x, y - q.n_bot - 0.06, 0.12, 0.08) * 0.7
    flush = flush + ramp(ax, q.ear_x - 0.04, q.ear_x + 0.10) * 0.7
    colour = _mix(colour, skin * torch.tensor((1.06, 0.78, 0.76)), flush * 0.75)
    socket = bump(ax - q.ex, y - q.ey + 0.015, 0.19, 0.105) * (z > 0.3)
    colour = _mix(colour, skin * torch.tensor((0.74, 0.60, 0.60)), socket * (0.45 + 0.25 * q.age_lines))
    # Freckles, a shaven chin, wrinkles, then lips and lashes.
    if person.freckles > 0.15:
        spots = (_noise(p, 38.0, 0.3) - 0.35).clamp(min=0.0) * bump(ax - 0.25, y + 0.15, 0.28, 0.2) * _fade(38.0, pixel)
        colour = _mix(colour, skin * torch.tensor((0.60, 0.42, 0.32)), (spots * 2.2 * person.freckles).clamp(max=0.8))
    shaven = 0.15 * max(0.0, person.sex) * ramp(y, -0.35, -0.55) * ramp(z, 0.0, 0.3) * (person.age > 20)
    colour = _mix(colour, skin * 0.55 + torch.tensor((0.0, 0.01, 0.015)), shaven)
    colour = _mix(colour, skin * 0.62, _lines(x, ax, y, z, q) * 0.55)
    return _lashes(_lips(colour, skin, p, pixel, scene, q), skin, p, pixel, scene, q)


def _lips(colour: Tensor, skin: Tensor, p: Point, pixel: float, scene: Scene, q: SimpleNamespace) -> Tensor:
    """Return the colour with lips, and a dark seam where they meet."""
    x, y, z = p
    ax, front = x.abs(), z > 0.5
    top, in_up, in_low, bottom = sdf.lip_edges(x, q)
    soft = max(0.012, 0.6 * pixel)
    lips = ramp(y, bottom - soft, bottom + soft) * ramp(y, top + soft, top - soft)
    lips = lips * ramp(ax, q.m_w + 0.01, q.m_w - 0.03) * front
    colour = _mix(colour, skin * torch.tensor(scene.person.lip_rgb), lips * 0.9)
    seam = groove(y - 0.5 * (in_up + in_low), max(0.008, 0.5 * pixel)) * ramp(ax, 1.02 * q.m_w, 0.92 * q.m_w) * front
    return _mix(colour, skin * torch.tensor((0.22, 0.10, 0.10)), seam * (0.85 if q.o_low < 0.02 else 0.0))


def _lashes(colour: Tensor, skin: Tensor, p: Point, pixel: float, scene: Scene, q: SimpleNamespace) -> Tensor:
    """Return the colour with lashes around the opening of the eyes."""
    ex = p[0].abs() - q.ex
    ey = p[1] - q.ey - ex * q.tilt
    slit = sdf.lid_opening(ex, ey, q)
    lash = ramp(slit, 0.020 + 0.5 * pixel, 0.0) * (0.35 + 0.55 * ramp(ey, -0.01, 0.03)) * (p[2] > 0.4)
    return _mix(colour, skin * torch.tensor((0.10, 0.08, 0.08)), lash * (0.75 - 0.25 * (scene.person.sex > 0)))


def _lines(x: Tensor, ax: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    """Return how dark wrinkles are: forehead, crow's feet, mouth folds, frown; [0, 1]."""
    age = q.age_lines
    # Lines across the forehead.
    wavy = y - 0.02 * torch.sin(x * 9.0 + q.h_phase)
    rows = groove(wavy - 0.47, 0.012) + groove(wavy - 0.55, 0.012) + 0.8 * groove(wavy - 0.40, 0.010)
    total = rows * bump(x, y - 0.47, 0.28, 0.2) * (0.75 * age + 0.6 * q.forehead_lines)
    # Crow's feet, at the outer corners of the eyes.
    feet = groove(torch.sin((y - q.ey) * 55.0 / (1 + (ax - q.ex) * 2)), 0.35)
    feet = feet * bump(ax - q.ex - 0.24, y - q.ey, 0.05, 0.07)
    total = total + feet * (0.75 * age + 0.5 * q.crow * age)
    # From nose to mouth, and between the brows.
    fold = ax - 0.215 + (y - q.n_bot) * 0.36
    total = total + bump(fold, y - q.n_bot + 0.15, 0.014, 0.12) * (0.6 * age + 10 * q.fold_line)
    total = total + bump(ax - 0.045, y - q.brow_y + 0.01, 0.010, 0.06) * (0.3 * age + 0.8 * q.frown)
    # Under the eyes, and the crease of the lids.
    bag = groove(y - q.ey + 0.085 + 2.0 * (ax - q.ex).square(), 0.012) * bump(ax - q.ex, y - q.ey + 0.08, 0.10, 0.05)
    total = total + bag * (0.25 + 0.5 * age)
    crease = groove(y - q.ey - q.eh_up - q.fold + 1.6 * (ax - q.ex).square(), 0.010)
    crease = crease * bump(ax - q.ex, y - q.ey, 0.12, 0.2)
    return ((total + 0.75 * crease) * (z > 0.2)).clamp(0.0, 1.0)


def _brows(colour: Tensor, p: Point, scene: Scene, q: SimpleNamespace) -> Tensor:
    """Return the colour with the hair of the brows."""
    person = scene.person
    amount = brow_amount(*p, q) * person.brow_density * 0.95
    return _mix(colour, torch.tensor(person.hair_rgb) * 0.75 + 0.004, amount)


def _eyes(p: Point, pixel: float, scene: Scene, q: SimpleNamespace) -> Tensor:
    """Return the colour of eyeballs: white, iris, pupil, and the shadow of the lids."""
    x, y, _ = p
    ax = x.abs()
    side = torch.sign(x)
    # Distance from the middle of the iris, in radii of the eyeball.
    gx, gy = math.sin(q.gaze_x), math.sin(q.gaze_y)
    dx = (ax - q.ex) * side * (1 / q.er) - gx
    dy = (y - q.ey) * (1 / q.er) - gy
    r = (dx * dx + dy * dy).sqrt()
    soft = max(0.05, 0.55 * pixel / q.er)
    # The iris is streaked, bright in the middle, dark at its rim.
    white = torch.tensor((0.74, 0.70, 0.67)).expand(len(x), 3)
    angle = torch.atan2(dy, dx)
    iris = torch.tensor(scene.person.iris_rgb) * (1.0 + 0.35 * torch.sin(angle * 11.0) * _fade(60.0, pixel))[:, None]
    iris = _mix(iris, iris * 1.6, ramp(r, 0.22, 0.36) * ramp(r, 0.44, 0.34))
    iris = _mix(iris, iris * 0.25, ramp(r, 0.40, 0.48))
    # White, iris and pupil with edges as soft as a pixel.
    eye = _mix(white, iris, ramp(r, 0.475 + soft, 0.475 - soft))
    eye = _mix(eye, (0.004, 0.004, 0.004), ramp(r, 0.20 + soft, 0.20 - soft))
    # The pink inner corner, and the upper lid's shadow.
    slit = sdf.lid_opening(ax - q.ex, y - q.ey - (ax - q.ex) * q.tilt, q)
    inner = bump(ax - q.ex + q.ew * 0.95, y - q.ey + 0.01, 0.03, 0.03)
    eye = _mix(eye, (0.45, 0.22, 0.20), inner)
    return eye * (1 - 0.62 * ramp(slit, -0.028, 0.004) * ramp(y - q.ey, -0.03, 0.04))[:, None]


def _cloth(p: Point, pixel: float, scene: Scene, q: SimpleNamespace) -> Tensor:
    """Return the colour of clothes: plain, striped or checked."""
    view = scene.view
    bx, by, _ = sdf.in_body_frame(*p, q)
    main = torch.tensor(COLOUR_RGB[view.clothing_colour])
    second = main * 0.35 + (0.02 if float(main.sum()) > 0.4 else 0.22)
    colour = main * (1 + 0.07 * _noise((bx, by, p[2]), 6.0, q.h_phase))[:, None]
    if view.pattern == "plain":
        return colour
    # A pattern too fine for the pixels fades to its mean.
    width = max(0.02, pixel)
    band = ramp(torch.sin(by * 24.0).mul_(0.5), -width * 6, width * 6)
    if view.pattern == "checks":
        band = 0.5 * band + 0.5 * ramp(torch.sin(bx * 24.0).mul_(0.5), -width * 6, width * 6)
    return _mix(colour, second, band * _fade(24.0, pixel) + 0.5 * (1 - _fade(24.0, pixel)))


def lighting(scene: Scene, frame: Framing) -> tuple[float, float, float]:
    """Return the unit direction to the key light in the head frame."""
    a, e = math.radians(scene.view.light.azimuth), math.radians(scene.view.light.elevation)
    seen = (math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e))
    x, y, z = (sum(float(frame.turn[i, k]) * seen[i] for i in range(3)) for k in range(3))
    return x, y, z


def occlusion(p: Point, n: Point, light: tuple[float, float, float], q: SimpleNamespace) -> tuple[Tensor, Tensor]:
    """Return the open share of the dome and of the key light at points with normals, [0, 1]."""
    x, y, z = p
    # Dome: how much nearer a surface is than free space would be, two steps along the normal.
    sky = torch.ones_like(x)
    for reach, weight in ((0.07, 1.3), (0.24, 0.9)):
        d = distance(x + n[0] * reach, y + n[1] * reach, z + n[2] * reach, q)
        sky.sub_((reach - d).clamp_(min=0.0), alpha=weight / reach * 0.45)
    # Key light: the smallest cone that is free on the way to it (soft shadow).
    open_key = torch.ones_like(x)
    t = 0.05
    for step in range(5):
        d = distance(x + n[0] * 0.02 + light[0] * t, y + n[1] * 0.02 + light[1] * t, z + n[2] * 0.02 + light[2] * t, q)
        open_key = torch.minimum(open_key, (d / (0.22 * t) * 0.5 + 0.5).clamp(0.0, 1.0))
        t += (0.09, 0.14, 0.24, 0.38, 0.0)[step]
    return sky.clamp_(0.12, 1.0), open_key


def shade(
    colour: Tensor, n: Point, rays: Point, classes: Tensor, sky: Tensor, sun: Tensor, facing: Tensor,
    light: tuple[float, float, float], up: tuple[float, float, float], scene: Scene,
) -> Tensor:  # fmt: skip
    """Return linear colour of lit points. sun: share of key light that arrives; facing: signed cosine to the light."""
    lamp = scene.view.light
    # Key light wraps around soft skin; where it fades out, blood tints the skin red.
    skinlike = ~among(classes, "CLOTHING", "GLASSES", "HEADWEAR", "HAIR")
    wrap = torch.where(skinlike, 0.28, 0.12) + 0.25 * lamp.softness
    base = ((facing + wrap) / (1 + wrap)).clamp(min=0.0)
    key = base * (sun * (1 - 0.25 * lamp.softness) + 0.25 * lamp.softness)
    edge = (base * (1 - base) * 4).clamp(0, 1) * skinlike * 0.10
    key3 = torch.stack([key + edge, key + 0.15 * edge, key], -1)
    # The dome is brighter above; shaded creases are tinted red, too.
    height = n[0] * up[0] + n[1] * up[1] + n[2] * up[2]
    dome = (0.62 + 0.38 * height) * sky
    bleed = torch.stack([dome**0.80, dome, dome**1.10], -1)
    # Diffuse light.
    lamp_rgb = torch.tensor(lamp.colour)
    lit = colour * (key3 * (1.25 * lamp.strength) * lamp_rgb + bleed * lamp.ambient * torch.tensor((0.92, 0.97, 1.05)))
    # Gloss: by the half vector, and at grazing angles (Fresnel); cloth has none, eyes have most.
    half = [light[k] - rays[k] for k in range(3)]
    inverse = (half[0] ** 2 + half[1] ** 2 + half[2] ** 2).add_(1e-9).rsqrt_()
    gloss = ((n[0] * half[0] + n[1] * half[1] + n[2] * half[2]) * inverse).clamp(0.0, 1.0)
    cosine = -(n[0] * rays[0] + n[1] * rays[1] + n[2] * rays[2])
    fresnel = 0.04 + 0.35 * (1 - cosine.clamp(0.15, 1)) ** 5
    eye = among(classes, "RIGHT_EYE", "LEFT_EYE")
    shiny = gloss**18 * 0.09 + gloss**60 * 0.04
    shiny = torch.where(among(classes, "HAIR"), gloss**14 * 0.10, shiny)
    shiny = torch.where(eye, gloss**90 * 2.2, shiny)
    shiny = torch.where(among(classes, "TOP_LIP", "BOTTOM_LIP"), gloss**40 * 0.26, shiny)
    shiny = torch.where(among(classes, "CLOTHING", "HEADWEAR", "FACEWEAR"), torch.zeros_like(shiny), shiny)
    glow = shiny * sun * lamp.strength + fresnel * sky * lamp.ambient * 0.22 * ~among(classes, "MOUTH_INTERIOR")
    return lit + glow[:, None] * lamp_rgb
