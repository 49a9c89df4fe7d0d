"""The thermal camera: noise of the asked size, honest masks, exact counts, monotone pictures."""

import pytest
import torch

from models.synthworld.camera import sensor
from models.synthworld.camera.sensor import Camera

CLEAN = Camera(
    mtf_px=0.0, netd_mk=0.0, row_mk=0.0, column_mk=0.0, drift_k=0.0, offset_k=0.0, vignetting_k=0.0, housing_c=25.0,
    dead=0.0, count_k=0.01, low_c=-20.0, high_c=120.0,
)  # fmt: skip


def flat(value: float, size: int = 160) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((size, size), value), torch.ones(size, size, dtype=torch.bool)


@pytest.mark.parametrize("netd", [30.0, 60.0])
def test_noise_has_the_netd_asked_for(netd: float) -> None:
    frame = sensor.measure(*flat(30.0), CLEAN.model_copy(update={"netd_mk": netd}), 1, 2)
    assert frame.temperature.std().item() * 1000 == pytest.approx(netd, rel=0.05)
    assert frame.temperature.mean().item() == pytest.approx(30.0, abs=0.003)


def test_rows_and_columns_have_their_patterns() -> None:
    frame = sensor.measure(*flat(30.0), CLEAN.model_copy(update={"row_mk": 40.0, "column_mk": 80.0}), 3)
    assert frame.temperature.mean(1).std().item() * 1000 == pytest.approx(40.0, rel=0.25)
    assert frame.temperature.mean(0).std().item() * 1000 == pytest.approx(80.0, rel=0.25)


def test_noise_belongs_to_the_name() -> None:
    noisy = CLEAN.model_copy(update={"netd_mk": 50.0, "offset_k": 1.0})
    a, b, c = (sensor.measure(*flat(30.0, 32), noisy, name).temperature for name in ("a", "a", "b"))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_offset_never_exceeds_two_kelvin() -> None:
    wild = CLEAN.model_copy(update={"offset_k": 5.0})
    offsets = [sensor.measure(*flat(30.0, 16), wild, k).temperature.mean().item() - 30.0 for k in range(40)]
    assert max(map(abs, offsets)) <= 2.005
    assert len({round(value, 2) for value in offsets}) > 5


def test_saturated_pixels_are_counted_and_invalid() -> None:
    picture, valid = flat(30.0, 20)
    picture[0, :5] = 200.0
    picture[1, :3] = -60.0
    frame = sensor.measure(picture, valid, CLEAN)
    assert frame.saturated == 8
    assert not frame.valid[0, :5].any()
    assert int(frame.valid.sum()) == 400 - 8


def test_dead_pixels_are_filled_and_invalid() -> None:
    ramp = torch.linspace(20.0, 40.0, 64).expand(64, 64).contiguous()
    frame = sensor.measure(ramp, torch.ones_like(ramp, dtype=torch.bool), CLEAN.model_copy(update={"dead": 0.05}), 1)
    dead = ~frame.valid
    assert 0.03 < dead.float().mean().item() < 0.07
    assert (frame.temperature - ramp)[dead].abs().max().item() < 0.6


@pytest.mark.parametrize("count", [0.01, 0.04])
def test_counts_are_whole(count: float) -> None:
    picture = 20.0 + 15.0 * torch.rand(40, 40, generator=torch.Generator().manual_seed(1))
    read = sensor.measure(picture, picture > 0, CLEAN.model_copy(update={"count_k": count})).temperature.double()
    counts = (read + 273.15) / count
    assert (counts - counts.round()).abs().max().item() < 0.01
    assert (read - picture).abs().max().item() <= count / 2 + 1e-4


def test_agc_is_monotone_within_a_frame_and_uses_the_range() -> None:
    picture = torch.randn(96, 96, generator=torch.Generator().manual_seed(2)) ** 3 + 30.0
    grey = sensor.plateau_agc(picture).flatten().int()
    order = picture.flatten().argsort()
    assert (grey[order].diff() >= 0).all()
    assert grey.min() == 0
    assert grey.max() == 255


def test_constant_frames_do_not_divide_by_zero() -> None:
    picture, _ = flat(25.0, 8)
    assert sensor.minmax(picture).max() == 0
    assert sensor.plateau_agc(picture).max() == 0


def test_jpeg_changes_grey_levels_little() -> None:
    grey = torch.arange(256, dtype=torch.uint8).reshape(16, 16)
    assert (sensor.jpeg(grey, 90).int() - grey.int()).abs().float().mean() < 3


def test_native_size_keeps_faces_between_20_and_200_pixels() -> None:
    for wanted in (5.0, 20.0, 100.0, 400.0):
        size = sensor.native_size(128, 75.0, wanted)
        assert 19.0 <= 75.0 * size / 128 <= 201.0
    assert sensor.resample(torch.rand(128, 128), 40).shape == (40, 40)
