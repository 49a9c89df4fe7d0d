"""The exact run on real Ray: every partition once, the same bytes whatever the profile, and after every way to stop."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from models.bundle import Bundle
from models.errors import EnvironmentFault, UserError
from pipelines.commits import committed, finished
from pipelines.generate import generate
from pipelines.job import GenerateJob
from pipelines.plan import Plan
from pipelines.storage import Storage
from tests.pipelines import small

pytestmark = pytest.mark.slow
Job = Callable[..., GenerateJob]
ROOT = Path(__file__).parent.parent.parent


def test_every_sample_is_there_once_and_the_shards_open_as_a_data_set(
    local_ray: Any, bundle: Bundle, job: Job, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report = generate(job(), bundle, small.profile(), Storage(out))

    assert (report.samples, report.partitions) == (24, 3)
    assert report.accepted + report.rejected == 24
    assert report.redrawn > 0
    table = pq.read_table(out / "data")
    assert len(table) == report.pairs == 2 * report.accepted
    assert len(set(table["pair_id"].to_pylist())) == len(table)
    refused = pq.read_table(out / "rejects")
    assert all(refused["reject"].to_pylist())
    assert set(table["reject"].to_pylist()) == {""}

    import datasets
    import numpy as np

    pairs = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(pairs) == report.pairs
    row = pairs[0]
    celsius = np.asarray(row["thermal"], np.float32) / 100 - 273.15
    assert celsius.shape == (32, 32)
    assert 28 < celsius.min() < celsius.max() < 36
    assert row["visible"].size == (32, 32)
    assert row["classes"].size == (32, 32)
    assert (out / "report" / "index.html").stat().st_size > 10_000
    manifest = json.loads((out / "manifest.json").read_text())
    assert [p["partition"] for p in manifest["partitions"]] == [0, 1, 2]


def test_the_same_bytes_come_out_of_one_actor_or_of_split_pools(
    local_ray: Any, bundle: Bundle, job: Job, tmp_path: Path
) -> None:
    groups = ("[visible], actors: [1, 2]", "[parser, thermal]", "[faces, gates]")
    split = "[" + ", ".join(f"{{stages: {stages}, cpus: 0.5}}" for stages in groups) + "]"
    profiles = [small.profile(), small.profile(f"groups={split}", "writer.tasks=1", "writer.threads=1")]
    for number, profile in enumerate(profiles):
        generate(job("gates.attempts=2"), bundle, profile, Storage(tmp_path / str(number)))

    assert small.shards(tmp_path / "0") == small.shards(tmp_path / "1")


def test_a_larger_job_begins_with_the_same_pairs(local_ray: Any, bundle: Bundle, job: Job, tmp_path: Path) -> None:
    generate(job(), bundle, small.profile(), Storage(tmp_path / "few"))
    generate(job("identities.count=8"), bundle, small.profile(), Storage(tmp_path / "more"))

    few, more = (pq.read_table(tmp_path / name / "data").drop(["provenance"]).to_pylist() for name in ("few", "more"))
    later = {row["pair_id"]: row for row in more}
    assert len(later) > len(few)
    assert all(later[row["pair_id"]] == row for row in few)


def test_one_bad_row_is_rejected_with_its_reason_and_ends_nothing(
    local_ray: Any, bundle: Bundle, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Plan, "save_captions", _spoil(Plan.save_captions))
    report = generate(job("gates.identity=-1"), bundle, small.profile(), Storage(tmp_path / "out"))

    assert report.rejected == 1
    refused = pq.read_table(tmp_path / "out" / "rejects").to_pylist()
    assert {row["reject"] for row in refused} == {"error in visible: ValueError: a caption that cannot be drawn"}
    assert refused[0]["visible"] is None


def _spoil(save: Callable[..., None]) -> Callable[..., None]:
    def saved(self: Any, chunk: int, captions: list[str], sources: list[str]) -> None:
        save(self, chunk, [captions[0], "BAD", *captions[2:]], sources)

    return saved


def test_a_run_that_rejects_nearly_everything_stops_early(
    local_ray: Any, bundle: Bundle, job: Job, tmp_path: Path
) -> None:
    hopeless = job("gates.detection=1.0", "gates.celsius=[0, 1]", "stop.first_samples=8", "identities.count=12")
    with pytest.raises(EnvironmentFault, match="samples were rejected"):
        generate(hopeless, bundle, small.profile(), Storage(tmp_path / "out"))
    assert finished(Storage(tmp_path / "out"))  # what was found out is kept


def test_a_finished_output_is_kept_and_another_job_is_refused(
    local_ray: Any, bundle: Bundle, job: Job, tmp_path: Path
) -> None:
    out = Storage(tmp_path / "out")
    generate(job(), bundle, small.profile(), out)
    before = small.shards(tmp_path / "out")
    generate(job(), bundle, small.profile("writer.tasks=1"), out)
    assert small.shards(tmp_path / "out") == before

    with pytest.raises(UserError, match=r"another run.*seed: 3 -> 4"):
        generate(job("seed=4"), bundle, small.profile(), out)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_was_stopped_half_way_resumes_to_the_same_bytes(
    number: signal.Signals, local_ray: Any, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import generate as module

    monkeypatch.setattr(module, "STAGES", small.STAGES)
    slow = small.write_bundle(tmp_path / "bundle", wait=0.3)
    whole = tmp_path / "whole"
    generate(job("identities.count=16"), slow, small.profile(), Storage(whole))

    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "bundle" / "bundle.yaml"), str(out)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    commits = out / "_commits"
    while process.poll() is None and len(list(commits.glob("*.json"))) < 2:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    if number == signal.SIGTERM:
        assert process.returncode == 75, errors
        assert "run the same command again" in errors
    kept = {path: path.read_bytes() for path in commits.glob("*.json")}
    assert 2 <= len(kept) < 8, errors

    generate(job("identities.count=16"), slow, small.profile(), Storage(out))
    assert small.shards(out) == small.shards(whole)
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert len(committed(Storage(out))) == 8


DRIVER = """
import sys
from models.bundle import load_bundle
from models.errors import UserError
from pipelines import generate
from pipelines.storage import Storage
from tests.pipelines import small

generate.STAGES = small.STAGES
try:
    job = small.job("identities.count=16")
    generate.generate(job, load_bundle(sys.argv[1]), small.profile(), Storage(sys.argv[2]))
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def test_a_full_disk_stops_the_run_and_loses_nothing(local_ray: Any, bundle: Bundle, job: Job, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    out = tmp_path / "small"
    out.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(out)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no mounting here")
    try:
        with pytest.raises(EnvironmentFault, match=r"No space left.*run the same command again"):
            generate(job("identities.count=24"), bundle, small.profile("writer.tasks=1"), Storage(out))
        before = committed(Storage(out))
        assert all((out / name).exists() for record in before.values() for name in record.files())
        subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
        report = generate(job("identities.count=24"), bundle, small.profile(), Storage(out))
        assert report.samples == 96
        assert before.items() <= committed(Storage(out)).items()
    finally:
        subprocess.run(["umount", str(out)], check=True)
