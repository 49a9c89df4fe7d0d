"""`thermapair generate`: identities in, a data set of paired visible and thermal faces out.

    plan -> captions -> [visible -> parser -> thermal -> faces -> gates -> landmarks] -> write

One block is one partition from the first row to the writer, so a partition is the unit of commit, retry and loss.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray
import ray.data
from pydantic import BaseModel
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy

from models.config import sort_edits
from models.errors import EnvironmentFault, UserError
from models.weights.bundle import Bundle, fetch, load_bundle
from pipelines import provenance
from pipelines.captions.write import caption_options, write_captions
from pipelines.commits import finished
from pipelines.config.job import GenerateJob, load_job
from pipelines.config.profile import Group, Profile, load_profile
from pipelines.interrupts import Signals, in_thread
from pipelines.lease import Lease
from pipelines.plan.photos import PhotoPlan
from pipelines.plan.samples import Plan, write_plan
from pipelines.progress import Board, State, View
from pipelines.report import Report, finish
from pipelines.run import faults
from pipelines.run.chain import Chain, StageSpec
from pipelines.session import ray_session
from pipelines.storage import Storage
from pipelines.writer import write_partition

STAGES = {
    "visible": "models.visible.stage:VisibleStage",
    "parser": "models.parser:ParserStage",
    "thermal": "models.thermal.stage:ThermalStage",
    "faces": "models.faces.stage:FacesStage",
    "gates": "models.gates:GateStage",
    "landmarks": "models.landmarks.stage:LandmarkStage",
}
"""The stages of a picture, in order. A further one is a line here and its part in the bundle."""
KINDS = {
    "visible": "latent-diffusion",
    "parser": "unet",
    "thermal": "unet",
    "faces": "insightface",
    "landmarks": "mobilenet",
}
"""What a bundle calls the part of each stage; the captions' may be any that vLLM runs, or `template`."""
OPTIONAL = ("landmarks",)
"""Stages that a bundle may have no part for."""

RESTARTS = 16
"""How often the process of one actor may die; nodes that are taken away do not count."""


def run(
    bundle: str, profile: str, job: str, out: str, *, overrides: Sequence[str] = (), limit: int | None = None
) -> Report:
    """Make, or go on making, the data set at `out` and return its report; prints where both are.

    bundle, profile, job: names or paths of YAML files. overrides: `key.key=value` edits of any of them.
    limit: only the first so many samples of the plan.

    Raises:
        UserError: beside what `generate` raises, for a run whose every sample was given up.
    """
    models: dict[str, type[BaseModel]] = {"job": GenerateJob, "profile": Profile, "bundle": Bundle}
    edits = sort_edits([*overrides, *([f"job.limit={limit}"] if limit else [])], models)
    chosen = load_bundle(bundle, edits["bundle"])
    report = generate(load_job(job, edits["job"]), chosen, load_profile(profile, edits["profile"]), Storage(out))
    print(f"{report.told()}\ndata set: {report.out}\nreport:   {report.page}")
    check_made(report)
    return report


def generate(job: GenerateJob, bundle: Bundle, profile: Profile, out: Storage) -> Report:
    """Run the job: what `out` has is kept, what it lacks is made.

    Raises:
        UserError: a wrong request, or an output that belongs to another run or has a live driver.
        EnvironmentFault, Interrupted: the run stopped; the same call resumes it.
    """
    caption_options(bundle.captions)
    check_parts(bundle, [spec(name, job, bundle) for name in stages_of(bundle)])
    check_threads(profile, bundle)
    for part in bundle.parts().values():
        fetch(part, bundle)
    with Lease(out) as lease, Signals() as signals:
        plan = in_thread(lambda: write_plan(job, bundle, out), signals.check)
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
    rows = pending_partitions(plan)
    for attempts in rounds(plan.job, plan.bundle, profile):
        for number, group in enumerate(profile.grouped(stages_of(plan.bundle))):
            specs = [spec(name, plan.job, plan.bundle) for name in group.stages]
            rows = stage(rows, group, specs, attempts, begins=number == 0, board=board)
    return write_shards(rows, plan, profile)


def pending_partitions(plan: Plan | PhotoPlan) -> Dataset:
    """Return the partitions that are not committed: one block each, a row per sample."""
    done = finished(plan.out)
    pending = [k for k in range(plan.partitions) if k not in done]

    def samples(block: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return plan.partition(pending[int(block["id"][0])])

    return ray.data.range(len(pending), override_num_blocks=len(pending)).map_batches(samples, batch_size=None)


def stages_of(bundle: Bundle) -> list[str]:
    """Return the stages of a picture that `bundle` has, in order."""
    return [name for name in STAGES if name not in OPTIONAL or name in bundle.parts()]


def rounds(job: GenerateJob, bundle: Bundle, profile: Profile) -> list[list[int]]:
    """Return the attempts as they are made in the graph.

    One group makes all attempts at a partition before it hands it on. Several groups cannot, so the graph repeats them.
    """
    attempts = list(range(job.gates.attempts))
    return [attempts] if len(profile.grouped(stages_of(bundle))) == 1 else [[attempt] for attempt in attempts]


def stage(
    rows: Dataset, group: Group, specs: list[StageSpec], attempts: list[int], begins: bool = True, board: str = ""
) -> Dataset:
    """Return `rows` after the stages `specs` of `group`, a pool of actors over whole blocks."""
    # map_batches insists on a batch size beside a GPU, and any batch size merges and cuts blocks. The method behind it
    # takes whole blocks on either device.
    return rows.map_batches_internal(
        Chain,
        fn_constructor_args=(specs, attempts, begins, group.threads, board),
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


def spec(name: str, job: GenerateJob, bundle: Bundle) -> StageSpec:
    """Return what an actor needs to make stage `name` of a job."""
    own: dict[str, dict[str, Any]] = {
        "visible": {"steps": job.sampling.steps, "guidance": job.sampling.guidance, "size": bundle.size},
        "thermal": {"conditions": tuple(job.conditions)},
        "gates": {"gates": job.gates, "conditions": tuple(job.conditions)},
    }
    part = bundle.parts().get(name)
    return StageSpec(name, STAGES[name], part, bundle, part.batch if part else bundle.visible.batch, own.get(name, {}))


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


def check_threads(profile: Profile, bundle: Bundle) -> None:
    """Raise a UserError for a group that computes on a CPU in several threads: the last bits would depend on how many."""
    for group in profile.grouped(stages_of(bundle)):
        if group.threads > 1 and not group.gpus:
            raise UserError(
                f"profile.groups: {', '.join(group.stages)} would compute on a CPU in {group.threads} threads, and bytes "
                "would depend on that number. Set threads: 1 and raise actors instead; it is faster, too."
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


def check_parts(bundle: Bundle, specs: Iterable[StageSpec]) -> None:
    """Raise a UserError, before anything starts, for a part of another kind than its stage, or with options it has not."""
    for made in specs:
        if made.part and made.part.kind != KINDS[made.name]:
            raise UserError(
                f"bundle {bundle.name}: {made.name}.kind is {made.part.kind!r}; this stage takes {KINDS[made.name]!r}."
            )
        made.check()


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
