"""Landmarks of finished pairs: which pixels they are in, what the record holds, and head pose."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.classes import CLASSES
from models.errors import EnvironmentFault, UserError
from models.faces.align import five_points
from models.landmarks.adapt import FILE, Adapter, AdapterConfig
from models.landmarks.calibration import write_calibration
from models.landmarks.detect import write_detection
from models.landmarks.network import LandmarkerConfig, new_landmarker
from models.landmarks.pose import average_head, estimate_pose
from models.landmarks.settings import columns
from models.landmarks.stage import Stage, shows_face
from models.stages import NoOptions
from models.synthworld.shape import kernels
from models.synthworld.shape.figure import rotation
from models.weights.networks import save_network
from models.weights.store import SmallFiles, seal

SIZE = 64


def batch(count: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    boxes = np.tile(np.array([16, 12, 48, 52], np.float32), (count, 1))
    boxes[1] = np.nan
    return {
        "visible": rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8),
        "thermal": rng.integers(29300, 31000, (count, 2, SIZE, SIZE)).astype(np.uint16),
        "classes": np.ones((count, SIZE, SIZE), np.uint8),
        "bbox": boxes,
    }


def landmarks(part: Path) -> Stage:
    return Stage({"model": part}, NoOptions(), dtype="float32", threads=1)


def test_the_average_head_is_computed_without_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their last bits differ: a pose would be another number on machines that have built them."""

    def load(*asked: object) -> None:
        raise AssertionError("a kernel was asked for")

    monkeypatch.setattr(kernels, "can_compile", lambda: True)
    monkeypatch.setattr(kernels, "_load", load)
    kernels.kernel.cache_clear()
    try:
        np.testing.assert_array_equal(average_head.__wrapped__(), average_head())
    finally:
        kernels.kernel.cache_clear()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    for standard in (70, 478):
        config = LandmarkerConfig(standard=standard, size=48, width=0.25, head=32, outputs="softplus")
        save_network(new_landmarker(config), tmp_path / str(standard) / "landmarker.safetensors")
    return tmp_path


def test_columns_faces_that_were_not_found_and_calibration(weights: Path) -> None:
    found = landmarks(weights)(batch(), NoOptions(), 4)
    for standard in (70, 478):
        assert found[f"landmarks_{standard}"].shape == (3, standard, 2)
        assert found[f"variance_{standard}_thermal"].shape == (3, 2, standard)
        assert np.isnan(found[f"landmarks_{standard}"][1]).all() and not found[f"seen_{standard}_visible"][1].any()
        assert np.isfinite(found[f"variance_{standard}_thermal"][[0, 2]]).all()
    middle = found["landmarks_70"][0].mean(axis=0)
    np.testing.assert_allclose(middle, (32, 32), atol=3)  # an untrained landmarker answers the middle of the box
    assert np.isnan(found["pose"][1]).all() and np.isfinite(found["pose"][0]).all()
    assert found["apart_70"].shape == (3, 2) and np.isnan(found["apart_70"][1]).all()
    write_calibration(weights / "70", {"visible": 2.0, "thermal": 0.5})
    again = landmarks(weights)(batch(), NoOptions(), 4)
    np.testing.assert_allclose(again["variance_70_visible"][0], 2 * found["variance_70_visible"][0], rtol=1e-5)
    np.testing.assert_allclose(again["variance_70_thermal"][0], found["variance_70_thermal"][0] / 2, rtol=1e-5)


def test_how_far_the_halves_of_a_pair_are_apart(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points of the second layer that lie a tenth of the box to the right are a tenth apart, those of the first are not."""
    stage, look = landmarks(weights), Stage._look

    def shifted(self: Stage, number: int, looks: list, batch: int) -> list:
        points = np.linspace(10, 50, 2 * number).reshape(2, number).T
        width = np.ptp(points[:, 0])
        faces = look(self, number, looks, batch)
        return [
            replace(face, points=points + np.array([max(0, k - 1) * width / 10, 0])) for k, face in enumerate(faces)
        ]

    monkeypatch.setattr(Stage, "_look", shifted)
    np.testing.assert_allclose(stage(batch(), NoOptions(), 4)["apart_70"][[0, 2]], [[0, 0.1]] * 2, atol=1e-4)


def test_other_standards_are_converted_by_the_adapters_of_the_part(weights: Path) -> None:
    save_network(Adapter(AdapterConfig(source=70, target=5, hidden=8)), weights / "adapters" / "70-5" / FILE)
    write_calibration(weights / "70", {"visible": 4.0, "thermal": 1.0})
    stage, boxes = landmarks(weights), np.array([[16, 12, 48, 52]])
    picture = batch()["visible"][0]
    ((whole,),), ((five,),) = (stage.at_boxes([picture], [boxes], number, 4) for number in (70, 5))
    np.testing.assert_allclose(five.points, five_points(whole.points), atol=1e-2)
    np.testing.assert_allclose(five.variance[2:], whole.variance[[30, 48, 54]], rtol=0.05)
    with pytest.raises(UserError, match="no landmarker of 72 points; it has 70 and 478, and the conversions 70-5"):
        stage.at_boxes([picture], [boxes], 72, 4)


def test_the_margin_beside_the_weights_is_the_stages(weights: Path) -> None:
    before = landmarks(weights)(batch(), NoOptions(), 4)["variance_70_visible"][0]
    write_detection(weights / "70", margin=2.5)
    after = landmarks(weights)(batch(), NoOptions(), 4)["variance_70_visible"][0]
    np.testing.assert_allclose(after / before, 4, rtol=0.1)  # the same answer in crop units, of a crop twice as wide


def test_rows_do_not_depend_on_their_neighbours(weights: Path) -> None:
    stage, rows = landmarks(weights), batch()
    together = stage(rows, NoOptions(), 2)
    alone = stage({key: values[2:] for key, values in rows.items()}, NoOptions(), 2)
    np.testing.assert_array_equal(together["landmarks_70"][2], alone["landmarks_70"][0])
    np.testing.assert_array_equal(together["variance_70_thermal"][2], alone["variance_70_thermal"][0])


def test_covered_points_by_modality() -> None:
    names = ("SKIN", "HAIR", "GLASSES", "BEARD", "BACKGROUND", "FACEWEAR")
    classes = np.array([[[CLASSES.index(name) for name in names]]], np.uint8)
    points = np.array([[[k + 0.5, 0.5] for k in range(len(names))]], np.float32)
    assert shows_face(points, classes, "visible")[0].tolist() == [True, False, True, True, False, False]
    assert shows_face(points, classes, "thermal")[0].tolist() == [True, False, False, True, False, False]
    assert not shows_face(points + 6, classes, "visible").any()


def test_pose_of_the_average_head_is_the_one_it_was_turned_by() -> None:
    for yaw, pitch, roll in ((0, 0, 0), (30, 0, 0), (-20, 12, 8), (45, -15, -10)):
        turned = average_head() @ np.array(rotation(yaw, pitch, roll)).T
        points = np.array([64, 64]) + 30 * turned[:, :2] * np.array([1, -1])
        np.testing.assert_allclose(estimate_pose(points[None])[0], (yaw, pitch, roll), atol=0.01)


def test_a_folder_without_a_landmarker_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="neither 70/ nor 478/"):
        landmarks(tmp_path)
    seal(tmp_path)
    with pytest.raises(EnvironmentFault, match="neither 70/ nor 478/"):
        columns(NoOptions(), NoOptions(), {"model": SmallFiles(tmp_path)})


def test_the_columns_follow_from_the_landmarkers_that_are_there(weights: Path) -> None:
    shutil.rmtree(weights / "478")
    seal(weights)
    told = columns(NoOptions(), NoOptions(), {"model": SmallFiles(weights)}).writes
    assert set(told) == set(landmarks(weights)(batch(), NoOptions(), 4)) and "landmarks_478" not in told
