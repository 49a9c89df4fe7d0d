"""The search of the authors' package `thermal-face-alignment`, beside our own (`detect`): the surest windows as they are.

No threshold, no second look, one grey channel, temperatures from 20 to 40 degrees stretched over each frame's own range.
"""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from models.errors import UserError
from models.landmarks.detect import Detector, Face, Search, check_frame, cut_windows, decode_face
from models.landmarks.intensity import Mode
from models.radiometry import guess_unit
from models.temperature import from_unit

ROUNDING = 1e-6
"""How far beyond 0 and 1 the package takes floats for 0..1."""


@dataclass(frozen=True)
class PublishedSearch:
    """What the package's `process(sliding_window=True)` may be asked for, with its defaults.

    multi: all windows that survive non-maximum suppression, else the surest alone. overlap: windows of which more than this
    part of their union is a surer one's are left out (`nms_iou_threshold`). uncertainty_factor: those whose mean variance is
    more than this times the surest's, too. top_k: at most so many. upsample_factor: the frame is enlarged first.
    """

    search: Search = field(default_factory=Search)
    multi: bool = False
    overlap: float = 0.5
    uncertainty_factor: float | None = None
    top_k: int | None = None
    upsample_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.upsample_factor < 1 or not 0 <= self.overlap <= 1:
            raise UserError("upsample_factor must be at least 1 and overlap lie between 0 and 1")
        if (self.uncertainty_factor or 1) < 1 or (self.top_k is not None and self.top_k < 1):
            raise UserError("uncertainty_factor and top_k must be at least 1")


def find_published(detector: Detector, image: np.ndarray, mode: Mode, options: PublishedSearch) -> list[Face]:
    """Return the faces that the package finds in `image` [H, W] or [H, W, 3], surest first; one is always found.

    As there, points left of or above an enlarged frame are not scaled back.
    """
    side = detector.config.size
    values, scale = _read_values(check_frame(image), mode, options.upsample_factor)
    # Every window of every level.
    crops, windows = cut_windows(values, side, options.search)
    outputs = detector.run(crops)
    scores = outputs[..., 2].mean(axis=1)
    chosen = [int(scores.argmin())]
    if options.multi:
        # The surest windows that do not overlap, those nearly as sure as the surest, at most so many.
        height, width = values.shape[:2]
        corners = [(*w.origin, w.origin[0] + side * w.scale[0], w.origin[1] + side * w.scale[1]) for w in windows]
        boxes = np.clip(np.array(corners), 0, (width, height) * 2)
        chosen = _suppress(boxes, scores, options.overlap)
        if options.uncertainty_factor is not None:
            chosen = [k for k in chosen if scores[k] <= scores[chosen[0]] * options.uncertainty_factor]
        chosen = chosen[: options.top_k]
    faces = [decode_face(outputs[k], windows[k], side) for k in chosen]
    return [_scale_back(face, scale) for face in faces]


def _read_values(image: np.ndarray, mode: Mode, enlarge: float) -> tuple[np.ndarray, np.ndarray]:
    """Return `image` as the package sees it, float32 [H, W, 3] in [0, 1], and the size of its pixels in the image's, [2]."""
    # The package would clip counts at 255: degrees are made of them, where one can tell how.
    if image.ndim == 2 and image.dtype.kind in "iu" and image.max() > 255:
        unit = guess_unit(image)
        if unit is None:
            raise UserError("the package's search clips counts at 255: say their unit (--unit), or take our own search")
        image, mode = from_unit(image, unit), "temperature"
    grey = np.asarray(image, np.float32)
    grey = grey.mean(axis=2) if grey.ndim == 3 else grey
    if not np.isfinite(grey).any():
        raise UserError("the image holds no number, only NaN or infinity")
    grey = np.nan_to_num(grey, nan=float(np.nanmin(grey)))
    # What the values are is told before the frame is enlarged, by dtype and percentiles.
    low, high = np.percentile(grey, (1, 99))
    if mode == "auto":
        degrees = image.dtype.kind == "f" and 1 + ROUNDING < high <= 80 and low >= -10
        mode = "temperature" if degrees else "pixel"
    height, width = grey.shape
    if enlarge > 1:
        size = (round(width * enlarge), round(height * enlarge))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC)
    scale = np.array([width / grey.shape[1], height / grey.shape[0]])
    # Temperatures over the frame's own range within 20 to 40 degrees, pixels as they are.
    if mode == "temperature":
        grey = np.clip(grey, 20, 40)
        spread = float(grey.max() - grey.min())
        grey = (grey - grey.min()) / spread if spread >= ROUNDING else np.zeros_like(grey)
    else:
        low, high = np.percentile(grey, (1, 99))
        unit = high <= 1 + ROUNDING and low >= -ROUNDING
        grey = np.clip(grey if unit else grey / 255, 0, 1)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.float32), scale


def _suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> list[int]:
    """Return which of boxes [N, 4] stay, lowest score first: none that shares more than `overlap` of its union with one."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    order, kept = np.argsort(scores, kind="stable"), list[int]()
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(int(first))
        low, high = np.maximum(boxes[rest, :2], boxes[first, :2]), np.minimum(boxes[rest, 2:], boxes[first, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        order = rest[shared <= overlap * (area[rest] + area[first] - shared)]
    return kept


def _scale_back(face: Face, scale: np.ndarray) -> Face:
    """Return `face` of an enlarged frame in pixels of the image: variance and points, negative coordinates apart."""
    points = np.where(face.points >= 0, face.points * scale, face.points).astype(np.float32)
    return replace(face, points=points, variance=(face.variance * (scale**2).mean()).astype(np.float32))
