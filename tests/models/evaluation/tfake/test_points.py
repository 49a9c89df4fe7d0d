"""Figures of points whose errors are known, beside sums by hand."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.tfake.points import FAILED, Faces, measure_faces
from models.evaluation.tfake.subsets import SUBSETS
from models.landmarks import adapt
from models.landmarks.adapt import leave_subject_out
from models.landmarks.standards import contour72

WIDTH, HIGH_PX, SIDE_DEG = 50.0, 40.0, 45.0
TRUTH = np.stack([np.linspace(10, 10 + WIDTH, 70), 20 + 40 * np.cos(np.arange(70))], axis=1)


def faces(error: np.ndarray, **values: Any) -> Faces:
    """Return faces whose "NME W/H" is `error` [N], NaN of one missed; tall, from the front and each of somebody else."""
    count = len(error)
    truth = np.repeat(TRUTH[None], count, axis=0)
    points = truth + np.stack([error * WIDTH, 0 * error], axis=1)[:, None]
    default = {
        "labels": np.full((count, 72, 2), np.nan), "height": np.full(count, 60.0), "yaw": np.zeros(count),
        "size": np.full(count, 128), "person": np.arange(count).astype(str),
    }  # fmt: skip
    return Faces(points=points, truth=truth, **(default | values))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_subsets_and_people_by_hand(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 12))

    def draw(values: st.SearchStrategy[Any]) -> list[Any]:
        return data.draw(st.lists(values, min_size=count, max_size=count))

    error = np.array(draw(st.sampled_from([0.0, 0.03, 0.08, 0.2, 1.7, np.nan])))
    height, yaw = np.array(draw(st.sampled_from([39.0, 40.0, 90.0]))), np.array(draw(st.sampled_from([-80.0, 44, 45])))
    person = np.array(draw(st.sampled_from("abc")))
    found = measure_faces(faces(error, height=height, yaw=yaw, person=person), HIGH_PX, SIDE_DEG).estimates
    for subset in SUBSETS:
        sums: dict[str, list[dict[str, float]]] = {}
        for e, h, y, who in zip(error, height, yaw, person, strict=True):
            inside = {"High": h >= 40, "Low": h < 40, "Side": abs(y) >= 45, "Front": abs(y) < 45, "Full": True}[subset]
            if inside:
                one = {"missed": float(np.isnan(e)), "nme_missed_1": 1.0 if np.isnan(e) else min(e, 1.0)}
                one |= {"failed": float(not e <= FAILED), "auc": 0.0 if np.isnan(e) else max(0.0, 1 - e / FAILED)}
                sums.setdefault(who, []).append(one | ({} if np.isnan(e) else {"nme": e}))
        for name in ("nme", "nme_missed_1", "missed", "failed", "auc"):
            own = [[one[name] for one in each if name in one] for each in sums.values()]
            means = [np.mean(values) for values in own if values]
            if name not in found:
                assert not means
            elif means:
                assert found[name][subset].value == pytest.approx(np.mean(means), abs=1e-9), (name, subset)
                assert np.isnan(found[name][subset].low) == (len(means) < 2)
            else:
                assert np.isnan(found[name][subset].value)


def test_intervals_are_over_people() -> None:
    """As a bootstrap of its own has them; further pictures of the same people add no certainty."""
    rng = np.random.default_rng(7)
    error = np.where(rng.random(60) < 0.2, np.nan, rng.uniform(0, 0.3, 60))
    one = measure_faces(faces(error), HIGH_PX, SIDE_DEG).estimates
    person = np.repeat(np.arange(len(error)), 5).astype(str)
    five = measure_faces(faces(np.repeat(error, 5), person=person), HIGH_PX, SIDE_DEG).estimates
    counted = np.nan_to_num(error, nan=1.0)
    for name, values in (("nme_missed_1", counted), ("missed", np.isnan(error)), ("failed", counted > 0.1)):
        draws = [rng.choice(values, len(values)).mean() for _ in range(4000)]
        np.testing.assert_allclose(one[name]["Full"][1:], np.quantile(draws, [0.025, 0.975]), atol=0.03)
        np.testing.assert_allclose(five[name]["Full"], one[name]["Full"], atol=1e-12)
    # The area by integration, as 300-W has it.
    steps = np.linspace(0, FAILED, 100_001)
    below = (np.where(np.isnan(error), np.inf, error)[:, None] <= steps).mean(axis=0)
    assert one["auc"]["Full"].value == pytest.approx(np.trapezoid(below, steps) / FAILED, abs=1e-4)


def test_a_person_with_many_faces_weighs_no_more_than_one_with_few() -> None:
    error, person = np.array([0.1, 0.1, 0.1, 0.3]), np.array(["a", "a", "a", "b"])
    assert measure_faces(faces(error, person=person), HIGH_PX, SIDE_DEG).estimates["nme"]["Full"].value == (
        pytest.approx(0.2)
    )


def test_what_is_not_known_makes_no_subset_and_no_interval() -> None:
    error = np.array([0.1, 0.2, 0.3])
    unknown = np.full(3, np.nan)
    found = measure_faces(faces(error, yaw=unknown, person=np.full(3, "")), HIGH_PX, SIDE_DEG)
    assert found.counts["faces"] == {"High": 3, "Low": 0, "Side": 0, "Front": 0, "Full": 3}
    assert np.isnan(found.estimates["nme"]["Side"].value) and np.isnan(found.estimates["nme"]["Front"].value)
    assert found.estimates["nme"]["Full"].value == pytest.approx(0.2) and np.isnan(found.estimates["nme"]["Full"].low)
    assert "labels_nme" not in found.estimates and "labels_faces" not in found.counts


def test_errors_by_other_normalisers() -> None:
    sizes = np.array([64, 128])
    found = measure_faces(faces(np.array([0.1, 0.3]), size=sizes), HIGH_PX, SIDE_DEG).estimates
    distance, height = np.array([5.0, 15.0]), np.ptp(TRUTH[:, 1])
    eyes = np.linalg.norm(TRUTH[36] - TRUTH[45])
    wanted = {"nme_box": distance / np.sqrt(WIDTH * height), "nme_image": distance / (sizes * np.sqrt(2))}
    for name, values in (wanted | {"nme_eyes": distance / eyes, "nme_to30": np.array([0.1, 0.3])}).items():
        assert found[name]["Full"].value == pytest.approx(values.mean()), name
    assert "nme_over60" not in found


def test_labels_are_read_through_adapters_that_have_not_seen_their_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who annotates one person alone otherwise shows as an error of that person; profiles of one person are left out."""
    rng = np.random.default_rng(0)
    person = np.repeat(["a", "b", "c", "d"], 6)
    points = TRUTH[None] * rng.uniform(0.8, 1.2, (24, 1, 2)) + rng.normal(0, 1, (24, 70, 2))
    labels = contour72(points)
    labels[person == "b"] += 12.0
    missed, profile = np.arange(24) == 2, np.arange(24) >= 22  # of d alone
    labels[profile, 43:] = np.nan
    given = np.where(missed[:, None, None], np.nan, points)
    some = faces(np.zeros(24), person=person, labels=labels)._replace(points=given, truth=np.full(given.shape, np.nan))
    monkeypatch.setattr(adapt, "leave_subject_out", partial(leave_subject_out, steps=60))
    found = measure_faces(some, HIGH_PX, SIDE_DEG)
    assert found.counts["labels_faces"]["Full"] == 22 and "faces" not in found.counts
    assert set(found.estimates) == {f"labels_{name}" for name in ("nme", "nme_missed_1", "missed", "failed", "auc")}
    assert found.estimates["labels_missed"]["Full"].value == pytest.approx(1 / 6 / 4)
    own = {}
    for who in "abcd":
        alone = some._replace(height=np.where(person == who, 60.0, 1.0))
        own[who] = measure_faces(alone, HIGH_PX, SIDE_DEG).estimates["labels_nme"]["High"].value
    shift = 12 * np.hypot(1 / np.ptp(labels[6, :, 0]), 1 / np.ptp(labels[6, :, 1]))
    assert own["b"] > 0.6 * shift and max(own[who] for who in "acd") < 0.4 * shift
