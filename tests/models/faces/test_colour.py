"""What is a photograph in colour: renders are, and thermal pictures and grey ones are not, in whichever palette."""

import cv2
import numpy as np
import pytest
from matplotlib import colormaps

from models.faces.align import five_points
from models.faces.colour import shows_one_number
from models.synthworld.render.render import Rendering, render
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.visible.faceclip.faces import align_faces

THERMAL = ("inferno", "hot", "magma", "plasma", "viridis", "gist_heat", "turbo", "rainbow", "jet")
SIDE = 256


@pytest.fixture(scope="module")
def known() -> Rendering:
    """Eight people, of dark and light skin."""
    return render([sample_scene(load_domain("portrait"), person, 0, "warm") for person in range(200000, 200008)], SIDE)


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    """Return an RGB picture as it comes back from a JPEG."""
    done, content = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1].copy()


def forms(picture: np.ndarray, points: np.ndarray, quality: int) -> dict[str, list[np.ndarray]]:
    """Return what is looked at of a picture, of its crop alone, and of both as JPEG holds them."""
    again = jpeg(picture, quality)
    (face,), (of_jpeg,) = (align_faces([one], points[None]) for one in (picture, again))
    return {
        "picture": [picture, face],
        "crop": [face],
        "JPEG": [again, of_jpeg],
        "crop as JPEG": [jpeg(face, quality)],
    }


def refused(pictures: np.ndarray, points: np.ndarray, quality: int = 75) -> set[str]:
    """Return in which forms pictures are refused: how each is named where all are, with `not all:` where some are."""
    found = [
        {name for name, seen in forms(*pair, quality).items() if any(map(shows_one_number, seen))}
        for pair in zip(pictures, points)
    ]
    every, some = set.intersection(*found), set.union(*found)
    return every | {f"not all: {name}" for name in some - every}


ALL = {"picture", "crop", "JPEG", "crop as JPEG"}


@pytest.mark.slow
def test_renders_are_photographs_and_thermal_pictures_are_not(known: Rendering) -> None:
    points, pictures = five_points(known.landmarks_70.numpy()), known.rgb.numpy()
    assert refused(pictures, points, 60) == set()
    # By the numbers that a thermal camera sees.
    felt = known.apparent.numpy()
    low, high = np.percentile(felt, 1), np.percentile(felt, 99.5)
    numbers = (np.clip((felt - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    for name in THERMAL:
        palette = (colormaps[name](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
        assert refused(palette[numbers], points) == ALL, name
    # The same photographs without their colours.
    grey = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures])
    assert refused(np.repeat(grey[..., None], 3, axis=-1), points) == ALL
    for tones in ((1.0, 0.95, 0.82), (1.0, 0.89, 0.69)):
        assert refused((grey[..., None] * np.array(tones)).astype(np.uint8), points) == ALL


def numbers_of(side: int) -> np.ndarray:
    """Return smooth grey levels uint8 [side, side] as a face in front of a wall has them."""
    levels = cv2.GaussianBlur(np.random.default_rng(0).random((side, side), np.float32), (0, 0), side / 20)
    return ((levels - levels.min()) / np.ptp(levels) * 255).astype(np.uint8)


def test_a_few_coloured_pixels_and_noise_make_no_photograph_of_a_grey_picture() -> None:
    grey = np.repeat(numbers_of(128)[..., None], 3, axis=-1)
    one = grey.copy()
    one[0, 0] = (255, 0, 0)
    stamped = grey.copy()
    stamped[-12:, -50:] = (255, 140, 0)
    noisy = np.clip(grey + np.random.default_rng(1).integers(-2, 3, grey.shape), 0, 255).astype(np.uint8)
    for picture in (grey, one, stamped, noisy, np.full((64, 64, 3), (200, 90, 10), np.uint8)):
        assert shows_one_number(picture)
    # Two numbers a pixel are a picture in colour.
    other = numbers_of(128)[::-1]
    assert not shows_one_number(np.stack([grey[..., 0], other, other], -1))
