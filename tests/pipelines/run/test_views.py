"""A run whose views are asked for in degrees: its rows, its report, and that it goes on and is made again as it was."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from models.weights.bundle import load_bundle
from pipelines import inspect
from pipelines.plan.chains import read_chain
from pipelines.plan.generate import read_generate_plan
from pipelines.report.pose import pose_errors
from pipelines.report.summary import Report
from pipelines.rows.record import SELDOM
from pipelines.rows.schema import RECORD
from tests.pipelines import small

GRID = "views={yaw: [-70, 0, 30], pitch: {uniform: [-10, 10]}}"
TWO = (GRID, "identities.count=2", "conditions=[warm, cold]", "gates={attempts: 1}", "partition_samples=3")
NAN = float("nan")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """An output of the null bundle, which echoes the pose asked for, and its report."""
    out = tmp_path_factory.mktemp("views") / "out"
    return out, small.finish(small.make_here(small.job(*TWO), load_bundle("null"), out))


def pairs(out: Path) -> list[dict]:
    return pq.read_table(out / "data").to_pylist()


def test_a_row_holds_the_pose_asked_and_the_one_measured(made: tuple[Path, Report]) -> None:
    out, _ = made
    rows, seldom = pairs(out), ("beyond_rooms", "picture_licence", "consent")
    assert len(rows) == 2 * 3 * 2 and list(rows[0]) == [name for name in RECORD if name not in seldom]
    assert [row["pose_asked"][0] for row in rows[::2]] == [-70, 0, 30] * 2
    for row in rows:
        assert abs(row["pose_asked"][1]) <= 10 and np.isnan(row["pose_asked"][2])
        assert row["pose"] == [*row["pose_asked"][:2], 0.0]
        said = {-70: "right profile", 0: "frontal", 30: "turned left"}[row["pose_asked"][0]]
        assert json.loads(row["attributes"])["pose"] == said
        beyond = json.loads(row["provenance"]).get("beyond_training", [])
        assert beyond == (["yaw"] if row["pose_asked"][0] == -70 else [])
    assert len({row["visible"]["bytes"] for row in rows}) == 6


def test_a_run_in_words_has_the_columns_that_it_always_had(tmp_path: Path) -> None:
    plan = small.make_here(small.job("identities.count=1", "gates={attempts: 1}"), load_bundle("null"), tmp_path)
    assert list(pairs(tmp_path)[0]) == [name for name in RECORD if name not in SELDOM]
    report = small.finish(plan)
    assert report.pose == () and "pose" not in report.summary_text()
    assert "Pose, asked" not in (tmp_path / "report" / "index.html").read_text()


def test_the_report_has_the_error_by_how_large_the_angle_is(made: tuple[Path, Report]) -> None:
    out, report = made
    yaw = [found for found in report.pose if found.angle == "yaw"]
    assert [(found.low, found.high, found.samples, found.error) for found in yaw] == [
        (0, 15, 2, 0.0), (30, 45, 2, 0.0), (60, 75, 2, 0.0),
    ]  # fmt: skip
    assert [found.beyond_training for found in yaw] == [0, 0, 2]
    assert {found.angle for found in report.pose} == {"yaw", "pitch"}
    assert "yaw 30 to 45: 0.0 degrees off" in report.summary_text()
    assert "2 angles are beyond what the visible model was trained on (yaw 60, " in report.summary_text()
    assert json.loads((out / "report" / "report.json").read_text())["pose"][0]["angle"] == "yaw"
    assert "Pose, asked and measured" in (out / "report" / "index.html").read_text()
    assert "| `pose_asked` |" in (out / "README.md").read_text()


def test_errors_are_means_by_bucket_of_what_was_asked_and_found() -> None:
    asked = np.array([[10, NAN, 3], [-14.9, NAN, 3], [15, NAN, NAN], [-20, NAN, NAN], [90, NAN, NAN]])
    measured = np.array([[12, 0, 4], [-20.9, 0, NAN], [5, 9, 9], [NAN] * 3, [80, 1, 1]])
    found = pose_errors(asked, measured)
    assert [(one.angle, one.low, one.samples, one.measured, one.error) for one in found] == [
        ("yaw", 0, 2, 2, 4.0), ("yaw", 15, 2, 1, 10.0), ("yaw", 90, 1, 1, 10.0), ("roll", 0, 2, 1, 1.0),
    ]  # fmt: skip
    assert pose_errors(asked[:0], measured[:0]) == []
    (lost,) = pose_errors(asked[:1] * [1, 1, NAN], measured[:1] * NAN)
    assert (lost.error, lost.measured, lost.text) == (None, 0, "yaw 0 to 15: not measured")


def test_a_run_that_goes_on_and_one_that_grows_have_the_same_views(made: tuple[Path, Report], tmp_path: Path) -> None:
    whole, grown = small.shards(made[0]), tmp_path / "grown"
    bundle = load_bundle("null")
    small.make_here(small.job(*TWO, "limit=2"), bundle, grown)  # two of the first person's three views
    small.make_here(small.job(*TWO), bundle, grown)
    keys = ("pair_id", "pose_asked", "attributes", "caption", "visible", "thermal")
    one, other = ({row["pair_id"]: [row[k] for k in keys] for row in pairs(out)} for out in (made[0], grown))
    assert str(one) == str(other)  # NaN is not itself
    # A run that was stopped goes on to the same bytes: here one partition of two is lost, with all that says it was there.
    again = tmp_path / "again"
    shutil.copytree(made[0], again)
    for path in [*again.glob("_commits/*0001*"), *again.glob("data/*0001*")]:
        path.unlink()
    assert small.shards(again) != whole
    small.make_here(small.job(*TWO), bundle, again)
    assert small.shards(again) == whole


def test_a_row_is_made_again_with_its_angles(made: tuple[Path, Report], capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = made
    row = pairs(out)[0]
    comparison = inspect.run(str(out), row["pair_id"])
    assert comparison is not None and comparison.same
    assert "pose_asked" in capsys.readouterr().out
    plan = read_generate_plan(small.Storage(out))
    assert "pose_asked" in plan.chain.given and read_chain(plan.out) == plan.chain
