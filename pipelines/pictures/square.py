"""The one way to make a picture square."""

import cv2
import numpy as np

Box = tuple[int, int, int, int]


def make_square(picture: np.ndarray, side: int) -> tuple[np.ndarray, Box]:
    """Return a picture padded with zeros to a square about its middle and resized to `side`, and where it lies in there.

    picture: uint8 [H, W, 3], or the ids of its classes uint8 [H, W], of which no new ones arise.

    Returns ([side, side, 3] or [side, side], (x0, y0, x1, y1)): the box in pixels, x1 and y1 excluded, is the smallest that
    holds the whole picture; the rest is padding. Where a picture is enlarged, its edge fades into the padding over less
    than one of its own pixels.
    """
    height, width = picture.shape[:2]
    # Pad the shorter side, half before and half after; of an odd number the larger half comes after.
    over = max(height, width)
    top, left = (over - height) // 2, (over - width) // 2
    borders = (top, over - height - top, left, over - width - left)
    square = cv2.copyMakeBorder(picture, *borders, cv2.BORDER_CONSTANT, value=0)
    # Colours are averaged or interpolated, ids are picked.
    how = cv2.INTER_AREA if over > side else cv2.INTER_LINEAR
    resized = cv2.resize(square, (side, side), interpolation=cv2.INTER_NEAREST_EXACT if picture.ndim == 2 else how)
    # The picture's edges on the new grid, rounded outwards.
    starts, ends = (left, top), (left + width, top + height)
    (x0, y0), (x1, y1) = [edge * side // over for edge in starts], [-(-edge * side // over) for edge in ends]
    return resized, (x0, y0, x1, y1)
