"""Faces and their landmarks in frames of any size: a sliding window over a pyramid, chosen by variance (T-FAKE, section 2.4).

Level k of the pyramid is the frame scaled by `eta ** k`. Every window of every level goes through the network, and the one
whose landmarks have the lowest mean variance is the face. `Detector` looks at the windows in batches that fit a core's cache,
with batch norms and activations folded into the convolutions; in bfloat16 it looks through all windows and computes those
that matter again in float32.

No window is left out for what coarser levels saw, which is nothing of small faces. On crowds of the world, windows only where a
coarser one lies within 30 thresholds were 55 % of all and lost 1 of 54 faces, and 8 of 15 that were half as large; within 100
thresholds none was lost, and 1 to 6 % were spared.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.errors import EnvironmentFault, UserError
from models.landmarks.intensity import Mode, unit_values
from models.landmarks.network import Landmarker, fold_batch_norms, fuse_activations, load_landmarker, normalise
from models.padding import chunks, in_batches
from models.weights.networks import accelerator

MARGIN = 1.25
"""Published side of a crop over the larger side of the detector's box in it; a part may hold its own (`read_detection`)."""
DOUBT = 1.3
"""A bfloat16 score may be wrong by this factor: windows up to it are computed again in float32."""
LIKELY = 2.0
"""Windows up to so many thresholds are looked at again, about the points found in them: few faces lie amid a window."""
FRAMED = {70: 2.0, 478: 1.5}
"""Side of that second look over the larger side of the box of the points: the 70 end at the brows, the 478 at the hair."""
MIN_FACE = 0.1
"""The smallest face that is searched for where nobody asks for another, as a share of the picture's shorter side."""
ENLARGED = -4
"""The finest level that small faces call for: pictures of 3.2 times the side."""
MAX_PIXELS = 64_000_000
FILE = "detection.json"


@dataclass(frozen=True)
class Search:
    """How a frame is searched. The defaults are published; `stride` is in pixels of the published 224 px window.

    finest: the finest level of the pyramid, 0 for full resolution, -1 for one step enlarged (faces smaller than the window).
    """

    eta: float = 0.75
    stride: int = 100
    finest: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.eta < 1 or self.stride < 1:
            raise UserError(f"eta must lie between 0 and 1 and stride be positive, got {self.eta} and {self.stride}")


class Window(NamedTuple):
    """Where a crop of S x S pixels lies: pixel = crop pixel * scale + origin, for x and y."""

    origin: tuple[float, float]
    scale: tuple[float, float]


@dataclass(frozen=True)
class Face:
    """One face. points float32 [L, 2] px, centres at .5; variance float32 [L] px^2 of each axis, on average of both.

    uncertainty: the mean of the network's variances, (crop units)^2: what faces are found by, the lower the surer.
    """

    points: np.ndarray
    variance: np.ndarray
    uncertainty: float
    window: Window

    @property
    def box(self) -> np.ndarray:
        """Return x0, y0, x1, y1 around the points, float32 [4]."""
        return np.concatenate([self.points.min(axis=0), self.points.max(axis=0)])


class Detector:
    """Finds faces with a landmarker.

    threshold: mean variance, (crop units)^2, below which a window shows a face; T-FAKE's is 6e-4. margin: side of the crop
    about a given box over the box's larger side. dtype: with `bfloat16` all windows are computed in it, and those that could
    be chosen again in float32. batch: windows of one forward pass.
    """

    def __init__(
        self,
        model: Landmarker,
        *,
        threshold: float = 6e-4,
        margin: float = MARGIN,
        search: Search | None = None,
        dtype: str = "float32",
        batch: int = 4,
    ) -> None:
        if dtype not in ("float32", "bfloat16"):
            raise UserError(f"a detector computes in float32 or bfloat16, not {dtype!r}")
        self.config, self.threshold, self.search = model.config, threshold, search or Search()
        self.margin, self.framed = margin, FRAMED[model.config.standard]
        # Inference alone: batch norms folded; on a CPU also the activations.
        self.model = fold_batch_norms(model.float()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.quick = _to_bfloat16(self.model) if dtype == "bfloat16" else None
        self.batch = batch
        self.device = next(self.model.parameters()).device
        self.exact: Callable[[Tensor], Tensor] = (
            fuse_activations(self.model, batch) if self.device.type == "cpu" else self.model
        )

    def best(self, image: np.ndarray, mode: Mode = "auto") -> Face:
        """Return the surest face of `image` [H, W] or [H, W, 3], whether or not it is below the threshold."""
        scan = self._scan(unit_values(check_frame(image), mode))
        return scan.face(int(scan.scores().argmin()))

    def find(
        self, image: np.ndarray, mode: Mode = "auto", *, overlap: float = 0.5, most: int | None = None
    ) -> list[Face]:
        """Return the faces of `image` below the threshold, surest first.

        The surest windows are looked at again, each cut out about the points that were found in it: half a face in a window
        then becomes the whole one, or none. overlap: of two faces whose boxes share more than this part of the smaller box,
        the surer stays. most: at most so many.
        """
        # Look at every window.
        values = unit_values(check_frame(image), mode)
        scan = self._scan(values, keep_below=LIKELY * self.threshold)
        scores = scan.scores()
        # Of windows sure enough, the best of each place.
        order = [k for k in np.argsort(scores, kind="stable") if scores[k] < LIKELY * self.threshold]
        likely = suppress_overlaps([scan.face(int(k)) for k in order], overlap)
        # A second look about the points that were found, and only what is sure then.
        again = self._look(values, [box_window(face.box, self.config.size, self.framed) for face in likely])
        sure = [face for face in again if face.uncertainty < self.threshold]
        return suppress_overlaps(sorted(sure, key=lambda face: face.uncertainty), overlap, most)

    def at_boxes(self, image: np.ndarray, boxes: np.ndarray, mode: Mode = "auto") -> list[Face]:
        """Return the landmarks in each of `boxes` [N, 4] (x0, y0, x1, y1, pixels): one look per box (section 2.5)."""
        values = unit_values(check_frame(image), mode)
        windows = [box_window(box, self.config.size, self.margin) for box in np.asarray(boxes).reshape(-1, 4)]
        return self._look(values, windows)

    def run(self, crops: list[np.ndarray]) -> np.ndarray:
        """Return what the network says of crops float32 [S, S, 3] in [0, 1], float32 [N, L, 3] in crop units."""
        return self._run(self.exact, crops)

    def _look(self, values: np.ndarray, windows: list[Window]) -> list[Face]:
        """Return what each of `windows` of a frame float32 [H, W, 3] shows."""
        if not windows:
            return []
        crops = [cut(values, window, self.config.size) for window in windows]
        return [
            decode_face(out, window, self.config.size) for out, window in zip(self._run(self.exact, crops), windows)
        ]

    def _scan(self, values: np.ndarray, keep_below: float = 0.0) -> "_Scan":
        """Return what every window of a frame float32 [H, W, 3] shows; in bfloat16, those below `keep_below` are exact."""
        crops, windows = cut_windows(values, self.config.size, self.search)
        if self.quick is None:
            return _Scan(self._run(self.exact, crops), windows, self.config.size)
        # All windows in bfloat16, those that may be chosen again in float32.
        outputs = self._run(self.quick, crops, torch.bfloat16)
        scores = outputs[..., 2].mean(axis=1)
        limit = max(DOUBT * scores.min(), scores.min() + 1e-5, DOUBT * keep_below)
        likely = np.flatnonzero(scores <= limit)
        outputs[..., 2] = np.inf  # what was seen in bfloat16 alone is never chosen
        outputs[likely] = self._run(self.exact, [crops[k] for k in likely])
        return _Scan(outputs, windows, self.config.size)

    def _run(
        self, model: Callable[[Tensor], Tensor], crops: list[np.ndarray], kind: torch.dtype = torch.float32
    ) -> np.ndarray:
        """Return float32 [N, L, 3] of N crops float32 [S, S, 3] in [0, 1]; only a batch of them is copied at a time."""

        def look(part: Tensor) -> Tensor:
            inputs = normalise(part.to(self.device).permute(0, 3, 1, 2)).to(kind)
            return model(inputs.contiguous(memory_format=torch.channels_last)).cpu()

        with torch.inference_mode():
            parts = (torch.from_numpy(np.stack(crops[rows])) for rows, _ in chunks(len(crops), self.batch))
            return torch.cat([in_batches(look, part, self.batch) for part in parts]).numpy()


class DetectorSettings(BaseModel):
    """What a part says of its use as a detector: see `Detector`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(6e-4, gt=0)
    margin: float = Field(MARGIN, ge=1)


def load_detector(folder: Path) -> Detector:
    """Return the detector of `folder` (`landmarker.safetensors` and, if it is there, `detection.json`)."""
    known = read_detection(folder)
    model = load_landmarker(folder / "landmarker.safetensors").to(accelerator())
    return Detector(model, threshold=known.threshold, margin=known.margin)


def read_detection(folder: Path) -> DetectorSettings:
    """Return what stands beside the weights in `folder`, the published values if nothing does."""
    path = folder / FILE
    if not path.is_file():
        return DetectorSettings()
    try:
        return DetectorSettings.model_validate_json(path.read_text())
    except ValueError as error:
        raise EnvironmentFault(f"{path}: not a threshold and a margin ({error}). Calibrate again.") from error


def write_detection(folder: Path, **values: float) -> None:
    """Write `threshold`, `margin` or both beside the weights; the other stays as it is."""
    known = read_detection(folder).model_copy(update={name: round(value, 8) for name, value in values.items()})
    (folder / FILE).write_text(known.model_dump_json() + "\n")


@dataclass(frozen=True)
class _Scan:
    """What the network said of every window: outputs float32 [N, L, 3] in crop units."""

    outputs: np.ndarray
    windows: list[Window]
    side: int

    def scores(self) -> np.ndarray:
        return self.outputs[..., 2].mean(axis=1)

    def face(self, index: int) -> Face:
        return decode_face(self.outputs[index], self.windows[index], self.side)


def decode_face(output: np.ndarray, window: Window, side: int) -> Face:
    """Return the face of one window's output [L, 3] (crop units) in pixels of the frame."""
    # Crop units to pixels of the crop, then of the frame.
    scale = np.asarray(window.scale)
    points = output[:, :2] * side * scale + np.asarray(window.origin)
    variance = output[:, 2] * side**2 * float((scale**2).mean())
    return Face(points.astype(np.float32), variance.astype(np.float32), float(output[:, 2].mean()), window)


def suppress_overlaps(faces: Sequence[Face], overlap: float, most: int | None = None) -> list[Face]:
    """Return `faces`, surest first, without those that share more than `overlap` of the smaller box with a surer one."""
    boxes = np.array([face.box for face in faces]).reshape(-1, 4)
    free, kept = np.ones(len(faces), bool), list[Face]()
    for index, face in enumerate(faces):
        if free[index] and (most is None or len(kept) < most):
            kept.append(face)
            free &= intersection_over_smaller(boxes, boxes[index]) <= overlap
    return kept


def intersection_over_smaller(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return the intersection of boxes [..., 4] over the area of the smaller, [...]."""
    low, high = np.maximum(one[..., :2], two[..., :2]), np.minimum(one[..., 2:], two[..., 2:])
    area = np.minimum(*((box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (one, two)))
    return np.asarray(np.clip(high - low, 0, None).prod(axis=-1) / np.maximum(area, 1e-9))


def pyramid_sizes(height: int, width: int, side: int, search: Search) -> list[tuple[int, int]]:
    """Return (height, width) of every level, coarsest first: the last whose smaller side holds a window, to the finest.

    A frame smaller than the window has the levels from the finest to 0.
    """
    # Shrink while a window fits.
    coarsest = 0
    while min(_level_size(height, width, search.eta, coarsest + 1)) >= side:
        coarsest += 1
    return [
        _level_size(height, width, search.eta, k) for k in range(max(coarsest, search.finest), search.finest - 1, -1)
    ]


def finest_level(height: int, width: int, side: int, framed: float, min_face: float | None, eta: float = 0.75) -> int:
    """Return the finest level at which windows of `side` pixels are needed to see faces from `min_face` on.

    min_face: the larger side of the box of a face's points, pixels, or up to 1 a share of the picture's shorter side; None is
    `MIN_FACE`, and enlarges nothing. framed: side of a window over the box of the face that it is for.
    """
    least = MIN_FACE if min_face is None else min_face
    pixels = least * min(height, width) if least <= 1 else least
    # The level whose windows are as large as the smallest face's, or the next finer one.
    level = math.floor(math.log(side / (framed * pixels)) / math.log(eta) + 1e-9)
    return max(level, 0 if min_face is None else ENLARGED)


def _level_size(height: int, width: int, eta: float, level: int) -> tuple[int, int]:
    return max(1, round(height * eta**level)), max(1, round(width * eta**level))


def cut_windows(values: np.ndarray, side: int, search: Search) -> tuple[list[np.ndarray], list[Window]]:
    """Return all windows of a frame [H, W, 3] as float32 [side, side, 3], and where they lie, level by level.

    The windows are views of their level: together they take no more memory than the pyramid. Each level is padded with
    black on all sides to the next multiple of the window (by a whole window where it is one).
    """
    step = max(1, round(search.stride * side / 224))
    height, width = values.shape[:2]
    crops, windows = [], []
    for rows, columns in pyramid_sizes(height, width, side, search):
        # A level of the pyramid, padded to whole windows.
        level = values if (rows, columns) == (height, width) else cv2.resize(values, (columns, rows))
        short = [side - length % side for length in (rows, columns)]
        top, left = short[0] // 2, short[1] // 2
        padded = np.pad(level, ((top, short[0] - top), (left, short[1] - left), (0, 0)))
        # Its windows are views into it.
        view = np.lib.stride_tricks.sliding_window_view(padded, (side, side, 3))[::step, ::step, 0]
        scale = (width / columns, height / rows)
        for row in range(view.shape[0]):
            for column in range(view.shape[1]):
                crops.append(view[row, column])
                windows.append(Window(((column * step - left) * scale[0], (row * step - top) * scale[1]), scale))
    return crops, windows


def box_window(box: np.ndarray, side: int, margin: float = MARGIN) -> Window:
    """Return the square of `margin` times the larger side about the middle of `box` (x0, y0, x1, y1)."""
    middle, reach = (box[:2] + box[2:]) / 2, margin * max(float((box[2:] - box[:2]).max()), 1.0)
    x, y = (middle - reach / 2).tolist()
    return Window((x, y), (reach / side, reach / side))


def cut(values: np.ndarray, window: Window, side: int) -> np.ndarray:
    """Return the crop float32 [side, side, 3] of a frame; outside is black. Strong reduction averages, not skips."""
    shrink = min(window.scale)
    # Reduce by area first: bilinear sampling alone would skip pixels.
    if shrink > 1.5:
        small = (max(1, round(values.shape[1] / shrink)), max(1, round(values.shape[0] / shrink)))
        ratio = (values.shape[1] / small[0], values.shape[0] / small[1])
        values = cv2.resize(values, small, interpolation=cv2.INTER_AREA)
        origin = (window.origin[0] / ratio[0], window.origin[1] / ratio[1])
        window = Window(origin, (window.scale[0] / ratio[0], window.scale[1] / ratio[1]))
    (sx, sy), (x, y) = window.scale, window.origin
    # Crop pixel u has its centre at u + 0.5; warpAffine counts from centres.
    matrix = np.array([[sx, 0, x + sx / 2 - 0.5], [0, sy, y + sy / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(np.ascontiguousarray(values), matrix, (side, side), flags=flags))


def check_frame(image: np.ndarray) -> np.ndarray:
    """Return `image` if it is a frame of sane size."""
    if image.size == 0 or image.ndim < 2 or image.shape[0] * image.shape[1] > MAX_PIXELS:
        raise UserError(f"an image of shape {image.shape} cannot be searched for faces (1 to {MAX_PIXELS} pixels)")
    return image


def _to_bfloat16(model: Landmarker) -> Landmarker:
    """Return a copy whose convolutions compute in bfloat16; its head stays in float32."""
    quick = copy.deepcopy(model)
    quick.feature_network.bfloat16()
    return quick
