"""A run that stands still: nothing comes to its end, and no process of its does anything.

A process can live on without working: stopped, waiting for a lock that nobody gives back, for memory or a disk that is gone.
Ray takes it for one that works long, and waits. From outside the two are told apart by the time of the processor: of a run that
has been silent for half of `stall_minutes`, each node says what the processes have taken so far, and after the other half again.
Where all of them took next to nothing they are ended, which Ray notices: it starts actors anew, and what they had is made again.
"""

import re
import socket
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from models.errors import EnvironmentFault
from pipelines.config.profile import Profile
from pipelines.run.interrupts import RUN
from pipelines.run.progress import State

WORK = re.compile(r"ray::(Map|FlatMap|Read|EngineActor)")
"""How titles of processes begin that work for a run: they read, make, write, or hold an engine of the language model."""
STARTS = ".__init__"
"""How the title of an actor ends that is being made: it may wait for its weights to be fetched."""
IDLE = 0.02
"""Share of a core that is next to nothing."""
TICK = 1.0
"""Seconds between two looks at whether anything has come to its end, at most."""
ANSWER_SECONDS, LEAVE_SECONDS = 60.0, 30.0
"""How long nodes may take to answer, and a run that ends waits for them."""


@dataclass(frozen=True)
class Worker:
    """A process of a run at a moment. node: Ray's id. born: as its node tells it; age and seconds of the processor, its
    descendants' among them, until now."""

    node: str
    host: str
    pid: int
    born: float
    age: float
    title: str
    seconds: float

    @property
    def key(self) -> tuple[str, int, float]:
        """What no other process has in common with it."""
        return self.node, self.pid, self.born


def list_workers(job: str, node: str, raylet: psutil.Process) -> list[Worker]:
    """Return the processes below `raylet`, of this machine, that work for the Ray job with the id `job`.

    One that is stopped may have work whatever its title says: it cannot change it.
    """
    found = []
    for process in _processes_of(job, raylet):
        with suppress(psutil.Error, OSError):
            title, born = (process.cmdline() or [""])[0], process.create_time()
            if not WORK.match(title) and process.status() != psutil.STATUS_STOPPED:
                continue
            times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
            seconds = sum(one.user + one.system for one in times)
            found.append(Worker(node, socket.gethostname(), process.pid, born, time.time() - born, title, seconds))
    return found


def end_workers(workers: Collection[Worker]) -> None:
    """End those processes of this machine that are still who they were, and what they have started."""
    for worker in workers:
        with suppress(psutil.Error):
            process = psutil.Process(worker.pid)
            if process.create_time() == worker.born:
                _end_process(process)


def end_stopped(job: str, raylet: psutil.Process) -> None:
    """End the processes below `raylet`, of this machine, that Ray started for the job with the id `job` and that are stopped."""
    for process in _processes_of(job, raylet):
        with suppress(psutil.Error):
            if process.status() == psutil.STATUS_STOPPED:
                _end_process(process)


def _processes_of(job: str, raylet: psutil.Process) -> list[psutil.Process]:
    found = []
    for process in raylet.children():
        with suppress(psutil.Error, OSError):
            if process.environ().get("RAY_JOB_ID") == job:
                found.append(process)
    return found


def _end_process(process: psutil.Process) -> None:
    # The worker first, so that it cannot go on, or end well, on the loss of a child.
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            one.kill()


def find_idle(before: Collection[Worker], now: Collection[Worker], seconds: float, start: float) -> list[Worker]:
    """Return those of `now` who have done next to nothing in the `seconds` since `before`.

    Who was not there before has begun. An actor that is being made has `start` seconds.
    """
    took = {worker.key: worker.seconds for worker in before}
    return [
        worker
        for worker in now
        if worker.key in took
        and worker.seconds - took[worker.key] < IDLE * seconds
        and not (worker.title.endswith(STARTS) and worker.age < start)
    ]


class StallWatch:
    """Looks in a thread, inside a `with` block, whether a run stands still; `check` raises where to end processes was no help.

    Signs of life are partitions that are finished, captions that are written, another phase, and a process that takes the
    processor's time. Before its first partition a run has at least the time that the profile gives to a start.

    look, end: what asks nodes for the run's processes, and what ends some; by default on the Ray of this process.
    """

    def __init__(
        self,
        state: State,
        profile: Profile,
        look: Callable[[], list[Worker]] | None = None,
        end: Callable[[Collection[Worker]], object] | None = None,
    ) -> None:
        self.state, self.seconds = state, 60 * profile.ray.stall_minutes
        self.start = float(max(profile.start_seconds, profile.captions.start_seconds))
        self.look, self.end = look or look_everywhere, end or end_everywhere
        self._fault, self._left = "", threading.Event()
        # By this name it counts as work that may be inside Ray, which must not be shut down then.
        self._thread = threading.Thread(target=self._watch, name=RUN, daemon=True)

    def __enter__(self) -> "StallWatch":
        if self.seconds:
            self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._left.set()
        if self.seconds:
            self._thread.join(LEAVE_SECONDS)

    def check(self) -> None:
        """Raise an EnvironmentFault for a run that stands still once more after its idle processes were ended."""
        if self._fault:
            raise EnvironmentFault(self._fault)

    def _watch(self) -> None:
        ended: list[Worker] | None = None
        while not self._left.is_set():
            # Silent for half of the time, and a look at the processes; for the other half, and another look.
            signs = self._signs()
            if not self._is_silent(signs):
                ended = None
                continue
            before, looked = self._processes(), time.monotonic()
            if not self._is_silent(signs):
                ended = None
                continue
            now = self._processes()
            idle = find_idle(before, now, time.monotonic() - looked, self.start)
            # One that computes, or has begun, may take its time. Where none does, all are ended: once.
            if len(idle) < len(now):
                continue
            if ended is not None:
                self._fault = self._explain(ended)
                return
            print(f"{self._silence()}: {_tell(idle)}", flush=True)
            self.end(idle)
            ended = idle

    def _processes(self) -> list[Worker]:
        with suppress(Exception):  # of a Ray that is lost, which others tell
            return self.look()
        return []

    def _signs(self) -> tuple[object, ...]:
        return self.state.done, self.state.texts, self.state.phase

    def _is_silent(self, signs: tuple[object, ...]) -> bool:
        """Wait for half of the time that is allowed; return False as soon as there are other signs than `signs`."""
        begun, began = self.state.done > self.state.before, time.monotonic()
        half = (self.seconds if begun else max(self.seconds, self.start)) / 2
        while time.monotonic() - began < half:
            if self._left.wait(min(TICK, half / 10)) or self._signs() != signs:
                return False
        return True

    def _silence(self) -> str:
        return f"nothing has moved for {self.seconds / 60:g} minutes, and no process of the run does anything"

    def _explain(self, ended: list[Worker]) -> str:
        return (
            f"the run stands still: {self._silence()}, as before, when {_tell(ended)}. Finished partitions are kept, run the "
            "same command again to resume; where nodes or storage may take longer, with --set "
            f"profile.ray.stall_minutes={self.seconds / 30:g} (0: for ever)."
        )


def _tell(ended: Collection[Worker]) -> str:
    """Return which processes were ended, in words."""
    if not ended:
        return "none was there"
    named = [f"{one.title.removeprefix('ray::')} ({one.pid} on {one.host})" for one in ended]
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return f"{', '.join(named[:3])}{more} were ended, for others to take up what they had"


def look_everywhere() -> list[Worker]:
    """Return the processes that work for this driver, on all nodes that answer."""
    job = ray.get_runtime_context().get_job_id()
    return [worker for told in _ask({node: (_look, job, node) for node in _list_nodes()}) for worker in told]


def end_everywhere(workers: Collection[Worker]) -> None:
    """End processes on whatever nodes they are."""
    nodes = {worker.node for worker in workers}
    _ask({node: (_end, [worker for worker in workers if worker.node == node]) for node in nodes})


def end_stopped_everywhere() -> None:
    """End, on all nodes that answer, what is stopped of this driver's processes, which is about to leave.

    When a job ends, Ray ends what has work or is an actor, and asks the others to leave: who is stopped does not hear that.
    """
    with suppress(Exception):  # of a Ray that is lost, which others tell
        job = ray.get_runtime_context().get_job_id()
        _ask(dict.fromkeys(_list_nodes(), (_end_stopped, job)), LEAVE_SECONDS)


def _list_nodes() -> list[str]:
    return [node["NodeID"] for node in ray.nodes() if node["Alive"]]


def _look(job: str, node: str) -> list[Worker]:
    raylet = psutil.Process().parent()
    return list_workers(job, node, raylet) if raylet else []


def _end(workers: list[Worker]) -> None:
    end_workers(workers)


def _end_stopped(job: str) -> None:
    raylet = psutil.Process().parent()
    if raylet:
        end_stopped(job, raylet)


def _ask(calls: dict[str, tuple[Any, ...]], seconds: float = ANSWER_SECONDS) -> list[Any]:
    """Call on each node what stands with it, (function, arguments ...), and return the answers of those that gave one in time."""
    asked = []
    for node, (function, *arguments) in calls.items():
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        # In processes of their own: Ray might give it to an idle one that is stopped.
        task = ray.remote(function).options(
            num_cpus=0, max_retries=0, scheduling_strategy=there, runtime_env={"env_vars": {"THERMAPAIR_LOOKS": "1"}}
        )
        asked.append(task.remote(*arguments))
    if not asked:
        return []
    told, late = ray.wait(asked, num_returns=len(asked), timeout=seconds)
    answers = []
    for one in told:
        with suppress(Exception):  # of a node that has gone meanwhile
            answers.append(ray.get(one))
    for one in late:
        with suppress(Exception):
            ray.cancel(one, force=True)
    return answers
