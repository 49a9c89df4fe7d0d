"""The search of the authors' package, against the plain loop and a plain suppression."""

import cv2
import numpy as np
import pytest

from models.errors import UserError
from models.landmarks.detect import Detector, Search, cut_windows, decode_face
from models.landmarks.published import PublishedSearch, find_published
from tests.models.landmarks import naive
from tests.models.landmarks.test_detect import SMALL, random_model, textured

DETECTOR = Detector(random_model(), batch=4)
SEARCH = Search(stride=98)


def grey(height: int = 90, width: int = 131) -> np.ndarray:
    return textured(height, width).mean(axis=2).astype(np.float32)


def three(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2).astype(np.float32)


def test_the_best_window_is_the_plain_loops_whatever_its_variance() -> None:
    image = textured(90, 131)
    (face,) = find_published(DETECTOR, image, "auto", PublishedSearch(SEARCH))
    points, variance = naive.search(random_model(), three(grey() / 255), stride=21)
    np.testing.assert_allclose(face.points, points, atol=0.03)
    assert face.uncertainty == pytest.approx(variance.mean(), rel=1e-4) and face.uncertainty > DETECTOR.threshold


@pytest.mark.parametrize("unit", ["degrees", "unit", "hair"])
def test_values_are_the_packages(unit: str) -> None:
    values = grey() / 255
    degrees = 15 + 35 * values
    image = {"degrees": degrees, "unit": values, "hair": values + 5e-7}[unit].astype(np.float32)
    clipped = np.clip(degrees, 20, 40)
    seen = (clipped - clipped.min()) / np.ptp(clipped) if unit == "degrees" else np.clip(image, 0, 1)
    (face,) = find_published(DETECTOR, image, "auto", PublishedSearch(SEARCH))
    np.testing.assert_allclose(face.points, naive.search(random_model(), three(seen), stride=21)[0], atol=0.03)


def test_several_faces_are_the_windows_that_do_not_overlap() -> None:
    """Greedy suppression at an IoU of 0.5 of windows cut off at the frame, written out; then the two limits."""
    image = grey()
    crops, windows = cut_windows(three(image / 255), SMALL.size, SEARCH)
    outputs = DETECTOR.run(crops)
    scores = outputs[..., 2].mean(axis=1)

    def pixels(k: int) -> np.ndarray:
        mask, (x, y), (sx, sy) = np.zeros((90 * 8, 131 * 8), bool), windows[k].origin, windows[k].scale
        low, high = (
            np.maximum((np.array([y, x]) * 8).round(), 0).astype(int),
            (np.array([y + 48 * sy, x + 48 * sx]) * 8),
        )
        mask[low[0] : int(max(high[0].round(), 0)), low[1] : int(max(high[1].round(), 0))] = True
        return mask

    kept: list[int] = []
    for k in np.argsort(scores):
        ratio = [(pixels(k) & pixels(j)).sum() / max((pixels(k) | pixels(j)).sum(), 1) for j in kept]
        if all(one <= 0.5 for one in ratio):
            kept.append(int(k))
    found = find_published(DETECTOR, image, "pixel", PublishedSearch(SEARCH, multi=True))
    assert len(found) == len(kept) > 3
    for face, k in zip(found, kept, strict=True):
        np.testing.assert_allclose(face.points, decode_face(outputs[k], windows[k], SMALL.size).points, atol=0.03)
    factor = float(scores[kept[2]] / scores[kept[0]]) + 1e-6
    near = find_published(DETECTOR, image, "pixel", PublishedSearch(SEARCH, multi=True, uncertainty_factor=factor))
    assert len(near) == 3
    assert len(find_published(DETECTOR, image, "pixel", PublishedSearch(SEARCH, multi=True, top_k=2))) == 2


def test_an_enlarged_frame_gives_points_in_its_own_pixels() -> None:
    image = grey(60, 75)
    (face,) = find_published(DETECTOR, image, "pixel", PublishedSearch(SEARCH, upsample_factor=1.6))
    large = np.clip(cv2.resize(image, (120, 96), interpolation=cv2.INTER_CUBIC) / 255, 0, 1)
    points = naive.search(random_model(), three(large), stride=21)[0]
    np.testing.assert_allclose(face.points, np.where(points >= 0, points * (75 / 120, 60 / 96), points), atol=0.03)


def test_what_the_package_refuses_is_refused() -> None:
    for wrong in ({"upsample_factor": 0.5}, {"overlap": 2.0}, {"uncertainty_factor": 0.9}, {"top_k": 0}):
        with pytest.raises(UserError):
            PublishedSearch(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="say their unit"):
        find_published(
            DETECTOR, np.linspace(300, 900, 2500).reshape(50, 50).astype(np.uint16), "auto", PublishedSearch()
        )
