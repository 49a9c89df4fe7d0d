"""A camera's parameters come back from the frames that it took, within the tolerances stated here."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch

from models.synthworld.camera import calibrate, sensor
from models.synthworld.camera.sensor import Camera

LAB = Camera(
    mtf_px=0.7, netd_mk=50.0, row_mk=10.0, column_mk=15.0, drift_k=0.15, offset_k=0.7, vignetting_k=0.2, housing_c=30.0,
    dead=0.0005, count_k=0.04, low_c=-20.0, high_c=150.0,
)  # fmt: skip


def scene(seed: int, size: int = 128, finer: int = 4) -> torch.Tensor:
    """Apparent temperature float32 [size, size] degC: a room with slopes, a head with its own, a shoulder; sharp rims."""
    place = np.random.default_rng(seed).uniform(0.4, 0.6, 2)
    y, x = np.mgrid[: size * finer, : size * finer] / (size * finer)
    room = 22 + x + 0.5 * np.sin(3 * y)
    radius = ((x - place[0]) / 0.25) ** 2 + ((y - place[1]) / 0.33) ** 2
    celsius = np.where(radius < 1, 34 - 1.5 * radius + 0.7 * np.cos(8 * x), room)
    celsius = np.where(y > 0.88, 29 + x, celsius)
    return torch.from_numpy(celsius.reshape(size, finer, size, finer).mean(axis=(1, 3))).float()


@cache
def frames(of: Camera, count: int = 4) -> list[np.ndarray]:
    """Frames as they lie in a file: degrees Celsius to the hundredth."""
    shots = [sensor.measure(scene(k), torch.ones(128, 128, dtype=torch.bool), of, "frame", k) for k in range(count)]
    return [np.round(shot.temperature.double().numpy(), 2) for shot in shots]


def pictures(shots: Sequence[np.ndarray], *, agc: bool, quality: int = 0) -> list[np.ndarray]:
    develop = sensor.plateau_agc if agc else sensor.minmax
    grey = [develop(torch.from_numpy(shot)) for shot in shots]
    return [(sensor.jpeg(picture, quality) if quality else picture).numpy() for picture in grey]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"mtf_px": 0.45, "netd_mk": 30.0, "row_mk": 5.0, "column_mk": 5.0, "count_k": 0.01},
        {"mtf_px": 1.1, "netd_mk": 60.0, "row_mk": 40.0, "column_mk": 20.0, "count_k": 0.02, "high_c": 33.5},
    ],
    ids=["lab", "fine", "saturated"],
)
def test_a_known_camera_is_recovered(change: dict[str, float]) -> None:
    """NETD within 5 %, patterns within 25 % or 2 mK, blur within 0.15 px, counts exactly, a range that is met within one."""
    truth = LAB.model_copy(update=change)
    found = calibrate.estimate_from_temperatures(frames(truth))
    assert found.netd_mk == pytest.approx(truth.netd_mk, rel=0.05)
    assert found.row_mk == pytest.approx(truth.row_mk, rel=0.25, abs=2.0)
    assert found.column_mk == pytest.approx(truth.column_mk, rel=0.25, abs=2.0)
    assert found.mtf_px == pytest.approx(truth.mtf_px, abs=0.15)
    assert found.count_k == truth.count_k
    assert found.low_c is None
    if "high_c" in change:
        assert found.high_c == pytest.approx(33.5, abs=truth.count_k)
    else:
        assert found.high_c is None


@pytest.mark.parametrize("quality", [0, 80])
def test_equalised_and_stretched_frames_are_told_apart(quality: int) -> None:
    shots = frames(LAB)
    assert calibrate.is_equalised(pictures(shots, agc=True, quality=quality))
    assert not calibrate.is_equalised(pictures(shots, agc=False, quality=quality))


def test_grey_frames_tell_blur_and_no_kelvin() -> None:
    shots = frames(LAB)
    found = calibrate.estimate_from_grey(pictures(shots, agc=False))
    assert found.mtf_px == pytest.approx(LAB.mtf_px, abs=0.15)
    assert found.netd_mk is found.count_k is found.high_c is None
    assert calibrate.estimate_from_grey(pictures(shots, agc=True)).mtf_px is None


def test_a_scene_without_edges_has_no_blur_to_tell() -> None:
    y, x = np.mgrid[:96, :96] / 96
    smooth = torch.from_numpy(25 + 3 * x + np.sin(4 * y)).float()
    shot = sensor.measure(smooth, torch.ones(96, 96, dtype=torch.bool), LAB, 0).temperature.double().numpy()
    found = calibrate.estimate_from_temperatures([shot])
    assert found.mtf_px is None and found.netd_mk == pytest.approx(50.0, rel=0.1)


def test_small_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="32 x 32"):
        calibrate.estimate_from_temperatures([np.zeros((16, 64))])
