"""The engines of a job: plain Ray actors, started once, fed in batches, ended when the last caption is there."""

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from types import TracebackType
from typing import Any

import ray
import ray.exceptions

from models.errors import EnvironmentFault, Interrupted, UserError
from pipelines.captions.engine import WAY_OUT, EngineSpec, environment
from pipelines.captions.resident import Answers, Request, ResidentEngine, Written
from pipelines.run.faults import cause_of

RESTARTS = 16
"""How often Ray starts an engine again whose process or node is lost; what it was asked is asked again."""
AHEAD = 4
"""Batches that each engine should have to do or to come, so that it never waits for the driver."""
TICK = 0.5
"""Seconds between two looks at whether the run goes on."""


class EngineActor:
    """One engine, alone in a process."""

    async def __init__(self, spec: EngineSpec) -> None:  # type: ignore[misc]  # Ray awaits it
        self.engine = ResidentEngine(spec)

    async def ready(self) -> None:
        """Return once the engine answers."""
        await self.engine.check()

    async def write(self, requests: Sequence[Request]) -> list[Written]:
        """Return what the engine writes. When its own process has died this one ends, too, and Ray starts both again."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            return await self.engine.write(requests)
        except EngineDeadError:
            os._exit(1)


class Engines:
    """As many engines as the profile says, inside a `with` block.

    stopped: an event that ends every wait here, by Interrupted.

    Raises EnvironmentFault, with the way out, for engines that do not start in time, fail, or are lost too often.
    """

    hint = f"(are the prompts longer than its max_model_len?). {WAY_OUT}"
    """What to look at where nothing is answered."""

    def __init__(self, spec: EngineSpec, stopped: threading.Event | None = None) -> None:
        self.spec, self.stopped = spec, stopped or threading.Event()
        self._actors: list[Any] = []
        self._open: list[int] = []
        """Requests that each engine has not answered yet."""
        self._lock = threading.Lock()

    def __enter__(self) -> "Engines":
        engines = self.spec.engines
        actor = ray.remote(EngineActor).options(
            num_cpus=engines.cpus,
            num_gpus=engines.gpus or None,
            max_restarts=RESTARTS,
            max_task_retries=RESTARTS,
            runtime_env={"env_vars": environment(engines)},
        )
        self._actors = [actor.remote(self.spec) for _ in range(engines.engines)]
        self._open = [0] * engines.engines
        try:
            self._wait([one.ready.remote().future() for one in self._actors], time.monotonic() + engines.start_seconds)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    @property
    def busy(self) -> bool:
        """Whether every engine has enough to do for a while."""
        return sum(self._open) >= AHEAD * self.spec.engines.batch * len(self._actors)

    def submit(self, requests: Sequence[Request], progress: Callable[[int], None] = lambda answered: None) -> Answers:
        """Give requests to the engines in batches, each to the one with the least to do; return what will hold the answers.

        progress: called with the size of each batch when it is answered, in a thread of its own.
        """
        futures, size = [], self.spec.engines.batch
        for start in range(0, len(requests), size):
            batch = list(requests[start : start + size])
            with self._lock:
                engine = min(range(len(self._open)), key=self._open.__getitem__)
                self._open[engine] += len(batch)
            future = self._actors[engine].write.remote(batch).future()
            future.add_done_callback(partial(self._count_answer, engine, len(batch), progress))
            futures.append(future)
        return futures

    def collect(self, answers: Answers) -> list[Written]:
        """Return the texts of `submit`, in the order of its requests, once all are there."""
        self._wait(answers)
        return [text for future in answers for text in future.result()]

    def _count_answer(self, engine: int, count: int, progress: Callable[[int], None], future: Future[Any]) -> None:
        with self._lock:
            self._open[engine] -= count
        progress(count)

    def _wait(self, futures: Sequence[Future[Any]], until: float = float("inf")) -> None:
        """Wait for all of `futures`; raises what an engine failed by as a fault, and Interrupted when the run has ended."""
        left = set(futures)
        while left:
            done, left = wait(left, timeout=TICK, return_when=FIRST_COMPLETED)
            if self.stopped.is_set():
                raise Interrupted("the run has ended; captions that are committed are kept.")
            for error in filter(None, (future.exception() for future in done)):
                raise self._fault(error) from error
            if left and time.monotonic() > until:
                seconds = self.spec.engines.start_seconds
                raise self._describe(
                    f"did not start within {seconds} s (the machine is short of CPUs or GPUs, or raise "
                    "profile.captions.start_seconds)"
                )

    def _fault(self, error: BaseException) -> UserError:
        """Return what an engine failed by, in a line."""
        cause = cause_of(error)
        if isinstance(cause, UserError) and "captions:" in str(cause):
            return cause
        lines = [line for line in str(cause).splitlines() if line.strip()]
        named = [line for line in lines if re.match(r"\s*[\w.]*(Error|Exception|Fault)\b", line)] or lines
        return self._describe(f"failed ({type(cause).__name__}: {named[-1].strip()[:300] if named else 'no message'})")

    def _describe(self, what: str) -> EnvironmentFault:
        return EnvironmentFault(f"captions: the vLLM engine for {self.spec.weights} {what}. {WAY_OUT}")

    def _end(self) -> None:
        """Free what the engines hold. Killed, not asked: their own processes notice it and end."""
        for one in self._actors:
            ray.kill(one)
        self._actors = []
