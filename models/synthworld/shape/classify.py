"""Name what each hit is: one of the 19 classes, and how thick its cover is."""

from types import SimpleNamespace

import torch
from torch import Tensor

from models.classes import CLASSES
from models.synthworld.shape import cover, sdf
from models.synthworld.shape.march import CLOTH, EYE, FRAME, HAIR, HAT, MASK, SKIN, surfaces
from models.synthworld.shape.primitives import ramp

UNIT_MM = 100.0
ID = {name: index for index, name in enumerate(CLASSES)}


def among(classes: Tensor, *names: str) -> Tensor:
    """Return where class ids [N] are of the classes `names`, bool [N]."""
    return torch.isin(classes, torch.tensor([ID[name] for name in names], dtype=classes.dtype))


def brow_amount(x: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> Tensor:
    """Return how much a point lies in an eyebrow, [0, 1]."""
    ax = x.abs()
    t = (ax - q.ex) * (1 / 0.22)
    line = brow_line(t, x, q)
    thick = q.brow_thick * (1.0 - 0.35 * (t + 0.2).clamp(min=0.0))
    v = (y - line) / thick
    edge = ramp(v.abs(), 1.0, 0.55) * ramp(t, -1.08, -0.80) * ramp(t, 1.12, 0.80)
    return edge * (z > 0.15)


def brow_line(t: Tensor, x: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the height of the eyebrow's middle at t in [-1 (inner), 1 (outer)]."""
    lift = q.brow_in * (0.5 - 0.5 * t) + q.brow_out * (0.5 + 0.5 * t)
    side = q.brow_side * (x > 0)
    return q.brow_y + q.brow_arch * (0.35 + 0.5 * t - 0.9 * t * t) + lift + side


def classify(x: Tensor, y: Tensor, z: Tensor, q: SimpleNamespace) -> tuple[Tensor, dict[str, Tensor]]:
    """Return classes uint8 [N] of surface points in the head frame, and their cover in millimetres by name."""
    # Which kind of surface is nearest.
    found, bare = surfaces(x, y, z, q)
    far = torch.full_like(x, 10.0)
    kind = torch.stack([far if d is None else d for d in found]).argmin(0)
    body_skin = torch.minimum(bare, sdf.neck(x, y, z, q))
    # Skin has classes by place; a beard of some thickness replaces them, and what is worn lies over all.
    classes = _skin_classes(x, y, z, bare, q)
    beard = torch.zeros_like(x)
    if q.wears["beard"]:
        beard = cover.beard_thickness(x, y, z, q, q.wears["beard"]).clamp(min=0.0) * (kind == SKIN)
        if q.wears["beard"] != "stubble":
            classes = torch.where((beard > 0.004) & (kind == SKIN), ID["BEARD"], classes)
    left = x > 0
    classes = torch.where(kind == EYE, torch.where(left, ID["LEFT_EYE"], ID["RIGHT_EYE"]), classes)
    worn = {HAIR: "HAIR", CLOTH: "CLOTHING", HAT: "HEADWEAR", MASK: "FACEWEAR", FRAME: "GLASSES"}
    for surface, name in worn.items():
        classes = torch.where(kind == surface, ID[name], classes)
    # How thick each cover is: hair, hats and masks down to the skin below them.
    under = body_skin.clamp(min=0.0) * UNIT_MM
    zero = torch.zeros_like(x)
    layers = {
        "hair": torch.where(kind == HAIR, under, zero),
        "beard": beard * UNIT_MM,
        "cloth": torch.where(kind == CLOTH, 4.0 + zero, zero),
        "headwear": torch.where(kind == HAT, under.clamp(min=2.0, max=40.0), zero),
        "facewear": torch.where(kind == MASK, under.clamp(min=1.5, max=20.0), zero),
        "bare": bare,
    }
    return classes.to(torch.uint8), layers


def _skin_classes(x: Tensor, y: Tensor, z: Tensor, bare: Tensor, q: SimpleNamespace) -> Tensor:
    """Return the class of each point as if it were bare skin, int64 [N]; later regions replace earlier ones."""
    ax = x.abs()
    classes = torch.full_like(x, ID["SKIN"], dtype=torch.int64)
    # Neck: behind and below the jaw.
    jaw = -0.62 - 0.42 * ramp(z, -0.1, 0.75) - 0.30 * abs(q.chin_y + 0.865) - q.drop
    is_neck = (sdf.neck(x, y, z, q) < bare + 0.01) | ((y < jaw + 0.08) & (z < 0.25)) | (y < q.chin_y - 0.30 - q.drop)
    classes = torch.where(is_neck & (y < -0.45), ID["NECK"], classes)
    # Nose: between its wings, without its underside.
    s = ((q.n_top - y) / (q.n_top - q.n_bot)).clamp(0.0, 1.0)
    half = 0.075 + (q.n_ala + q.n_wing * 0.75 - 0.075) * ramp(s, 0.35, 0.95)
    nose = (ax < half) & (y < q.n_top + 0.02) & (y > q.n_bot - 0.055) & (z > 0.55)
    under = (y < q.n_bot - 0.005) & (z < q.n_tip_z - 0.13)
    classes = torch.where(nose & ~under, ID["NOSE"], classes)
    # Brows.
    left = x > 0
    brow = brow_amount(x, y, z, q) > 0.4
    classes = torch.where(brow, torch.where(left, ID["LEFT_BROW"], ID["RIGHT_BROW"]), classes)
    # Lips, and between them the open mouth.
    top, in_up, in_low, bottom = sdf.lip_edges(x, q)
    mouth = (z > 0.5) & (ax < q.m_w)
    classes = torch.where(mouth & (y <= top) & (y >= 0.5 * (in_up + in_low)), ID["TOP_LIP"], classes)
    classes = torch.where(mouth & (y < 0.5 * (in_up + in_low)) & (y >= bottom), ID["BOTTOM_LIP"], classes)
    opening = q.m_w * (q.o_low > 0.008)  # half its width, 0 where it is shut
    inside = mouth & (ax < opening) & (y < in_up - 0.003) & (y > in_low + 0.003)
    classes = torch.where(inside, ID["MOUTH_INTERIOR"], classes)
    # Ears.
    ear = sdf.ear_plate(ax, y, z, q) < 0.012
    classes = torch.where(ear, torch.where(left, ID["LEFT_EAR"], ID["RIGHT_EAR"]), classes)
    return classes
