"""What the judges reach: each figure against a count by hand, and a judge that is always right."""

import json

import numpy as np
import pytest

from models.attributes import ATTRIBUTES
from models.card import Card
from models.classes import CLASSES
from models.columns import Columns
from models.evaluation.bootstrap import DRAWS
from models.evaluation.judges import FOLDERS, Poses, list_judges, load_judges
from models.evaluation.judges_reach import columns_of, estimate_ratio, mean_of_ratios, measure_judges, sum_by_person
from models.weights.store import ROOT, verify

KEY = {
    "attributes": [f"balanced_accuracy_{name}" for name in ATTRIBUTES],
    "pose": ["yaw_mae_0_15", "yaw_mae_15_45", "yaw_mae_45_75", "yaw_mae_75_90"],
    "parser": ["miou", "accuracy"],
}
"""Figures of each judge's card."""


def rows(count: int = 12) -> Columns:
    rng = np.random.default_rng(0)
    texts = [{name: str(rng.choice(words)) for name, (_, _, words) in ATTRIBUTES.items()} for _ in range(count)]
    yaw = np.linspace(-90, 90, count)
    return {
        "world_identity": np.arange(count) // 2,
        "visible": rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8),
        "attributes": np.array([json.dumps(row) for row in texts], object),
        "pose": np.stack([yaw, rng.uniform(-20, 20, count), rng.uniform(-20, 20, count)], axis=1).astype(np.float32),
        "classes": rng.integers(0, 19, (count, 16, 16), dtype=np.uint8),
    }


class Knowing:
    """Judges that know the truth of `rows`; `wrong` of them say otherwise of the first picture."""

    def __init__(self, seen: Columns, wrong: bool) -> None:
        self.seen, self.wrong = seen, wrong

    def judge_attributes(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        found = {}
        for name, (_, _, words) in ATTRIBUTES.items():
            places = np.array([words.index(json.loads(text)[name]) for text in self.seen["attributes"]])
            places[0] = (places[0] + self.wrong) % len(words)
            found[name] = np.eye(len(words), dtype=np.float32)[places]
        return found

    def judge_pose(self, pictures: np.ndarray) -> Poses:
        degrees = self.seen["pose"] + np.float32(self.wrong) * np.array([3, -2, 1], np.float32)
        return Poses(degrees, np.full(len(degrees), 4.0, np.float32))

    def judge_parser(self, pictures: np.ndarray) -> np.ndarray:
        classes = self.seen["classes"].copy()
        classes[0] = (classes[0] + self.wrong) % 19
        return classes[:, ::2, ::2].repeat(2, 1).repeat(2, 2) if pictures.shape[1] == 8 else classes


def test_who_is_always_right_reaches_all_there_is() -> None:
    found = measure_judges(Knowing(rows(), False), [rows()], 16)  # type: ignore[arg-type]
    assert all(value == 1 for value in found["attributes"].values())
    assert all(value == 1 for value in found["parser"].values())
    assert found["pose"].pop("expected_angle") == 4
    assert all(value < 0.02 for name, value in found["pose"].items() if not name.startswith("expected"))


def test_figures_are_those_counted_by_hand() -> None:
    seen = rows()
    found = measure_judges(Knowing(seen, True), [seen], 16)  # type: ignore[arg-type]
    # One picture's word is wrong: only its word's share is lower.
    glasses = [json.loads(text)["glasses"] for text in seen["attributes"]]
    shares = [1 - (glasses[0] == word) / glasses.count(word) for word in set(glasses)]
    assert found["attributes"]["balanced_accuracy_glasses"] == pytest.approx(np.mean(shares))
    # Pose is off by the same everywhere, so in every bucket; the angle is larger than each of its three.
    for low, high in ((0, 15), (15, 45), (45, 75), (75, 90), (0, 75)):
        for name, error in (("yaw", 3), ("pitch", 2), ("roll", 1)):
            assert found["pose"][f"{name}_mae_{low}_{high}"] == pytest.approx(error, abs=1e-4)
    assert 2 < found["pose"]["mean_angle"] < 6
    # Pixels of the first of twelve pictures are all wrong.
    assert found["parser"]["accuracy"] == pytest.approx(11 / 12)
    first, others = seen["classes"][0], seen["classes"][1:]
    k = CLASSES.index("NOSE")
    union = (others == k).sum() + ((first == k) | (first == k - 1)).sum()
    assert found["parser"]["iou_nose"] == pytest.approx((others == k).sum() / union)
    assert found["parser"]["iou_nose_low"] <= found["parser"]["iou_nose"] <= found["parser"]["iou_nose_high"]


def test_smaller_pictures_are_compared_at_the_size_of_the_truth() -> None:
    found = measure_judges(Knowing(rows(), False), [rows()], 8)  # type: ignore[arg-type]
    assert 0.2 < found["parser"]["accuracy"] < 0.4  # every fourth pixel of noise is kept


def test_a_ratio_is_of_sums_and_its_interval_draws_people() -> None:
    above, below = np.array([[1.0, 0], [3, 0], [2, 0]]), np.array([[2.0, 0], [3, 0], [5, 0]])
    found = estimate_ratio(above, below)
    assert found.value == 0.6  # the second column never occurs
    rng = np.random.default_rng(0)
    who = rng.integers(3, size=(DRAWS, 1, 3))[:, 0]
    drawn = above[who, 0].sum(1) / below[who, 0].sum(1)
    np.testing.assert_allclose(found[1:], np.quantile(drawn, [0.025, 0.975]))


def test_a_persons_pictures_are_added() -> None:
    sums = sum_by_person(np.array([[1.0], [2], [4]]), np.array([7, 3, 7]))
    assert sums.tolist() == [[2], [5]]


def test_the_judges_that_are_kept_are_whole_and_small_and_say_what_they_reach() -> None:
    folder = ROOT / "models" / "starter-judge"
    assert list_judges(folder) == list(FOLDERS)
    for name in FOLDERS:
        verify(folder / name)
        card = Card.read(folder / name)
        reached = [figures for source, figures in card.metrics.items() if "judges-test" in source]
        assert len(reached) == 2 and all(f"{key}_low" in figures for figures in reached for key in KEY[name])
        assert "split judges" in card.splits["train"] and card.command and card.task == f"judge_{name}"
    assert sum(path.stat().st_size for path in folder.rglob("*.safetensors")) < 10e6
    judges, pictures = load_judges(folder), rows(2)["visible"].repeat(4, 1).repeat(4, 2)
    assert judges.judge_attributes(pictures)["glasses"].shape == (2, 3)
    assert judges.judge_pose(pictures).degrees.shape == (2, 3)
    assert judges.judge_parser(pictures).shape == (2, 64, 64)


def test_a_mean_over_groups_counts_each_group_once_and_leaves_out_what_was_never_asked() -> None:
    rng = np.random.default_rng(0)
    two, one = rng.integers(1, 9, (12, 2)).astype(float), rng.integers(1, 9, (12, 1)).astype(float)
    more = two + np.array([0.0, 3.0])
    groups = [(two / 2, more), (one / 4, one), (one, np.zeros_like(one))]
    found = mean_of_ratios([2, 1, 1])(*columns_of(groups))
    shares = (two / 2).sum(0) / more.sum(0)
    assert found == pytest.approx((shares.mean() + 0.25) / 2)
    # One group is `estimate_ratio`.
    assert estimate_ratio(*groups[0]).value == pytest.approx(shares.mean())
