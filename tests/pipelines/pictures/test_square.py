"""A picture is made square in one way, and the box says where in the square it lies."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.pictures.square import make_square

SIDES = st.integers(1, 90)


@given(SIDES, SIDES, SIDES, st.booleans())
def test_the_box_holds_the_picture_and_nothing_else(height: int, width: int, side: int, ids: bool) -> None:
    picture = np.full((height, width) if ids else (height, width, 3), 200, np.uint8)
    square, (x0, y0, x1, y1) = make_square(picture, side)
    assert square.shape == (side, side, *picture.shape[2:]) and square.dtype == np.uint8
    assert 0 <= x0 < x1 <= side and 0 <= y0 < y1 <= side
    # The box has the picture's extent, rounded outwards, and touches the square's edge along the longer side.
    scale = side / max(height, width)
    assert width * scale - 1e-9 <= x1 - x0 < width * scale + 2 and height * scale - 1e-9 <= y1 - y0 < height * scale + 2
    assert (x1 - x0 if width >= height else y1 - y0) == side
    # Inside of the box's edge, everything is picture.
    fringe = 0 if ids else int(np.ceil(max(scale, 1)))
    inner = square[y0 + 1 + fringe : y1 - 1 - fringe, x0 + 1 + fringe : x1 - 1 - fringe]
    assert (inner == 200).all()
    # Outside, everything is padding; an enlarged picture fades over less than one of its pixels.
    fade = int(np.ceil(scale)) if not ids and scale > 1 else 0
    outside = np.ones((side, side), bool)
    outside[max(0, y0 - fade) : y1 + fade, max(0, x0 - fade) : x1 + fade] = False
    assert not square[outside].any()


@given(SIDES, SIDES, st.integers(0, 2**32 - 1))
def test_a_square_picture_is_merely_resized_and_one_that_fits_is_untouched(own: int, side: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (own, own, 3), dtype=np.uint8)
    how = cv2.INTER_AREA if own > side else cv2.INTER_LINEAR
    square, box = make_square(picture, side)
    assert box == (0, 0, side, side)
    assert np.array_equal(square, cv2.resize(picture, (side, side), interpolation=how))
    assert np.array_equal(make_square(picture, own)[0], picture)
    assert np.array_equal(make_square(picture[..., 0], own)[0], picture[..., 0])


@pytest.mark.parametrize(
    ("height", "width", "side", "box"),
    [
        (60, 80, 40, (0, 5, 40, 35)),
        (80, 60, 40, (5, 0, 35, 40)),
        (3, 4, 8, (0, 0, 8, 6)),  # of an odd number of rows the larger half comes after
        (1, 90, 32, (0, 15, 32, 16)),
    ],
)
def test_the_picture_lies_in_the_middle(height: int, width: int, side: int, box: tuple[int, int, int, int]) -> None:
    assert make_square(np.ones((height, width, 3), np.uint8), side)[1] == box


@given(SIDES, SIDES, SIDES, st.integers(0, 2**32 - 1))
def test_classes_stay_classes(height: int, width: int, side: int, seed: int) -> None:
    ids = np.random.default_rng(seed).choice(np.array([3, 11, 18], np.uint8), (height, width))
    assert set(np.unique(make_square(ids, side)[0])) <= {0, 3, 11, 18}
