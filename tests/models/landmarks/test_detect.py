"""The fast search sees what the naive loop sees; several faces, boxes and thermal frames."""

import functools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.augment.canvas import paint_texture
from models.errors import UserError
from models.landmarks.detect import (
    Detector,
    Face,
    Search,
    Window,
    box_window,
    cut,
    cut_windows,
    pyramid_sizes,
    suppress_overlaps,
)
from models.landmarks.intensity import unit_values
from models.landmarks.network import MEAN, SPREAD, Landmarker, LandmarkerConfig, normalise
from models.padding import in_batches
from tests.models.landmarks import naive

SMALL = LandmarkerConfig(size=48, width=0.25, head=48)


@functools.cache
def random_model(seed: int = 0) -> Landmarker:
    """Random weights whose batch norms have seen pictures, so that windows differ in their variance."""
    torch.manual_seed(seed)
    model = Landmarker(SMALL)
    nn.init.normal_(model.fc.weight, 0, 0.05)
    rng = np.random.default_rng(seed)
    seen = np.stack([unit_values(paint_texture(SMALL.size, rng)) for _ in range(32)])
    with torch.no_grad():
        for _ in range(12):
            model(normalise(torch.from_numpy(seen).permute(0, 3, 1, 2)))
    return model.eval()


def textured(height: int, width: int, seed: int = 3) -> np.ndarray:
    """Return a picture uint8 [height, width, 3] with something everywhere."""
    return paint_texture(max(height, width), np.random.default_rng(seed))[:height, :width]


class Bright(Landmarker):
    """Stands in for a trained network: points on a circle about the bright spot of a crop, surest if it is large and central."""

    def forward(self, x: Tensor) -> Tensor:
        mean, spread = torch.tensor(MEAN), torch.tensor(SPREAD)
        light = (x.permute(0, 2, 3, 1) * spread + mean).mean(-1)
        light = torch.where(light > 0.5, light, 0.0)
        side = self.config.size
        axis = (torch.arange(side) + 0.5) / side
        total = light.sum(dim=(1, 2)).clamp(min=1e-3)
        cx, cy = (light.sum(1) * axis).sum(1) / total, (light.sum(2) * axis).sum(1) / total
        radius = (light > 0).float().mean(dim=(1, 2)).clamp(min=1e-6).sqrt() / 2
        off = (cx - 0.5) ** 2 + (cy - 0.5) ** 2 + (radius - 0.25) ** 2 * 4
        edge = (light[:, [0, -1]] > 0).any(dim=(1, 2)) | (light[:, :, [0, -1]] > 0).any(dim=(1, 2))
        angle = torch.linspace(0, 6.28, self.config.standard)
        xs = cx[:, None] + radius[:, None] * angle.cos()
        ys = cy[:, None] + radius[:, None] * angle.sin()
        variance = (1e-5 + off * 0.01 + edge * 0.05)[:, None].expand_as(xs)
        return torch.stack([xs, ys, variance], -1)


def disc_frame(places: list[tuple[int, int, int]], height: int = 180, width: int = 240) -> np.ndarray:
    y, x = np.mgrid[:height, :width] + 0.5
    frame = np.zeros((height, width), np.uint8)
    for cx, cy, r in places:
        frame[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = 220
    return frame


@pytest.mark.parametrize(
    ("height", "width", "counts"),
    [(480, 640, (9, 15, 25)), (288, 384, (9,)), (348, 464, (9, 15)), (768, 1024, (9, 9, 15, 35, 63))],
)
def test_windows_are_as_many_as_published(height: int, width: int, counts: tuple[int, ...]) -> None:
    search = Search()
    assert len(pyramid_sizes(height, width, 224, search)) == len(counts)
    assert len(cut_windows(np.zeros((height, width, 3), np.float32), 224, search)[1]) == sum(counts)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((150, 211), "float32"), ((48, 48), "float32"), ((30, 75), "float32"), ((96, 130), "bfloat16")],
)
def test_same_window_and_points_as_the_naive_loop(shape: tuple[int, int], dtype: str) -> None:
    model = random_model()
    image = textured(*shape)
    wanted, variance = naive.search(model, unit_values(image), stride=21)
    found = Detector(model, dtype=dtype, batch=3).best(image)
    np.testing.assert_allclose(found.points, wanted, atol=0.01)
    assert found.uncertainty == pytest.approx(variance.mean(), rel=1e-4)


def test_windows_are_copied_a_batch_at_a_time() -> None:
    """Uncopied, the windows are views of a pyramid; a batch's answer is that of the same windows stacked whole."""
    image = unit_values(textured(70, 90))
    crops, windows = cut_windows(image, SMALL.size, Search())
    assert len(crops) == len(windows) and not any(crop.flags.owndata for crop in crops)
    detector = Detector(random_model(), batch=4)
    found = detector._run(detector.exact, crops)
    whole = in_batches(
        lambda part: detector.exact(normalise(part.permute(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)),
        torch.from_numpy(np.stack(crops)),
        4,
    )
    np.testing.assert_array_equal(found, whole.detach().numpy())


def test_several_faces_are_found_once_each_and_nothing_in_an_empty_frame() -> None:
    detector = Detector(Bright(SMALL), threshold=2e-3, search=Search(stride=25))
    places = [(50, 60, 13), (180, 50, 20), (120, 130, 32)]
    faces = detector.find(disc_frame(places))
    centres = [face.points.mean(axis=0) for face in faces]
    assert len(faces) == 3
    for cx, cy, r in places:
        nearest = min(range(3), key=lambda k: np.hypot(*(centres[k] - (cx, cy))))
        assert np.hypot(*(centres[nearest] - (cx, cy))) < 2.5
        assert faces[nearest].box[2] - faces[nearest].box[0] == pytest.approx(2 * r * 0.886, rel=0.2)
    assert [f.uncertainty for f in faces] == sorted(f.uncertainty for f in faces)
    assert len(detector.find(disc_frame(places), most=2)) == 2
    assert detector.find(disc_frame([])) == []


def test_in_bfloat16_every_face_is_found() -> None:
    places = [(28, 34, 13), (78, 40, 16)]
    detector = Detector(Bright(SMALL), threshold=2e-3, search=Search(stride=30), dtype="bfloat16")
    centres = sorted(face.points.mean(axis=0).tolist() for face in detector.find(disc_frame(places, 76, 108)))
    np.testing.assert_allclose(centres, [place[:2] for place in places], atol=2)


def test_enlarged_levels_find_faces_smaller_than_the_window() -> None:
    image = disc_frame([(20, 22, 7)], 40, 44)
    coarse = Detector(Bright(SMALL), threshold=2e-3, search=Search(stride=25)).best(image)
    fine = Detector(Bright(SMALL), threshold=2e-3, search=Search(stride=25, finest=-2)).best(image)
    assert fine.uncertainty < coarse.uncertainty
    np.testing.assert_allclose(fine.points.mean(axis=0), (20, 22), atol=0.5)


def test_a_box_gives_the_same_points_at_any_size_of_frame() -> None:
    detector = Detector(Bright(SMALL))
    for zoom in (1, 4):
        image = disc_frame([(60 * zoom, 70 * zoom, 20 * zoom)], 180 * zoom, 240 * zoom)
        box = np.array([[40, 48, 84, 92]]) * zoom
        (face,) = detector.at_boxes(image, box)
        np.testing.assert_allclose(face.points.mean(axis=0) / zoom, (60, 70), atol=0.4)
        assert np.sqrt(face.variance.mean()) / zoom == pytest.approx(np.sqrt(face.uncertainty) * 55, rel=1e-3)
    assert detector.at_boxes(image, np.zeros((0, 4))) == []


def test_a_crop_without_scaling_is_the_frames_own_pixels() -> None:
    values = np.random.default_rng(0).random((60, 80, 3)).astype(np.float32)
    np.testing.assert_array_equal(cut(values, Window((8, 4), (1, 1)), 32), values[4:36, 8:40])
    window = box_window(np.array([10, 20, 26, 40]), 50)
    assert window.scale == (0.5, 0.5) and window.origin == (5.5, 17.5)


def test_thermal_frames_with_dead_pixels_raw_or_in_degrees_give_one_answer() -> None:
    grey = disc_frame([(100, 90, 25)])
    celsius = (22 + 12 * (grey / 220.0)).astype(np.float32)
    celsius[3, 3] = 120.0
    raw = np.round((celsius + 273.15) * 100).astype(np.uint16)
    raw[5, 5] = 65535
    detector = Detector(Bright(SMALL))
    one, two = detector.best(celsius), detector.best(raw)
    np.testing.assert_allclose(one.points, two.points, atol=0.05)
    np.testing.assert_allclose(one.points.mean(axis=0), (100, 90), atol=1.5)


def test_of_overlapping_faces_the_surer_stays() -> None:
    def face(x: float, size: float, uncertainty: float) -> Face:
        return Face(np.array([[x, 0], [x + size, size]], np.float32), np.ones(2), uncertainty, Window((0, 0), (1, 1)))

    kept = suppress_overlaps([face(0, 10, 1e-5), face(2, 10, 2e-5), face(3, 3, 3e-5), face(20, 10, 4e-5)], 0.5)
    assert [f.uncertainty for f in kept] == [1e-5, 4e-5]


def test_bad_requests_are_named() -> None:
    with pytest.raises(UserError, match="float16"):
        Detector(Landmarker(SMALL), dtype="float16")
    with pytest.raises(UserError, match="eta"):
        Search(eta=1.0)
    with pytest.raises(UserError, match="shape"):
        Detector(Landmarker(SMALL)).best(np.zeros((0, 5), np.uint8))
