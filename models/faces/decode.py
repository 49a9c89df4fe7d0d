"""From an SCRFD's outputs to faces, in numpy and for whole batches; equal to insightface's picture by picture."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

STRIDES = (8, 16, 32)
ANCHORS = 2


@dataclass(frozen=True)
class Detections:
    """The faces of one picture, best score first: boxes float32 [F, 4] px, scores [F], points [F, 5, 2] px."""

    boxes: np.ndarray
    scores: np.ndarray
    points: np.ndarray

    def main(self, height: int, width: int) -> int:
        """Return the face that the picture is of: large and central, insightface's rule for `max_num=1`."""
        area = (self.boxes[:, 2] - self.boxes[:, 0]) * (self.boxes[:, 3] - self.boxes[:, 1])
        middle = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2 - np.array([width // 2, height // 2])
        return int(np.argsort(area - 2.0 * (middle**2).sum(axis=1))[::-1][0])


def letterbox(picture: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Scale `picture` uint8 [H, W, 3] into the top left of a black `size` = (width, height); return it and the scale."""
    height, width = picture.shape[:2]
    # The longer side fills the input; rounding as insightface does it.
    if height / width > size[1] / size[0]:
        new_height = size[1]
        new_width = max(int(new_height / (height / width)), 1)
    else:
        new_width = size[0]
        new_height = max(int(new_width * (height / width)), 1)
    out = np.zeros((size[1], size[0], 3), np.uint8)
    out[:new_height, :new_width] = cv2.resize(picture, (new_width, new_height))
    return out, new_height / height


@cache
def _centres(height: int, width: int, stride: int) -> np.ndarray:
    """Return anchor centres float32 [cells * ANCHORS, 2] px."""
    rows, columns = np.indices((height // stride, width // stride), np.float32) * stride
    return np.repeat(np.stack([columns.ravel(), rows.ravel()], axis=1), ANCHORS, axis=0)


def candidates(outputs: list[np.ndarray], row: int, size: tuple[int, int], scale: float, least: float) -> Detections:
    """Return the faces of `row` that score at least `least`, in pixels of the unscaled picture, best first.

    outputs: the nine arrays of a batch, [B, N, 1 | 4 | 10]; size: (width, height) of the network's input.
    """
    boxes, scores, points = [], [], []
    for index, stride in enumerate(STRIDES):
        # The anchors of this stride that score enough.
        score = outputs[index][row, :, 0]
        chosen = np.flatnonzero(score >= least)
        # Distances and offsets count from the anchor, in strides.
        centre = _centres(size[1], size[0], stride)[chosen]
        reach = outputs[index + 3][row, chosen] * stride
        offset = outputs[index + 6][row, chosen].reshape(-1, 5, 2) * stride
        boxes.append(np.concatenate([centre - reach[:, :2], centre + reach[:, 2:]], axis=1))
        points.append(centre[:, None] + offset)
        scores.append(score[chosen])
    found = Detections(np.concatenate(boxes) / scale, np.concatenate(scores), np.concatenate(points) / scale)
    return _sort_by_score(found)


def merge_scales(parts: list[Detections], overlap: float = 0.4) -> Detections:
    """Return the candidates of several scales as one list; of those that overlap by more than `overlap`, the best."""
    # All candidates, best first.
    joined = _sort_by_score(
        Detections(
            np.concatenate([part.boxes for part in parts]).astype(np.float32),
            np.concatenate([part.scores for part in parts]).astype(np.float32),
            np.concatenate([part.points for part in parts]).astype(np.float32),
        )
    )
    keep = suppress_overlaps(joined.boxes, overlap)
    return Detections(joined.boxes[keep], joined.scores[keep], joined.points[keep])


def _sort_by_score(found: Detections) -> Detections:
    order = np.argsort(-found.scores, kind="stable")
    return Detections(found.boxes[order], found.scores[order], found.points[order])


def suppress_overlaps(boxes: np.ndarray, overlap: float) -> list[int]:
    """Return which boxes [F, 4], best first, stay when each removes those after it that overlap it by more.

    Sides are counted in whole pixels (+ 1), as insightface counts them.
    """
    area = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1)
    left = np.arange(len(boxes))
    keep: list[int] = []
    while left.size:
        # The best of those left stays; who overlaps it too much goes.
        first, rest = left[0], left[1:]
        keep.append(int(first))
        corner = np.maximum(boxes[first, :2], boxes[rest, :2])
        opposite = np.minimum(boxes[first, 2:], boxes[rest, 2:])
        inter = np.maximum(opposite - corner + 1, 0.0).prod(axis=1)
        left = rest[inter / (area[first] + area[rest] - inter) <= overlap]
    return keep
