"""The whole job with the starter bundle, as a user runs it: vLLM, diffusers, the networks, insightface, the report."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

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


def thermapair(*arguments: str, edits: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    sets = [word for edit in edits for word in ("--set", edit)]
    command = [sys.executable, "-m", "cluster", *arguments, *sets]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An output of the job and what the command said."""
    out = tmp_path_factory.mktemp("demo") / "out"
    done = thermapair("generate", "--job", "demo", "--out", str(out), edits=SMALL)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_a_data_set_comes_out_and_a_row_of_it_is_made_again(made: tuple[Path, str]) -> None:
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
    shown = thermapair("inspect", pairs[0]["pair_id"], "--out", str(out))
    assert shown.returncode == 0, shown.stderr
    assert "every pixel is the same" in shown.stdout


def test_the_same_bytes_come_out_of_other_pools(made: tuple[Path, str], tmp_path: Path) -> None:
    """The plan holds the captions; from it, other actors make the same pictures. Redraws stay with the first stage's."""
    split = (
        "profile.groups=[{stages: [visible, parser, thermal, faces, gates], actors: [1, 2]}, "
        "{stages: [landmarks], cpus: 0.5}]"
    )
    shutil.copytree(made[0] / "_plan", tmp_path / "other" / "_plan")
    edits = (*SMALL, split, "profile.writer.threads=1")
    done = thermapair("generate", "--job", "demo", "--out", str(tmp_path / "other"), edits=edits)
    assert done.returncode == 0, done.stderr
    assert small.shards(tmp_path / "other") == small.shards(made[0])


@pytest.mark.parametrize(
    ("edits", "code", "message"),
    [
        (("identities.cuont=3",), 2, "identities.cuont: unknown key; known here: count, minimum_angle, source"),
        (("bundle.visible.weights=nowhere",), 75, "weights are missing"),
        (("identities.source=nobody.parquet",), 2, "nobody.parquet does not exist"),
        (("profile.groups=[{stages: [visible], threads: 2}]",), 2, "Set threads: 1 and raise actors instead"),
        (("profile.groups=[{stages: [visible]}, {stages: [gates]}]",), 2, "into one group, or set gates.attempts=1"),
        (("settings.visible.stpes=3",), 2, "settings.visible.stpes: unknown key; known here: steps, guidance"),
        (("profile.ray.object_store_mb=99999999",), 75, "the object store needs"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(edits: tuple[str, ...], code: int, message: str, tmp_path: Path) -> None:
    done = thermapair("generate", "--job", "demo", "--out", str(tmp_path / "out"), edits=(*SMALL, *edits))
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    with Lease(Storage(tmp_path / "out")):
        done = thermapair("generate", "--job", "demo", "--out", str(tmp_path / "out"), edits=SMALL)
    assert done.returncode == 2
    assert "is being written by process" in done.stderr
