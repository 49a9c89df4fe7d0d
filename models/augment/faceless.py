"""Pictures without a face, from which a landmarker learns to be unsure: textures, and things that look alive or warm.

T-FAKE's negatives are element textures alone. Here half of them are textures; the others are hands, radiators, cups and
animals painted on one, and backs of heads made out of the row's own person.
"""

import math

import cv2
import numpy as np

from models.augment.canvas import paint_texture
from models.augment.landmarks import Augmentation, draw_affine, vary_photometry, warp
from models.classes import CLASSES, FACE, IGNORE

HAIR = CLASSES.index("HAIR")
EARS = [CLASSES.index("RIGHT_EAR"), CLASSES.index("LEFT_EAR")]
_COVERED = np.isin(np.arange(len(CLASSES)), [k for k in FACE if k not in EARS] + [CLASSES.index("GLASSES")])

Colour = tuple[int, int, int]


def augment_negative(
    picture: np.ndarray, classes: np.ndarray, side: int, rng: np.random.Generator, ranges: Augmentation
) -> np.ndarray:
    """Return uint8 [side, side, 3] without a face. picture: the row's, [S, S, 3] visible or [S, S] thermal (stretched)."""
    thermal = picture.ndim == 2
    if rng.random() < 0.15 and not (classes == IGNORE).any():  # a face that no mask shows cannot be covered
        turned = paint_back_of_head(picture, classes, rng)
        out = warp(turned, draw_affine(picture.shape[0], side, rng, ranges), side, replicate=bool(rng.random() < 0.5))
        return vary_photometry(out, rng, ranges)
    # A texture, with or without things on it.
    out = paint_texture(side, rng)
    if rng.random() < 0.3:  # a plain wall
        out = cv2.GaussianBlur(out, (0, 0), side / 6)
    if rng.random() < 0.5:
        paint = (paint_hand, paint_radiator, paint_cup, paint_animal)[rng.integers(4)]
        for _ in range(int(rng.integers(1, 3))):
            out = paint(out, rng)
    return vary_photometry(np.ascontiguousarray(out[..., 0]) if thermal else out, rng, ranges)


def paint_back_of_head(picture: np.ndarray, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return `picture` with its face (ears stay) under hair: the person turned away."""
    # Strands: noise stretched to the size of the picture.
    covered = _COVERED[classes]
    hair = picture[classes == HAIR]
    spread = rng.standard_normal((classes.shape[0] // 4, classes.shape[1] // 4), dtype=np.float32)
    strands = cv2.resize(spread, classes.shape[::-1], interpolation=cv2.INTER_CUBIC) * 12
    # In the colour of the person's hair.
    if len(hair) > 20:
        colour = np.median(hair, axis=0)
    else:  # a bald head: the skin goes on
        colour = np.median(picture[covered], axis=0) if covered.any() else np.asarray(90.0)
    fill = colour + (strands if picture.ndim == 2 else strands[..., None])
    soft = cv2.GaussianBlur(covered.astype(np.float32), (0, 0), 1.5)
    soft = soft if picture.ndim == 2 else soft[..., None]
    return np.clip(picture * (1 - soft) + fill * soft, 0, 255).astype(np.uint8)


def paint_hand(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return `canvas` uint8 [S, S, 3] with a hand: palm, four fingers, a thumb, a wrist."""
    side = canvas.shape[0]
    at, length, heading = _draw_placement(side, rng)
    colour = _draw_colour(rng)
    mask = np.zeros((side, side), np.uint8)

    def segment(start: np.ndarray, angle: float, reach: float, thick: float) -> np.ndarray:
        end = start + reach * np.array([math.cos(angle), math.sin(angle)])
        cv2.line(mask, _to_pixel(start), _to_pixel(end), 255, max(1, round(thick)), cv2.LINE_AA)
        return end

    # Palm and wrist.
    cv2.ellipse(
        mask,
        _to_pixel(at),
        (max(1, round(length * 0.30)), max(1, round(length * 0.26))),
        math.degrees(heading),
        0,
        360,
        255,
        -1,
    )
    segment(at, heading + math.pi, length * 0.6, length * 0.34)
    # Four fingers, bent at one joint, and a thumb.
    spread = rng.uniform(0.1, 0.35)
    for k in range(4):
        angle = heading + (k - 1.5) * spread
        across = np.array([-math.sin(heading), math.cos(heading)]) * (k - 1.5) * length * 0.13
        bent = segment(at + across, angle, length * rng.uniform(0.4, 0.6), length * 0.11)
        segment(bent, angle + rng.uniform(-0.4, 0.4), length * rng.uniform(0.05, 0.2), length * 0.1)
    thumb = heading + rng.choice([-1, 1]) * rng.uniform(0.9, 1.4)
    segment(at, thumb, length * 0.45, length * 0.13)
    return _fill(canvas, mask, colour, rng)


def paint_radiator(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return `canvas` with a ribbed radiator."""
    side = canvas.shape[0]
    width, height = rng.uniform(0.3, 1.0, 2) * side
    left, top = rng.uniform(-0.2, 0.7, 2) * side
    mask = np.zeros((side, side), np.uint8)
    # Ribs, and a pipe along their upper and lower ends.
    count = int(rng.integers(4, 16))
    for k in range(count):
        x = left + width * (k + 0.2) / count
        cv2.rectangle(mask, _to_pixel((x, top)), _to_pixel((x + width * 0.6 / count, top + height)), 255, -1)
    for y in (top + 0.06 * height, top + 0.92 * height):
        cv2.rectangle(mask, _to_pixel((left, y)), _to_pixel((left + width, y + 0.04 * height)), 255, -1)
    return _fill(canvas, mask, _draw_colour(rng), rng)


def paint_cup(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return `canvas` with a cup: body, rim, handle, and what is in it."""
    side = canvas.shape[0]
    at, size, _ = _draw_placement(side, rng)
    wide, tall, taper = size * rng.uniform(0.35, 0.6), size * rng.uniform(0.4, 0.8), rng.uniform(0.6, 1.0)
    mask = np.zeros((side, side), np.uint8)
    # Handle and body.
    grip = at + np.array([rng.choice([-1, 1]) * wide, 0])
    cv2.ellipse(
        mask,
        _to_pixel(grip),
        (_to_length(wide * 0.45), _to_length(tall * 0.3)),
        0,
        0,
        360,
        255,
        max(1, round(size * 0.07)),
    )
    corners = at + np.array(
        [[-wide, -tall / 2], [wide, -tall / 2], [wide * taper, tall / 2], [-wide * taper, tall / 2]]
    )
    cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 255)
    out = _fill(canvas, mask, _draw_colour(rng), rng)
    # What is in it has a colour of its own.
    rim = np.zeros((side, side), np.uint8)
    cv2.ellipse(
        rim, _to_pixel(at - np.array([0, tall / 2])), (_to_length(wide), _to_length(wide * 0.25)), 0, 0, 360, 255, -1
    )
    return _fill(out, rim, _draw_colour(rng), rng)


def paint_animal(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return `canvas` with an animal: body, legs, head, pointed ears, muzzle, eyes and nose far from a human's places."""
    side = canvas.shape[0]
    at, size, _ = _draw_placement(side, rng)
    way = float(rng.choice([-1, 1]))
    mask = np.zeros((side, side), np.uint8)
    # Body and legs.
    body = at + np.array([-way * size * 0.45, size * 0.25])
    cv2.ellipse(
        mask,
        _to_pixel(body),
        (_to_length(size * 0.5), _to_length(size * 0.25)),
        float(rng.uniform(-10, 10)),
        0,
        360,
        255,
        -1,
    )
    for k in (-0.35, -0.2, 0.25, 0.38):
        foot = body + np.array([k * size, size * rng.uniform(0.4, 0.55)])
        cv2.line(mask, _to_pixel(body + np.array([k * size, 0])), _to_pixel(foot), 255, max(1, round(size * 0.09)))
    # Head, pointed ears, muzzle.
    radius = size * rng.uniform(0.18, 0.28)
    cv2.circle(mask, _to_pixel(at), _to_length(radius), 255, -1)
    for ear in (-1, 1):
        tip = at + radius * np.array([ear * rng.uniform(0.6, 1.0), -rng.uniform(1.3, 1.9)])
        base = [at + radius * np.array([ear * x, -0.6]) for x in (0.2, 0.95)]
        cv2.fillPoly(mask, [np.rint([tip, *base]).astype(np.int32)], 255)
    muzzle = at + radius * np.array([way * 0.5, 0.45])
    cv2.ellipse(mask, _to_pixel(muzzle), (_to_length(radius * 0.6), _to_length(radius * 0.4)), 0, 0, 360, 255, -1)
    out = _fill(canvas, mask, _draw_colour(rng), rng, grain=18)
    # Eyes and nose.
    for x, y, r in ((-0.35, -0.2, 0.12), (0.35, -0.2, 0.12), (way * 0.75, 0.35, 0.15)):
        cv2.circle(out, _to_pixel(at + radius * np.array([x, y])), _to_length(radius * r), _draw_colour(rng), -1)
    return out


def _draw_placement(side: int, rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
    """Return a place, a size in pixels and an angle in radians."""
    return rng.uniform(0.2, 0.8, 2) * side, float(rng.uniform(0.35, 0.95)) * side, float(rng.uniform(0, 2 * math.pi))


def _draw_colour(rng: np.random.Generator) -> Colour:
    """Return skin, fur, enamel or metal; the red channel doubles as the thermal grey level, mostly a warm one."""
    red = int(rng.integers(120, 256) if rng.random() < 0.75 else rng.integers(0, 120))
    green = int(red * rng.uniform(0.5, 1.0))
    return red, green, int(green * rng.uniform(0.5, 1.1)) % 256


def _fill(
    canvas: np.ndarray, mask: np.ndarray, colour: Colour, rng: np.random.Generator, grain: float = 5
) -> np.ndarray:
    """Return `canvas` with `mask` in `colour`, shaded from one side and grained."""
    side = canvas.shape[0]
    slope = rng.uniform(-0.5, 0.5, 2)
    ramp = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    shade = 1 + slope[0] * ramp[None, :] + slope[1] * ramp[:, None]
    paint = np.asarray(colour, np.float32) * shade[..., None]
    paint += rng.standard_normal((side, side, 1), dtype=np.float32) * np.float32(grain)
    alpha = (mask.astype(np.float32) / 255)[..., None]
    return np.clip(canvas * (1 - alpha) + paint * alpha, 0, 255).astype(np.uint8)


def _to_pixel(point: object) -> tuple[int, int]:
    """Return a point (x, y) in whole pixels."""
    x, y = np.rint(np.asarray(point, np.float64)).astype(int).tolist()
    return x, y


def _to_length(value: float) -> int:
    """Return a length in whole pixels, at least 1."""
    return max(1, round(value))
