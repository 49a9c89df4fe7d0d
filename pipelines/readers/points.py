"""Landmarks in files, and what must be true of them before a row holds them.

Read are 300-W's `.pts`, lines `x y` in pixels, YOLO's lines of shares and COCO's JSON, as `landmarks find` writes them, and
labelme's JSON, told apart by what they hold and not by their names.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from models.config import parse_json
from models.errors import UserError
from models.landmarks.exports import parse_pts
from pipelines.pictures.open import BadPicture

FAR = 0.25
"""Points may lie so far outside of the picture, as a share of its sides: a landmark of a face that is cut off is real."""
YOLO_BOX = 5
"""Numbers of a YOLO line before its points: the class and the box."""
POINTS = ("point", "points", "linestrip", "polygon")
"""labelme's shapes whose points may be landmarks."""
IN_54 = (*range(48), 48, 51, 54, 57, 62, 66)
"""Which of the 70 SF-TL54's points are: all but the mouth's, and of that its corners and the middles of the lips."""


def read_points(
    data: bytes, name: str, *standards: int, size: tuple[int, int] | None = None, picture: str = ""
) -> np.ndarray:
    """Return float32 [L, 2] in pixels, L one of `standards`, of the one face in a file of landmarks.

    size: width and height of the picture, which YOLO's shares are of. picture: its name, which tells COCO's entries apart.
    54 points are SF-TL54's, or the first of the 70, and become 70 where these are wanted. NaN are points that YOLO or COCO
    marks as not labelled. Raises BadPicture that says what is wrong.
    """
    try:
        faces = _faces_of(data, size, picture, standards)
    except (UserError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise BadPicture(f"landmarks: {name} cannot be read ({error})") from None
    if len(faces) != 1:
        raise BadPicture(f"landmarks: {name} holds {len(faces) or 'no'} face{'s' * (len(faces) > 1)}; one is needed")
    points = faces[0]
    if points.ndim != 2 or points.shape[1:] != (2,):
        raise BadPicture(f"landmarks: {name} must hold two numbers a line")
    if len(points) == len(IN_54) and len(points) not in standards and 70 in standards:
        points = _spread_54(points)
    return check_points(points, *standards, gaps=True)


def _faces_of(data: bytes, size: tuple[int, int] | None, picture: str, standards: tuple[int, ...]) -> list[np.ndarray]:
    """Return the points [L, 2] of each face in a file."""
    # What the file is shows in its first letter that is no space.
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    if text.lstrip()[:1] == "{" and '"' in text:
        return _labelme_faces(data) if b'"shapes"' in data else _coco_faces(data, picture)
    if "{" in text:
        return [_finite(parse_pts(text))]
    # Lines of numbers; a line of words before as many as are wanted names the columns.
    rows = [_split(line) for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if len(rows) - 1 in (*standards, len(IN_54)) and not any(_is_number(word) for word in rows[0]):
        rows = rows[1:]
    lines = [[float(word) for word in row] for row in rows]
    if lines and min(map(len, lines)) >= YOLO_BOX:
        return [_yolo_points(line, size, standards) for line in lines]
    return [_finite(np.array(lines, np.float32))] if lines else []


def _finite(points: np.ndarray) -> np.ndarray:
    """Return points if all are numbers: lines of text have no mark for one that is not labelled."""
    return check_points(points, len(points)) if points.ndim == 2 else points


def _split(line: str) -> list[str]:
    """Return the words of a line, whatever stands between them; beside semicolons a comma is a decimal one."""
    line = line.replace(",", "." if ";" in line else " ")
    return line.replace(";", " ").split()


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _yolo_points(line: list[float], size: tuple[int, int] | None, standards: tuple[int, ...]) -> np.ndarray:
    """Return the points of a line of YOLO's: class, box, and x y of each point, with or without its visibility."""
    if size is None:
        raise ValueError("shares of a picture whose size is not known")
    values = np.array(line[YOLO_BOX:], np.float32)
    # With or without a flag: as the number of points is a standard's.
    fitting = [width for width in (3, 2) if values.size and not values.size % width]
    wanted = (*standards, len(IN_54))
    width = next((w for w in fitting if values.size // w in wanted), fitting[0] if fitting else 0)
    if not width:
        raise ValueError(f"a line of {len(line)} numbers holds no points")
    rows = values.reshape(-1, width)
    return _labelled(rows[:, :2] * np.array(size, np.float32), rows[:, 2] if width == 3 else None)


def _coco_faces(data: bytes, picture: str) -> list[np.ndarray]:
    """Return the faces that a COCO document has in `picture`."""
    found = _coco_index(data)
    path = picture.replace("\\", "/")
    names = [name for name in found if name == path or path.endswith("/" + name) or name.endswith("/" + path)]
    if not names and len(found) == 1:
        names = list(found)
    faces = found[max(names, key=len)] if names else []
    rows = [np.array(face, np.float32).reshape(-1, 3) for face in faces]
    return [_labelled(row[:, :2], row[:, 2]) for row in rows]


def _labelme_faces(data: bytes) -> list[np.ndarray]:
    """Return the points of each face of a labelme document: those of a group are a face's, those of none one face's.

    Single points whose labels are whole numbers stand in their order, all others as they stand in the file; boxes and
    circles are no landmarks.
    """
    # The shapes that are points, or rows of them, by their group.
    faces = dict[Any, list[dict[str, Any]]]()
    for shape in parse_json(data)["shapes"]:
        if shape.get("shape_type", "point") in POINTS:
            faces.setdefault(shape.get("group_id"), []).append(shape)
    # Each group's in the order of its labels where these are numbers.
    found = []
    for shapes in faces.values():
        labels = [str(shape["label"]) for shape in shapes]
        if all(label.isdecimal() for label in labels) and all(len(shape["points"]) == 1 for shape in shapes):
            if len(set(map(int, labels))) < len(labels):
                raise ValueError("two points have one label")
            shapes = sorted(shapes, key=lambda shape: int(shape["label"]))
        found.append(np.array([point for shape in shapes for point in shape["points"]], np.float32))
    return [_finite(face) for face in found]


@lru_cache(4)
def _coco_index(data: bytes) -> dict[str, list[list[float]]]:
    """Return the keypoints of each face of a COCO document, by its picture's name; one document is of many pictures."""
    document = parse_json(data)
    names: dict[Any, str] = {one["id"]: str(one["file_name"]) for one in document["images"]}
    found: dict[str, list[list[float]]] = {name: [] for name in names.values()}
    for one in document["annotations"]:
        if one.get("keypoints"):
            found[names[one["image_id"]]].append(one["keypoints"])
    return found


def _labelled(points: np.ndarray, flags: np.ndarray | None) -> np.ndarray:
    """Return points float32 [L, 2], NaN where their flag is 0: not labelled."""
    if flags is not None:
        points = np.where(flags[:, None] > 0, points, np.nan)
    return points.astype(np.float32)


def _spread_54(points: np.ndarray) -> np.ndarray:
    """Return 54 points in the places of the 70, NaN in the others."""
    # SF-TL54's third point of the mouth is its other corner; of the 70's first 54 the last one is nearest to that.
    wide = np.linalg.norm(points[[50, 53]] - points[48], axis=1)
    places = list(IN_54) if not wide[1] > wide[0] else list(range(54))
    spread = np.full((70, 2), np.nan, np.float32)
    spread[places] = points
    return spread


def check_points(points: np.ndarray, *standards: int, gaps: bool = False) -> np.ndarray:
    """Return points [L, 2] if L is one of `standards` and all are numbers. gaps: some may be NaN, and not all."""
    if len(points) not in standards:
        wanted = " or ".join(map(str, standards))
        raise BadPicture(f"landmarks: {len(points)} points where {wanted} are needed")
    known = np.isfinite(points).all(axis=1)
    if gaps and known.any() and not np.isinf(points).any():
        return points
    if not known.all():
        raise BadPicture(f"landmarks: point {int(np.argmin(known))} is not a number")
    return points


def check_inside(points: np.ndarray, height: int, width: int) -> None:
    """Raise BadPicture when a point [L, 2] lies far outside of the picture; NaN is no point."""
    over = np.maximum(-points, points - (width, height)) / (width, height)
    far = np.nan_to_num(over, nan=0.0).max(axis=1)
    if far.size and far.max() > FAR:
        worst = int(far.argmax())
        x, y = points[worst]
        raise BadPicture(
            f"landmarks: point {worst} at ({x:.0f}, {y:.0f}) lies far outside the picture of {width} x {height} px"
        )
