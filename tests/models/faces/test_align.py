"""A portrait is FFHQ's cut: the same square as its own script takes, upright, and as sharp as the picture allows."""

import numpy as np
import pytest
from PIL import Image

from models.faces.align import portrait


def waves(height: int, width: int) -> np.ndarray:
    """A smooth picture, so that two ways to sample it agree."""
    y, x = np.mgrid[:height, :width]
    waves_ = [np.sin(x / 19 + k) + np.cos(y / 23 - k) + np.sin((x + y) / 31) for k in range(3)]
    return np.uint8(np.stack(waves_, axis=-1) * 35 + 128)


def ffhq(picture: np.ndarray, points: np.ndarray, side: int) -> np.ndarray:
    """FFHQ's script for a face that lies inside: its quadrilateral, by Pillow, with no shrinking before."""
    eye_left, eye_right, _, mouth_left, mouth_right = points
    x = (eye_right - eye_left) - np.flipud((mouth_left + mouth_right) / 2 - (eye_left + eye_right) / 2) * [-1, 1]
    x /= np.hypot(*x)
    to_mouth = (mouth_left + mouth_right) / 2 - (eye_left + eye_right) / 2
    x *= max(np.hypot(*(eye_right - eye_left)) * 2.0, np.hypot(*to_mouth) * 1.8)
    y = np.flipud(x) * [-1, 1]
    c = (eye_left + eye_right) / 2 + to_mouth * 0.1
    quad = np.stack([c - x - y, c - x + y, c + x + y, c + x - y])
    size = (4 * side, 4 * side)
    image = Image.fromarray(picture).transform(size, Image.Transform.QUAD, quad.flatten(), Image.Resampling.BILINEAR)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


FACE = np.array([[170.0, 150], [240, 165], [200, 190], [165, 225], [225, 238]])


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.5])
def test_it_is_ffhqs_cut(scale: float) -> None:
    """Turned by 12 degrees; made larger, as it is, and much smaller."""
    picture = waves(400, 420)
    found = portrait(picture, FACE, round(scale * 128))
    wanted = ffhq(picture, FACE, round(scale * 128))
    assert found.shape == wanted.shape and np.abs(found.astype(int) - wanted).mean() < 1.5
    turned = portrait(picture, FACE[[1, 0, 2, 4, 3]], round(scale * 128))
    assert np.abs(turned.astype(int) - wanted).mean() > 10


def test_a_face_at_the_edge_is_mirrored_there() -> None:
    picture = np.full((120, 120, 3), 255, np.uint8)
    assert portrait(picture, FACE - 130, 64).min() == 255
