"""`thermapair generate`: identities in, a data set of paired visible and thermal faces out.

    plan -> captions -> [the stages that the job's columns need, see `thermapair inspect --chain`] -> write

One block is one partition from the first row to the writer, so a partition is the unit of commit, retry and loss.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy

from models.columns import Columns
from models.errors import EnvironmentFault, UserError
from models.weights.bundle import fetch
from pipelines import provenance
from pipelines.captions.write import write_captions
from pipelines.commits import finished
from pipelines.config.chain import ChainSpec, check_profile
from pipelines.config.job import GenerateJob
from pipelines.config.profile import Group, Profile
from pipelines.config.request import Request
from pipelines.interrupts import Signals, in_thread
from pipelines.lease import Lease
from pipelines.plan.photos import PhotoPlan
from pipelines.plan.samples import Plan, parts_in_use, sample_bytes, write_plan
from pipelines.progress import Board, State, View
from pipelines.report import Report, finish
from pipelines.run import faults
from pipelines.run.chain import Chain
from pipelines.session import ray_session
from pipelines.storage import Storage
from pipelines.writer import write_partition

RESTARTS = 16
"""How often the process of one actor may die; nodes that are taken away do not count."""
BLOCKS = 8
"""Partitions that an object store should hold at once."""


def run(request: Request, out: str) -> Report:
    """Make, or go on making, the data set at `out` and return its report; prints where both are.

    Raises:
        UserError: beside what `generate` raises, for a run whose every sample was given up.
    """
    report = generate(request, Storage(out))
    print(f"{report.told()}\ndata set: {report.out}\nreport:   {report.page}")
    check_made(report)
    return report


def generate(request: Request, out: Storage) -> Report:
    """Run the job: what `out` has is kept, what it lacks is made.

    Raises:
        UserError: an output that belongs to another run or has a live driver.
        EnvironmentFault, Interrupted: the run stopped; the same call resumes it.
    """
    job, bundle, profile = request.job, request.bundle, request.profile
    for part in parts_in_use(job, bundle, request.chain).values():
        fetch(part, bundle.folder)
    with Lease(out) as lease, Signals() as signals:
        plan = in_thread(lambda: write_plan(job, bundle, out), signals.check)
        tell_small_store(plan, profile)
        provenance.write_launch(plan, profile)
        if not complete(plan):
            with ray_session(profile.ray), data_context(profile):
                signals.watch()
                drive(plan, profile, lease, signals)
        return in_thread(lambda: finish(plan), signals.check)


def drive(plan: Plan, profile: Profile, lease: Lease, signals: Signals) -> None:
    """Write the captions and run the graph, watched: by a view, by the lease and by signals."""
    done = finished(plan.out)
    state = State(plan.job.name, plan.samples, before := sum(plan.rows(k) for k in done), before, phase="captions")
    name = f"board-{plan.digest}-{lease.number}"
    board = ray.remote(num_cpus=0)(Board).options(name=name).remote()
    asked, stopped = [board.snapshot.remote()], threading.Event()
    with View(state) as view:

        def watch() -> None:
            signals.check()
            lease.check()
            if ray.wait(asked, timeout=0)[0]:  # the board may take its time, a signal may not
                state.stages = ray.get(asked.pop())
                asked.append(board.snapshot.remote())
            view.show()

        def work() -> None:
            write_captions(plan, profile.captions, state.write)
            state.restart_clock("pictures")
            for row in pairs(plan, profile, name).iter_rows():
                state.done += int(row["samples"])
                state.rejected += int(row["rejected"])
                state.redrawn += int(row["redrawn"])
                check_rejects(plan.job, state)
                if stopped.is_set():
                    return
            state.phase = "done"

        try:
            in_thread(work, watch)
        except Exception as error:
            raise faults.as_fault(error) from error
        finally:
            stopped.set()
            ray.kill(board)


def pairs(plan: Plan, profile: Profile, board: str = "") -> Dataset:
    """Return the job as one chain of Ray Data; its rows are counts of the partitions as they are committed."""
    rows, attempts = pending_partitions(plan), plan.job.gates.attempts
    for number, group in enumerate(check_profile(profile, plan.chain, attempts)):
        # The group with the first stage holds the gates, too, and draws again what they refuse.
        rows = stage(rows, group, plan.chain, attempts if number == 0 else 1, board)
    return write_shards(rows, plan, profile)


def pending_partitions(plan: Plan | PhotoPlan) -> Dataset:
    """Return the partitions that are not committed: one block each, a row per sample."""
    done = finished(plan.out)
    pending = [k for k in range(plan.partitions) if k not in done]

    def samples(block: Columns) -> Columns:
        return plan.partition(pending[int(block["id"][0])])

    return ray.data.range(len(pending), override_num_blocks=len(pending)).map_batches(samples, batch_size=None)


def stage(rows: Dataset, group: Group, chain: ChainSpec, attempts: int = 1, board: str = "") -> Dataset:
    """Return `rows` after the stages of `group`, a pool of actors over whole blocks."""
    # map_batches insists on a batch size beside a GPU, and any batch size merges and cuts blocks. The method behind it
    # takes whole blocks on either device.
    return rows.map_batches_internal(
        Chain,
        fn_constructor_args=(chain, group.stages, attempts, group.threads, board),
        batch_size=None,
        compute=ActorPoolStrategy(
            min_size=group.actors[0], max_size=group.actors[1], max_tasks_in_flight_per_actor=group.in_flight
        ),
        num_cpus=group.cpus,
        num_gpus=group.gpus or None,
        **group.selector,
        # A process that a broken device keeps ending must end the run at last, not restart for ever.
        max_restarts=RESTARTS,
        max_task_retries=RESTARTS,
        memory=group.memory_mb and group.memory_mb * 2**20,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": str(group.threads)}},
    )


def write_shards(
    rows: Dataset, plan: Plan | PhotoPlan, profile: Profile, write: Callable[..., Any] = write_partition
) -> Dataset:
    """Return the counts of each partition of `rows`, once `write` has encoded, written and committed it."""
    return rows.map_batches(
        write,
        fn_args=(plan, profile.writer.threads),
        batch_size=None,
        compute=TaskPoolStrategy(size=profile.writer.tasks),
        num_cpus=profile.writer.cpus,
    )


def complete(plan: Plan | PhotoPlan) -> bool:
    """Whether every partition is committed."""
    return len(finished(plan.out)) == plan.partitions


def tell_small_store(plan: Plan, profile: Profile) -> None:
    """Say so if the object store of a local Ray holds fewer than `BLOCKS` partitions: blocks would spill to disk."""
    largest = max((plan.rows(k) for k in range(min(plan.partitions, 4))), default=0)
    wanted = BLOCKS * largest * sample_bytes(plan.job, plan.bundle, plan.chain) // 2**20
    if not profile.ray.address and wanted > profile.ray.object_store_mb:
        print(
            f"the object store of {profile.ray.object_store_mb} MB holds fewer than {BLOCKS} partitions: --set "
            f"profile.ray.object_store_mb={wanted}, or a smaller partition_samples, spares the disk"
        )


def check_made(report: Report) -> None:
    """Raise a UserError for a finished run that has no pair to show."""
    if report.pairs:
        return
    why = ", ".join(f"{reason} ({count})" for reason, count in list(report.reasons.items())[:3])
    raise UserError(
        f"no sample was accepted: {why}; {report.out}/rejects holds all of them. Widen the gates or raise gates.attempts "
        "(--set), with another --out."
    )


def check_rejects(job: GenerateJob, state: State) -> None:
    """Raise an EnvironmentFault if nearly all of the first samples of this run were rejected: something is wrong."""
    seen = state.done - state.before
    if seen < job.stop.first_samples or seen >= 4 * job.stop.first_samples:
        return
    if state.rejected / seen > job.stop.rejected_share:
        raise EnvironmentFault(
            f"{state.rejected} of the first {seen} samples were rejected (rejects/ says why), more than "
            f"stop.rejected_share={job.stop.rejected_share:g} allows. Look at gates and models; with the same settings "
            "the run would resume."
        )


@contextmanager
def data_context(profile: Profile) -> Iterator[None]:
    """Set what Ray Data needs for blocks that stay whole; restored afterwards, for it is global."""
    context = ray.data.DataContext.get_current()
    wanted = {
        "target_max_block_size": None,
        "wait_for_min_actors_s": profile.start_seconds,
        "enable_progress_bars": False,
    }
    before = {name: getattr(context, name) for name in wanted}
    for name, value in wanted.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
