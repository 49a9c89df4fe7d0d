"""Landmarks in files, and what must be true of them before a row holds them."""

import numpy as np

from models.errors import UserError
from models.landmarks.exports import parse_pts
from pipelines.pictures.open import BadPicture

FAR = 0.25
"""Points may lie so far outside of the picture, as a share of its sides: a landmark of a face that is cut off is real."""


def read_points(data: bytes, name: str, *standards: int) -> np.ndarray:
    """Return float32 [L, 2] in pixels, L one of `standards`, of a `.pts` file, or of lines `x y`.

    Raises BadPicture that says what is wrong.
    """
    try:
        text = data.decode()
        if name.lower().endswith(".pts"):
            points = parse_pts(text)
        else:
            lines = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
            points = np.array([[float(value) for value in line] for line in lines], np.float32)
    except (UserError, ValueError) as error:  # UnicodeDecodeError is one
        raise BadPicture(f"landmarks: {name} cannot be read ({error})") from None
    if points.ndim != 2 or points.shape[1:] != (2,):
        raise BadPicture(f"landmarks: {name} must hold two numbers a line")
    return check_points(points, *standards)


def check_points(points: np.ndarray, *standards: int) -> np.ndarray:
    """Return points [L, 2] if L is one of `standards` and all are numbers."""
    if len(points) not in standards:
        wanted = " or ".join(map(str, standards))
        raise BadPicture(f"landmarks: {len(points)} points where {wanted} are needed")
    if not np.isfinite(points).all():
        raise BadPicture(f"landmarks: point {int(np.argmin(np.isfinite(points).all(axis=1)))} is not a number")
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
