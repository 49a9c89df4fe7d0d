"""What people wear and grow over the bare head: hair, beard, hats, scarves, masks and spectacle frames.

Each function takes head-frame coordinates, float32 [N], and returns a distance, negative inside. Hair and beards are
shells over the head whose thickness falls below zero outside their region, so that they thin out into the skin.
"""

import math
from types import SimpleNamespace

import torch
from torch import Tensor

from models.synthworld.sampling.scene import Scene
from models.synthworld.shape.primitives import bump, capsule, ellipsoid, ramp, smooth_max, smooth_min
from models.synthworld.shape.sdf import in_body_frame, mouth_curve

_HAIR: dict[str, tuple[float, float, float, float] | None] = {
    "bald": None,
    "buzz": (0.022, -0.42, 0.00, 0.0),
    "short": (0.085, -0.42, 0.00, 0.2),
    "side part": (0.110, -0.42, 0.00, 0.15),
    "curly": (0.200, -0.50, -0.02, 1.0),
    "afro": (0.360, -0.40, -0.02, 0.55),
    "bob": (0.130, -0.45, 0.00, 0.1),
    "long": (0.120, -0.45, 0.02, 0.15),
    "ponytail": (0.050, -0.42, 0.03, 0.0),
    "bun": (0.050, -0.42, 0.03, 0.0),
    "receding": (0.060, -0.42, 0.20, 0.1),
}
"""Style -> thickness, lower edge at the nape, how much higher the hairline is, amount of curls; head units."""


def add_covers(scene: Scene, q: SimpleNamespace) -> None:
    """Add to the figure's numbers what this view wears; `q.wears` names the kinds ("" for none), everything else is a number."""
    view = scene.view
    # A headscarf hides all hair.
    style = "bald" if view.headwear == "headscarf" else view.hair_style
    q.wears = {
        "hair": {"bald": "", "bob": "falls", "long": "falls", "ponytail": "tail", "bun": "tail"}.get(style, "shell"),
        "beard": "" if view.beard == "none" else view.beard,
        "headwear": "" if view.headwear == "none" else view.headwear,
        "facewear": "" if view.facewear == "none" else view.facewear,
        "glasses": "" if view.glasses == "none" else view.glasses,
        "clothes": view.clothes,
    }
    _hair_numbers(q, scene, style)
    # Spectacles: shape, place before the eyes, size and thickness of the rims.
    q.g_round = view.glasses_shape
    q.g_z = max(q.n_root_z + 0.10, q.ez + q.er + 0.09)
    q.g_big = 0.030 if view.glasses == "opaque" else 0.0
    q.g_r = 0.026 if view.glasses == "opaque" else 0.022


def _hair_numbers(q: SimpleNamespace, scene: Scene, style: str) -> None:
    """Add the numbers of hair, hat and tail to the figure: of a style, a person (hairline, baldness) and a view (volume)."""
    view, person = scene.view, scene.person
    q.h_thick, q.h_low, q.h_up, q.h_curl = _HAIR[style] or (0.0, 0.0, 0.0, 0.0)
    q.h_thick *= 1 + 0.3 * view.hair_volume
    q.h_ear = 0.42 if q.h_thick < 0.15 else 0.10  # thick hair covers the ears
    # Hairline: higher on men and with baldness.
    q.h_line = 0.66 + 0.05 * person.shape.head_height + 0.02 * person.sex + 0.20 * person.baldness
    q.h_temple = 0.10 + 0.12 * max(0.0, person.sex) + 0.30 * person.baldness
    q.h_phase = (person.identity * 0.618034 % 1.0) * 6.28
    # Parting, lift over the forehead, and waves.
    parted = style in ("side part", "bob", "long")
    q.h_part = (0.30 if view.seed % 2 else -0.30) if parted else 0.0
    q.h_gap = 0.9 if parted else 0.0
    q.h_lift = 0.5 if parted or style in ("short", "receding") else 0.0
    q.h_wave = {"curly": 17.0, "afro": 26.0}.get(style, 13.0)
    # Thick hair ends steeply and curls add to the slope: shorter steps, or rays jump through.
    q.h_step = min(0.6, 1.0 / (1.0 + 5.2 * q.h_thick + 0.065 * q.h_curl * q.h_wave))
    # Curtains of long hair, and what a hat presses flat.
    q.h_bottom, q.h_rise, q.h_open = (-1.55, 0.0, 1.6) if style == "long" else (-0.72, 0.25, 1.05)
    hatted = view.headwear in ("cap", "beanie")
    q.hat_edge, q.hat_slope = (0.47, 0.30) if view.headwear == "cap" else (0.34, 0.36)
    q.hat_press = 0.035 if hatted else 9.0
    # A tail or a bun is a capsule from (ax, ay, az) to (bx, by, bz).
    sway = 0.18 * math.sin(q.h_phase)
    tail = (0.0, 0.55, -1.08, sway, -0.75, -1.22, 0.20, 0.09)
    bun = (0.0, 0.98, -0.72, 0.0, 0.93, -0.80, 0.28, 0.27)
    names = ("ax", "ay", "az", "bx", "by", "bz", "r0", "r1")
    for name, value in zip(names, tail if style == "ponytail" else bun, strict=True):
        setattr(q, f"tail_{name}", value)


def hair_region(ax: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    """Return how far inside the hair's region of the scalp a point is, in head units; negative on the face."""
    line = ramp(z, 0.12, 0.56) * (q.h_line + q.h_up - 0.10 - q.h_low) + q.h_low
    line = line + ramp(z, 0.45, 0.85) * 0.10
    line = line + bump(ax - 0.36, z - 0.72, 0.13, 0.25) * q.h_temple
    line = line + (bump(ax - 0.70, z - 0.02, 0.25, 0.13) * q.h_ear) * ramp(y, 0.45, 0.1)
    return y - line


def hair(x: Tensor, y: Tensor, z: Tensor, base: Tensor, q: SimpleNamespace, kind: str) -> Tensor:
    """Return the distance to hair of a kind (shell | falls | tail), given the distance `base` to the featureless head."""
    ax = x.abs()
    # A shell whose thickness grows from the edge of the region inwards.
    inside = hair_region(ax, y, z, q)
    thick = ramp(inside, -0.03, 0.26) * (q.h_thick + 0.02) - 0.02 + inside.clamp(max=0.0) * 0.35
    full = thick.clamp(min=0.0)
    # Lifted over the forehead, but for the parting.
    away = x - q.h_part
    gap = 1.0 - torch.exp(away * away * -90.0) * q.h_gap
    thick = thick + full * gap * q.h_lift * ramp(z, -0.3, 0.7) * ramp(y, 0.5, 1.0)
    # Curls: a product of waves, deeper where hair is thick.
    a, phase = q.h_wave, q.h_phase
    lump = torch.sin(x * a + phase) * torch.sin(y * a + 1.3) * torch.sin(z * a + 0.7 * phase)
    lump = lump + 0.6 * torch.sin((x + y) * (0.6 * a)) * torch.sin((z - y) * (0.55 * a) + phase)
    thick = thick + lump * thick.clamp(0.0, 0.06) * (0.7 * q.h_curl)
    # A hat presses it flat.
    thick = torch.minimum(thick, 3.0 * (-_hat_height(y, z, q)).clamp(min=0.0) + q.hat_press)
    d = (base - thick) * q.h_step
    if kind == "falls":
        return _falling(d, x, ax, y, z, q)
    if kind == "tail":
        start, end = (q.tail_ax, q.tail_ay, q.tail_az), (q.tail_bx, q.tail_by, q.tail_bz)
        return smooth_min(d, capsule(x, y, z, start, end, q.tail_r0, q.tail_r1), 0.10)
    return d


def _falling(d: Tensor, x: Tensor, ax: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the distance to hair that falls beside and behind the face, given the distance `d` to the shell of hair."""
    # A wavy curtain around the head, cut below and above, open at the face, hollow for the neck.
    wave = torch.sin(y * 6.0 + q.h_phase) * 0.025
    fall = ellipsoid(x + wave, y - 0.2, z + 0.16, q.cw + q.h_thick, 2.8, q.cd * 0.94 + 0.5 * q.h_thick)
    fall = smooth_max(fall, q.h_bottom + (0.3 - z) * q.h_rise - y, 0.10)
    fall = smooth_max(fall, y - 0.55, 0.30)
    opening = ellipsoid(ax, y + 0.25, z - 0.95, q.fw * 1.06, q.h_open, 0.84)
    fall = smooth_max(fall, -opening, 0.08)
    hollow = ellipsoid(x, y + 1.2, z + 0.1, 0.46, 0.9, 0.42)
    return smooth_min(d, smooth_max(fall, -hollow, 0.05), 0.10)


def beard_thickness(x: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace, kind: str) -> Tensor:
    """Return the beard's thickness over the skin in head units; negative where none grows."""
    # Height over the mouth, with a ragged edge.
    line, _ = mouth_curve(x, q)
    ax = x.abs()
    dy = y - line
    ragged = (
        0.022
        * torch.sin(x * 41.0 + q.h_phase + 3.0 * torch.sin(z * 13.0))
        * torch.sin(y * 37.0 + 2.0 * torch.sin(z * 17.0))
    )
    # Regions, each from 0 to 1: moustache, goatee, mouth corners, lips, front of the head.
    droop = 0.30 * ax
    moustache = (
        ramp(dy + ragged, 0.00, 0.06) * ramp(dy + droop + ragged, 0.235, 0.13) * ramp(ax, q.m_w + 0.06, q.m_w - 0.06)
    )
    wide = 0.25 - 0.9 * (-0.30 - dy).clamp(min=0.0)
    goatee = ramp(dy + ragged, -0.09, -0.15) * ramp(ax + ragged, wide + 0.04, wide - 0.10)
    corner = ramp(ax, q.m_w - 0.01, q.m_w + 0.03) * ramp(ax, q.m_w + 0.11, q.m_w + 0.05) * ramp(dy, 0.14, 0.05)
    lips = ramp(bump(x, dy + 0.015, 1.1 * q.m_w, 0.075), 0.50, 0.75)
    front = ramp(z, 0.0, 0.12) if kind == "full" else ramp(z, 0.45, 0.6)
    # Which of them a kind covers, and how thick it is.
    if kind == "moustache":
        amount, top = moustache, 0.038
    elif kind == "goatee":
        amount, top = torch.maximum(torch.maximum(moustache * 0.8, goatee), corner * ramp(dy, -0.3, -0.1)), 0.042
    else:
        cheek = line + 0.02 + (ax - q.m_w).clamp(min=0.0) * 0.85
        side = ramp(y - cheek + ragged, 0.08, -0.20) * ramp(ax, q.m_w - 0.03, q.m_w + 0.05)
        amount = torch.maximum(torch.maximum(moustache, ramp(dy, -0.09, -0.13)), side)
        amount = amount * ramp(y, -1.18, -1.02)
        top = 0.055 if kind == "full" else 0.010
    # None on the lips nor behind the front of the head; below the skin where nothing grows.
    amount = amount * (1.0 - lips) * front
    return amount * (top + 0.012) - 0.012


def _hat_height(y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the height over the hat's edge, which runs from the forehead down to the nape."""
    return y - q.hat_edge - (z - 0.5) * q.hat_slope


def headwear(x: Tensor, y: Tensor, z: Tensor, base: Tensor, q: SimpleNamespace, kind: str) -> Tensor:
    """Return the distance to the cap, beanie or headscarf."""
    if kind == "headscarf":
        # Headscarf: over head and neck, with room for the ears, folds, and an opening for the face.
        shell = smooth_min(base, capsule(x, y, z, (0.0, -0.55, -0.15), (0.0, -1.5, -0.35), 0.52, 0.75), 0.30) - 0.065
        lobes = ellipsoid(x.abs() - q.ear_x + 0.02, y - q.ear_y, z - q.ear_z + 0.14, 0.16, 0.40 * q.ear, 0.30)
        shell = smooth_min(shell, lobes, 0.20)
        fold = torch.sin((y * 1.4 + x.abs()) * 9.0 + q.h_phase) * 0.012
        opening = ellipsoid(x, y + 0.16, z - 0.95, q.fw * 0.99, 0.86, 0.85)
        return smooth_max(shell - fold, -opening, 0.06)
    # Beanie: ribbed, with a cuff.
    height = _hat_height(y, z, q)
    if kind == "beanie":
        rib = torch.sin(torch.atan2(x, z + 0.13) * 40.0) * 0.006
        cuff = ramp(height, 0.26, 0.22) * 0.045
        return smooth_max(base - 0.075 - cuff - rib + ramp(y, 0.8, 1.5) * -0.10, -height, 0.03)
    # Cap: a smooth shell and a brim.
    shell = smooth_max(base - 0.095, -height, 0.02)
    tilt = y - 0.50 + (z - 0.7) * 0.16 + 0.25 * x * x
    brim = smooth_max(ellipsoid(x, tilt * 0.0, z - 0.72, 0.60, 1.0, 0.72), tilt.abs() - 0.022, 0.03)
    return smooth_min(shell, smooth_max(brim, 0.30 - z, 0.02), 0.03)


def mask(x: Tensor, y: Tensor, z: Tensor, bare: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the distance to a face mask over nose, mouth and chin, given the skin's distance `bare`."""
    tip = ellipsoid(x, y - q.n_bot + 0.14, z - q.n_tip_z + 0.33, 0.42, 0.62, 0.36)
    shell = smooth_min(bare, tip, 0.25) - 0.028
    top = y - (q.ey - 0.24) + (x.abs() - 0.08).clamp(min=0.0) * 0.38
    edge = torch.maximum(top, -1.02 - y)
    sheet = smooth_max(smooth_max(shell, edge, 0.03), 0.18 - z + 0.10 * (y + 0.5), 0.03)
    ax = x.abs()
    loop = capsule(ax, y, z, (q.fw * 0.93, -0.28, 0.25), (q.ear_x + 0.06, 0.05, -0.02), 0.014, 0.014)
    lower = capsule(ax, y, z, (q.fw * 0.86, -0.66, 0.25), (q.ear_x + 0.03, -0.32, -0.06), 0.014, 0.014)
    return torch.minimum(sheet, torch.minimum(loop, lower))


def lens_plane(ax: Tensor, y: Tensor, q: SimpleNamespace) -> Tensor:
    """Return a 2-D distance to the outline of the lenses in the spectacles' plane; negative on glass."""
    big = q.g_big
    half_x, half_y = 0.225 + big, 0.150 + 0.035 * q.g_round + 1.3 * big
    corner = 0.09 + 0.05 * q.g_round
    # Distance to a rectangle with round corners.
    u = (ax - q.ex * 1.01).abs() - (half_x - corner)
    v = (y - q.ey + 0.015).abs() - (half_y - corner)
    over_u, over_v = u.clamp(min=0.0), v.clamp(min=0.0)
    return (over_u * over_u + over_v * over_v).sqrt() + torch.maximum(u, v).clamp(max=0.0) - corner


def frames(x: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the distance to the spectacle frames: rims, bridge and temples."""
    ax = x.abs()
    zp = z - q.g_z + 0.16 * (ax - 0.1).clamp(min=0.0)
    edge = lens_plane(ax, y, q)
    # A rim around the outline, a bridge over the nose, temples back to the ears.
    rim = (edge * edge + zp * zp).sqrt() - q.g_r
    inner = q.ex * 1.01 - 0.225
    bridge = capsule(ax, y, z, (0.0, q.ey + 0.075, q.g_z + 0.01), (inner, q.ey + 0.05, q.g_z), q.g_r, q.g_r)
    outer = q.ex * 1.01 + 0.23
    hinge = (outer, q.ey + 0.06, q.g_z - 0.16 * (outer - 0.1))
    temple = capsule(ax, y, z, hinge, (q.ear_x + 0.035, q.ey + 0.07, q.ear_z - 0.02), q.g_r, q.g_r)
    return torch.minimum(torch.minimum(rim, bridge), temple)


def clothing(x: Tensor, y: Tensor, z: Tensor, body: Tensor, q: SimpleNamespace, kind: str) -> Tensor:
    """Return the distance to the clothes, given the torso's distance `body`: cut out at the neck, with a collar."""
    bx, by, bz = in_body_frame(x, y, z, q)
    # Distance from the neck, and height over its base.
    ring = (bx * bx + (bz + 0.06) * (bz + 0.06)).sqrt()
    edge = by + 0.22 - 0.22 * bz
    # Crew: a round collar.
    if kind == "crew":
        slope = (ring - q.neck * 1.16 + 0.85 * (edge + 0.10)) * 0.75
        return smooth_min(body, smooth_max(slope, edge + 0.10, 0.06), 0.10)
    # Collar: a standing wall, open in a V at the front.
    if kind == "collar":
        vee = (bx.abs() - 0.16 - 0.9 * (by + 0.28)) * 0.7
        wall = smooth_max((ring - q.neck * 1.20 - 0.10 * (0.1 - by)).abs() - 0.03, (edge + 0.10).abs() - 0.17, 0.03)
        wall = smooth_max(wall, torch.minimum(-vee, bz - 0.1), 0.02)
        return smooth_min(body, wall, 0.03)
    # Hood: a thick roll around the neck.
    rim = ((ring - q.neck * 1.45) ** 2 + edge**2).sqrt() - 0.15
    return smooth_min(body, rim, 0.12)
