"""What happens to an aligned crop between two pictures of one person: alignment error, light, sharpness, occlusion."""

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict

from models.augment.photometric import ToneRanges, add_noise, vary_tone
from models.faces.align import CROP, crop, fit_similarities


class CropAugmentation(BaseModel):
    """Ranges and probabilities.

    point_jitter: standard deviation, in halves of the distance between the eyes. shift: px of the crop. rotation: degrees.
    scale, contrast: factors of 1 +- this. brightness, cast: grey levels. The others are probabilities.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    point_jitter: float = 0.12
    shift: float = 3.0
    rotation: float = 5.0
    scale: float = 0.06
    contrast: float = 0.3
    brightness: float = 25.0
    cast: float = 10.0
    grey: float = 0.15
    soften: float = 0.3
    noise: float = 0.25
    occlusion: float = 0.15
    headwear: float = 0.25
    facewear: float = 0.1


def augment_crop(picture: np.ndarray, points: np.ndarray, seed: int, ranges: CropAugmentation) -> np.ndarray:
    """Return one augmented aligned crop, uint8 [112, 112, 3], of `picture` uint8 [H, W, 3] RGB with `points` [5, 2].

    Everything is drawn from `seed` alone.
    """
    rng = np.random.default_rng(int(seed))
    # Alignment: jittered points, then a small rotation, scale and shift of the crop; mirrored half of the times.
    span = float(np.linalg.norm(points[1] - points[0]))
    noisy = points + rng.normal(0.0, ranges.point_jitter * max(span, 4.0) / 2, points.shape)
    matrix = _jitter_alignment(fit_similarities(noisy[None])[0], rng, ranges)
    out = crop(picture, matrix)
    if rng.random() < 0.5:
        out = out[:, ::-1]
    # Light, sharpness, noise.
    out = vary_tone(out, rng, ToneRanges(ranges.grey, ranges.contrast, ranges.brightness, ranges.cast))
    if rng.random() < ranges.soften:
        out = _soften(out, rng)
    if rng.random() < ranges.noise:
        out = add_noise(out, rng.uniform(1.0, 8.0), rng)
    # What covers the face: a rectangle, a hat, a mask.
    if rng.random() < ranges.occlusion:
        out = _occlude(out, rng)
    if rng.random() < ranges.headwear:
        out = _cover_with_cloth(out, rng, upper=True)
    if rng.random() < ranges.facewear:
        out = _cover_with_cloth(out, rng, upper=False)
    return np.ascontiguousarray(out)


def _jitter_alignment(matrix: np.ndarray, rng: np.random.Generator, ranges: CropAugmentation) -> np.ndarray:
    """Follow the alignment by a small rotation and scale about the crop's centre and a shift in crop pixels."""
    angle = rng.uniform(-ranges.rotation, ranges.rotation)
    extra = cv2.getRotationMatrix2D((CROP / 2, CROP / 2), angle, 1 + rng.uniform(-ranges.scale, ranges.scale))
    extra[:, 2] += rng.uniform(-ranges.shift, ranges.shift, 2)
    return np.asarray(np.vstack([extra, [0, 0, 1]])[:2] @ np.vstack([matrix, [0, 0, 1]]))


def _soften(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lose resolution: a Gaussian blur, a small picture enlarged, or a strong JPEG."""
    kind = rng.integers(3)
    if kind == 0:
        return cv2.GaussianBlur(crop, (0, 0), float(rng.uniform(0.5, 1.6)))
    if kind == 1:
        side = int(rng.integers(40, 90))
        small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (CROP, CROP), interpolation=cv2.INTER_LINEAR)
    _, data = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 80))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def _occlude(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cover a rectangle of at most a tenth of the crop with one colour."""
    out = crop.copy()
    height, width = rng.integers(12, 36, 2)
    top, left = rng.integers(0, CROP - height), rng.integers(0, CROP - width)
    out[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    return out


def _cover_with_cloth(crop: np.ndarray, rng: np.random.Generator, *, upper: bool) -> np.ndarray:
    """Cover hair and forehead, or mouth and chin, with a cloth of one colour under a slanted, bowed edge.

    In an aligned crop the eyes lie at y = 52 and the mouth at 92. A person who wears a hat in one view must be recognised
    without hair.
    """
    columns, rows = np.meshgrid(np.arange(CROP), np.arange(CROP))
    # The edge of the cloth, slanted and bowed.
    level = rng.uniform(14, 36) if upper else rng.uniform(72, 88)
    bow = rng.uniform(-10, 10) * ((columns - CROP / 2) / (CROP / 2)) ** 2
    edge = level + rng.uniform(-0.12, 0.12) * (columns - CROP / 2) + bow
    cloth = rng.integers(0, 256, 3) + rng.uniform(-20, 20) * (columns - CROP / 2)[..., None] / CROP
    covered = rows < edge if upper else rows > edge
    return np.where(covered[..., None], np.clip(cloth, 0, 255), crop).astype(np.uint8)
