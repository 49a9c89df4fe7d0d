"""What is trained on and how it is read, on small arrays."""

import cv2
import numpy as np
import pytest
import torch

from models.classes import CLASSES
from models.columns import Columns
from models.evaluation.spectra import radial_power, spectral_differences, spectral_distance
from models.evaluation.tfake import thermal
from models.evaluation.tfake.cells import LOSSES, MINMAX
from models.evaluation.tfake.recipe import Recipe
from models.thermal.prior import PRIOR_CELSIUS
from models.thermal.unet.network import new_thermalizer
from models.unet import UNetConfig

RECIPE = Recipe(size=32, patches=16, sizes=(32, 16), unseen=(24,), width=8)


@pytest.fixture
def rows() -> Columns:
    rng = np.random.default_rng(0)
    shape = (4, 32, 32)
    truth = rng.normal(33, 1, shape).astype(np.float32)
    return {
        "visible": rng.integers(0, 255, (*shape, 3), dtype=np.uint8),
        "classes": np.ones(shape, np.uint8),
        "valid": np.ones(shape, bool),
        "thermal": truth,
        "twin": truth + 1,
        "twin_valid": np.ones(shape, bool),
        "grey": rng.random(shape, dtype=np.float32),
        "condition": np.array(["warm"] * 4),
        "identity_id": np.array(["7", "7", "9", "9"]),
    }


def test_reading_by_hand(rows: Columns) -> None:
    found = thermal.measure(rows["thermal"] + np.float32([2, 2, -1, -1])[:, None, None], rows, RECIPE)
    assert found["identity"] == ["7", "9"]
    np.testing.assert_allclose(found["mae"], [2, 1], rtol=1e-5)
    np.testing.assert_allclose(found["mae_offset"], 0, atol=1e-5)
    np.testing.assert_allclose(found["spectra"], 0, atol=1e-4)
    assert found["patches"][0] > found["patches"][1] > 0


def test_pairs_are_what_the_camera_gives(rows: Columns) -> None:
    plain, grey = thermal.pairs(rows, LOSSES["full"]), thermal.pairs(rows, MINMAX["full"])
    np.testing.assert_array_equal(plain["thermal"], rows["twin"])
    np.testing.assert_allclose(grey["thermal"], 45 * rows["grey"])


def test_grey_levels_are_calibrated_to_degrees(rows: Columns) -> None:
    torch.manual_seed(0)
    model = new_thermalizer(thermal.SCALE, UNetConfig(width=8, blocks=(1, 1, 1, 1))).eval()
    known = thermal.predict(model, rows)
    lab = rows | {"twin": 3 * known + 5}
    np.testing.assert_allclose(thermal.predict_calibrated(model, lab, rows), 3 * known + 5, rtol=1e-3)


def test_mirrored_frames_keep_each_mean_and_turn_hot_to_cold(rows: Columns) -> None:
    plain, turned = thermal.unpaired_frames(rows), thermal.unpaired_frames(rows, mirrored=True)
    np.testing.assert_array_equal(np.isnan(plain), np.isnan(turned))
    np.testing.assert_allclose(np.nanmean(plain, axis=(1, 2)), np.nanmean(turned, axis=(1, 2)), rtol=1e-5)
    assert np.corrcoef(plain[~np.isnan(plain)] - np.nanmean(plain), turned[~np.isnan(plain)])[0, 1] < -0.9


def test_wrong_priors_are_wrong_in_the_way_they_say() -> None:
    warmer, permuted = thermal.wrong_prior("warmer"), thermal.wrong_prior("permuted")
    for condition, table in PRIOR_CELSIUS.items():
        assert {warmer[condition][name] - table[name] for name in CLASSES} == {2.0}
        assert sorted(permuted[condition].values()) == sorted(table.values())
        assert permuted[condition] != table
    assert thermal.wrong_prior("paper") == {}


def test_power_lies_in_the_ring_of_the_wave() -> None:
    axis = np.arange(32)
    wave = np.cos(2 * np.pi * 5 * axis / 32)[None, None, :].repeat(32, axis=1)
    power = radial_power(wave, np.ones((1, 32, 32), bool))
    assert power.argmax() == 4, "ring k holds k + 1 cycles"


def test_blur_is_further_in_spectrum_than_an_offset(rows: Columns) -> None:
    truth, keep = rows["thermal"], np.ones(rows["thermal"].shape, bool)
    blurred = (truth + np.roll(truth, 1, axis=1) + np.roll(truth, 1, axis=2)) / 3
    assert spectral_distance(truth + 3, truth, keep) < 1e-3 < 0.2 < spectral_distance(blurred, truth, keep)


def waves(size: int, **amplitudes: float) -> np.ndarray:
    """One picture [1, S, S] of waves along x, by cycles a picture (`k5`), sampled at the centres of its pixels."""
    axis = (np.arange(size) + 0.5) / size
    line = sum(value * np.cos(2 * np.pi * int(name[1:]) * axis) for name, value in amplitudes.items())
    return np.broadcast_to(line, (1, size, size)).astype(np.float32)


def test_a_frequency_differs_alike_at_every_side() -> None:
    apart = {}
    for size in (32, 64):
        keep = np.ones((1, size, size), bool)
        ours, theirs = waves(size, k5=0.5, k12=2.0), waves(size, k5=1.0, k12=1.0)
        apart[size] = spectral_differences(ours, theirs, keep)
        # Half the amplitude is a quarter of the power.
        assert apart[size][[4, 11]] == pytest.approx([np.log10(4)] * 2, abs=1e-3)
    assert (len(apart[32]), len(apart[64])) == (15, 31)


def at_side(size: int, celsius: np.ndarray) -> Columns:
    count = len(celsius)
    return {
        "thermal": celsius,
        "classes": np.ones((count, size, size), np.uint8),
        "valid": np.ones((count, size, size), bool),
        "condition": np.array(["warm"] * count),
        "identity_id": np.array(["7"] * count),
    }


def test_a_larger_side_is_read_beside_an_enlarged_picture() -> None:
    small, large = at_side(32, 33 + waves(32, k3=1.0)), at_side(64, 33 + waves(64, k3=1.0, k20=0.5))

    def predict(rows: Columns) -> np.ndarray:
        return rows["thermal"] + np.float32(0.25 if rows is large else 0.75)

    found = thermal.measure_larger(predict, small, large, RECIPE)
    assert found["generated"]["mae"] == pytest.approx([0.25], abs=1e-5)
    assert found["trained"] == thermal.measure(predict(small), small, RECIPE)
    assert found["generated"]["spectra_fine"] == pytest.approx([0], abs=1e-3)
    # What is enlarged has the coarse wave and not the fine one; OpenCV's enlarging is the reference.
    enlarged = cv2.resize(small["thermal"][0] + 0.75, (64, 64), interpolation=cv2.INTER_LINEAR)
    assert found["enlarged"]["mae"] == pytest.approx([np.abs(enlarged - large["thermal"][0]).mean()], rel=1e-5)
    assert found["enlarged"]["spectra_fine"][0] > 0.1
    apart = spectral_differences(enlarged[None], large["thermal"], np.ones((1, 64, 64), bool))
    assert found["enlarged"]["spectra"] == pytest.approx([apart[:15].mean()], abs=1e-4)
    assert found["enlarged"]["spectra_fine"] == pytest.approx([apart[15:].mean()], abs=1e-4)
    assert len(thermal.measure(large["thermal"], large, RECIPE)) == 5, "finer spectra only beside a smaller side"


def test_pictures_are_predicted_some_at_a_time_whatever_their_side(
    rows: Columns, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = new_thermalizer(thermal.SCALE, UNetConfig(width=8, blocks=(1, 1, 1, 1))).eval()
    whole = thermal.predict(model, rows)
    for pixels in (1, 3 * 32 * 32):
        monkeypatch.setattr(thermal, "AT_ONCE", pixels)
        np.testing.assert_allclose(thermal.predict(model, rows), whole, atol=1e-4)
