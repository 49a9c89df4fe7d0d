"""A run that is stopped by a signal, killed, or out of disk goes on to the bytes of one that nothing stopped."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models.errors import EnvironmentFault
from models.weights.bundle import Bundle, load_bundle
from pipelines.config.job import GenerateJob
from pipelines.storage.commits import list_finished, read_commits
from pipelines.storage.uri import Storage
from tests.pipelines import small

Job = Callable[..., GenerateJob]


@pytest.fixture(scope="module")
def whole(local_ray: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a slow bundle and, under `whole`, what an undisturbed run of it makes."""
    folder = tmp_path_factory.mktemp("whole")
    with small.registered():
        slow = small.write_bundle(folder / "bundle", wait=0.3)
        small.make(small.job("identities.count=16"), slow, folder / "whole", small.TWO_ACTORS)
        yield folder


@pytest.mark.soak
def test_a_killed_run_on_object_storage_resumes_to_the_same_bytes(s3: str, whole: Path) -> None:
    out = Storage(f"{s3}/killed")
    process = small.start_driver(small.DRIVER, str(whole / "bundle" / "bundle.yaml"), out.uri)
    while process.poll() is None and len(list_finished(out)) < 2:
        time.sleep(0.1)
    process.kill()
    process.communicate(timeout=60)
    kept = read_commits(out)
    assert 2 <= len(kept) < 8

    process = small.start_driver(small.DRIVER, str(whole / "bundle" / "bundle.yaml"), out.uri)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert {name: out.read(name) for name in out.list("data") + out.list("rejects")} == small.shards(whole / "whole")
    assert kept.items() <= read_commits(out).items()


@pytest.mark.slow
def test_a_run_that_was_stopped_half_way_resumes_to_the_same_bytes(whole: Path, job: Job, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = small.start_driver(small.DRIVER, str(whole / "bundle" / "bundle.yaml"), str(out))
    commits = out / "_commits"
    while process.poll() is None and len(list(commits.glob("*.json"))) < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "run the same command again" in errors
    kept = {path: path.read_bytes() for path in commits.glob("*.json")}
    assert 2 <= len(kept) < 8, errors

    bundle = load_bundle(str(whole / "bundle" / "bundle.yaml"))
    small.make(job("identities.count=16"), bundle, out)
    assert small.shards(out) == small.shards(whole / "whole")
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert len(read_commits(Storage(out))) == 8


@pytest.mark.soak
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
            small.make(job("identities.count=24"), bundle, out, "writer.tasks=1")
        before = read_commits(Storage(out))
        assert all((out / name).exists() for record in before.values() for name in record.files())
        subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
        report = small.make(job("identities.count=24"), bundle, out)
        assert report.samples == 96
        assert before.items() <= read_commits(Storage(out)).items()
    finally:
        subprocess.run(["umount", "--lazy", str(out)], check=True)  # workers may still hold a file
