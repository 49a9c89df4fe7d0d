"""The one face of a picture, and its embedding: what the job and the service say of any picture, with the same words."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from models.faces.align import CROP, TEMPLATE

ALIGNED = 14.0
"""Pixels that the points found in an aligned crop are off the template on average, at most: those of profiles are most."""


def find_faces(stage: Any, pictures: Sequence[np.ndarray], batch: int) -> list[dict[str, Any]]:
    """Return what `embed.FACE_SCHEMA` says of each picture (uint8 [H, W, 3], any sizes) but for its names.

    stage: of the bundle's faces part. One with exactly one face has a unit `embedding` float32 [512], any other a `reason`.
    """
    # What was found in each picture; one with exactly one face is good.
    rows, good = list[dict[str, Any]](), list[int]()
    found = _find_around(stage, pictures, stage.find(pictures, batch), batch) if pictures else []
    for number, (picture, faces) in enumerate(zip(pictures, found, strict=True)):
        height, width = picture.shape[:2]
        rows.append(row := {"reason": "", "faces": len(faces.scores), "width": width, "height": height})
        if len(faces.scores) != 1:
            row["reason"] = _say_count(len(faces.scores))
            continue
        good.append(number)
        row |= {
            "detection_score": float(faces.scores[0]),
            "bbox": faces.boxes[0],
            "keypoints": faces.points[0].ravel(),
        }
    # The embeddings of the good ones, all at once.
    if good:
        points = np.stack([_points_to_align(pictures[number], found[number].points[0]) for number in good])
        for number, vector in zip(good, stage.embed([pictures[number] for number in good], points, batch)):
            rows[number]["embedding"] = vector
    return rows


def _find_around(stage: Any, pictures: Sequence[np.ndarray], found: Sequence[Any], batch: int) -> list[Any]:
    """Return `found`, with a second look at crops without a face: a detector may want to see something around it."""
    bare = [k for k, one in enumerate(found) if pictures[k].shape[:2] == (CROP, CROP) and not len(one.scores)]
    room = CROP // 2
    wider = [cv2.copyMakeBorder(pictures[k], room, room, room, room, cv2.BORDER_CONSTANT) for k in bare]
    again = dict(zip(bare, stage.find(wider, batch) if wider else [], strict=True))
    for one in again.values():
        one.boxes[:] -= room
        one.points[:] -= room
    return [again.get(k, one) for k, one in enumerate(found)]


def _points_to_align(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the points float32 [5, 2] that a picture is aligned by: of a crop that is aligned already, those it has been."""
    is_crop = picture.shape[:2] == (CROP, CROP)
    return TEMPLATE if is_crop and np.linalg.norm(points - TEMPLATE, axis=1).mean() < ALIGNED else points


def _say_count(faces: int) -> str:
    return "no face: none was found" if faces == 0 else f"several faces: {faces} were found; crop the picture to one"
