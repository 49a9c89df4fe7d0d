"""A sample as a row: all its pictures are cut out by one window and resized to squares, points are moved along."""

from typing import Any

import cv2
import numpy as np

from models.classes import IGNORE
from models.landmarks.detect import Window, box_window, cut
from models.landmarks.intensity import unit_values
from models.landmarks.pose import RIGID, estimate_pose
from pipelines.config.gather import GatherJob
from pipelines.pictures.open import BadPicture, keep_bytes
from pipelines.readers.item import Item, Sample
from pipelines.readers.points import check_inside
from pipelines.rows.encode import VISIBLE_BYTES

REACH = 0.3
"""With the margin of `box_window`, a face's square has twice the extent of its landmarks."""


def make_row(sample: Sample, item: Item, job: GatherJob) -> dict[str, Any]:
    """Return the row of a sample: pictures [S, S], points in their pixels. Raises BadPicture for impossible landmarks.

    A thermal picture of another size than the visible one is brought to it: the pair is taken for registered.
    Without a visible picture, `visible` shows the thermal one in grey; without a mask, every pixel is IGNORE.
    """
    # One window for all pictures, chosen on the one that points lie on.
    height, width = sample.frame_shape
    for points in sample.points.values():
        check_inside(points, height, width)
    window, size = _choose_window(sample, job), job.size
    # What the row is called, and its visible picture.
    row: dict[str, Any] = {"name": item.name, "identity_id": item.identity, "condition": item.condition}
    row |= {"attributes": item.facts, "size": size, "domain": job.layout, "split": item.split}
    row["visible_kind"] = "thermal" if sample.visible is None else sample.visible_kind
    row["visible"] = _cut_visible(sample, window, size)
    row[VISIBLE_BYTES] = keep_bytes(sample.came, size) if sample.came and job.crop == "whole" else None
    # Classes are picked, not mixed.
    row["classes"] = np.full((size, size), IGNORE, np.uint8)
    if sample.classes is not None:
        row["classes"] = cv2.warpAffine(sample.classes, _matrix(window), (size, size),
                                        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)  # fmt: skip
    # The thermal picture, points, and how large the face is in pixels of the picture that was measured.
    row |= _cut_thermal(sample, window, size)
    row |= _move_landmarks(sample, window, size)
    picture = sample.frame_shape if sample.thermal is None else sample.thermal.shape
    row["face_height"] = (row["bbox"][3] - row["bbox"][1]) * window.scale[1] * picture[0] / height
    return row


def _choose_window(sample: Sample, job: GatherJob) -> Window:
    height, width = sample.frame_shape
    # The whole picture, padded about its middle to a square.
    if job.crop == "whole":
        side = max(height, width)
        origin = (-((side - width) // 2), -((side - height) // 2))
        return Window((float(origin[0]), float(origin[1])), (side / job.size, side / job.size))
    # Or twice the extent of the landmarks.
    known = [points[np.isfinite(points).all(axis=1)] for points in sample.points.values()]
    known = [points for points in known if len(points)]
    if not known:
        raise BadPicture("no landmarks: a face is cut out by them; take whole pictures (crop: whole)")
    low, high = known[0].min(axis=0), known[0].max(axis=0)
    reach = (high - low) * REACH
    return box_window(np.concatenate([low - reach, high + reach]), job.size)


def _matrix(window: Window) -> np.ndarray:
    (sx, sy), (x, y) = window.scale, window.origin
    return np.array([[sx, 0, x + sx / 2 - 0.5], [0, sy, y + sy / 2 - 0.5]])


def _cut_visible(sample: Sample, window: Window, size: int) -> np.ndarray:
    if sample.visible is not None:
        return _to_uint8(_average(sample.visible, np.ones(sample.frame_shape, bool), window, size)[0])
    values = unit_values(sample.grey, "pixel") if sample.celsius is None else unit_values(sample.celsius, "temperature")  # type: ignore[arg-type]
    return _to_uint8(_average(values * 255, np.ones(sample.frame_shape, bool), window, size)[0])


def _average(values: np.ndarray, known: np.ndarray, window: Window, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of the known values under every pixel, NaN where most is unknown or outside, and the known share."""
    share = cut(known.astype(np.float32), window, size)
    there = known if values.ndim == 2 else known[..., None]
    total = cut(np.where(there, values, 0).astype(np.float32), window, size)
    shares = share if values.ndim == 2 else share[..., None]
    return np.where(shares > 0.5, total / np.maximum(shares, 0.5), np.nan).astype(np.float32), share


def _to_uint8(values: np.ndarray) -> np.ndarray:
    """Return float values of 0 to 255 as uint8; what lies outside of the picture is black."""
    return (np.clip(np.nan_to_num(values), 0, 255) + 0.5).astype(np.uint8)


def _cut_thermal(sample: Sample, window: Window, size: int) -> dict[str, Any]:
    """Return `thermal` (degrees float32, NaN without a reading, or grey uint8; None), `valid` and `thermal_kind`."""
    picture = sample.thermal
    if picture is None:
        inside = cut(np.ones(sample.frame_shape, np.float32), window, size)
        return {"thermal": None, "valid": inside > 0.5, "thermal_kind": ""}
    # The same window in pixels of the thermal picture, which may have another size.
    height, width = sample.frame_shape
    ratio = (picture.shape[1] / width, picture.shape[0] / height)
    (x, y), (sx, sy) = window
    own = Window((x * ratio[0], y * ratio[1]), (sx * ratio[0], sy * ratio[1]))
    values, share = _average(picture, np.isfinite(picture), own, size)
    kind = "minmax" if sample.celsius is None else "measured"
    return {"thermal": _to_uint8(values) if kind == "minmax" else values, "valid": share > 0.999, "thermal_kind": kind}


def _move_landmarks(sample: Sample, window: Window, size: int) -> dict[str, Any]:
    """Return every standard's points in the row's pixels, NaN where the data set gives none, and what follows of them."""
    # Every standard has its column, NaN without points.
    found: dict[str, Any] = {"points_given": 0}
    for standard in (5, 70, 72, 478):
        found[f"landmarks_{standard}"] = np.full((standard, 2), np.nan, np.float32)
    for standard, points in sample.points.items():
        moved = (points - np.array(window.origin)) / np.array(window.scale)
        found[f"landmarks_{70 if standard == 68 else standard}"][: len(moved)] = moved  # iBUG-68 lacks the pupils
        found["points_given"] = max(found["points_given"], int(np.isfinite(moved).all(axis=1).sum()))
    # Points count as seen where they are given and lie in the row's picture.
    for standard in (70, 478):
        points = found[f"landmarks_{standard}"]
        inside = np.isfinite(points).all(axis=1) & (np.nan_to_num(points, nan=-1) >= 0).all(axis=1)
        inside &= (np.nan_to_num(points) < size).all(axis=1)
        found[f"seen_{standard}_visible"] = found[f"seen_{standard}_thermal"] = inside
    # The box of the points that span the face best, and the pose where the rigid ones are all there.
    standards = (found[f"landmarks_{standard}"] for standard in (70, 72, 478, 5))
    some = [p[known] for p in standards if (known := np.isfinite(p).all(axis=1)).any()]
    found["bbox"] = np.full(4, np.nan, np.float32)
    if some:
        found["bbox"] = np.concatenate([some[0].min(axis=0), some[0].max(axis=0)]).astype(np.float32)
    found["pose"] = np.full(3, np.nan, np.float32)
    if np.isfinite(found["landmarks_70"][list(RIGID)]).all():
        found["pose"] = estimate_pose(found["landmarks_70"][None])[0]
    return found
