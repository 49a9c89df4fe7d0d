"""One driver for every job: claim, plan, graph, watch, finish.

A job says *what*: how it is planned, what its graph is, what its end writes. Here stands *how*: one lease on the output, one
plan, Ray for as long as something is missing, one view of what is committed, signals, faults in the user's words, and an
end that is the plan's or an error.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import ray.data
from pydantic import BaseModel

from pipelines.config.profile import Profile
from pipelines.run import clean, faults, provenance
from pipelines.run.interrupts import Signals, in_thread
from pipelines.run.progress import State, View
from pipelines.run.session import check_alive, ray_session
from pipelines.run.stall import StallWatch
from pipelines.storage.commits import Commit, list_finished, read_commits
from pipelines.storage.lease import Lease
from pipelines.storage.uri import Storage


class Plan(Protocol):
    """What is to be made, partition by partition; it lies whole in `out`."""

    out: Storage

    @property
    def job(self) -> BaseModel: ...

    @property
    def title(self) -> str:
        """What the view calls the run."""

    @property
    def partitions(self) -> int: ...

    @property
    def samples(self) -> int: ...

    def rows(self, partition: int) -> int:
        """Samples of a partition."""


Planned = TypeVar("Planned", bound=Plan)
Result = TypeVar("Result")
STOP_SECONDS = 15.0
"""How long a run that ends waits for work beside its graph."""
Counts = Mapping[str, Any]
"""What a sink says of a partition that it has committed: `partition`, `samples`, and where it counts them `rejected`,
`redrawn` and the seconds of each stage as `seconds_STAGE`."""


class Run:
    """What a graph may use of its driver while it runs."""

    def __init__(self, state: State) -> None:
        self.state, self.stopped = state, threading.Event()
        """`stopped` is set once the run ends, for whatever reason."""
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def beside(self, work: Callable[[], object]) -> None:
        """Run `work` in a thread of its own. What it raises ends the run; it ends itself when `stopped` is set."""

        def body() -> None:
            try:
                work()
            except BaseException as error:
                self._errors.append(error)

        self._threads.append(threading.Thread(target=body, name="beside", daemon=True))
        self._threads[-1].start()

    def check(self) -> None:
        """Raise what work beside the graph has raised."""
        if self._errors and not self.stopped.is_set():
            raise self._errors[0]

    def join(self, timeout: float | None = None) -> None:
        """Wait for the work beside the graph."""
        for thread in self._threads:
            thread.join(timeout)


@dataclass(frozen=True)
class Job(Generic[Planned, Result]):
    """What a job says of itself."""

    plan: Callable[[], Planned]
    """Return the plan that lies in the output, written or extended now."""
    graph: Callable[[Planned, list[int], Run], Iterable[Counts]]
    """Make the partitions that are asked for, and yield what became of each as it is committed."""
    finish: Callable[[Planned, dict[int, Commit]], Result]
    """Write manifest, card and report of the whole run."""
    check: Callable[[Planned, State], None] = lambda plan, state: None
    """Raise to end a run that goes wrong, after every partition."""


def run_job(job: Job[Planned, Result], out: Storage, profile: Profile, *, local: bool = False) -> Result:
    """Run a job: what `out` has is kept, what it lacks is made. local: the graph needs no Ray.

    Raises:
        UserError: an output that belongs to another run or has a live driver.
        EnvironmentFault, Interrupted: the run stopped; the same call resumes it.
    """
    with Lease(out) as lease, Signals() as signals:
        # What is to be made, and what of it is there.
        plan = in_thread(job.plan, signals.check)
        provenance.write_launch(plan.out, plan.job, profile)
        done = list_finished(out)
        missing = [partition for partition in range(plan.partitions) if partition not in done]
        # Ray only if something is missing: a finished run needs no GPU to be looked at.
        if missing:
            with (
                nullcontext() if local else ray_session(profile.ray),
                nullcontext() if local else data_context(profile),
            ):
                signals.watch()
                _drive(job, plan, missing, lease, signals, None if local else profile)
        return in_thread(lambda: end_run(plan, job.finish), signals.check)


def end_run(plan: Planned, finish: Callable[[Planned, dict[int, Commit]], Result]) -> Result:
    """Return what `finish` makes of a run whose partitions are all committed; orphans of dropped attempts are removed.

    Raises EnvironmentFault for an end that is not the plan's: commits were deleted meanwhile.
    """
    commits = read_commits(plan.out, plan.partitions)
    clean.remove_orphans(plan.out, commits)
    return finish(plan, commits)


def _drive(
    job: Job[Planned, Result],
    plan: Planned,
    missing: list[int],
    lease: Lease,
    signals: Signals,
    profile: Profile | None,
) -> None:
    """Make the missing partitions, watched: by a view of what is committed, by the lease, by signals, and for a stall.

    profile: where Ray runs it; None without Ray.
    """
    before = plan.samples - sum(plan.rows(partition) for partition in missing)
    state = State(plan.title, plan.samples, before, before)
    run = Run(state)
    with View(state) as view, StallWatch(state, profile) if profile else nullcontext() as stall:
        # Called in this thread every moment: whatever it raises ends the wait for the other one.
        def watch() -> None:
            signals.check()
            lease.check()
            check_alive()
            run.check()
            if stall:
                stall.check()
            view.show()

        # The graph, in a thread of its own, for Ray's waits in C heed no signal.
        def work() -> None:
            state.restart_clock("pictures")
            for counts in job.graph(plan, missing, run):
                state.add(counts)
                job.check(plan, state)
                if run.stopped.is_set():
                    return
            run.join()
            state.phase = "done"

        try:
            in_thread(work, watch)
            run.check()
        except Exception as error:
            raise faults.as_fault(error) from error
        finally:
            # Whatever happened: work beside the graph is told, and given a while.
            run.stopped.set()
            run.join(STOP_SECONDS)


@contextmanager
def data_context(profile: Profile) -> Iterator[None]:
    """Set what Ray Data needs for blocks that stay whole and pools that last; restored afterwards, for it is global."""
    context = ray.data.DataContext.get_current()
    wanted = {
        "target_max_block_size": None,
        "wait_for_min_actors_s": profile.start_seconds,
        "enable_progress_bars": False,
        "execution_no_progress_timeout_s": -1,  # one slow partition ends no run
        # No pool gives up an actor, whose models took their time to load, because it has nothing to do for a moment.
        "autoscaling_config": replace(context.autoscaling_config, actor_pool_util_downscaling_threshold=-1.0),
    }
    before = {name: getattr(context, name) for name in wanted}
    for name, value in wanted.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
