"""A Ray to run on that is not there, is lost, or has no room for its sockets: told at once, with the way out."""

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import ray

from models.errors import EnvironmentFault, Interrupted
from models.weights.store import ROOT
from pipelines.config.profile import RayStart
from pipelines.run import session
from pipelines.run.interrupts import Signals
from pipelines.run.session import check_alive, check_cluster, named_cluster, ray_session, shorten_temporary_folder
from pipelines.storage.commits import list_finished
from pipelines.storage.uri import Storage
from tests.pipelines import small


@pytest.fixture
def listener() -> Iterator[int]:
    """Yield a port on which connections are accepted and nothing is said."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield int(listening.getsockname()[1])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_gone_is_told_at_once(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"{scheme}127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("it would try for minutes"))
    began = time.monotonic()
    with (
        pytest.raises(EnvironmentFault, match=f"{address} does not answer .Connection refused.*unset it"),
        ray_session(RayStart()),
    ):
        pass
    assert time.monotonic() - began < 15


def test_a_listener_that_is_no_cluster_is_told(listener: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    monkeypatch.setattr(session, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(session, "GcsClient", lambda address: asked.wait(5))
    with pytest.raises(EnvironmentFault, match=r"something listens there \(nothing within 0 s\)"):
        check_cluster(f"127.0.0.1:{listener}")
    asked.set()

    def refuse(address: str) -> None:
        raise RuntimeError("a token is needed\nand more")

    monkeypatch.setattr(session, "GcsClient", refuse)
    with pytest.raises(EnvironmentFault, match=r"something listens there \(a token is needed\)"):
        check_cluster(f"127.0.0.1:{listener}")
    # A head that answers is no fault, and a client's port is asked nothing.
    monkeypatch.setattr(session, "GcsClient", lambda address: SimpleNamespace(internal_kv_keys=lambda *_: []))
    check_cluster(f"127.0.0.1:{listener}")
    check_cluster(f"ray://127.0.0.1:{listener}")
    assert session.CONNECT_SECONDS + 8 <= 15


def test_a_local_ray_that_does_not_come_up_in_time_is_started_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray gives a node 30 s; a second failure is the environment's, in one message."""
    began, failures = [], 1

    def init(**options: object) -> None:
        began.append(options)
        if len(began) <= failures:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(session, "check_shared_memory", lambda *_: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with ray_session(RayStart()):
        assert len(began) == 2 and began[0] == began[1]
    began, failures = [], 2
    with (
        pytest.raises(EnvironmentFault, match="a local Ray cannot be reached or started: .*timed out"),
        ray_session(RayStart()),
    ):
        pass
    assert len(began) == 2


@pytest.mark.parametrize("address", ["http://head:8265", "head", "head:port", "auto"])
def test_what_is_no_address_of_a_cluster_is_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.services, "canonicalize_bootstrap_address", lambda _: None)
    with pytest.raises(EnvironmentFault, match="give its head as HOST:6379"):
        check_cluster(address)


def test_a_local_ray_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert not named_cluster()
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert (named_cluster(), named_cluster("other:6379")) == ("head:6379", "other:6379")


def test_sockets_get_a_short_folder(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", "")
    monkeypatch.setenv("RAY_TMPDIR", "")
    most = session.SOCKET_BYTES - session.SESSION_BYTES
    assert most > 30
    monkeypatch.setenv("TMPDIR", "/" + "t" * (most - 1))
    shorten_temporary_folder()
    assert os.environ["RAY_TMPDIR"] == ""
    monkeypatch.setenv("TMPDIR", "/" + "t" * most)
    with caplog.at_level(logging.INFO):
        shorten_temporary_folder()
    assert os.environ["RAY_TMPDIR"] == "/tmp" and "too long for Ray's sockets" in caplog.text
    monkeypatch.setenv("RAY_TMPDIR", "/" + "ü" * (most // 2 + 1))  # bytes are counted, not letters
    with pytest.raises(EnvironmentFault, match=f"at most {most} bytes, as in RAY_TMPDIR=/tmp"):
        shorten_temporary_folder()


@pytest.mark.soak
@pytest.mark.parametrize(("dead", "name"), [("raylet", "raylet"), ("gcs_server", "GCS server")])
def test_a_ray_that_has_ended_is_one_sentence(dead: str, name: str, kinds: None, tmp_path: Path) -> None:
    """A process of a run's own Ray is killed once a partition is there: resumable, and what is made stays."""
    bundle, out = small.write_bundle(tmp_path / "bundle", wait=0.3), Storage(tmp_path / "out")
    command = [sys.executable, "-c", small.DRIVER, str(Path(bundle.folder, "bundle.yaml")), out.uri]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while process.poll() is None and not list_finished(out):
            time.sleep(0.1)
        kept = list_finished(out)
        (one,) = [child for child in psutil.Process(process.pid).children(recursive=True) if child.name() == dead]
        one.kill()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert re.search(rf"^Ray's {name} on this machine ended .*resume\.$", errors, re.MULTILINE), errors
    assert "Traceback" not in errors and kept <= list_finished(out)


def test_a_cluster_that_was_joined_and_is_lost_is_one_sentence(listener: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_lost": "", "LOST_SECONDS": 0.05, "PULSE_SECONDS": 0.01}.items():
        monkeypatch.setattr(session, name, value)
    port, ended = listener, threading.Event()
    monkeypatch.setattr(
        ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address=f"127.0.0.1:{port}")
    )  # fmt: skip
    feeling = threading.Thread(target=session._feel_pulse, args=("head:6379", ended))
    feeling.start()
    time.sleep(0.15)
    check_alive()
    ended.set()
    feeling.join()
    port = free_port()
    session._feel_pulse("head:6379", threading.Event())
    with pytest.raises(EnvironmentFault, match="the Ray cluster at head:6379 has not answered"):
        check_alive()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_signal_that_ends_a_run_says_how_to_go_on(number: signal.Signals) -> None:
    usual = signal.signal(number, signal.SIG_DFL)  # the tests, too, may run under nohup
    try:
        with Signals() as signals:
            os.kill(os.getpid(), number)
            with pytest.raises(Interrupted, match=f"stopped by {number.name}: finished partitions are kept"):
                signals.check()
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, usual)


def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            signals.check()
    finally:
        signal.signal(signal.SIGHUP, before)
