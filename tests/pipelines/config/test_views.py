"""The views of a job: words, grids, lists and distributions, what each comes to, and what is refused before anything starts."""

import itertools
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import norm

from models.attributes import EXPRESSIONS
from models.errors import UserError
from models.synthworld.sampling.domain import load_domain
from models.visible.angles import ANGLES, DRAWN, TRAINED
from models.weights.bundle import Bundle, load_bundle
from pipelines.config.generate import BRINGS, chain_for, recipe_for, source_columns
from pipelines.config.job import load_job
from pipelines.config.views import SAID, Normal, Views, check_angle, parse_expression
from pipelines.plan.extend import write_generate_plan
from pipelines.storage.uri import Storage
from tests.pipelines import small

FEW = settings(max_examples=25, deadline=None)


def angle(name: str) -> st.SearchStrategy[float]:
    """Angles to a hundredth of a degree, which no rounding changes."""
    most = int(DRAWN[name] * 100)
    return st.integers(-most, most).map(lambda hundredths: hundredths / 100)


def axes() -> st.SearchStrategy[dict[str, list[Any]]]:
    """Grids of at least one axis."""
    known = {name: st.lists(angle(name), min_size=1, max_size=3) for name in ANGLES}
    known["expression"] = st.lists(st.sampled_from(EXPRESSIONS), min_size=1, max_size=3)  # type: ignore[assignment]
    return st.fixed_dictionaries({}, optional=known).filter(bool)  # type: ignore[arg-type]


@FEW
@given(axes())
def test_a_grid_is_the_product_of_its_axes_the_last_changing_first(grid: dict[str, list[Any]]) -> None:
    views = Views.model_validate(grid)
    listed = views.list_views()
    assert len(listed) == views.per_identity == prod(map(len, grid.values()))
    order = [name for name in SAID if name in grid]
    assert [list(view) for view in listed] == [order] * len(listed)
    assert {tuple(view.values()) for view in listed} == {
        tuple(view) for view in itertools.product(*(grid[name] for name in order))
    }
    if len(grid[order[-1]]) > 1:
        assert [view[order[-1]] for view in listed[:2]] == grid[order[-1]][:2]
    # The same, written as a list of views.
    assert Views.model_validate(listed).list_views() == listed


@FEW
@given(axes(), st.integers(1, 3))
def test_views_are_read_back_as_they_were_written(grid: dict[str, list[Any]], draws: int) -> None:
    for asked in (grid | {"draws": draws}, {"per_identity": 3, "yaw": {"uniform": [-20, 20]}, "roll": 4}):
        views = Views.model_validate(asked)
        assert Views.model_validate(views.model_dump(mode="json")) == views


def test_views_in_words_are_written_as_they_always_were() -> None:
    assert Views().model_dump(mode="json") == {"per_identity": 4, "draws": 1, "attributes": {}}
    assert not Views().in_degrees and Views().list_views() == [{}] * 4
    assert source_columns(Views()) == BRINGS


def test_one_value_holds_for_every_view() -> None:
    views = Views.model_validate({"per_identity": 3, "yaw": 30, "expression": "smile"})
    assert views.list_views() == [{"yaw": 30.0, "expression": "smile"}] * 3
    mixed = Views.model_validate({"yaw": [0, 30], "pitch": -5})
    assert mixed.list_views() == [{"pitch": -5.0, "yaw": 0.0}, {"pitch": -5.0, "yaw": 30.0}]


def test_weights_need_not_reach_one() -> None:
    assert parse_expression({"smile": 0.25, "sad": 0}) == {"smile": 0.25, "sad": 0.0}
    for wrong in ({"smile": 0.0}, {"smile": 1, "sad": -0.1}, {"smile": float("nan")}, {"smile": float("inf")}):
        with pytest.raises(ValueError, match="weights are finite, not negative, and one is positive"):
            parse_expression(wrong)


@pytest.mark.parametrize("angle", [-0.0, -0.004, 0, 0.004])
def test_no_angle_is_minus_zero(angle: float) -> None:
    """Else one job would have two recipes."""
    assert str(check_angle("yaw", angle)) == "0.0" and check_angle("pitch", -12.346) == -12.35


def test_an_expression_alone_takes_no_angles() -> None:
    views = Views.model_validate({"expression": ["neutral", "smile"]})
    assert views.per_identity == 2 and not views.in_degrees


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"yaw": []}, "a grid of no views shows nobody"),
        ({"expression": []}, "a grid of no views shows nobody"),
        ([], "a list of no views shows nobody"),
        ({"yaw": 90.5}, "yaw 90.5 is beyond what the head is drawn at: -90 to 90"),
        ({"pitch": [0, -36]}, "pitch -36 is beyond"),
        ([{"roll": 21}], "roll 21 is beyond"),
        ({"yaw": {"uniform": [-91, 0]}}, "yaw -91 is beyond"),
        ({"yaw": float("nan")}, "yaw is in degrees: a finite number, not nan"),
        ({"yaw": [float("inf")]}, "a finite number, not inf"),
        ({"yaw": 10**400}, "a finite number"),
        ({"yaw": "left"}, "a finite number, not 'left'"),
        ({"yaw": True}, "a finite number, not True"),
        ({"yaw": {"uniform": [30, -30]}}, "yaw.uniform goes from low to high, not from 30 to -30"),
        ({"yaw": {"uniform": [30]}}, r"yaw.uniform is two finite numbers, not \[30\]"),
        ({"yaw": {"normal": [0, -1]}}, "yaw.normal is .mean, standard deviation., and -1 is negative"),
        ({"yaw": {"normal": [0, 5], "clip": [9, 3]}}, "yaw.clip goes from low to high, not from 9 to 3"),
        ({"yaw": {"normal": [0, float("nan")]}}, "yaw.normal is two finite numbers"),
        ({"yaw": {"gauss": [0, 1]}}, "yaw takes a number, a list, {uniform: .*; not gauss"),
        ({"yaw": {"uniform": [0, 1], "clip": [0, 1]}}, "not uniform, clip"),
        ({"expression": "grin"}, "expression takes neutral, .*; not grin"),
        ({"expression": {"grin": 1}}, "expression takes neutral, .*; not grin"),
        ({"expression": {"smile": 0}}, "one is positive"),
        ({"expression": {"smile": 1, "sad": -1}}, "one is positive: not sad"),
        ([{"expression": "grin"}], "not grin"),
        ({"yaw": [0, 30], "per_identity": 3}, "per_identity is 3 and the grid makes 2: leave per_identity out"),
        ({"each": [{"yaw": 0}], "per_identity": 2}, "per_identity is 2 and the list makes 1"),
        ({"each": [{"yaw": 0}], "pitch": 3}, "each lists the views one by one: say pitch there"),
        ({"yaw": 3, "attributes": {"pose": "frontal"}}, "yaw says it already: take attributes.pose out"),
        ({"each": [{"expression": "sad"}], "attributes": {"expression": "sad"}}, "take attributes.expression out"),
        ({"yew": 3}, "Extra inputs"),
    ],
)  # fmt: skip
def test_views_that_cannot_be_are_refused_by_name(asked: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Views.model_validate(asked)


def test_a_refusal_names_the_key_of_the_job() -> None:
    with pytest.raises(UserError, match=r"demo.yaml:\n  views.yaw: yaw 100 is beyond"):
        load_job("demo", ["views.yaw=[0, 100]"])
    with pytest.raises(UserError, match=r"views.each.1.pitch: pitch 50 is beyond"):
        load_job("demo", ["views=[{yaw: 3}, {pitch: 50}]"])


def test_a_grid_that_an_edit_names_means_all_of_it() -> None:
    assert load_job("demo", ["views.yaw=[-30, 0, 30]"]).views.per_identity == 3
    assert load_job("demo", ["views.each=[{yaw: 1}]"]).views.per_identity == 1
    assert load_job("demo", ["views.yaw={uniform: [0, 9]}"]).views.per_identity == 4
    with pytest.raises(UserError, match="per_identity is 4 and the grid makes 3"):
        load_job("demo", ["views.yaw=[-30, 0, 30]", "views.per_identity=4"])


def test_the_largest_angles_are_those_of_the_world() -> None:
    pose = load_domain("portrait").pose
    assert TRAINED == {"yaw": pose.far_yaw[1], "pitch": pose.pitch[1], "roll": pose.roll[1]}
    assert all(TRAINED[name] < DRAWN[name] for name in ANGLES)


def test_a_part_that_is_shown_no_head_takes_no_angles(bundle: Bundle) -> None:
    with pytest.raises(UserError, match=r"views.yaw: part visible \(small\) is shown no head, so it takes no angles"):
        chain_for(small.job("views={yaw: [0, 30]}"), bundle)
    chain_for(small.job("views={expression: [sad, smile]}"), bundle)  # words it takes


def test_the_starter_takes_angles_and_its_chain_says_so() -> None:
    bundle = load_bundle("starter")
    chain = chain_for(small.job("views={yaw: [0, 30]}"), bundle)
    assert ("pose_asked", "source") in {stage: read for stage, _, _, read in chain.pipes}["visible"]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ("views={yaw: [0, 31]}", "source.views.yaw: [0.0, 30.0] -> [0.0, 31.0]"),
        ("views={yaw: [0, 30], pitch: 1}", "source.views.pitch: None -> 1.0"),
        ("views={per_identity: 2}", "source.views.yaw: [0.0, 30.0] -> None"),
    ],
)
def test_other_views_make_another_run(edit: str, told: str, tmp_path: Path) -> None:
    bundle = load_bundle("null")
    write_generate_plan(small.job("views={yaw: [0, 30]}"), bundle, Storage(tmp_path))
    with pytest.raises(UserError, match="belongs to another run; what differs: ") as error:
        write_generate_plan(small.job(edit), bundle, Storage(tmp_path))
    assert told in str(error.value)


def test_weights_are_the_same_recipe_in_any_order() -> None:
    bundle = load_bundle("null")
    one, other = (small.job(f"views.expression={{{words}}}") for words in ("smile: 1, sad: 2", "sad: 2, smile: 1"))
    assert list(one.views.list_views()[0]["expression"]) == list(other.views.list_views()[0]["expression"])
    assert recipe_for(one, bundle, chain_for(one, bundle)) == recipe_for(other, bundle, chain_for(other, bundle))


@given(st.floats(0, 1, exclude_max=True))
def test_a_normal_angle_is_scipys_within_its_ends(share: float) -> None:
    found = Normal(normal=(5, 10), clip=(-12, 20)).angle(share)
    assert found == pytest.approx(np.clip(norm.ppf(share, 5, 10), -12, 20), abs=1e-4)
    assert -12 <= found <= 20


def test_a_normal_angle_reaches_both_ends_and_its_mean() -> None:
    angles = [Normal(normal=(5, 10), clip=(-12, 20)).angle(share) for share in (0, 0.01, 0.5, 0.99)]
    assert angles == pytest.approx([-12, -12, 5, 20])
