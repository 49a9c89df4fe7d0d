"""Conversions between standards, learnt from coordinates alone, and the files other tools read."""

from pathlib import Path

import numpy as np
import pytest

from models.card import Card
from models.errors import UserError
from models.evaluation import adapters as conversion
from models.landmarks import exports
from models.landmarks.adapt import (
    Adapter,
    AdapterConfig,
    adapt_face,
    adapt_points,
    build_adapter,
    convert_to_labels,
    fit_adapter,
    leave_subject_out,
    load_adapter,
)
from models.landmarks.detect import Face, Window
from models.landmarks.metrics import nme
from models.landmarks.pose import average_head
from models.landmarks.standards import Standard, conversion_weights, to_standard
from models.synthworld.shape.figure import rotation
from models.tasks import adapter
from models.weights.networks import load_network


def faces(count: int = 120, seed: int = 0) -> np.ndarray:
    """Turned, moved and scaled copies of the average head with a little of each person's own, float32 [count, 70, 2]."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        turn = np.array(rotation(*rng.uniform(-20, 20, 2), rng.uniform(-8, 8)))
        shape = average_head() + rng.normal(0, 0.02, (70, 3))
        points = (shape @ turn.T)[:, :2] * np.array([1, -1])
        out.append(points * rng.uniform(20, 60) + rng.uniform(60, 90, 2))
    return np.array(out, np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("target", [68, 72, 5])
def test_an_adapter_beats_the_mean_shape_on_people_it_has_not_seen(target: Standard) -> None:
    source = faces(200)
    wanted = to_standard(source, np.zeros((200, 478, 2)), target)
    assert wanted.shape[1] == target
    config = AdapterConfig(source=70, target=target, hidden=48)
    model = fit_adapter(config, source[:160], wanted[:160], steps=200)
    found = adapt_points(model, source[160:])
    error = nme(found, wanted[160:]).mean()
    middle, size = source.mean(1, keepdims=True), source.std(axis=(1, 2), keepdims=True)
    mean = ((wanted[:160] - middle[:160]) / size[:160]).mean(axis=0)
    table = nme(mean * size[160:] + middle[160:], wanted[160:]).mean()
    assert error < 0.75 * table


def test_place_and_size_of_a_face_do_not_matter() -> None:
    model = Adapter(AdapterConfig(source=70, target=68, hidden=16)).eval()
    source = faces(3)
    np.testing.assert_allclose(
        adapt_points(model, source * 2 + 40), adapt_points(model, source) * 2 + 40, rtol=1e-3, atol=1e-2
    )
    assert sum(1 for m in model.layers if hasattr(m, "weight")) == 5


def test_where_points_are_means_of_others_an_adapter_begins_with_them() -> None:
    source = faces(4)
    for given, target in ((70, 68), (70, 72), (70, 5), (68, 5)):
        points = to_standard(source, np.zeros((4, 478, 2)), given)
        model = Adapter(AdapterConfig(source=given, target=target, hidden=16)).eval()
        np.testing.assert_allclose(
            adapt_points(model, points), to_standard(source, np.zeros((4, 478, 2)), target), atol=1e-3
        )
    assert conversion_weights(68, 70) is None and conversion_weights(478, 70) is None
    assert conversion_weights(72, 68) is None


def test_variance_follows_the_points() -> None:
    """Eyes are means of six points each: a sixth of the variance. The nose tip keeps its own."""
    points, variance = faces(1)[0], np.full(70, 4.0, np.float32)
    model = Adapter(AdapterConfig(source=70, target=5, hidden=16)).eval()
    face = adapt_face(model, Face(points, variance, 1e-4, Window((0, 0), (1, 1))))
    np.testing.assert_allclose(face.variance, [4 / 6, 4 / 6, 4, 4, 4], rtol=1e-4)
    assert face.uncertainty == 1e-4 and face.points.shape == (5, 2)


def test_the_affine_baseline_finds_an_affine_map() -> None:
    source = faces(300)
    found = conversion.convert_affinely(source[:200], source[:200, :17] + 0.1 * source[:200, 30:31], source[200:])
    wanted = source[200:, :17] + 0.1 * source[200:, 30:31]
    middle = source[200:].mean(axis=1, keepdims=True)
    assert nme(found - 0.1 * middle, wanted - 0.1 * middle).mean() < 0.35  # the place of the face is not part of it
    np.testing.assert_allclose(conversion.convert_affinely(source, source, source), source, atol=0.5)


@pytest.mark.slow
def test_leave_subject_out_never_trains_on_the_subject() -> None:
    """Every subject's labels have an offset of their own; whoever is left out gets the others' mean offset instead."""
    source = faces(60)
    subjects = np.repeat(np.arange(6), 10)
    offset = (subjects[:, None, None] == 3) * 30.0
    config = AdapterConfig(source=70, target=70, hidden=32)
    found = leave_subject_out(config, source, source + offset, subjects, folds=6, steps=120)
    assert np.abs(found[subjects == 3] - source[subjects == 3]).mean() < 12


def test_the_task_trains_on_coordinates_and_exports(tmp_path: Path) -> None:
    config = adapter.Config(hidden=16, source=70, target=5)
    rows = {"landmarks_70": faces(8), "landmarks_478": np.zeros((8, 478, 2), np.float32), "draw": np.arange(8)}
    model = adapter.build(config)
    value, metrics = adapter.loss(model, rows, config, 0)
    value.backward()
    assert metrics["rms"] > 0 and all(p.grad is not None for p in model.parameters())
    assert adapter.validate(model.eval(), [rows], config)["nme"] > 0
    adapter.export(model, config, tmp_path, Card(title="", task="adapter"))
    found = load_network(tmp_path / "70-5" / "adapter.safetensors", build_adapter)
    assert found.config == model.config
    assert Card.read(tmp_path / "70-5").title == "Label adapter 70 to 5"
    (tmp_path / "70-5").rename(tmp_path / "adapters")
    (tmp_path / "adapters" / "70-5").mkdir()
    (tmp_path / "adapters" / "adapter.safetensors").rename(tmp_path / "adapters" / "70-5" / "adapter.safetensors")
    assert load_adapter(tmp_path, 5, (70,)).config == model.config
    with pytest.raises(UserError, match="no landmarker of 68 points; it has 70, and the conversions 70-5"):
        load_adapter(tmp_path, 68, (70,))


def test_pts_files_come_back_and_bad_ones_are_named(tmp_path: Path) -> None:
    points = faces(1)[0]
    path = tmp_path / "face.pts"
    path.write_text(exports.pts_text(points))
    np.testing.assert_allclose(exports.parse_pts(path.read_text()), points, atol=1e-4)
    assert exports.pts_text(np.array([[0.5, 0.5]])).splitlines()[3] == "1.000000 1.000000"  # the first pixel's centre
    path.write_text(exports.pts_text(points).replace("n_points: 70", "n_points: 68"))
    with pytest.raises(UserError, match="says n_points: 68 and holds 70"):
        exports.parse_pts(path.read_text())
    path.write_text("version: 1\n{\n1 2 3\n")
    with pytest.raises(UserError, match=r"not a \.pts file"):
        exports.parse_pts(path.read_text())


def test_coco_and_yolo_lines() -> None:
    points = np.array([[10.0, 20.0], [30.0, 60.0]])
    face = {"points": points, "seen": np.array([True, False]), "variance": np.array([4.0, 9.0])}
    document = exports.coco([{"file": "a.png", "width": 100, "height": 80, "faces": [face]}])
    (annotation,) = document["annotations"]
    assert annotation["keypoints"] == [10, 20, 2, 30, 60, 1] and annotation["bbox"] == [10, 20, 20, 40]
    assert annotation["keypoint_sigmas_px"] == [2, 3] and len(document["categories"][0]["keypoints"]) == 2
    line = [float(v) for v in exports.yolo_face(points, 100, 80, face["seen"]).split()]
    assert line == pytest.approx([0, 0.2, 0.5, 0.2, 0.5, 0.1, 0.25, 2, 0.3, 0.75, 1])


def test_points_that_are_not_annotated_count_nothing() -> None:
    source = faces(12)
    target = to_standard(source, np.zeros((12, 478, 2)), 72)
    target[::2, 43:] = np.nan
    model = fit_adapter(AdapterConfig(source=70, target=72, hidden=8), source, target, steps=8)
    assert np.isfinite(adapt_points(model, source)).all()


def test_profiles_and_fronts_have_adapters_of_their_own() -> None:
    source, subjects = faces(24), np.repeat(np.arange(4), 6)
    labels = to_standard(source, np.zeros((24, 478, 2)), 72)
    profile, unlabelled = np.arange(24) % 6 < 2, np.arange(24) == 23
    labels[profile, 43:], labels[unlabelled] = np.nan, np.nan
    config, front = AdapterConfig(source=68, target=72), ~profile & ~unlabelled
    found = convert_to_labels(source[:, :68], labels, subjects, steps=4)
    for rows in (front, profile):
        alone = leave_subject_out(config, source[rows, :68], labels[rows], subjects[rows], steps=4)
        np.testing.assert_array_equal(found[rows], alone)
    assert np.isnan(found[unlabelled]).all()
    # Profiles of one subject alone have nobody to learn from.
    labels[profile & (subjects > 0)] = np.nan
    found = convert_to_labels(source, labels, subjects, steps=4)
    assert np.isnan(found[profile]).all() and np.isfinite(found[front]).all()


def test_labels_of_a_subject_change_nothing_in_what_the_subject_is_converted_to() -> None:
    source, subjects = faces(12), np.repeat(np.arange(4), 3)
    labels, own = to_standard(source, np.zeros((12, 478, 2)), 72), subjects == 1
    other = np.where(own[:, None, None], labels[::-1] + 9, labels)
    one, two = (convert_to_labels(source, each, subjects, steps=4) for each in (labels, other))
    np.testing.assert_array_equal(one[own], two[own])
    assert (np.abs(one - two)[~own].max(axis=(1, 2)) > 0).all()
