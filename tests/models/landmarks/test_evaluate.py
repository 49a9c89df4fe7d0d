"""Reading a landmarker: one look into the true box, calibration on validation people, crowds."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.landmarks import evaluate
from models.landmarks.calibration import read_calibration
from models.landmarks.network import LandmarkerConfig, new_landmarker
from models.landmarks.pose import average_head
from models.thermal.network import ThermalConfig, new_thermalizer, save_thermalizer
from models.unet import UNetConfig
from models.weights import save_network

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
        "apparent": rng.uniform(20, 36, (count, SIZE, SIZE)).astype(np.float32),
        "visible_70_rgb": seen,
        "visible_70_thermal": seen,
    }


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, str]:
    torch.manual_seed(0)
    network = new_landmarker(LandmarkerConfig(size=48, width=0.25, head=32, outputs="softplus"))
    save_network(network, tmp_path / "landmarker.safetensors")
    unet = UNetConfig(width=8, blocks=(1, 1, 1, 1))
    save_thermalizer(new_thermalizer(ThermalConfig(low=0, high=45), unet), tmp_path / "thermal")
    return tmp_path, str(tmp_path / "thermal")


def test_recalibration_on_validation_people_covers_what_is_stated_on_others(folders: tuple[Path, str]) -> None:
    folder, thermalizer = folders
    before = evaluate.evaluate_landmarker(folder, [rows(6, 0)], thermalizer)
    assert {"rgb_nme", "thermal_nme_seen", "true_coverage_0.9", "thermal_contrast"} <= before.keys()
    factors = evaluate.calibrate(folder, [rows(6, 1)], thermalizer)
    assert read_calibration(folder) == pytest.approx(factors, rel=1e-3)
    after = evaluate.evaluate_landmarker(folder, [rows(6, 0)], thermalizer)
    for name in ("rgb", "thermal"):
        assert after[f"{name}_factor"] == pytest.approx(1, abs=0.1)
        assert after[f"{name}_nll"] < before[f"{name}_nll"]
        assert after[f"{name}_nme"] == before[f"{name}_nme"]


def test_crowds_hold_one_to_six_people_that_do_not_overlap() -> None:
    data, rng = rows(3, 0), np.random.default_rng(0)
    pool = list(zip(data["visible"], data["classes"], data["landmarks_70"], strict=True))
    counts = set()
    for _ in range(20):
        frame, boxes = evaluate.crowd(pool, rng)
        counts.add(len(boxes))
        assert frame.shape == (480, 640, 3) and (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (640, 480)).all()
        for k, box in enumerate(boxes):
            assert all(evaluate.shared(box, other) == 0 for other in boxes[k + 1 :])
    assert len(counts) >= 4 and counts <= set(range(1, 7))
