"""What a run has spent, and the ceilings of what it may make and spend."""

import json
from pathlib import Path

import pytest

from models.errors import CeilingReached, UserError
from models.weights.bundle import load_bundle
from pipelines.config.job import Stop
from pipelines.config.request import check_request
from pipelines.run.provenance import write_launch
from pipelines.run.spent import Ceiling, read_launches, worked_seconds
from pipelines.storage.commits import Commit, commit
from pipelines.storage.uri import Storage
from tests.pipelines import small


def test_what_lies_between_two_launches_is_no_work() -> None:
    assert worked_seconds([0, 1000], [10, 50, 1010, 1100]) == 50 + 100
    assert worked_seconds([0, 100, 1000], [50, 1010]) == 50 + 10, "a launch that committed nothing is none"
    assert worked_seconds([0, 1000], [50, 1010], until=1500) == 50 + 500
    assert worked_seconds([], []) == 0


@pytest.fixture
def out(tmp_path: Path) -> Storage:
    """An output of one launch that worked for an hour, at 12 an hour, and made 40 pairs."""
    out = Storage(tmp_path)
    write_launch(out, small.job(), small.profile("price=12"))
    (launch,) = read_launches(out)
    assert launch.profile["price"] == 12
    commit(out, 0, Commit("data/a", 40, "d", 0, {"ended": launch.began + 3600}))
    return out


@pytest.mark.parametrize(
    ("most", "now", "message"),
    [
        ({"pairs": 40}, 0, r"stop.pairs=40 is reached: 40 by now.*--set stop.pairs=80"),
        ({"pairs": 41}, 1, r"stop.pairs=41 is reached: 41"),
        ({"hours": 1.0}, 0, r"stop.hours=1 is reached: 1(\.000\d+)? by now"),
        ({"cost": 12.0}, 0, r"stop.cost=12 is reached: 12"),
    ],
)
def test_a_ceiling_counts_what_earlier_launches_did(
    out: Storage, most: dict[str, float], now: int, message: str
) -> None:
    ceiling = Ceiling(Stop.model_validate(most), 12)
    ceiling.begin(out)
    with pytest.raises(CeilingReached, match=message):
        ceiling.check(now)
    assert CeilingReached.exit_code == 3
    higher = Ceiling(Stop.model_validate({name: value * 1.1 for name, value in most.items() if name != "pairs"}), 12)
    higher.begin(out)
    higher.check(10**6)


def test_without_a_ceiling_nothing_is_read(tmp_path: Path) -> None:
    out = Storage(tmp_path)
    out.write("_commits/part-00000.json", b"damaged")
    ceiling = Ceiling(Stop(), None)
    ceiling.begin(out)
    ceiling.check(10**9)


def test_a_ceiling_of_cost_needs_a_price() -> None:
    null = load_bundle("null")
    edit = "groups=[{stages: [visible, parser, thermal, faces, gates, landmarks]}]"
    with pytest.raises(UserError, match="stop.cost counts with the price of an hour"):
        check_request(small.job("stop.cost=5"), null, small.profile(edit))
    check_request(small.job("stop.cost=5"), null, small.profile(edit, "price=2"))


def test_what_a_run_may_spend_changes_no_row(tmp_path: Path) -> None:
    null = load_bundle("null")
    small.make_here(small.job("identities.count=1", "stop.pairs=1"), null, tmp_path)
    recipe = json.loads((tmp_path / "_plan/run.json").read_text())["digest"]
    assert small.make_here(small.job("identities.count=1", "stop.hours=2"), null, tmp_path).digest == recipe
