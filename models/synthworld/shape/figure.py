"""Turn a scene into the numbers that the distance field is made of: one namespace of floats in head units.

Their first letters say what they belong to: c the cranium, f the face, e the eyes, brow_ the brows, n_ the nose, m_ the lips,
o_ the open mouth, chin_, jaw_, ear_, neck_ what they name, body_ the body's frame; `cover` adds h_ hair, hat_, tail_ and
g_ glasses. Along x, y and z they are half widths (w, h, d), radii (r) and places (x, y, z).
"""

import math
from types import SimpleNamespace

from models.synthworld.sampling.scene import Scene

#                 corner  open stretch pucker smirk  inner  outer   lids  cheek  nose
_EXPRESSIONS = {
    "neutral":   (0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 1.00, 0.00, 0.00),
    "smile":     (1.00, 0.08, 0.22, 0.00, 0.00, 0.10, 0.10, 0.78, 0.80, 0.00),
    "laugh":     (0.90, 0.75, 0.24, 0.00, 0.00, 0.25, 0.25, 0.55, 1.00, 0.10),
    "sad":       (-0.90, 0.00, -0.05, 0.10, 0.00, 0.75, -0.45, 0.72, -0.10, 0.00),
    "angry":     (-0.55, 0.00, 0.05, 0.10, 0.00, -1.00, 0.10, 0.80, 0.10, 0.45),
    "surprised": (-0.05, 1.00, -0.18, 0.25, 0.00, 1.00, 1.00, 1.45, 0.00, 0.00),
    "disgusted": (-0.50, 0.22, -0.05, 0.00, 0.30, -0.70, -0.20, 0.60, 0.70, 1.00),
    "pout":      (-0.20, 0.00, -0.28, 1.00, 0.00, 0.15, 0.00, 0.95, 0.00, 0.00),
    "smirk":     (0.25, 0.00, 0.06, 0.00, 1.00, 0.00, 0.25, 0.85, 0.25, 0.00),
    "squint":    (0.10, 0.00, 0.06, 0.00, 0.00, -0.55, -0.30, 0.38, 0.75, 0.30),
}  # fmt: skip

HEAD_CENTRE = (0.0, -0.05, 0.0)
"""Turning point of the head and centre of framing, head frame."""
NECK_BASE = (0.0, -1.05, -0.42)
"""Where the head's turns end and the body begins."""


def rotation(yaw: float, pitch: float, roll: float) -> list[list[float]]:
    """Return the 3 x 3 matrix that takes head-frame vectors to the camera frame (degrees; signs as in `View`)."""
    a, b, c = (math.radians(angle) for angle in (yaw, pitch, roll))
    turn = [[math.cos(a), 0.0, math.sin(a)], [0.0, 1.0, 0.0], [-math.sin(a), 0.0, math.cos(a)]]
    nod = [[1.0, 0.0, 0.0], [0.0, math.cos(b), math.sin(b)], [0.0, -math.sin(b), math.cos(b)]]
    tilt = [[math.cos(c), math.sin(c), 0.0], [-math.sin(c), math.cos(c), 0.0], [0.0, 0.0, 1.0]]
    return product(tilt, product(nod, turn))


def product(a: list[list[float]], b: list[list[float]]) -> list[list[float]]:
    """Return the product of two 3 x 3 matrices."""
    return [[sum(a[i][k] * b[k][j] for k in range(3)) for j in range(3)] for i in range(3)]


def figure(scene: Scene) -> SimpleNamespace:
    """Return every number of the distance field for `scene`; lengths in head units, head frame."""
    q = SimpleNamespace()
    _skull(q, scene)
    _eyes(q, scene)
    _nose(q, scene)
    _mouth(q, scene)
    _body(q, scene)
    q.age_lines = max(0.0, min(1.0, (scene.person.age - 30.0) / 45.0))
    return q


def _skull(q: SimpleNamespace, scene: Scene) -> None:
    """Add skull, jaw, chin, ears and neck to the figure."""
    s, person = scene.person.shape, scene.person
    sag = max(0.0, (person.age - 45.0) / 40.0)
    # Skull and forehead.
    q.asym = 0.035 * s.asymmetry
    q.cw = 0.745 * (1 + 0.075 * s.head_width)
    q.ch = 0.84 * (1 + 0.07 * s.head_height)
    q.cd = 0.96 * (1 + 0.06 * s.head_depth)
    q.cy = 0.34
    q.cz = -0.13
    q.forehead_in = 0.07 * s.forehead_slope
    q.forehead_out = 0.030 * s.forehead_bulge
    # Face, brow ridge, temples, cheeks.
    q.fw = 0.585 * (1 + 0.085 * s.face_width)
    q.fl = 0.80 * (1 + 0.055 * s.face_length)
    q.ridge = 0.020 + 0.030 * max(s.brow_ridge, -0.6)
    q.temple = 0.030 + 0.030 * s.temple
    q.bone = -0.005 + 0.040 * s.cheekbone
    q.bone_y = -0.13 + 0.06 * s.cheekbone_height
    q.fat = 0.055 * s.cheek_fat - 0.015 * sag
    # Jaw and chin.
    q.jaw_x = q.fw * (0.53 + 0.10 * s.jaw_width)
    q.jaw_y = -0.60 - 0.08 * s.jaw_angle
    q.jaw_r = 0.135 + 0.035 * s.jaw_width + 0.02 * sag
    q.chin_y = -0.865 - 0.065 * s.chin_length - 0.04 * s.face_length
    q.chin_z = 0.615 + 0.075 * s.chin_forward
    q.chin_w = 0.20 * (1 + 0.38 * s.chin_width)
    q.cleft = 0.028 * max(0.0, s.chin_cleft - 0.2)
    # Ears and neck.
    q.ear = 1 + 0.16 * s.ear_size
    flare = math.radians(24 + 13 * s.ear_out)
    q.ear_c, q.ear_s = math.cos(flare), math.sin(flare)
    q.ear_x = q.cw * 0.955
    q.ear_y = -0.07
    q.ear_z = -0.02
    q.neck = 0.415 + 0.045 * s.neck_width + 0.035 * person.sex


def _eyes(q: SimpleNamespace, scene: Scene) -> None:
    """Add eyes, lids, brows and the lines that cheeks and forehead make to the figure."""
    s, person = scene.person.shape, scene.person
    _, _, _, _, smirk, inner, outer, lids, cheek, _ = _amounts(scene)
    # Eyeballs and the opening between the lids.
    q.ex = 0.312 * (1 + 0.085 * s.eye_spacing) * (1 + 0.03 * s.face_width)
    q.ey = 0.075 + 0.035 * s.eye_height
    q.ez = 0.590 - 0.035 * s.eye_depth
    q.er = 0.132 * (1 + 0.05 * s.eye_size)
    q.ew = 0.158 * (1 + 0.13 * s.eye_size)
    q.eh_up = 0.066 * (1 + 0.30 * s.eye_size) * lids
    q.eh_low = 0.036 * (1 + 0.2 * s.eye_size) * min(lids, 1.15) - 0.012 * max(cheek, 0.0)
    # Slant, sockets, the lid's crease, gaze.
    q.tilt = math.tan(math.radians(3.5 + 5.5 * s.eye_tilt))
    q.socket = 0.080 + 0.045 * s.eye_depth
    q.fold = 0.050 - 0.020 * s.eye_fold
    q.gaze_x, q.gaze_y = 0.42 * scene.view.gaze_x, 0.30 * scene.view.gaze_y
    # Brows, raised and lowered by the expression.
    q.brow_y = q.ey + 0.215 + 0.035 * s.brow_height
    q.brow_in = 0.055 * inner
    q.brow_out = 0.050 * outer - 0.03 * s.brow_tilt
    q.brow_arch = 0.045 + 0.030 * s.brow_arch
    q.brow_thick = 0.042 * (1 + 0.42 * person.brow_thickness)
    q.brow_side = 0.045 * smirk
    q.frown = max(0.0, -inner)
    # Lines on the forehead; cheeks raised by a smile.
    q.forehead_lines = max(0.0, inner) * 0.6 + max(0.0, outer) * 0.4
    q.cheek_up = 0.055 * max(cheek, 0.0)
    q.crow = max(0.0, cheek)


def _nose(q: SimpleNamespace, scene: Scene) -> None:
    """Add the nose to the figure: bridge, tip, wings, nostrils; `wrinkle` lifts its base."""
    s = scene.person.shape
    wrinkle = _amounts(scene)[9]
    # Bridge: from between the eyes to the tip.
    q.n_top = q.ey + 0.07
    q.n_bot = -0.275 - 0.065 * s.nose_length + 0.025 * wrinkle
    q.n_root_z = 0.715 + 0.045 * s.nose_bridge
    q.n_tip_z = 0.945 + 0.075 * s.nose_projection
    q.n_r = 0.062 * (1 + 0.22 * s.nose_width)
    q.n_hump = 0.045 * s.nose_hump
    q.n_ball = 0.088 * (1 + 0.22 * s.nose_tip)
    q.n_up = 0.055 * s.nose_upturn
    # Wings and nostrils.
    q.n_ala = 0.118 * (1 + 0.26 * s.nose_width) + 0.008 * wrinkle
    q.n_hole = 0.034 * (1 + 0.35 * s.nostril)
    q.n_wing = 0.070 * (1 + 0.20 * s.nostril)
    q.wrinkle = wrinkle


def _mouth(q: SimpleNamespace, scene: Scene) -> None:
    """Add lips and mouth to the figure, open, stretched and curved by the expression."""
    s = scene.person.shape
    corner, opening, stretch, pucker, smirk, *_ = _amounts(scene)
    # Lips: width, height, thickness.
    q.m_w = 0.255 * (1 + 0.15 * s.mouth_width) * (1 + stretch)
    q.m_y = 0.5 * (q.n_bot - 0.09) + 0.5 * (-0.79) - 0.030 * s.mouth_height - 0.030 * s.philtrum
    q.m_up = 0.074 * (1 + 0.45 * s.upper_lip) * (1 - 0.15 * max(stretch, 0)) * (1 + 0.25 * pucker)
    q.m_low = 0.094 * (1 + 0.38 * s.lower_lip) * (1 - 0.15 * max(stretch, 0)) * (1 + 0.20 * pucker)
    # Their curve, and how far the mouth is open (the jaw drops with it).
    q.m_curve = 0.075 * corner + 0.018 * s.lip_curve
    q.m_smirk = 0.060 * smirk
    q.o_up = 0.045 * opening + 0.012 * max(corner, 0.0) * opening
    q.o_low = 0.150 * opening
    q.drop = 0.150 * opening
    q.m_deep = 0.05 if q.o_low < 0.02 else 0.16
    q.m_out = 0.060 * pucker + 0.010 * (s.upper_lip + s.lower_lip)
    q.m_z = 0.800
    q.fold_line = 0.006 + 0.022 * max(0.0, corner) + 0.014 * max(0.0, (scene.person.age - 40) / 40) + 0.01 * q.wrinkle


def _body(q: SimpleNamespace, scene: Scene) -> None:
    """Add neck and body to the figure: the body follows the head's turns only in part.

    `body_xx` to `body_zz` are the matrix that takes head-frame offsets from NECK_BASE to the body's frame.
    """
    view = scene.view
    # From the head frame to the body frame.
    head = rotation(view.yaw, view.pitch, view.roll)
    body = rotation(0.62 * view.yaw, 0.12 * view.pitch, 0.15 * view.roll)
    back = [[body[j][i] for j in range(3)] for i in range(3)]
    turn = product(back, head)
    for row, i in zip(turn, "xyz", strict=True):
        for value, k in zip(row, "xyz", strict=True):
            setattr(q, f"body_{i}{k}", value)
    # The lower end of the neck, in the head frame.
    q.neck_x, q.neck_y, q.neck_z = (turn[1][k] * -0.60 + turn[2][k] * -0.05 + NECK_BASE[k] for k in range(3))
    q.shoulder = 1.38 + 0.22 * scene.person.sex + 0.06 * scene.person.shape.neck_width
    q.chest = 0.52 + 0.05 * scene.person.shape.cheek_fat


def _amounts(scene: Scene) -> tuple[float, ...]:
    """Return the expression's amounts at the view's strength; lids are a factor, the others are additive."""
    strength = scene.view.strength
    row = _EXPRESSIONS[scene.view.expression]
    return tuple(1 + (v - 1) * strength if i == 7 else v * strength for i, v in enumerate(row))
