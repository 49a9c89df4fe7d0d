"""Jobs on a real cluster through the real Jobs API, and what is refused before anything travels."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray._private.runtime_env import packaging

from cluster import cli
from cluster.submission import ray_jobs, working_dir
from models.errors import EnvironmentFault, UserError
from models.weights.store import ROOT
from pipelines.run.session import EXCLUDED
from pipelines.storage.commits import list_finished, read_commits
from pipelines.storage.uri import Storage

ROOMS = ("cluster", "serve", "pipelines", "models")
VALUE = "the-value-that-nobody-may-see"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "after -- comes what to run"),
        (["doctor"], "after -- comes what to run"),
        (["generate", "--out", "out/x"], r"--out out/x: .*every node mounts"),
        (["generate", "--out", "s3://b/x", "--set", "identities.source=people.parquet"], "--set identities.source"),
        (["generate", "--out", "s3://name:word@b/x"], "a name and password"),
        (["thermalize", "--images", "photos", "--out", "s3://b/x"], "--images photos"),
        (["embed", "--images", "photos", "--out", "s3://b/people.parquet"], "--images photos"),
    ],
)
def test_words_that_mean_nothing_on_a_cluster_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        working_dir.parse_words(cli.cli, words)


@pytest.mark.parametrize(
    "key",
    [
        "thermal.weights",
        "visible.weights.vae",
        "parts.visible.weights.vae",
        "bundle.thermal.weights",
        "x.weights.vae.uri",
    ],
)
def test_weights_of_this_machine_alone_do_not_travel(key: str) -> None:
    def submitted(value: str, key: str = key) -> None:
        working_dir.parse_words(cli.cli, ["generate", "--out", "s3://b/x", "--set", f"{key}={value}"])

    for value in ("s3://b/weights", "/mnt/weights", "file:///mnt/weights", "hub:a/b@" + "0" * 40):
        submitted(value)
    submitted("weights", key.partition("weights")[0] + "weights.vae.digest")
    with pytest.raises(UserError, match=f"--set {key} mine: a job runs in a copy"):
        submitted("mine")


@pytest.mark.parametrize(
    "edit",
    ["visible.weights={model: s3://b/x, vae: mine}", "visible.weights.vae={uri: mine}", "parts={t: {weights: mine}}"],
)
def test_weights_inside_a_value_do_not_travel_either(edit: str) -> None:
    with pytest.raises(UserError, match="mine: a job runs in a copy"):
        working_dir.parse_words(cli.cli, ["generate", "--out", "s3://b/x", "--set", edit])
    working_dir.parse_words(cli.cli, ["generate", "--out", "s3://b/x", "--set", edit.replace("mine", "s3://b/y")])


def travellers(patterns: list[str]) -> set[str]:
    """Return the files below the rooms' folder that Ray would pack, by Ray's own matching."""
    packed: list[Path] = []
    packaging._dir_travel(ROOT, [packaging._get_excludes(ROOT, patterns)], packed.append, include_gitignore=True)
    return {str(path.relative_to(ROOT)) for path in packed if path.is_file()}


def test_the_rooms_travel_whole_and_what_is_not_theirs_stays() -> None:
    home = working_dir.excludes("starter")
    packed = travellers(home)
    ends = (".py", ".yaml", ".html", ".css", ".md")  # code, and the files beside it that it reads
    code = {
        str(path.relative_to(ROOT)) for room in ROOMS for path in (ROOT / room).rglob("*") if path.name.endswith(ends)
    }
    cards = {name for name in code if any(f"/{name}".startswith(folder) for folder in home)}  # of weights not in use
    assert {"models/weights/bundle.py", "pipelines/report/templates/page.html"} <= code - cards <= packed
    assert all(name.endswith("/README.md") for name in cards)
    assert {"models/starter/bundle.yaml", "models/starter/thermal/warm.safetensors"} <= packed
    assert {name.partition("/")[0] for name in packed}.isdisjoint({"tests", "out", "weights", ".git", ".venv"})
    assert working_dir.excludes(None) == EXCLUDED


def test_a_file_of_this_machine_alone_does_not_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").touch()
    with pytest.raises(UserError, match=r"--job mine.yaml: this file does not travel"):
        working_dir.parse_words(cli.cli, ["generate", "--job", "mine.yaml", "--out", "/mnt/x"])
    params = working_dir.parse_words(cli.cli, ["generate", "--job", f"{tmp_path}/mine.yaml", "--out", "/mnt/x"])
    assert params["bundle"] == "starter"


def test_wrong_usage_is_said_before_the_cluster_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["submit", "--address", "http://127.0.0.1:9", "--", "generate", "--outt", "s3://b/x"]) == 2
    assert "--outt" in capsys.readouterr().err


def test_no_cluster_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["submit", "--address", "http://127.0.0.1:9", "--", "generate", "--out", "s3://b/x"]) == 75
    assert "no Ray cluster answers at http://127.0.0.1:9" in capsys.readouterr().err


def test_values_that_sound_secret_are_refused() -> None:
    own = {"AWS_ENDPOINT_URL": "http://minio:9000", "AWS_SECRET_ACCESS_KEY": VALUE}
    assert working_dir.plain_environment(["AWS_ENDPOINT_URL", "A=b=c"], own) == {
        "AWS_ENDPOINT_URL": own["AWS_ENDPOINT_URL"],
        "A": "b=c",
    }
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN=x", "db_password=y"):
        with pytest.raises(UserError, match="--secret"):
            working_dir.plain_environment([name], own)
    with pytest.raises(UserError, match="no value here"):
        working_dir.plain_environment(["NOWHERE"], own)


def excluded(bundle: str) -> set[str]:
    """Return what stays at home for a bundle of this text."""
    path = ROOT / "models" / "bundles" / f"test-{os.getpid()}.yaml"
    path.write_text(bundle)
    try:
        return set(working_dir.excludes(path.stem))
    finally:
        path.unlink()


def test_weights_not_in_use_stay_at_home() -> None:
    beside = {f"/models/{path.name}/" for path in (ROOT / "models").glob("starter-*")}
    left = [name for name in working_dir.excludes("starter") if "models/" in name]
    assert left and all(name.startswith(tuple(beside)) for name in left)
    own = ("../../weights/arc2face", "../../weights/antelopev2")
    published = (ROOT / "models" / "bundles" / "published.yaml").read_text()
    unused = {f"/models/starter/{name}/" for name in ("visible", "captioner", "faces", "landmarks")}
    home = excluded(published.replace(own[0], "s3://weights/a").replace(own[1], "s3://weights/b"))
    assert {"/out/", "/tests/", *unused} <= home
    assert not {"/models/starter/parser/", "/models/starter/thermal/"} & home
    # A second set of weights counts like the first.
    several = "{model: s3://weights/a, vae: ../starter/visible}"
    home = excluded(published.replace(own[0], several).replace(own[1], "s3://weights/b"))
    assert unused - home == {"/models/starter/visible/"}
    with pytest.raises(UserError, match=r"weights/vae does not travel with a job. Upload it"):
        excluded(published.replace(own[0], "{model: s3://a/b, vae: ../../weights/vae}").replace(own[1], "s3://a/c"))
    with pytest.raises(UserError, match="does not travel with a job. Upload it"):
        working_dir.excludes("published")


@pytest.mark.parametrize(
    ("status", "driver", "code"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 2, 2),
        ("FAILED", 75, 75),
        ("FAILED", -9, 137),
        ("FAILED", None, 75),
        ("STOPPED", None, 75),
    ],
)
def test_the_exit_code_is_the_job_s(status: str, driver: int | None, code: int) -> None:
    job = SimpleNamespace(status=status, driver_exit_code=driver, message="the node died", submission_id="x")
    assert ray_jobs.exit_code(job) == code  # type: ignore[arg-type]


def test_a_missing_secret_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--needs", "THERMAPAIR_NOT_SET", "clean", "--out", "nowhere"]) == 2
    assert "the environment lacks THERMAPAIR_NOT_SET" in capsys.readouterr().err


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start_cluster(folder: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a cluster of one node with four logical CPUs, a label and a secret in its environment; return it and its URL.

    Ray gives a node 30 s to come up, which a busy machine may exceed: then the URL is empty.
    """
    gcs, dashboard, listen, grpc, metrics, client = free_ports(6)
    command = f"""start --head --block --disable-usage-stats --num-cpus 4 --object-store-memory {100 * 2**20}
        --port {gcs} --dashboard-host 127.0.0.1 --dashboard-port {dashboard} --dashboard-agent-listen-port {listen}
        --dashboard-agent-grpc-port {grpc} --metrics-export-port {metrics} --ray-client-server-port {client}
        --temp-dir {folder} --labels thermapair.io/group=pictures"""
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", *command.split()],
        env={**os.environ, "STORAGE_TOKEN": VALUE},
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout
    for line in process.stdout:
        if b"Ray runtime started" in line:
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return process, f"http://127.0.0.1:{dashboard}"
    return process, ""


def end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The dashboard of a cluster of this module's own."""
    folder = tempfile.mkdtemp(prefix="tp-", dir="/tmp")  # sockets below it need a short path
    for _ in range(5):
        process, url = start_cluster(folder)
        if url:
            break
        end(process)
    assert url, "no cluster started"
    try:
        limit = time.monotonic() + 120
        while time.monotonic() < limit:
            with contextlib.suppress(EnvironmentFault):
                ray_jobs.connect(url)
                break
            time.sleep(0.5)
        yield url
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


SETTINGS = (
    "captions=template", "views.per_identity=2", "conditions=[warm]", "partition_samples=2",
    'bundle.parts.visible={kind: "null", batch: 8}', 'bundle.parts.faces={kind: "null", batch: 8}',
    "gates={attempts: 1, celsius: [-50, 90], clipped: 1}", "profile.start_seconds=900",
    "profile.groups=[{stages: [visible, parser, thermal, faces, gates], labels: {thermapair.io/group: pictures}}]",
)  # fmt: skip
"""A partition for each person. Classes and temperatures are made by weights that travel; the pictures, by no model."""


def submission(address: str, secret: str = "STORAGE_TOKEN") -> list[str]:
    return ["submit", "--address", address, "--python", sys.executable, "--secret", secret]


def generation(out: Storage, people: int) -> list[str]:
    """The job's words: as many partitions as people."""
    edits = (f"identities.count={people}", *SETTINGS)
    return ["generate", "--out", out.uri, *(word for edit in edits for word in ("--set", edit))]


@pytest.mark.slow
def test_a_job_is_submitted_and_followed(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = Storage(tmp_path / "out")
    submit, words, jobs = submission(address), generation(out, 3), ["jobs", "--address", address]
    assert cli.main([*submit, "--detach", "--", *words]) == 0
    job = capsys.readouterr().out.strip()
    assert cli.main([*submit, "--", *words]) == 2
    assert f"job {job} already writes to" in capsys.readouterr().err
    assert cli.main([*jobs, "follow", job]) == 0
    shown, client = capsys.readouterr().out, ray_jobs.connect(address)
    assert f"data set: {out.uri}" in shown
    assert shown == client.get_job_logs(job)
    assert len(read_commits(out)) == 3
    (launch,) = (json.loads(out.read(name)) for name in out.list("_plan/launches"))
    assert launch["commit"]

    assert cli.main([*submission(address, "NOT_ON_THE_NODES"), "--", *words]) == 2
    assert "the environment lacks NOT_ON_THE_NODES" in capsys.readouterr().out
    assert cli.main(jobs) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["FAILED", "SUCCEEDED"]
    assert cli.main([*jobs, "follow", "nobody"]) == 2

    with urllib.request.urlopen(f"{address}/api/jobs/") as answer:
        known = answer.read().decode()
    assert "STORAGE_TOKEN" in known and VALUE not in known
    assert VALUE not in client.get_job_logs(job)


@pytest.mark.soak
def test_a_job_is_stopped_and_resumed(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = Storage(tmp_path / "out")
    submit, words, jobs = submission(address), generation(out, 20), ["jobs", "--address", address]
    assert cli.main([*submit, "--detach", "--", *words]) == 0
    first = capsys.readouterr().out.strip()
    client = ray_jobs.connect(address)
    while len(list_finished(out)) < 2 and not client.get_job_status(first).is_terminal():
        time.sleep(0.2)
    assert cli.main([*jobs, "stop", first]) == 0
    assert "STOPPED" in capsys.readouterr().out
    kept = read_commits(out)
    assert 2 <= len(kept) < 20, client.get_job_logs(first)
    assert out.list("_lease") == []  # it was given the time to end in order
    assert cli.main([*jobs, "follow", first]) == 75
    assert "run the same command again to resume" in capsys.readouterr().out

    assert cli.main([*submit, "--", *words]) == 0
    shown = capsys.readouterr().out
    second = shown.splitlines()[0]
    assert f"data set: {out.uri}" in shown
    assert shown.partition("\n")[2] == client.get_job_logs(second)
    assert kept.items() <= read_commits(out).items() and len(read_commits(out)) == 20
    launches = [json.loads(out.read(name)) for name in out.list("_plan/launches")]
    assert len(launches) == 2 and all(launch["commit"] for launch in launches)
    assert cli.main(jobs) == 0
    listed = capsys.readouterr().out.splitlines()
    assert {line.split()[0]: line.split()[1] for line in listed}.items() >= {(second, "SUCCEEDED"), (first, "STOPPED")}
