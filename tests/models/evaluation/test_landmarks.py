"""Reading a landmarker: one look into the true box, by modality and yaw, through a camera; calibration on validation people."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.card import Card
from models.evaluation import landmarks as evaluate
from models.landmarks.calibration import read_calibration
from models.landmarks.network import LandmarkerConfig, new_landmarker
from models.landmarks.pose import average_head
from models.synthworld.sampling.domain import load_domain
from models.thermal.unet.network import ThermalConfig, new_thermalizer, save_thermalizer
from models.unet import UNetConfig
from models.weights.networks import save_network
from models.weights.store import ROOT

SIZE = 64


def rows(count: int, seed: int) -> dict[str, np.ndarray]:
    """People whose points spread about the middle of their box by a known amount."""
    rng = np.random.default_rng(seed)
    head = average_head()[:, :2] * np.array([1, -1]) * 18 + 32
    points = (head + rng.normal(0, 1.5, (count, 70, 2))).astype(np.float32)
    seen = np.ones((count, 70), bool)
    seen[:, :17] = False
    return {
        "visible": rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8),
        "classes": np.ones((count, SIZE, SIZE), np.uint8),
        "landmarks_70": points,
        "bbox": np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1),
        "thermal": rng.uniform(20, 36, (count, SIZE, SIZE)).astype(np.float32),
        "valid": np.ones((count, SIZE, SIZE), bool),
        "pose": np.stack([np.linspace(-80, 80, count), *np.zeros((2, count))], axis=1),
        "identity_id": np.arange(count).astype(str),
        "view": np.zeros(count, np.int64),
        "condition": np.array(["warm"] * count, object),
        "seen_70_visible": seen,
        "seen_70_thermal": seen,
    }


def test_the_starter_is_less_sure_of_what_thermal_does_not_show() -> None:
    """Brows and pupils, on people it was not trained on."""
    metrics = Card.read(ROOT / "models" / "starter" / "landmarks" / "70").metrics
    contrasts = [figures["thermal_contrast"] for figures in metrics.values() if "thermal_contrast" in figures]
    assert len(contrasts) == 2 and min(contrasts) > 1


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, str]:
    torch.manual_seed(0)
    network = new_landmarker(LandmarkerConfig(size=48, width=0.25, head=32, outputs="softplus"))
    save_network(network, tmp_path / "landmarker.safetensors")
    unet = UNetConfig(width=8, blocks=(1, 1, 1, 1))
    save_thermalizer(new_thermalizer(ThermalConfig(low=0, high=45), unet), tmp_path / "thermal")
    return tmp_path, str(tmp_path / "thermal")


@pytest.mark.slow
def test_recalibration_on_validation_people_covers_what_is_stated_on_others(folders: tuple[Path, str]) -> None:
    folder, thermalizer = folders
    before = evaluate.evaluate_landmarker(folder, [rows(6, 0)], thermalizer)
    assert {"rgb_nme", "thermal_nme_seen", "true_coverage_0.9", "thermal_contrast"} <= before.keys()
    factors = evaluate.calibrate(folder, [rows(6, 1)], thermalizer)
    assert read_calibration(folder) == pytest.approx(factors, rel=1e-3)
    after = evaluate.evaluate_landmarker(folder, [rows(6, 0)], thermalizer)
    assert after["rgb_coverage_0.9_raw"] == before["rgb_coverage_0.9"]
    for name in ("rgb", "thermal"):
        assert after[f"{name}_factor"] == pytest.approx(1, abs=0.1)
        assert after[f"{name}_nll"] < before[f"{name}_nll"]
        assert after[f"{name}_nme"] == before[f"{name}_nme"]


@pytest.mark.slow
def test_the_camera_of_a_domain_has_pixels_and_points_of_its_own(folders: tuple[Path, str]) -> None:
    data, field = rows(6, 0), load_domain("field")
    for row in range(6):
        look = evaluate.photograph(data, row, 70, field)
        assert look.picture.dtype == np.float32 and 15 < look.picture.mean() < 40
        scale = look.picture.shape[0] / SIZE
        off = look.points - data["landmarks_70"][row] * scale
        assert np.ptp(off, axis=0).max() < 1e-3 and np.linalg.norm(off[0]) <= 2 + 0.5
        np.testing.assert_allclose(look.box[:2], look.points.min(axis=0), atol=1e-3)
    found = evaluate.evaluate_landmarker(folders[0], [data], folders[1], field)
    assert {"measured_nme", "measured_nme_seen_over60", "rgb_nme_to30", "rgb_nme_30to60"} <= found.keys()
    turned = np.abs(data["pose"][:, 0])
    bins = [(turned < 30).mean(), ((turned >= 30) & (turned < 60)).mean(), (turned >= 60).mean()]
    parts = [found[f"rgb_nme_{name}"] for name in ("to30", "30to60", "over60")]
    assert np.dot(bins, parts) == pytest.approx(found["rgb_nme"])
    whole = evaluate.measure_search(folders[0], [data], field)
    assert 0 <= whole["frame_missed"] <= 1 and whole["frame_nme"] > 0


def test_hidden_points_are_compared_with_the_same_face() -> None:
    variance = np.array([[1.0, 1, 4, 4], [10, 10, 20, 20], [5, 5, 5, 5]])
    seen = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]], bool)
    assert evaluate.hidden_variance(variance, seen) == pytest.approx(3)
    assert np.isnan(evaluate.hidden_variance(variance, np.ones_like(seen)))
