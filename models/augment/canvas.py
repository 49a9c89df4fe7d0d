"""Pictures to learn detection from: a face picture pasted at many sizes on textured canvases, and canvases without one."""

from dataclasses import dataclass

import cv2
import numpy as np

from models.augment.geometry import from_centres, mirror_points, move_points
from models.augment.photometric import ToneRanges, add_noise, vary_tone

FACES = 3
"""Most faces on one canvas."""
SMALLEST = 14.0
"""Side in pixels of the smallest face asked for."""
FLIPPED = [1, 0, 2, 4, 3]
"""The five points of a mirrored face."""


@dataclass
class Canvas:
    """picture uint8 [S, S, 3]; boxes float32 [FACES, 4] px; points float32 [FACES, 5, 2] px; present bool [FACES]."""

    picture: np.ndarray
    boxes: np.ndarray
    points: np.ndarray
    present: np.ndarray


def compose(picture: np.ndarray, box: np.ndarray, points: np.ndarray, side: int, seed: int) -> Canvas:
    """Return a canvas drawn from `seed` alone out of `picture` uint8 [H, W, 3] with one face: `box` [4], `points` [5, 2].

    Nearly half show the whole picture, as a portrait or letterboxed; 40 % hold one to three pasted faces of 14 px up to
    the canvas; the rest hold none, but pieces and shuffled tiles of the picture.
    """
    rng = np.random.default_rng(int(seed))
    # What it shall show, and its ground: textured, or flat (black or the grey of a letterbox).
    kind = rng.choice(3, p=(0.46, 0.4, 0.14))
    canvas = Canvas(
        paint_texture(side, rng)
        if rng.random() < 0.8
        else np.full((side, side, 3), rng.integers(0, 2) * 114, np.uint8),
        np.zeros((FACES, 4), np.float32),
        np.zeros((FACES, 5, 2), np.float32),
        np.zeros(FACES, bool),
    )
    # One portrait, pasted faces, or decoys.
    if kind == 0:
        _place_portrait(canvas, picture, box, points, rng)
    elif kind == 1:
        for index in range(int(rng.integers(1, FACES + 1))):
            _paste(canvas, index, picture, box, points, rng)
    else:
        _paste_decoys(canvas.picture, picture, box, rng)
    # Light, sharpness and noise of the whole.
    canvas.picture = vary_tone(canvas.picture, rng, ToneRanges())
    if rng.random() < 0.2:
        canvas.picture = cv2.GaussianBlur(canvas.picture, (0, 0), float(rng.uniform(0.4, 1.2)))
    if rng.random() < 0.2:
        canvas.picture = add_noise(canvas.picture, rng.uniform(2, 10), rng)
    return canvas


def _place_portrait(
    canvas: Canvas, picture: np.ndarray, box: np.ndarray, points: np.ndarray, rng: np.random.Generator
) -> None:
    """Fill the canvas with the whole picture, nearly in place; letterbox a fifth of them (black right or below)."""
    side = canvas.picture.shape[0]
    scale = side / picture.shape[0]
    # Letterbox: smaller, at the upper left, black elsewhere.
    if rng.random() < 0.2:
        canvas.picture[:] = 0
        matrix = np.array([[scale * rng.uniform(0.5, 1.0), 0, 0], [0, 0, 0]])
        matrix[1, 1] = matrix[0, 0]
    else:
        # Else nearly in place: scaled, turned and shifted a little.
        scale *= float(np.exp(rng.uniform(-0.35, 0.5)))
        matrix = cv2.getRotationMatrix2D((picture.shape[1] / 2, picture.shape[0] / 2), rng.uniform(-12, 12), scale)
        matrix[:, 2] += side / 2 - np.array(picture.shape[1::-1]) / 2 + rng.uniform(-0.12, 0.12, 2) * side
    _place(canvas, 0, picture, box, points, matrix, None, rng)


def _paste(
    canvas: Canvas, index: int, picture: np.ndarray, box: np.ndarray, points: np.ndarray, rng: np.random.Generator
) -> None:
    """Paste the head, or the picture's whole rectangle, with its face at a size drawn over all octaves."""
    side = canvas.picture.shape[0]
    # A size drawn evenly over octaves.
    face = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
    scale = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(side * 0.95)))) / max(face, 1.0)
    middle = (box[:2] + box[2:]) / 2
    matrix = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), rng.uniform(-15, 15), scale)
    # A place where it lies within the canvas, clear of the faces that are there: else it is left out.
    reach = scale * face * 0.55
    low, high = min(reach, side / 2), max(side - reach, side / 2)
    centre = rng.uniform(low, high, 2)
    taken = canvas.boxes[canvas.present]
    gap = np.abs((taken[:, :2] + taken[:, 2:]) / 2 - centre).max(axis=1) if len(taken) else np.zeros(0)
    if len(taken) and (gap < reach * 1.4 + (taken[:, 2:] - taken[:, :2]).max(axis=1) * 0.75).any():
        return
    matrix[:, 2] += centre - middle
    # Sometimes only the head, with a soft edge.
    mask = None
    if rng.random() < 0.6:
        mask = np.zeros(picture.shape[:2], np.uint8)
        axes = ((box[2] - box[0]) * rng.uniform(0.7, 1.0), (box[3] - box[1]) * rng.uniform(0.7, 1.0))
        cv2.ellipse(mask, (middle.tolist(), (axes[0] * 2, axes[1] * 2), 0), 255, -1)
        mask = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.5, 3)))
    _place(canvas, index, picture, box, points, matrix, mask, rng)


def _place(
    canvas: Canvas,
    index: int,
    picture: np.ndarray,
    box: np.ndarray,
    points: np.ndarray,
    matrix: np.ndarray,
    mask: np.ndarray | None,
    rng: np.random.Generator,
) -> None:
    """Warp the picture onto the canvas, mirrored half of the times, and write down its face if enough of it shows.

    mask: uint8 [H, W], how much of each pixel to lay over the canvas; None for the whole rectangle.
    """
    # Mirror.
    if rng.random() < 0.5:
        width = picture.shape[1]
        picture, mask = picture[:, ::-1], mask[:, ::-1] if mask is not None else None
        box = np.array([width - box[2], box[1], width - box[0], box[3]], np.float32)
        points = mirror_points(points, width, FLIPPED)
    side = canvas.picture.shape[0]
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.5:  # area sampling first: bilinear sampling alone would alias
        small = (max(int(picture.shape[1] * scale * 1.5), 1), max(int(picture.shape[0] * scale * 1.5), 1))
        shrink = np.array([small[0] / picture.shape[1], small[1] / picture.shape[0]])
        picture = cv2.resize(np.ascontiguousarray(picture), small, interpolation=cv2.INTER_AREA)
        if mask is not None:
            mask = cv2.resize(np.ascontiguousarray(mask), small, interpolation=cv2.INTER_AREA)
        box, points = box * np.tile(shrink, 2), points * shrink
        matrix = matrix @ np.diag([1 / shrink[0], 1 / shrink[1], 1.0])
    _warp_onto(canvas.picture, np.ascontiguousarray(picture), mask, from_centres(matrix))
    # Write down where the face lies, and whether more than 60 % of its box show.
    placed = _warp_box(box, matrix)
    shown = np.clip(placed, 0, side)
    area = max(float((placed[2:] - placed[:2]).prod()), 1e-6)
    canvas.boxes[index] = placed
    canvas.points[index] = move_points(points, matrix)
    canvas.present[index] = float((shown[2:] - shown[:2]).prod()) / area > 0.6


def _warp_onto(canvas: np.ndarray, picture: np.ndarray, mask: np.ndarray | None, matrix: np.ndarray) -> None:
    """Warp `picture` onto `canvas` in place, touching only the pixels it reaches."""
    side = canvas.shape[0]
    if mask is None:
        cv2.warpAffine(picture, matrix, (side, side), dst=canvas, borderMode=cv2.BORDER_TRANSPARENT)
        return
    # The rectangle of the canvas that the picture reaches.
    height, width = picture.shape[:2]
    corners = move_points(np.array([[0, 0], [width, 0], [0, height], [width, height]]), matrix)
    low = np.clip(np.floor(corners.min(axis=0)), 0, side - 1).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 1, low + 1, side).astype(int)
    # Blend in it by the mask, in whole numbers.
    moved = matrix.copy()
    moved[:, 2] -= low
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    alpha = cv2.warpAffine(np.ascontiguousarray(mask), moved, size)[..., None].astype(np.uint16)
    warped = cv2.warpAffine(picture, moved, size, borderMode=cv2.BORDER_REPLICATE)
    under = canvas[low[1] : high[1], low[0] : high[0]]
    under[:] = (under * (255 - alpha) + warped * alpha) // 255


def _warp_box(box: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the upright box [4] around the ellipse in `box` after a similarity [2, 3]: a turned face is no rectangle."""
    middle = matrix[:, :2] @ ((box[:2] + box[2:]) / 2) + matrix[:, 2]
    half = np.sqrt((matrix[:, :2] ** 2) @ ((box[2:] - box[:2]) / 2) ** 2)
    return np.concatenate([middle - half, middle + half]).astype(np.float32)


def _paste_decoys(canvas: np.ndarray, picture: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> None:
    """Paste what has a face's colours without being one: a magnified piece, and its tiles in random order."""
    side = canvas.shape[0]
    x0, y0, x1, y1 = np.clip(box, 0, [picture.shape[1], picture.shape[0]] * 2).astype(int)
    face = picture[y0 : max(y1, y0 + 16), x0 : max(x1, x0 + 16)]
    if face.shape[0] < 16 or face.shape[1] < 16:
        return
    # A piece of the face, magnified over all of the canvas.
    if rng.random() < 0.6:
        height, width = max(face.shape[0] // 4, 4), max(face.shape[1] // 4, 4)
        top, left = rng.integers(0, face.shape[0] - height), rng.integers(0, face.shape[1] - width)
        canvas[:] = cv2.resize(face[top : top + height, left : left + width], (side, side))
    # Its 16 tiles in random order, pasted at some places.
    for _ in range(int(rng.integers(1, 4))):
        tile = face.shape[0] // 4, face.shape[1] // 4
        tiles = [
            face[r * tile[0] : (r + 1) * tile[0], c * tile[1] : (c + 1) * tile[1]] for r in range(4) for c in range(4)
        ]
        order = rng.permutation(16)
        mixed = np.vstack([np.hstack([tiles[order[4 * r + c]] for c in range(4)]) for r in range(4)])
        size = int(rng.integers(24, max(side // 2, 25)))
        top, left = rng.integers(0, side - size, 2)
        canvas[top : top + size, left : left + size] = cv2.resize(mixed, (size, size))


def paint_texture(side: int, rng: np.random.Generator) -> np.ndarray:
    """Return a background uint8 [side, side, 3]: noise of several octaves, then some ellipses, rectangles and lines."""
    # Noise of five octaves about a colour.
    base = np.zeros((1, 1, 3), np.float32) + rng.uniform(20, 235, 3).astype(np.float32)
    for octave in range(1, 6):
        cells = 2**octave
        grain = rng.standard_normal((cells, cells, 3), dtype=np.float32) * np.float32(rng.uniform(0, 60) / octave)
        base = cv2.resize(base, (cells, cells), interpolation=cv2.INTER_LINEAR) + grain
    out = cv2.resize(np.clip(base, 0, 255).astype(np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
    # Shapes on it.
    for _ in range(int(rng.integers(0, 8))):
        colour = rng.integers(0, 256, 3).tolist()
        start, end = rng.integers(0, side, 2).tolist(), rng.integers(0, side, 2).tolist()
        shape = rng.integers(3)
        if shape == 0:
            axes = rng.integers(2, side // 3, 2).tolist()
            cv2.ellipse(out, start, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        elif shape == 1:
            cv2.rectangle(out, start, end, colour, int(rng.choice([-1, 2])))
        else:
            cv2.line(out, start, end, colour, int(rng.integers(1, 6)))
    return out
