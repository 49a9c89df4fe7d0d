"""The bare head as a signed distance field: skull, jaw, features and expression, in the head frame.

Every function takes coordinates x, y, z, float32 [N] in head units, and the numbers of `figure`.
Distances are approximate (never much above the true one) and negative inside.
"""

from types import SimpleNamespace

import torch
from torch import Tensor

from models.synthworld.shape.figure import NECK_BASE
from models.synthworld.shape.primitives import (
    Number,
    bump,
    capsule,
    ellipsoid,
    groove,
    ramp,
    smooth_max,
    smooth_min,
    sphere,
)


def skull(x: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the distance to the smooth head without features: what hair, scarves and hats sit on."""
    d = ellipsoid(x, y - q.cy, z - q.cz, q.cw, q.ch, q.cd)
    return smooth_min(d, ellipsoid(x, y + 0.22, z - 0.17, q.fw, q.fl, 0.70), 0.20)


def skin(x: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> tuple[Tensor, Tensor, Tensor]:
    """Return the distances to the skin with eye and mouth openings cut, to the eyeballs, and to the skull."""
    # The lower face leans to one side (asymmetry), and what lies below the mouth drops with the jaw.
    x = x + ramp(y, 0.5, -1.0) * q.asym
    ax = x.abs()
    yd = y + ramp(y, q.m_y + 0.05, q.m_y - 0.22) * q.drop
    # Skull and jaw, then relief of bone and soft tissue on the front.
    d = _lower_face(skull(x, yd, z, q), ax, yd, z, q)
    d = base = d - _relief(x, ax, y, yd, q) * ramp(z, 0.05, 0.45)
    # Lids around the eyeball, nose, mouth, ears.
    eye_x, eye_y, ball = _eyeball(ax, y, z, q)
    d = smooth_min(d, ball - 0.026, 0.07)
    d = _nose(d, x, ax, y, z, q)
    d = _mouth(d, x, ax, y, z, q)
    d = smooth_min(d, ear_plate(ax, y, z, q), 0.05)
    # Cut the opening between the lids.
    slit = lid_opening(eye_x, eye_y, q)
    d = smooth_max(d, torch.minimum(z - 0.3, -slit), 0.014)
    return d, ball, base


def _lower_face(d: Tensor, ax: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the distance with jaw, chin and cheekbones blended in."""
    jaw = ellipsoid(ax - q.jaw_x, y - q.jaw_y, z - 0.14, q.jaw_r, 0.22, 0.32)
    d = smooth_min(d, jaw, 0.20)
    chin = ellipsoid(ax, y - q.chin_y, z - q.chin_z, q.chin_w, 0.16, 0.20)
    d = smooth_min(d, chin, 0.27)
    bone = ellipsoid(ax - 0.43 * q.fw / 0.6, y - q.bone_y - q.cheek_up, z - 0.44, 0.18, 0.13, 0.19)
    return smooth_min(d, bone - q.bone, 0.26)


def _relief(x: Tensor, ax: Tensor, y: Tensor, yd: Tensor, q: SimpleNamespace) -> Tensor:
    """Return how far soft tissue and bone stand out (positive) from the plain face."""
    dx = ax - q.ex
    # Brow ridge, sockets, inner corners of the eyes.
    out = bump(dx + 0.03, y - q.brow_y + 0.03, 0.17, 0.060) * q.ridge
    out = out - bump(dx + 0.02, y - q.ey, 0.14, 0.095) * (q.socket)
    out = out - bump(ax - 0.12, y - q.ey - 0.02, 0.06, 0.10) * (0.035)
    # Cheeks and temples.
    out = out + bump(ax - 0.33, y + 0.48, 0.17, 0.17) * (q.fat - 0.015)
    out = out + bump(ax - 0.34, y + 0.20 - q.cheek_up, 0.12, 0.09) * (0.022 + 0.55 * q.cheek_up)
    out = out - bump(ax - 0.66, y - 0.28, 0.13, 0.16) * (q.temple)
    # Forehead.
    out = out + bump(x, y - 0.52, 0.30, 0.18) * (q.forehead_out)
    out = out - bump(x, y - 0.78, 0.50, 0.26) * (q.forehead_in)
    # Under the lower lip, between nose and lip, cleft of the chin.
    out = out - bump(x, yd + 0.775 - 0.4 * (q.m_y + 0.60), 0.17, 0.055) * (0.035)
    out = out - bump(x, y - 0.5 * (q.m_y + q.n_bot) - 0.01, 0.032, 0.06) * (0.018)
    out = out - bump(x, yd - q.chin_y, 0.025, 0.09) * (q.cleft)
    # Folds from nose to mouth, and a frown.
    fold = ax - 0.215 + (y - q.n_bot) * 0.36
    out = out - bump(fold, y - q.n_bot + 0.15, 0.022, 0.13) * (q.fold_line)
    out = out + bump(fold - 0.06, y - q.n_bot + 0.13, 0.05, 0.13) * (1.2 * q.fold_line)
    out = out + bump(ax - 0.06, y - q.brow_y + 0.02, 0.03, 0.06) * (0.022 * q.frown)
    return out


def _eyeball(ax: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> tuple[Tensor, Tensor, Tensor]:
    """Return lid coordinates (along and across the tilted eye) and the distance to the eyeball."""
    dx, dy = ax - q.ex, y - q.ey
    return dx, dy - dx * q.tilt, sphere(dx, dy, z - q.ez, q.er)


def lid_opening(ex: Tensor, ey: Tensor, q: SimpleNamespace) -> Tensor:
    """Return a scaled distance to the opening between the lids in the eye's (along, across) plane; negative inside."""
    t = ex * (1.0 / q.ew)
    arc = 1.0 - t * t
    up = arc * (1.0 - 0.22 * t) * q.eh_up
    low = arc * (1.0 + 0.25 * t) * -q.eh_low
    return torch.maximum(ey - up, low - ey) * 0.75


def _nose(d: Tensor, x: Tensor, ax: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the distance with the nose blended in and the nostrils cut."""
    # Bridge and tip.
    tip_y, tip_z = q.n_bot + 0.075 + q.n_up, q.n_tip_z
    bridge = capsule(x, y, z, (0.0, q.n_top, q.n_root_z), (0.0, tip_y, tip_z), q.n_r * 0.85, q.n_r * 1.05)
    middle = 0.5 * (q.n_top + tip_y)
    bridge = bridge - groove(y - middle - 0.04, 0.09) * q.n_hump
    d = smooth_min(d, bridge, 0.11)
    d = smooth_min(d, ellipsoid(x, y - tip_y, z - tip_z, q.n_ball * 1.05, q.n_ball * 0.88, q.n_ball), 0.06)
    # Wings, and nostrils in them.
    wing = ellipsoid(ax - q.n_ala, y - q.n_bot - 0.035, z - tip_z + 0.125, q.n_wing * 0.85, q.n_wing, 0.105)
    d = smooth_min(d, wing, 0.055)
    hole = ellipsoid(ax - 0.52 * q.n_ala, y - q.n_bot + 0.022 - 0.3 * q.n_up, z - tip_z + 0.065, q.n_hole, 0.034, 0.06)
    return smooth_max(d, -hole, 0.022)


def mouth_curve(x: Tensor, q: SimpleNamespace) -> tuple[Tensor, Tensor]:
    """Return the height of the line between the lips and 1 - (x / half width)^2."""
    t = x * (1.0 / q.m_w)
    t2 = (t * t).clamp(max=2.2)
    line = t2 * q.m_curve + q.m_y
    up = (t.clamp(-1.2, 1.2) + 0.35).clamp(min=0.0)
    line = line + up * up * (0.7 * q.m_smirk)
    return line, 1.0 - t2


def lip_edges(x: Tensor, q: SimpleNamespace) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return heights over x: top of the upper lip, its lower edge, top edge of the lower lip, its bottom."""
    line, arc = mouth_curve(x, q)
    a = arc.clamp(min=1e-9)
    inner_up, inner_low = line + a * q.o_up, line - a * q.o_low
    bow = 1.0 - 0.30 * groove(x, 0.030)
    return inner_up + a.sqrt() * bow * q.m_up, inner_up, inner_low, inner_low - a.pow(0.7) * q.m_low


def _mouth(d: Tensor, x: Tensor, ax: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the distance with rounded lips and the opening between them, `m_deep` deep."""
    # The part of the face that lips and teeth push forward.
    line, arc = mouth_curve(x, q)
    muzzle = ellipsoid(x, y - q.m_y, z - 0.60, 0.30, 0.21, 0.26)
    d = smooth_min(d, muzzle - 0.3 * q.m_out, 0.16)
    # Two rolls: the lips.
    front = ramp(z, 0.35, 0.6)
    a = arc.clamp(min=1e-9)
    full = a.pow(0.7) * front
    up = y - line - a * (q.o_up + 0.40 * q.m_up)
    low = y - line + a * (q.o_low + 0.42 * q.m_low)
    d = d - full * (_roll(up, 0.50 * q.m_up) * (0.014 + 0.34 * q.m_up + q.m_out))
    d = d - full * (_roll(low, 0.48 * q.m_low) * (0.016 + 0.34 * q.m_low + q.m_out))
    # The opening between them.
    gap_up, gap_low = line + a * q.o_up, line - a * q.o_low
    slit = torch.maximum(y - gap_up - 0.003, gap_low - y - 0.003) * 0.7
    slit = torch.maximum(slit, ax - q.m_w)
    slit = torch.maximum(slit, 0.4 - z)
    return smooth_max(d, torch.minimum(-slit, d + q.m_deep), 0.014)


def _roll(v: Tensor, s: Number) -> Tensor:
    """Return a round ridge: 1 on v = 0, 0 beyond |v| = 2 s."""
    v = v * (0.5 / s)
    r = (1.0 - v * v).clamp(min=0.0)
    return r * r


def ear_plate(ax: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the distance to the ear: a flared plate with a hollow and a rim."""
    c, s = q.ear_c, q.ear_s
    dx, dy, dz = ax - q.ear_x, y - q.ear_y, z - q.ear_z
    u = (dx * s - dz * c) * (1.0 / q.ear)
    n = (dx * c + dz * s) * (1.0 / q.ear)
    v = dy * (1.0 / q.ear) - 0.18 * u
    narrow = 1.0 + 0.9 * (0.10 - v).clamp(min=0.0)
    plate = ellipsoid((u - 0.11) * narrow, v - 0.02, n - 0.01, 0.165, 0.275, 0.046)
    bowl = ellipsoid(u - 0.095, v - 0.0, n - 0.058, 0.080, 0.14, 0.055)
    rim = ellipsoid(u - 0.135, v - 0.09, n - 0.066, 0.110, 0.150, 0.040)
    return smooth_max(plate, -smooth_min(bowl, rim, 0.02), 0.025) * (0.8 * q.ear)


def neck(x: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the distance to the neck, from inside the skull to inside the chest."""
    bottom = (q.neck_x, q.neck_y, q.neck_z)
    return capsule(x, y, z, (0.0, -0.45, -0.24), bottom, q.neck * 0.95, q.neck * 1.08)


def in_body_frame(x: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> tuple[Tensor, Tensor, Tensor]:
    """Return coordinates in the body frame, origin at the base of the neck."""
    px, py, pz = x - NECK_BASE[0], y - NECK_BASE[1], z - NECK_BASE[2]
    bx = px * q.body_xx + py * q.body_xy + pz * q.body_xz
    by = px * q.body_yx + py * q.body_yy + pz * q.body_yz
    return bx, by, px * q.body_zx + py * q.body_zy + pz * q.body_zz


def torso(x: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the distance to the clothed shoulders and chest."""
    bx, by, bz = in_body_frame(x, y, z, q)
    ax = bx.abs()
    d = ellipsoid(bx, by + 1.42, bz + 0.02, q.shoulder * 0.92, 1.15, q.chest * 1.15)
    d = smooth_min(d, sphere(ax - q.shoulder, by + 0.80, bz + 0.12, 0.34), 0.45)
    trapezius = capsule(ax, by, bz, (0.20, -0.16, -0.16), (q.shoulder * 0.9, -0.70, -0.14), 0.20, 0.26)
    return smooth_min(d, trapezius, 0.30)
