"""What goes wrong in a run on a cluster, case by case: each does it once, for real, and says what it did.

A case gets the bed, a source of random numbers, and the launch that is under way, with at least one partition finished. What it
returns is said in the ledger; what has to be put right before the run can go on is done by `repair`, after the driver's end.
"""

import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pipelines.storage.uri import Storage
from tests.benchmarks.faults.bed import Bed, Launch, raylet_of, wait_for
from tests.pipelines.storage.faulty import Faulty


@dataclass
class Scene:
    """Where a fault happens."""

    bed: Bed
    random: random.Random
    launch: Launch
    out: Storage
    faulty: Faulty | None = None
    repairs: list[Callable[[], object]] = field(default_factory=list)

    def victim(self, *titles: str) -> psutil.Process:
        """Return one of the workers whose titles hold `titles`, waiting for one while the run goes on."""
        while self.launch.process.poll() is None:
            if found := self.bed.processes(*titles):
                return self.random.choice(found)
            time.sleep(0.02)
        raise AssertionError(f"the run ended before {titles} worked: {self.launch.tail()}")


def kill_actor(scene: Scene) -> str:
    scene.victim("MapWorker(MapBatches(Chain))").kill()
    return "the process of a stage's actor"


def kill_writer(scene: Scene) -> str:
    scene.victim("MapBatches(write_partition)").kill()
    return "a process that writes"


def kill_raylet(scene: Scene) -> str:
    raylet_of(scene.random.choice(scene.bed.workers())).kill()
    return "the raylet of a node"


def lose_node(scene: Scene) -> str:
    scene.bed.remove(scene.random.choice(scene.bed.workers()))
    return "all processes of a node"


def drain_node(scene: Scene) -> str:
    """As a cloud takes a spot instance back: the node is told, and gone some seconds later; another may come."""
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    node, seconds = scene.random.choice(scene.bed.workers()), scene.random.choice([2, 5, 10])
    preempted = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline = int((time.time() + seconds) * 1000)
    accepted, why = GcsClient(address=scene.bed.cluster.address).drain_node(node.node_id, preempted, "spot", deadline)
    assert accepted, why
    with suppress(subprocess.TimeoutExpired):
        scene.launch.process.wait(seconds)
    scene.bed.remove(node)
    scene.bed.add_node()
    return f"a node is told, gone after {seconds} s, and another comes"


def join_node(scene: Scene) -> str:
    node = scene.bed.add_node()
    while scene.launch.process.poll() is None and not scene.bed.processes("MapWorker", "MapBatches", node=node):
        time.sleep(0.1)
    return "a node joins, and gets work"


def kill_driver(scene: Scene) -> str:
    scene.launch.process.kill()
    return "the driver, by SIGKILL"


def stop_driver(scene: Scene) -> str:
    number = scene.random.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    scene.launch.process.send_signal(number)
    return f"the driver, by {number.name}"


def lose_head(scene: Scene) -> str:
    """The head's machine is gone, but for the driver, which tells it by itself; another cluster is there for the next launch."""
    scene.bed.cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
    scene.repairs += [scene.bed.stop, scene.bed.start]
    return "the head"


def storage_fails(status: str, code: str) -> Callable[[Scene], str]:
    """Return a case: all requests are answered `status` for a while."""

    def fail(scene: Scene) -> str:
        assert scene.faulty
        seconds = scene.random.choice([1, 4, 12])
        scene.faulty.answer(status, code)
        with suppress(subprocess.TimeoutExpired):
            scene.launch.process.wait(seconds)
        scene.faulty.count = 0
        return f"{status} for {seconds} s"

    return fail


def storage_stalls(scene: Scene) -> str:
    assert scene.faulty
    scene.faulty.stall = 20  # beyond the 15 s that s3fs waits for an answer
    time.sleep(5)
    scene.faulty.stall = 0
    return "no answer for 20 s, to all that is asked within 5 s"


def fill_disk(scene: Scene) -> str:
    """The output lies on a small disk, which is full in the middle of the run; then it is made larger."""
    room = lambda: subprocess.run(["mount", "-o", "remount,size=64m", scene.out.path()], check=True)  # noqa: E731
    scene.repairs.append(room)
    return "the disk is full"


def starve_worker(scene: Scene) -> str:
    """A worker gets no more address space for a while: whatever it, or Ray in it, allocates fails."""
    process, seconds = scene.victim("MapWorker(MapBatches(Chain))"), scene.random.choice([0.5, 2])
    before = resource.prlimit(process.pid, resource.RLIMIT_AS)
    resource.prlimit(process.pid, resource.RLIMIT_AS, (process.memory_info().vms, before[1]))
    time.sleep(seconds)
    with suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_AS, before)
    return f"an actor gets no memory for {seconds} s"


def spill(scene: Scene) -> str:
    """Blocks are larger than the object store: Ray writes them to disk and reads them again."""
    folder = Path(os.environ["RAY_TMPDIR"])
    while scene.launch.process.poll() is None:
        if spilled := [one for one in folder.glob("ray/session_*/ray_spilled_objects*/*") if one.is_file()]:
            return f"{len(spilled)} objects on disk at a time"
        time.sleep(0.05)
    raise AssertionError("nothing was spilled")


@dataclass(frozen=True)
class Case:
    """A fault, what its run is given, and exit codes with which the launches may end, one tuple each."""

    do: Callable[[Scene], str]
    ends: tuple[tuple[int, ...], ...]
    edits: tuple[str, ...] = ()
    s3: bool = False
    disk: str = ""
    """Size of the output's disk."""
    node: dict[str, Any] = field(default_factory=dict)
    """What its nodes are given; then it has a cluster of its own."""
    early: bool = False
    """Whether it happens before any partition is finished."""


DONE, EITHER = ((0,),), ((0,), (75, 0))
AGAIN = ((75, 0),)
LARGE = ("partition_samples=16", "identities.count=16", "bundle.size=512")
SMALL_STORE = {"object_store_memory": 80 * 2**20}
CASES = {
    "stage actor": Case(kill_actor, DONE),
    "writer": Case(kill_writer, DONE),
    "raylet": Case(kill_raylet, DONE),
    "node": Case(lose_node, DONE),
    "drain": Case(drain_node, DONE),
    "join": Case(join_node, DONE),
    "driver killed": Case(kill_driver, ((-signal.SIGKILL, 0),)),
    "driver stopped": Case(stop_driver, AGAIN),
    "head": Case(lose_head, AGAIN),
    "S3 500": Case(storage_fails("500 Internal Server Error", "InternalError"), EITHER, s3=True),
    "S3 503": Case(storage_fails("503 Slow Down", "SlowDown"), EITHER, s3=True),
    "S3 timeouts": Case(storage_stalls, EITHER, s3=True),
    "S3 expired": Case(storage_fails("400 Bad Request", "ExpiredToken"), EITHER, s3=True),
    "full disk": Case(fill_disk, AGAIN, disk="1500k", early=True),
    "allocations fail": Case(starve_worker, DONE),
    "spilling": Case(spill, DONE, LARGE, node=SMALL_STORE, early=True),
}


def wait_and_do(case: Case, scene: Scene, after: int) -> str:
    """Do what a case does once `after` partitions are finished, and return what it was."""
    wait_for(scene.out, 0 if case.early else after, scene.launch)
    return case.do(scene)
