"""Schedulers that draw noise at every step: a run that is killed goes on to the bytes of one that nothing stopped."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from models.visible.tokenizer import corpus, new_tokenizer
from models.weights.bundle import Bundle, load_bundle
from models.weights.store import ROOT, seal
from pipelines.config.job import GenerateJob
from pipelines.storage.commits import list_finished, read_commits
from pipelines.storage.uri import Storage
from tests.models.visible.tiny import write_visible
from tests.pipelines import small

pytestmark = pytest.mark.slow
PARTITIONS = 6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The null bundle with a latent diffusion of random weights, which draws pictures of 32 pixels."""
    folder = tmp_path_factory.mktemp("bundle")
    write_visible(folder / "drawn", new_tokenizer(corpus(60, seed=1), vocabulary=700, length=77))
    seal(folder / "drawn")
    null = {name: {"kind": "null"} for name in ("parser", "thermal", "faces", "landmarks")}
    visible = {"kind": "latent-diffusion", "weights": str(folder / "drawn"), "licence": "none", "batch": 2}
    parts = {"captions": {"kind": "template"}, "visible": visible, **null}
    (folder / "bundle.yaml").write_text(yaml.safe_dump({"name": "tiny", "size": 32, "parts": parts}))
    return load_bundle(str(folder / "bundle.yaml"))


def asked(scheduler: str) -> GenerateJob:
    """Two pictures of each of six people, a person a partition, with gates that take what a random network draws."""
    settings = f"settings.visible={{scheduler: {scheduler}, steps: 3, guidance: 1.0}}"
    gates = "gates={attempts: 2, face_area: [0, 1], identity: -1, detection: 0}"
    views = "views.per_identity=2", "partition_samples=2", "encoding.visible=png"
    return small.job(f"identities.count={PARTITIONS}", *views, gates, settings)


RUN = """
import sys
from models.weights.bundle import load_bundle
from tests.pipelines import small
from tests.pipelines.run.test_step_noise import asked

small.make_here(asked(sys.argv[1]), load_bundle(sys.argv[2]), sys.argv[3])
"""
"""Makes all in one process: arguments are the scheduler, the bundle's file and the output."""


@pytest.mark.parametrize("scheduler", ["lcm", "tcd"])
def test_a_killed_run_goes_on_to_the_same_bytes(scheduler: str, local_ray: Any, bundle: Bundle, tmp_path: Path) -> None:
    """What is left is made by other processes, with less drawn before it than where all was made by one."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    small.make_here(asked(scheduler), bundle, whole)
    # Killed when some partitions are finished.
    command = [sys.executable, "-c", RUN, scheduler, f"{bundle.folder}/bundle.yaml", str(killed)]
    process = subprocess.Popen(command, cwd=ROOT)
    while process.poll() is None and not list_finished(Storage(killed)):
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = read_commits(Storage(killed))
    assert 0 < len(kept) < PARTITIONS
    # The others on Ray.
    small.make(asked(scheduler), bundle, killed)
    assert small.shards(killed) == small.shards(whole)
    assert kept.items() <= read_commits(Storage(killed)).items()
    rows = pq.read_table(killed / "data", columns=["sample_id", "visible"]).to_pylist()
    assert len({row["visible"]["bytes"] for row in rows}) == len({row["sample_id"] for row in rows}) == 2 * PARTITIONS
