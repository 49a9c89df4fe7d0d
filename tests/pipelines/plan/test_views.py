"""Views in numbers, as they are planned: who gets which angle, and that ids and words follow."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.attributes import EXPRESSIONS
from models.captions.grammar import write_caption
from models.captions.reading import read_attributes
from models.synthworld.sampling.scene import pose_word
from models.visible.angles import ANGLES
from pipelines.config.views import Views
from pipelines.plan.people.identities import Identity
from pipelines.plan.samples import samples_of
from pipelines.plan.views import _draw_words, draw_poses
from tests.pipelines import small

PEOPLE = [Identity(f"person-{k}", np.zeros(512, np.float32), sampled=True) for k in range(8)]
FEW = settings(max_examples=20, deadline=None)


def poses(views: Any, people: list[Identity] = PEOPLE, seed: int = 3) -> np.ndarray:
    return draw_poses(seed, people, Views.model_validate(views))[0]


def rows(views: str, *edits: str) -> list[dict[str, Any]]:
    return [row for person in PEOPLE for row in samples_of(small.job(f"views={views}", *edits), person)]


@FEW
@given(st.lists(st.floats(-90, 90), min_size=2, max_size=2).map(sorted), st.integers(0, 2**31))
def test_a_uniform_draw_lies_between_its_ends(ends: list[float], seed: int) -> None:
    low, high = (round(end, 2) for end in ends)
    found = poses({"yaw": {"uniform": [low, high]}}, seed=seed)
    assert found.shape == (8, 4, 3) and found.dtype == np.float32
    assert np.isnan(found[..., 1:]).all()
    assert (found[..., 0] >= np.float32(low)).all() and (found[..., 0] <= np.float32(high)).all()


@FEW
@given(st.floats(-35, 35), st.floats(0, 100), st.integers(0, 2**31))
def test_a_normal_draw_is_clipped(mean: float, deviation: float, seed: int) -> None:
    found = poses({"pitch": {"normal": [mean, deviation], "clip": [-12.5, 20]}}, seed=seed)
    assert (found[..., 1] >= -12.5).all() and (found[..., 1] <= 20).all()


def test_distributions_are_what_they_say() -> None:
    crowd = [Identity(str(k), np.zeros(512, np.float32)) for k in range(400)]
    asked = {"yaw": {"uniform": [-60, 60]}, "pitch": {"normal": [4, 3]}, "expression": {"smile": 3, "sad": 1}}
    found, words = draw_poses(1, crowd, Views.model_validate(asked))
    assert abs(found[..., 0].mean()) < 3 and found[..., 0].std() == pytest.approx(120 / 12**0.5, rel=0.05)
    assert found[..., 1].mean() == pytest.approx(4, abs=0.3) and found[..., 1].std() == pytest.approx(3, rel=0.08)
    assert abs(np.corrcoef(found[..., 0].ravel(), found[..., 1].ravel())[0, 1]) < 0.08
    said = [view["expression"] for person in words for view in person]
    assert set(said) == {"smile", "sad"} and said.count("smile") / len(said) == pytest.approx(0.75, abs=0.04)


def test_a_word_is_as_often_as_it_weighs_up_to_the_last_share() -> None:
    shares = np.array([0, 0.2499, 0.25, 0.5, np.nextafter(1, 0), 1.0])
    assert _draw_words({"sad": 1, "smile": 3, "open": 0}, shares) == ["sad", "sad", "smile", "smile", "smile", "smile"]
    assert _draw_words("sad", shares) == ["sad"] * 6


def test_a_draw_is_of_the_seed_the_person_and_the_view_alone() -> None:
    asked = {"yaw": {"uniform": [-60, 60]}, "roll": {"normal": [0, 5]}}
    whole = poses(asked)
    np.testing.assert_array_equal(poses(asked, PEOPLE[5:2:-1]), whole[5:2:-1])
    np.testing.assert_array_equal(poses(asked | {"per_identity": 2}), whole[:, :2])
    np.testing.assert_array_equal(poses({"yaw": asked["yaw"]})[..., 0], whole[..., 0])
    assert (poses(asked, seed=4)[..., 0] != whole[..., 0]).mean() > 0.9
    assert len(np.unique(whole[..., 0])) > 28  # no two people, and no two views, share their draws


def test_ids_and_seeds_know_nothing_of_the_angles() -> None:
    plain, grid = rows("{per_identity: 3}"), rows("{yaw: [-30, 0, 30]}")
    for name in ("sample_id", "identity_id", "view", "draw", "seed"):
        assert [row[name] for row in plain] == [row[name] for row in grid]
    assert "pose_asked" not in plain[0] and grid[0]["pose_asked"][0] == -30
    longer = rows("{yaw: [-30, 0, 30, 60]}")
    assert [row["pose_asked"][:1] for row in longer if row["view"] < 3] == [row["pose_asked"][:1] for row in grid]


def test_what_no_angle_touches_is_drawn_as_it_was() -> None:
    for plain, turned in zip(rows("{per_identity: 2}"), rows("{yaw: [40, 0]}"), strict=True):
        one, other = json.loads(plain["attributes"]), json.loads(turned["attributes"])
        assert list(one) == list(other)
        assert one | {"pose": ""} == other | {"pose": ""}
        assert other["pose"] == ("turned left" if turned["view"] == 0 else "frontal")
        assert plain["attributes_source"] == turned["attributes_source"]


def test_pictures_of_one_view_share_its_angles() -> None:
    found = rows("{per_identity: 2, draws: 3, yaw: {uniform: [-60, 60]}}")
    by_view: dict[tuple[str, int], set[float]] = {}
    for row in found:
        by_view.setdefault((row["identity_id"], row["view"]), set()).add(row["pose_asked"][0])
    assert all(len(angles) == 1 for angles in by_view.values()) and len(by_view) == 16


@FEW
@given(st.floats(-90, 90), st.sampled_from(EXPRESSIONS), st.integers(0, 99))
def test_the_caption_says_what_the_numbers_are(yaw: float, expression: str, seed: int) -> None:
    job = small.job(f"views={{per_identity: 1, yaw: {yaw:.12f}, expression: {expression}}}", f"seed={seed}")
    (row,) = samples_of(job, PEOPLE[seed % 8])
    words = json.loads(row["attributes"])
    kept = float(np.float32(row["pose_asked"][ANGLES.index("yaw")]))
    assert words["pose"] == pose_word(kept) and kept == pytest.approx(yaw, abs=0.0051)
    said = read_attributes(write_caption(words, row["seed"]))
    assert (said["pose"], said["expression"]) == (pose_word(kept), expression)


@pytest.mark.parametrize(
    ("yaw", "word"), [(29.9999999, "turned left"), (-64.999999, "right profile"), (9.994, "frontal")]
)
def test_a_number_and_its_word_are_rounded_alike(yaw: float, word: str) -> None:
    (row,) = samples_of(small.job(f"views={{per_identity: 1, yaw: {yaw}}}"), PEOPLE[0])
    assert json.loads(row["attributes"])["pose"] == word == pose_word(float(np.float32(row["pose_asked"][0])))
    assert row["pose_asked"][0] == np.float32(round(yaw, 2))
