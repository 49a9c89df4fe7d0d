"""`thermapair generate`: identities in, a data set of paired visible and thermal faces out.

    plan -> captions, beside what follows -> [the stages that the job's columns need] -> write

`thermapair inspect --chain` shows the stages. One block is one partition from the first row to the writer, so a partition is
the unit of commit, retry and loss.
"""

from collections.abc import Sequence
from pathlib import Path

from ray.data import Dataset

from models.errors import EnvironmentFault, UserError
from models.weights.bundle import fetch, is_elsewhere
from pipelines.captions.chat import check_reachable
from pipelines.captions.prompt_job import resolve_prompt, save_reading
from pipelines.captions.stream import CaptionGate, write_beside
from pipelines.config.captions import CHAT
from pipelines.config.chain import check_profile
from pipelines.config.generate import BLOCKS, pair_bytes, parts_in_use, sample_bytes
from pipelines.config.job import GenerateJob
from pipelines.config.profile import Profile
from pipelines.config.request import Request
from pipelines.plan.claim import RUN
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan
from pipelines.plan.people.source import check_source
from pipelines.report.look import LookGate, look_beside, waits
from pipelines.report.summary import Report
from pipelines.report.write import finish
from pipelines.run.driver import Job, Run, run_job
from pipelines.run.graph import partitions, stage, write_shards
from pipelines.run.progress import State
from pipelines.run.session import check_disk
from pipelines.run.spent import Ceiling
from pipelines.storage.commits import list_finished
from pipelines.storage.uri import Storage


def run(request: Request, out: str) -> Report:
    """Make, or go on making, the data set at `out` and return its report; prints where both are.

    Raises:
        UserError: beside what `generate` raises, for a run whose every sample was given up.
        CeilingReached: the job's ceiling (`stop`) is reached before its end.
    """
    report = generate(request, Storage(out))
    print(f"{report.summary_text()}\ndata set: {report.out}\nreport:   {report.page}")
    check_made(report)
    return report


def generate(request: Request, out: Storage) -> Report:
    """Run the job: what `out` has is kept, what it lacks is made; raises what `run_job` raises."""
    # What this machine lacks is said before anything is fetched from elsewhere, or a prompt is read.
    check_source(request.job.identities.source)
    if request.job.captions.backend == CHAT and not out.exists(RUN):  # a run that is there may have all of its captions
        check_reachable(request.job.captions)
    prompt = request.job.prompt
    request, reading = resolve_prompt(request, out)
    bundle, profile = request.bundle, request.profile
    parts = parts_in_use(request.job, bundle, request.chain).values()
    for part in sorted(parts, key=lambda part: is_elsewhere(part, bundle.folder)):
        fetch(part, bundle.folder)

    ceiling = Ceiling(request.job.stop, profile.price)

    def plan() -> GeneratePlan:
        planned = write_generate_plan(request.job, bundle, out)
        if reading is not None:
            save_reading(out, prompt, reading)
        # What earlier launches did counts; a run that has no more to do ends as it is.
        ceiling.begin(out)
        missing = set(range(planned.partitions)) - list_finished(out)
        if missing:
            ceiling.check()
            if out.local:
                pairs = sum(map(planned.rows, missing)) * len(request.job.layers)
                check_disk(Path(out.path()), pairs * pair_bytes(request.job, bundle))
            tell_small_store(planned, profile)
        return planned

    def check(plan: GeneratePlan, state: State) -> None:
        check_rejects(plan.job, state)
        if state.done < state.total:  # of a whole run there is nothing to stop
            ceiling.check(state.pairs)

    job = Job(
        plan=plan,
        graph=lambda plan, missing, run: pairs(plan, missing, profile, run).iter_rows(),
        check=check,
        finish=finish,
    )
    return run_job(job, out, profile)


def pairs(plan: GeneratePlan, missing: Sequence[int], profile: Profile, run: Run) -> Dataset:
    """Return the job as one chain of Ray Data; its rows are counts of the partitions as they are committed."""
    attempts = plan.job.gates.attempts
    groups = check_profile(profile, plan.chain, attempts)
    gates: list[type] = []
    if plan.partitions - len(missing) < plan.job.stop.look < plan.partitions:
        run.beside(lambda: look_beside(plan, run.stopped))
        gates += [LookGate] if waits(plan, groups) else []
    if write_beside(plan, profile, groups, run):
        gates.append(CaptionGate)
    rows = partitions(plan, missing, profile.writer.tasks, gates)
    for number, group in enumerate(groups):
        # The group with the first stage holds the gates, too, and draws again what they refuse.
        rows = stage(rows, group, plan.chain, attempts if number == 0 else 1)
    return write_shards(rows, plan, profile)


def tell_small_store(plan: GeneratePlan, profile: Profile) -> None:
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
