"""The fast search sees what the naive loop sees; several faces, boxes and thermal frames."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.augment.canvas import paint_texture
from models.errors import EnvironmentFault, UserError
from models.landmarks.detect import (
    Detector,
    DetectorSettings,
    Face,
    Search,
    Window,
    box_window,
    cut,
    cut_windows,
    decode_face,
    finest_level,
    intersection_over_smaller,
    pyramid_sizes,
    read_detection,
    suppress_overlaps,
    write_detection,
)
from models.landmarks.intensity import unit_values
from models.landmarks.network import MEAN, SPREAD, Landmarker, LandmarkerConfig, normalise
from models.padding import in_batches
from tests.models.landmarks import naive

SMALL = LandmarkerConfig(size=48, width=0.25, head=48)


@functools.cache
def random_model(seed: int = 0) -> Landmarker:
    """Random weights whose batch norms hold the exact statistics of pictures: points and variances differ by window."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    seen = np.stack([unit_values(paint_texture(SMALL.size, rng)) for _ in range(32)])
    return naive.make_react(Landmarker(SMALL), seen)


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
    np.testing.assert_allclose(found.points, wanted, atol=0.03)
    assert found.uncertainty == pytest.approx(variance.mean(), rel=1e-4)


def test_these_weights_react_to_the_picture() -> None:
    """Else a search of the wrong pixels would place the same points."""
    crops = [
        unit_values(picture) for picture in (textured(48, 48), textured(48, 48, 4), np.full((48, 48), 128, np.uint8))
    ]
    points = Detector(random_model()).run(crops)[..., :2] * SMALL.size
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(points[one] - points[other]).mean() > 0.3


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
    assert len(detector.find(disc_frame([(24, 34, 12), (78, 40, 22)], 76, 108), most=1)) == 1
    assert detector.find(disc_frame([], 76, 108)) == []


def test_in_bfloat16_every_face_is_found() -> None:
    places = [(24, 34, 12), (78, 40, 22)]  # the second is found by windows that are much less sure than the first's
    detector = Detector(Bright(SMALL), threshold=2e-3, search=Search(stride=30), dtype="bfloat16")
    assert detector.quick is not None and Detector(Bright(SMALL)).quick is None
    assert next(detector.quick.feature_network.parameters()).dtype == torch.bfloat16
    assert next(detector.model.parameters()).dtype == torch.float32
    centres = sorted(face.points.mean(axis=0).tolist() for face in detector.find(disc_frame(places, 76, 108)))
    np.testing.assert_allclose(centres, [place[:2] for place in places], atol=2)


def test_in_bfloat16_no_window_that_cannot_be_chosen_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A score may be wrong by 1.3 in bfloat16, and no more: what is behind that stays as it is."""
    detector, again = Detector(Bright(SMALL), dtype="bfloat16"), list[int]()

    def run(model: object, crops: list[np.ndarray], *_: object) -> np.ndarray:
        outputs = np.full((len(crops), 70, 3), 0.5, np.float32)
        if model is detector.quick:
            outputs[..., 2] = np.linspace(1, 2, len(crops))[:, None]
        else:
            again.append(len(crops))
        return outputs

    monkeypatch.setattr(detector, "_run", run)
    count = len(cut_windows(unit_values(disc_frame([])), SMALL.size, detector.search)[1])
    detector.best(disc_frame([]))
    assert again == [int((np.linspace(1, 2, count) <= 1.3).sum())] and 1 < again[0] < count / 2


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


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 0.5), (1.4, 1.4), (3.0, 3.0), (2.0, 3.0)])
def test_a_crop_shows_what_lies_under_it_at_any_scale(scale: tuple[float, float]) -> None:
    """Pixel (x, y) of a crop is the frame at ((x, y) + 1/2) * scale + origin: slopes across and down tell both."""
    rows, columns = np.mgrid[:90, :130].astype(np.float32) + 0.5
    frame = np.stack([columns, rows, 2 * columns - rows], -1)
    window = Window((11.25, 7.5), scale)
    found = cut(frame, window, 20)
    y, x = np.mgrid[:20, :20] + 0.5
    wanted = np.stack([x * scale[0] + 11.25, y * scale[1] + 7.5], -1)
    assert found.shape == (20, 20, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found[..., :2], wanted, atol=0.06 * max(scale))
    np.testing.assert_allclose(found[..., 2], 2 * wanted[..., 0] - wanted[..., 1], atol=0.2 * max(scale))


def test_outside_of_the_frame_a_crop_is_black_and_strong_reduction_averages() -> None:
    frame = np.ones((40, 60, 3), np.float32)
    found = cut(frame, Window((-10, -4), (1, 1)), 32)
    assert (found[4:, 10:] == 1).all() and (found[:3] == 0).all() and (found[:, :9] == 0).all()
    lines = np.zeros((64, 64, 3), np.float32)
    lines[:, ::4] = 1  # one column in four: skipping would see all of them or none
    np.testing.assert_allclose(cut(lines, Window((0, 0), (4, 4)), 16)[2:-2, 2:-2], 0.25, atol=0.01)


def test_windows_lie_where_they_were_cut_from() -> None:
    """On every level the middle of a window is what the frame shows there; the padding is black and evenly shared."""
    rows, columns = np.mgrid[:61, :80].astype(np.float32) + 0.5
    frame = np.stack([columns, rows, np.ones_like(rows)], -1)
    search = Search(eta=0.5, stride=56)
    crops, windows = cut_windows(frame, 24, search)
    sizes = pyramid_sizes(61, 80, 24, search)
    assert sizes == [(30, 40), (61, 80)]
    # The steps of 56 are of the published window of 224: 6 of these 24. Levels of 48 x 48 and 72 x 96 after padding.
    assert len(windows) == 5 * 5 + 9 * 13
    for crop, window in zip(crops, windows):
        inside = crop[..., 2] > 0.999
        y, x = np.nonzero(inside)
        np.testing.assert_allclose(crop[inside][:, 0], (x + 0.5) * window.scale[0] + window.origin[0], atol=1.2)
        np.testing.assert_allclose(crop[inside][:, 1], (y + 0.5) * window.scale[1] + window.origin[1], atol=1.2)
    first = windows[25]
    assert first.scale == (1, 1) and first.origin == (-8, -5)
    assert windows[26].origin == (-2, -5) and windows[25 + 13].origin == (-8, 1)


@pytest.mark.parametrize(
    ("frame", "finest", "expected"),
    [
        ((48, 48), 0, [(48, 48)]),
        ((48, 64), -1, [(48, 64), (64, 85)]),
        ((64, 64), 0, [(48, 48), (64, 64)]),
        ((63, 64), 0, [(63, 64)]),
        ((30, 75), 0, [(30, 75)]),
        ((200, 300), 1, [(63, 95), (84, 127), (112, 169), (150, 225)]),
        ((48, 48), 2, [(27, 27)]),
        ((1, 1), 3, [(1, 1)]),
    ],
)
def test_levels_go_from_the_last_that_holds_a_window_to_the_finest(
    frame: tuple[int, int], finest: int, expected: list[tuple[int, int]]
) -> None:
    assert pyramid_sizes(*frame, 48, Search(finest=finest)) == expected


@pytest.mark.parametrize(
    ("frame", "min_face", "expected"),
    [
        ((886, 1280), None, 2),  # a tenth of 886 px fills a window of 96 px, framed by 2, at 0.54 of the size
        ((886, 1280), 0.2, 4),
        ((886, 1280), 44.3, -1),
        ((100, 100), None, 0),  # the default enlarges nothing
        ((100, 100), 0.1, -4),
        ((96, 96), 24.0, -3),
        ((96, 96), 1.0, 2),  # all of the picture's shorter side; more is in pixels
        ((96, 96), 1.5, -4),
        ((96, 96), 48.0, 0),
    ],
)
def test_the_finest_level_is_that_of_the_smallest_face(
    frame: tuple[int, int], min_face: float | None, expected: int
) -> None:
    level = finest_level(*frame, 96, 2.0, min_face)
    assert level == expected
    pixels = 0.1 * min(frame) if min_face is None else min_face * (min(frame) if min_face <= 1 else 1)
    if level not in (0, -4):  # there a window is no larger than that of the smallest face, a level coarser it is
        assert 0.75**level >= 96 / (2 * pixels) > 0.75 ** (level + 1)


def test_the_smallest_step_is_a_pixel() -> None:
    crops, windows = cut_windows(np.zeros((9, 9, 3), np.float32), 8, Search(stride=1))
    assert len(crops) == len(windows) == 9 * 9 and windows[1].origin[0] - windows[0].origin[0] == 1


def test_find_looks_for_faces_from_the_smallest_on() -> None:
    """A small face is seen where it is asked for, a large one always, and with fewer windows."""
    image = disc_frame([(60, 60, 40), (150, 100, 14)], 120, 170)
    detector = Detector(Bright(SMALL), threshold=2e-3, search=Search(stride=25))
    found, windows = {}, {}
    for least in (20.0, 60.0):
        level = finest_level(*image.shape, SMALL.size, 2.0, least)
        detector.search = Search(stride=25, finest=level)
        windows[least] = len(cut_windows(unit_values(image), SMALL.size, detector.search)[1])
        found[least] = [tuple(face.points.mean(axis=0)) for face in detector.find(image)]
    assert any(np.hypot(x - 150, y - 100) < 4 for x, y in found[20.0])
    assert windows[60.0] < windows[20.0] / 4
    assert all(any(np.hypot(x - 60, y - 60) < 6 for x, y in places) for places in found.values())


def test_a_windows_answer_in_pixels_of_the_frame() -> None:
    output = np.array([[0.5, 0.25, 0.01], [1.0, 0.0, 0.03]], np.float32)
    face = decode_face(output, Window((10, 20), (2.0, 4.0)), 8)
    np.testing.assert_allclose(face.points, [[10 + 8, 20 + 8], [10 + 16, 20]])
    np.testing.assert_allclose(face.variance, np.array([0.01, 0.03]) * 64 * (4 + 16) / 2, rtol=1e-6)
    assert face.uncertainty == pytest.approx(0.02)
    assert face.box.tolist() == [18, 20, 26, 28] and face.points.dtype == face.variance.dtype == np.float32


def test_a_box_has_a_margin_and_is_a_square_about_its_middle() -> None:
    window = box_window(np.array([10.0, 20.0, 30.0, 60.0]), 100)
    assert window.scale == (0.5, 0.5) and window.origin == (20 - 25, 40 - 25)
    assert box_window(np.array([5.0, 5.0, 5.0, 5.0]), 10, 2.0) == Window((4.0, 4.0), (0.2, 0.2))


def test_overlap_is_of_the_smaller_box() -> None:
    one = np.array([[0, 0, 10, 10], [0, 0, 4, 4], [20, 20, 30, 30], [5, 0, 15, 10]], float)
    found = intersection_over_smaller(one, np.array([0, 0, 10, 10], float))
    assert found.tolist() == [1, 1, 0, 0.5]
    # Of any number of axes, and smaller than a pixel.
    small = np.array([[[0, 0, 0.5, 0.5], [0.25, 0, 0.75, 0.5]], [[0.5, 0, 1, 0.5], [5, 0, 7, 2]]])
    assert intersection_over_smaller(small, small[0, 0]).tolist() == [[1, 0.5], [0, 0]]


def test_what_is_beside_the_weights_is_read_and_written_one_by_one(tmp_path: Path) -> None:
    assert read_detection(tmp_path) == DetectorSettings(threshold=6e-4, margin=1.25)
    write_detection(tmp_path, margin=1.5)
    write_detection(tmp_path, threshold=0.123456789)
    assert read_detection(tmp_path) == DetectorSettings(threshold=0.12345679, margin=1.5)
    assert DetectorSettings(margin=1).margin == 1
    for wrong in ({"threshold": 0}, {"margin": 0.9}):
        with pytest.raises(ValueError, match="greater than"):
            DetectorSettings.model_validate(wrong)
    (tmp_path / "detection.json").write_text('{"threshold": 1, "more": 2}')
    with pytest.raises(EnvironmentFault, match=r"(?s)not a threshold and a margin .*\. Calibrate again"):
        read_detection(tmp_path)


@pytest.mark.parametrize(
    ("eta", "stride", "right"), [(0.5, 1, True), (0.0, 1, False), (1.0, 1, False), (0.5, 0, False)]
)
def test_a_search_shrinks_and_steps(eta: float, stride: int, right: bool) -> None:
    if right:
        assert Search(eta, stride).finest == 0
    else:
        with pytest.raises(UserError, match="eta must lie between 0 and 1 and stride be positive"):
            Search(eta, stride)
    assert Search() == Search(0.75, 100, 0)


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
