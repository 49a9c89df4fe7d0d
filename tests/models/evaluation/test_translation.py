"""Figures of a translator: matching, verification, structure, and what counts as a probe."""

import json

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from models.attributes import ATTRIBUTES
from models.errors import UserError
from models.evaluation.translation import evaluate_translation, match, psnr, show_thermal, split_rows, ssim
from models.faces.metrics import verify


def test_the_gallery_has_one_view_a_person_and_no_probe_is_in_it() -> None:
    identity = np.array([3, 3, 1, 2, 2, 2, 1])
    split = split_rows(identity, np.array([0, 1, 0, 0, 1, 2, 1]), people=2)
    assert split.gallery.tolist() == [0, 2] and split.probes.tolist() == [1, 6]
    with pytest.raises(UserError, match="two people at least"):
        split_rows(np.array([1, 1, 2]), np.array([0, 1, 0]))


def test_the_view_of_the_gallery_is_no_probe_in_another_room() -> None:
    split = split_rows(np.repeat([0, 1], 4), np.array([0, 0, 1, 1] * 2))  # two views, each warm and cold
    assert split.gallery.tolist() == [0, 4] and split.probes.tolist() == [2, 3, 6, 7]


def test_matching_counts_who_is_found() -> None:
    gallery = np.eye(3)
    probes = np.array([[1, 0.1, 0], [0, 0.2, 1], [0, 1, 0.3]])  # the second is taken for another
    found = match(probes, np.array([0, 1, 1]), gallery, np.array([0, 1, 2]))
    assert found["rank1"] == pytest.approx(0.75)  # people count alike, not probes
    assert 0.5 <= found["rank1_low"] <= 0.75 <= found["rank1_high"] <= 1


def test_verification_of_known_similarities() -> None:
    apart = verify(np.array([0.8, 0.9]), np.linspace(-0.5, 0.5, 1000))
    assert apart["auc"] == 1 and apart["eer"] == pytest.approx(0, abs=1e-3) and apart["vr_at_far_1e-3"] == 1
    same = np.linspace(0, 1, 2000)
    blind = verify(same, same)
    assert blind["auc"] == pytest.approx(0.5, abs=1e-3) and blind["eer"] == pytest.approx(0.5, abs=1e-3)
    assert blind["vr_at_far_1e-2"] == pytest.approx(0.01, abs=1e-3)


def test_rates_are_those_of_a_curve_that_is_counted_by_hand() -> None:
    rng = np.random.default_rng(3)
    genuine, strangers = rng.normal(1.5, 1, 240), rng.normal(0, 1, 3000)
    false = (strangers[:, None] > strangers).sum(axis=0)
    found = verify(genuine, strangers)
    # Every threshold that lets no larger share of strangers pass, and the most of the others that it lets pass.
    for name, share in (("vr_at_far_5e-2", 0.05), ("vr_at_far_1e-2", 0.01), ("vr_at_far_1e-3", 0.001)):
        passed = [(genuine > one).mean() for one in strangers[false <= share * 3000]]
        assert found[name] == pytest.approx(max(passed)), name
    assert found["auc"] == pytest.approx(mannwhitneyu(genuine, strangers).statistic / (240 * 3000))
    # Where as many of the own are missed as strangers pass.
    own, false = (np.array([(one > at).mean() for at in np.sort(genuine)]) for one in (genuine, strangers))
    place = np.abs(1 - own - false).argmin()
    assert found["eer"] == pytest.approx((1 - own[place] + false[place]) / 2, abs=0.005)


def test_pictures_are_compared_in_grey() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 255, (2, 32, 32, 3), np.uint8)
    assert ssim(one, one) == pytest.approx([1, 1]) and psnr(one, one).tolist() == [99, 99]
    flat = np.full((1, 32, 32, 3), 100, np.uint8)
    assert psnr(flat, flat + 10) == pytest.approx([10 * np.log10(255**2 / 100)])
    noise = rng.integers(0, 255, (2, 32, 32, 3), np.uint8)
    assert (ssim(one, noise) < 0.2).all()


def test_raw_probes_stretch_each_picture_and_miss_no_reading() -> None:
    celsius = np.linspace(20, 36, 1024).reshape(1, 32, 32)
    celsius[0, 0, 0] = np.nan
    shown = show_thermal(np.concatenate([celsius, celsius + 10]))
    assert np.array_equal(shown[0], shown[1]) and shown.max() == 255 and shown[0, 0, 0, 0] == 0


def test_rows_of_a_table_and_attributes() -> None:
    rng = np.random.default_rng(1)
    people, views = 4, 3
    colours = rng.integers(30, 220, (people, 3))
    visible = np.repeat(colours, views, axis=0)[:, None, None].repeat(16, 1).repeat(16, 2).astype(np.uint8)
    words = {name: known[0] for name, (_, _, known) in ATTRIBUTES.items()}
    rows = {
        "identity_id": np.repeat(np.arange(people), views).astype(str).astype(object),
        "view": np.tile(np.arange(views), people),
        "visible": visible,
        "thermal": rng.normal(30, 3, (people * views, 16, 16)),
        "attributes": np.array(
            [json.dumps(words | {"glasses": "clear" if k % 2 else "none"}) for k in range(12)], object
        ),
        "landmarks_70": np.zeros((12, 70, 2), np.float32),
    }
    draws = np.stack([visible, 255 - visible])

    def embed(pictures: np.ndarray, points: np.ndarray) -> np.ndarray:
        return pictures.mean(axis=(1, 2)) - 128.0

    glasses = np.arange(12) % 2
    found = evaluate_translation(rows, draws, embed, {"glasses": glasses, "skin_tone": glasses})
    assert found["translated"]["rank1"] == found["true"]["rank1"] == 1 and found["translated"]["psnr"] == 99
    assert found["raw"]["rank1"] < 1 and found["translated"]["diversity"] > 10 and found["true"]["people"] == 4
    assert found["attributes"] == {"glasses": 1.0, "glasses_same": 0.5}  # what thermal cannot show is not asked for
