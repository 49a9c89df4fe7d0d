"""Landmarks in the files that other tools read: 300-W `.pts`, COCO keypoints, YOLO-face label lines.

Points are in pixels with centres at .5, counted from the picture's upper left corner. 300-W counts the first pixel as 1 and
its centre as 1.0, so half a pixel is added there and taken off again.
"""

from typing import Any

import numpy as np

from models.errors import UserError

PTS_OFFSET = 0.5


def pts_text(points: np.ndarray) -> str:
    """Return landmarks [L, 2] as a 300-W `.pts` file."""
    lines = "\n".join(f"{x:.6f} {y:.6f}" for x, y in np.asarray(points, np.float64) + PTS_OFFSET)
    return f"version: 1\nn_points: {len(points)}\n{{\n{lines}\n}}\n"


def parse_pts(text: str) -> np.ndarray:
    """Return the landmarks of a `.pts` file's text, float32 [L, 2] pixels. Raises UserError that says what is wrong with it."""
    # The block in braces: a point a line.
    head, _, rest = text.partition("{")
    body, closed, _ = rest.partition("}")
    try:
        if not closed:
            raise ValueError("no { ... } block")
        points = np.array([[float(v) for v in line.split()] for line in body.strip().splitlines()], np.float32)
    except ValueError as error:
        raise UserError(f"not a .pts file ({error})") from None
    # It must hold what the head says.
    stated = [line.partition(":")[2].strip() for line in head.splitlines() if line.startswith("n_points")]
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise UserError("every line must hold two finite numbers")
    if stated and stated[0] != str(len(points)):
        raise UserError(f"says n_points: {stated[0]} and holds {len(points)}")
    return points - np.float32(PTS_OFFSET)


def coco(pictures: list[dict[str, Any]], names: list[str] | None = None) -> dict[str, Any]:
    """Return a COCO keypoints document.

    pictures: one dict a picture: `file`, `width`, `height`, and `faces`, a list of dicts with `points` [L, 2], optional
    `seen` bool [L] and `variance` [L] px^2. COCO's v is 2 for a point that is seen, 1 for one that is not. The standard
    deviations stand beside, as `keypoint_sigmas_px`: COCO knows no uncertainty.
    """
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    count = 0
    for number, picture in enumerate(pictures, 1):
        # One image each, numbered from 1.
        images.append(
            {"id": number, "file_name": picture["file"], "width": picture["width"], "height": picture["height"]}
        )
        for face in picture["faces"]:
            # One annotation a face: flags, box and points rounded to a thousandth of a pixel.
            points = np.asarray(face["points"], np.float64)
            count = len(points)
            flags = np.where(face.get("seen", np.ones(count, bool)), 2, 1)
            low, size = points.min(axis=0), points.max(axis=0) - points.min(axis=0)
            entry = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": 1,
                "keypoints": np.round(np.column_stack([points, flags]), 3).ravel().tolist(),
                "num_keypoints": count,
                "bbox": np.round([*low, *size], 3).tolist(),
                "area": round(float(size.prod()), 3),
                "iscrowd": 0,
            }
            if "variance" in face:
                entry["keypoint_sigmas_px"] = np.round(np.sqrt(face["variance"]), 3).tolist()
            annotations.append(entry)
    # One category: all faces of a document have the same points.
    keypoints = names or [f"point_{k}" for k in range(count)]
    category = {"id": 1, "name": "face", "supercategory": "person", "keypoints": keypoints, "skeleton": []}
    return {"images": images, "annotations": annotations, "categories": [category]}


def yolo_face(points: np.ndarray, width: int, height: int, seen: np.ndarray | None = None) -> str:
    """Return one face as a YOLO-face label line: class, box (middle and size) and points x y v, all as shares of the picture.

    points: [L, 2]; with L = 5 (see `standards`) it is what YOLO-face detectors train on. v: 2 seen, 1 not.
    """
    # Everything is a share of the picture.
    size = np.array([width, height], np.float64)
    shares = np.asarray(points, np.float64) / size
    low, high = shares.min(axis=0), shares.max(axis=0)
    flags = np.where(np.ones(len(points), bool) if seen is None else seen, 2, 1)
    keypoints = " ".join(f"{x:.6f} {y:.6f} {v}" for (x, y), v in zip(shares, flags, strict=True))
    return "0 " + " ".join(f"{v:.6f}" for v in (*(low + high) / 2, *(high - low))) + " " + keypoints
