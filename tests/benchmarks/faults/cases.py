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

from pipelines.plan.captions import FOLDER
from pipelines.storage.uri import Storage
from tests.benchmarks.faults.bed import WORK, Bed, Launch, raylet_of, wait_for
from tests.pipelines.storage.faulty import Faulty

ROOM, STEP, LEAST_MEMORY = 5 * 2**30, 100 * 2**20, 3 * 2**30
"""Bytes that a run may use until Ray ends its workers, that are taken at a time, and that the machine keeps."""
CONTROL_GROUPS = Path("/sys/fs/cgroup/memory")
"""Linux's, of the first version."""


@dataclass
class Scene:
    """Where a fault happens."""

    bed: Bed
    random: random.Random
    launch: Launch
    out: Storage
    faulty: Faulty | None = None
    repairs: list[Callable[[], object]] = field(default_factory=list)
    kept: dict[str, bytes] = field(default_factory=dict)
    """Files that must not change any more."""

    @property
    def goes_on(self) -> bool:
        """Whether the launch has not ended yet."""
        return self.launch.process.poll() is None

    def victim(self, *titles: str) -> psutil.Process:
        """Return one of the workers whose titles hold `titles`, waiting for one while the run goes on."""
        while self.goes_on:
            if found := self.bed.processes(*titles):
                return self.random.choice(found)
            time.sleep(0.02)
        raise AssertionError(f"the run ended before {titles} worked: {self.launch.tail()}")


def kill_actor(scene: Scene) -> str:
    scene.victim("MapWorker(MapBatches(Chain))").kill()
    return "the process of a stage's actor"


def stop_actor(scene: Scene) -> str:
    """The process of an actor stands still, and Ray sees nothing of it."""
    scene.victim("MapWorker(MapBatches(Chain))").suspend()
    return "a stage's actor stands still"


def kill_engine(scene: Scene) -> str:
    """The language model's engine dies, or the actor that holds it, once first captions are committed."""
    found = list[str]()
    while scene.goes_on and not found:
        found = [name for name in scene.out.list(FOLDER) if name.endswith(".parquet")]
        time.sleep(0.1)
    scene.kept = {name: scene.out.read(name) for name in found}
    title = scene.random.choice(["VLLM::EngineCore", "EngineActor"])
    scene.victim(title).kill()
    return f"{title}, with {len(found)} chunks of captions committed"


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
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled, without stubs
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


def take_memory(scene: Scene) -> str:
    """The machine's memory is taken until Ray's monitor ends a worker, and given back."""
    there, taken = scene.bed.processes(*WORK), list[bytearray]()
    while scene.goes_on and all(process.is_running() for process in there):
        assert psutil.virtual_memory().available > LEAST_MEMORY, "Ray ended nothing"
        taken.append(bytearray(b"x") * STEP)
        time.sleep(0.3)
    assert scene.goes_on, "the run ended first"
    ended = sum(not one.is_running() for one in there)
    return f"{len(taken) * STEP / 2**30:.1f} GiB taken until Ray ended {ended} of {len(there)} workers"


def watched_nodes() -> dict[str, Any]:
    """Return options of nodes on which Ray ends workers once some GiB more than now are in use."""
    memory = psutil.virtual_memory()
    threshold = (memory.total - memory.available + ROOM) / memory.total
    return {"env_vars": {"RAY_memory_usage_threshold": f"{threshold:.3f}"}}


def starve_by_linux(scene: Scene) -> str:
    """An actor that is being made comes into a control group of a mebibyte: Linux kills it for what it takes next."""
    group = CONTROL_GROUPS / f"thermapair-faults-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(2**20))
        (group / "cgroup.procs").write_text(str(scene.victim("MapWorker(MapBatches(Chain))").pid))
        while scene.goes_on and "oom_kill 0" in (group / "memory.oom_control").read_text():
            time.sleep(0.05)
        assert "oom_kill 0" not in (group / "memory.oom_control").read_text(), "Linux killed nothing"
    finally:
        _remove_group(group)
    return "Linux killed a stage's actor for its memory"


def _remove_group(group: Path) -> None:
    """Remove a control group, whose processes go back to where they came from."""
    until = time.monotonic() + 20
    while group.exists():
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (CONTROL_GROUPS / "cgroup.procs").write_text(pid)
        with suppress(OSError):  # as long as a process that was killed is not gone
            group.rmdir()
            return
        assert time.monotonic() < until
        time.sleep(0.1)


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
    node: Callable[[], dict[str, Any]] | None = None
    """What its nodes are given; then it has a cluster of its own."""
    engine: bool = False
    """Whether a language model writes its captions: rows are then compared by their ids."""
    early: bool = False
    """Whether it happens before any partition is finished."""
    latest: int = 30
    """It happens once fewer partitions than this are finished: stages are done before the last are written."""


DONE, EITHER = ((0,),), ((0,), (75, 0))
AGAIN = ((75, 0),)
LARGE = ("partition_samples=16", "identities.count=16", "bundle.size=512")
CASES = {
    "stage actor": Case(kill_actor, DONE, latest=8),
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
    "allocations fail": Case(starve_worker, DONE, latest=8),
    "spilling": Case(spill, DONE, LARGE, node=lambda: {"object_store_memory": 80 * 2**20}, early=True),
    "stands still": Case(stop_actor, DONE, latest=8),
    "engine": Case(kill_engine, DONE, ("identities.count=20",), early=True, engine=True),
    "memory, by Ray": Case(take_memory, DONE, node=watched_nodes),
    "memory, by Linux": Case(starve_by_linux, DONE, early=True),
}


def wait_and_do(case: Case, scene: Scene, after: int) -> str:
    """Do what a case does once `after` partitions are finished, and return what it was."""
    wait_for(scene.out, 0 if case.early else after, scene.launch)
    return case.do(scene)
