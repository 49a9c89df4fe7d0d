"""The whole job with the starter bundle, as a user runs it: vLLM, diffusers, the networks, insightface, the report."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster import cli
from models.captions.reading import read_attributes
from models.weights.store import ROOT
from pipelines.storage.lease import Lease
from pipelines.storage.uri import Storage
from tests.pipelines import small

pytestmark = pytest.mark.slow

SMALL = (
    "identities.count=2",
    "views.per_identity=2",
    "settings.visible.steps=4",
    "gates.attempts=2",
    "gates.identity=-1",
)
"""Two people twice in a few steps; the identity gate is open, for pictures of so few steps are no likenesses."""


def sets(edits: tuple[str, ...]) -> list[str]:
    return [word for edit in edits for word in ("--set", edit)]


def thermapair(*arguments: str, edits: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster", *arguments, *sets(edits)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An output of the job and what the command said."""
    out = tmp_path_factory.mktemp("demo") / "out"
    done = thermapair("generate", "--job", "demo", "--out", str(out), edits=SMALL)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_a_data_set_comes_out_and_a_row_of_it_is_made_again(
    made: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, said = made
    assert f"data set: {out}" in said
    assert re.search(r"pairs; \d of 4 samples accepted, \d drawn again, \d given up\ncaptions: \d by", said)

    pairs = pq.read_table(out / "data").to_pylist()
    assert len(pairs) == 2 * len({row["sample_id"] for row in pairs}) > 0
    assert {row["caption_source"] for row in pairs} <= {"llm", "grammar"}
    assert len({row["caption"] for row in pairs}) == len({row["sample_id"] for row in pairs})
    warm, cold = (np.mean([json.loads(row["scores"])[f"celsius_{name}"] for row in pairs]) for name in ("warm", "cold"))
    assert 15 < cold < warm < 40

    again = thermapair("generate", "--job", "demo", "--out", str(out), "--profile", "gpu", edits=SMALL)
    assert again.returncode == 0, again.stderr  # nothing is left to do, so no GPU is asked for
    capsys.readouterr()
    assert cli.main(["inspect", pairs[0]["pair_id"], "--out", str(out)]) == 0
    assert "every pixel is the same" in capsys.readouterr().out


def test_heads_are_turned_as_a_grid_says(tmp_path: Path) -> None:
    out = tmp_path / "out"
    edits = (
        *SMALL,
        "views.per_identity=null",
        "views.yaw=[-40, 0, 40]",
        "captions=template",
        "settings.visible.steps=8",
    )
    done = thermapair("generate", "--job", "demo", "--out", str(out), edits=edits)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\npose: yaw 0 to 15: \d+\.\d degrees off; yaw 30 to 45: \d+\.\d degrees off\n", done.stdout)

    # The landmarks see the turn, and the captions say it.
    rows = [row for row in pq.read_table(out / "data").to_pylist() if row["condition"] == "warm"]
    assert len(rows) >= 4 and {row["pose_asked"][0] for row in rows} == {-40, 0, 40}
    for row in rows:
        assert abs(row["pose"][0] - row["pose_asked"][0]) < 25
        word = {-40: "turned right", 0: "frontal", 40: "turned left"}[row["pose_asked"][0]]
        assert json.loads(row["attributes"])["pose"] == read_attributes(row["caption"])["pose"] == word
    found = {
        (one["angle"], one["low"]): one for one in json.loads((out / "report" / "report.json").read_text())["pose"]
    }
    asked = [row for row in rows if row["pose_asked"][0]]
    assert found["yaw", 30]["measured"] == len(asked)
    error = np.mean([abs(row["pose"][0] - row["pose_asked"][0]) for row in asked])
    assert found["yaw", 30]["error"] == pytest.approx(error, abs=0.01)

    # The same command has nothing left to do, another grid is another run, and a row is made again as it was.
    again = thermapair("generate", "--job", "demo", "--out", str(out), edits=(*edits, "views.yaw=[-40, 0, 41]"))
    assert again.returncode == 2 and "what differs: source.views.yaw" in again.stderr
    shown = thermapair("inspect", rows[0]["pair_id"], "--out", str(out))
    assert shown.returncode == 0 and "every pixel is the same" in shown.stdout, shown.stdout + shown.stderr


def test_the_same_bytes_come_out_of_other_pools(made: tuple[Path, str], tmp_path: Path, local_ray: Any) -> None:
    """The plan holds the captions; from it, other actors make the same pictures, on a Ray that runs already. Redraws stay
    with the first stage's."""
    split = (
        "profile.groups=[{stages: [visible, parser, thermal, faces, gates], actors: [1, 2]}, "
        "{stages: [landmarks], cpus: 0.5}]"
    )
    shutil.copytree(made[0] / "_plan", tmp_path / "other" / "_plan")
    edits = (*SMALL, split, "profile.writer.threads=1")
    assert cli.main(["generate", "--job", "demo", "--out", str(tmp_path / "other"), *sets(edits)]) == 0
    assert small.shards(tmp_path / "other") == small.shards(made[0])


@pytest.mark.parametrize(
    ("edits", "code", "message"),
    [
        (
            ("identities.cuont=3",),
            2,
            "identities.cuont: unknown key; known here: count, minimum_angle, sampling, source",
        ),
        (("bundle.visible.weights=nowhere",), 75, "weights are missing"),
        (("identities.source=nobody.parquet",), 2, "nobody.parquet does not exist"),
        (("profile.groups=[{stages: [visible], threads: 2}]",), 2, "Set threads: 1 and raise actors instead"),
        (("profile.groups=[{stages: [visible]}, {stages: [gates]}]",), 2, "into one group, or set gates.attempts=1"),
        (("settings.visible.stpes=3",), 2, "settings.visible.stpes: unknown key; known here: steps, guidance"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(
    edits: tuple[str, ...], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["generate", "--job", "demo", "--out", str(tmp_path / "out"), *sets((*SMALL, *edits))]) == code
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_an_object_store_too_large_is_said_in_one_message(tmp_path: Path) -> None:
    edits = (*SMALL, "profile.ray.object_store_mb=99999999")
    done = thermapair("generate", "--job", "demo", "--out", str(tmp_path / "out"), edits=edits)
    assert done.returncode == 75, done.stderr
    assert "the object store needs" in done.stderr and "Traceback" not in done.stderr


def test_a_second_driver_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Lease(Storage(tmp_path / "out")):
        assert cli.main(["generate", "--job", "demo", "--out", str(tmp_path / "out"), *sets(SMALL)]) == 2
    assert "is being written by process" in capsys.readouterr().err
