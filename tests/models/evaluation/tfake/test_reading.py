"""What is trained on and how it is read, on small arrays."""

import numpy as np
import pytest
import torch

from models.classes import CLASSES
from models.columns import Columns
from models.evaluation.spectra import radial_power, spectral_distance
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
