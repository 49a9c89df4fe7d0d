"""A run that stands still: its processes are told apart from outside, those that do nothing are ended, and at last it stops."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from models.errors import EnvironmentFault
from models.weights.store import ROOT
from pipelines.run.progress import State
from pipelines.run.stall import StallWatch, Worker, end_stopped, end_workers, find_idle, list_workers
from pipelines.storage.commits import list_finished
from pipelines.storage.uri import Storage
from tests.benchmarks.faults.bed import SHIPPED
from tests.benchmarks.faults.check import compare
from tests.pipelines import small

ACTOR = "ray::MapWorker(MapBatches(Chain))"
STARTS = f"{ACTOR}.__init__"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """What starts a shell with a title, for a job; all are ended."""
    started = []

    def start(title: str, script: str, job: str = "0a") -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([title, "-c", script], executable="/bin/sh", env={"RAY_JOB_ID": job}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_until(there: Callable[[], object], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_processes_that_do_nothing_are_told_from_those_that_compute_and_ended_with_their_children(start: Start) -> None:
    stuck, busy = start(f"{ACTOR}.submit", "sleep 60 & wait"), start(ACTOR, "while :; do :; done")
    other, idle = start(f"{ACTOR}.submit", "sleep 60", job="0b"), start("ray::IDLE", "sleep 60")
    wait_until(lambda: psutil.Process(stuck.pid).children())
    (child,) = psutil.Process(stuck.pid).children()

    def look() -> list[Worker]:
        return list_workers("0a", "node", psutil.Process())

    before, began = look(), time.monotonic()
    assert {worker.pid for worker in before} == {stuck.pid, busy.pid}
    took = {worker.pid: worker.seconds for worker in before}
    wait_until(lambda: all(one.seconds > took[one.pid] + 0.05 for one in look() if one.pid == busy.pid))
    found = find_idle(before, look(), min(time.monotonic() - began, 2), start=60)
    assert [worker.pid for worker in found] == [stuck.pid]
    # A number that another process has now is not touched.
    end_workers([replace(found[0], born=found[0].born - 1)])
    with pytest.raises(subprocess.TimeoutExpired):
        stuck.wait(0.1)
    end_workers(found)
    assert stuck.wait(20) == -signal.SIGKILL
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert [one.poll() for one in (busy, other, idle)] == [None] * 3


def test_who_is_stopped_may_have_work_whatever_its_title_says_and_is_ended_when_the_job_leaves(start: Start) -> None:
    stopped, other = start("ray::IDLE", "sleep 60 & wait"), start("ray::IDLE", "sleep 60", job="0b")
    idle = start("ray::IDLE", "sleep 60")
    wait_until(lambda: psutil.Process(stopped.pid).children())
    (child,), raylet = psutil.Process(stopped.pid).children(), psutil.Process()
    assert list_workers("0a", "node", raylet) == []
    for one in (stopped, other):
        os.kill(one.pid, signal.SIGSTOP)
        wait_until(lambda one=one: psutil.Process(one.pid).status() == psutil.STATUS_STOPPED)
    assert [worker.pid for worker in list_workers("0a", "node", raylet)] == [stopped.pid]
    end_stopped("0a", raylet)
    assert stopped.wait(20) == -signal.SIGKILL
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert [one.poll() for one in (other, idle)] == [None] * 2


def test_an_actor_that_is_being_made_has_its_time_and_who_has_just_begun_did_something() -> None:
    worker = Worker("node", "host", 7, 1.0, 100.0, ACTOR, 5.0)
    starts = replace(worker, title=STARTS)
    assert find_idle([worker], [worker], 60, start=300) == [worker]
    assert find_idle([starts], [starts], 60, start=300) == []
    assert find_idle([starts], [starts], 60, start=90) == [starts]
    assert find_idle([worker], [replace(worker, seconds=6.3)], 60, start=300) == []
    assert find_idle([worker], [replace(worker, born=2.0)], 60, start=300) == []
    assert find_idle([worker], [replace(worker, node="other")], 60, start=300) == []


class Scene:
    """A watch over a run of which a partition is finished, processes that `now` tells of, and what was ended."""

    def __init__(self, *processes: Worker, minutes: float = 0.002, done: int = 8) -> None:
        self.processes, self.ended, self.looks = list(processes), list[list[Worker]](), 0
        self.state = State("run", 64, done=done)
        self.watch = StallWatch(self.state, small.profile(f"ray.stall_minutes={minutes}"), self.look, self.end)

    def look(self) -> list[Worker]:
        self.looks += 1
        return list(self.processes)

    def end(self, workers: Any) -> None:
        self.ended.append(list(workers))

    def fault(self) -> str:
        """Return what the watch says, empty while it says nothing."""
        try:
            self.watch.check()
        except EnvironmentFault as error:
            return str(error)
        return ""


IDLE = Worker("node", "host", 7, 1.0, 100.0, ACTOR, 5.0)


def test_idle_processes_are_ended_once_and_a_run_that_stands_still_again_stops(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scene = Scene(IDLE)
    with scene.watch:
        wait_until(lambda: scene.ended)
        assert scene.fault() == "" and scene.ended == [[IDLE]]
        wait_until(scene.fault)
    assert scene.ended == [[IDLE]] and "MapWorker(MapBatches(Chain)) (7 on host) were ended" in capsys.readouterr().out
    assert "run the same command again" in scene.fault() and "profile.ray.stall_minutes=0.004" in scene.fault()


def test_a_partition_that_is_finished_has_all_begin_anew(capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene(IDLE)
    with scene.watch:
        for count in (1, 2):
            wait_until(lambda count=count: len(scene.ended) == count)
            scene.state.done += 8
    assert scene.fault() == "" and len(scene.ended) == 2


def test_a_run_moves_while_a_process_computes_captions_come_or_it_starts() -> None:
    computing, captions, starting = Scene(IDLE), Scene(IDLE), Scene(IDLE, done=0)
    other = Scene(IDLE, minutes=0)
    with computing.watch, captions.watch, starting.watch, other.watch:
        for seconds in range(40):
            computing.processes = [IDLE, replace(IDLE, pid=8, seconds=float(seconds))]
            captions.state.count_captions(seconds, 64)
            time.sleep(0.01)
    assert computing.looks > 2 and captions.looks == starting.looks == other.looks == 0
    assert not any((scene.ended or scene.fault()) for scene in (computing, captions, starting, other))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_ends_by_itself_though_an_actor_stands_still(local_ray: Any, tmp_path: Path) -> None:
    """Its process is stopped, not ended: Ray sees nothing of it. The only one there is, so that nothing can go on."""
    with small.registered():
        bundle = small.write_bundle(tmp_path / "bundle", wait=0.3)
        whole = small.make_here(small.job(PEOPLE), bundle, tmp_path / "whole").out
    out = Storage(tmp_path / "out")
    process = small.start_driver(STALLED, str(tmp_path / "bundle" / "bundle.yaml"), out.uri)
    said = list[str]()
    listener = threading.Thread(target=lambda: said.append(process.communicate()[1]))
    listener.start()
    while process.poll() is None and len(list_finished(out)) < 3:  # the driver has heard of the first by then
        time.sleep(0.02)
    stopped = max(_workers_of(ACTOR), key=lambda one: one.create_time())
    os.kill(stopped.pid, signal.SIGSTOP)
    done = len(list_finished(out))
    listener.join()
    assert process.returncode == 0 and not stopped.is_running(), said
    assert done < 7 and compare(out, whole) == ""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_job_leaves_no_stopped_process_on_a_cluster_that_it_joined(local_ray: Any) -> None:
    """An idle one, of which Ray would say that it has been asked to leave."""
    command = [sys.executable, "-c", LEAVES, local_ray.get_runtime_context().gcs_address]
    environment = {**os.environ, SHIPPED: json.dumps({"runtime_env": {}})}
    pipe = subprocess.PIPE
    driver = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True)
    assert driver.stdout
    worker = psutil.Process(int(driver.stdout.readline()))
    worker.suspend()
    try:
        driver.communicate("go on")
        assert driver.returncode == 0
        wait_until(lambda: not worker.is_running())
    finally:
        with suppress(psutil.NoSuchProcess):
            worker.kill()


LEAVES = """
import os, sys, ray
from pipelines.config.profile import RayStart
from pipelines.run.session import ray_session

with ray_session(RayStart(address=sys.argv[1])):
    print(ray.get(ray.remote(lambda: os.getpid()).remote()), flush=True)
    sys.stdin.read()
"""


def _workers_of(title: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if (process.cmdline() or [""])[0].startswith(title):
                found.append(process)
    return found


PEOPLE = "identities.count=16"
"""64 samples in eight partitions."""
STALLED = f"""
import sys
from models.weights.bundle import load_bundle
from tests.pipelines import small

small.register()
small.make(small.job("{PEOPLE}"), load_bundle(sys.argv[1]), sys.argv[2], "ray.stall_minutes=0.2", "start_seconds=60")
"""
