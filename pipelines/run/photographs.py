"""Jobs that look at a user's pictures, such as thermalize and translate: one graph, one count of what became of the pictures.

plan -> open -> [cut faces ->] the chain's stages -> write
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ray.data import Dataset

from models.weights.bundle import Bundle, fetch
from pipelines.config.chain import check_profile
from pipelines.config.photographs import warn_of_photographs
from pipelines.config.profile import Profile
from pipelines.plan.stored import ChainPlan
from pipelines.run.driver import Job, run_job
from pipelines.run.graph import partitions, stage, write_shards
from pipelines.run.writer import write_partition
from pipelines.storage.commits import Commit, write_manifest
from pipelines.storage.uri import Storage

Planned = TypeVar("Planned", bound=ChainPlan[Any])


class Request(Protocol):
    """A job on pictures (`images`, `masks`), the models and where they run."""

    @property
    def job(self) -> Any: ...
    @property
    def bundle(self) -> Bundle: ...
    @property
    def profile(self) -> Profile: ...


@dataclass(frozen=True)
class Summary:
    """What became of the pictures, every page and every face that is cut out one.

    made: pictures that were made, or of which one was. title: what the count is of, with `{made}` and `{pictures}`.
    reasons: how many were not taken, by the kind of their reason.
    """

    out: str
    pictures: int
    made: int
    reasons: dict[str, int]
    title: str

    def __str__(self) -> str:
        lines = [f"{self.title.format(made=self.made, pictures=self.pictures)}: {self.out}"]
        return "\n".join([*lines, *(f"  {count} not: {kind}" for kind, count in sorted(self.reasons.items()))])


def run_on_pictures(
    request: Request,
    out: str,
    write_plan: Callable[[Any, Bundle, Storage], Planned],
    finish: Callable[[Planned, dict[int, Commit]], Summary],
    write: Callable[[Planned], Callable[..., Any]] = lambda plan: write_partition,
) -> Summary:
    """Run a job on pictures: what `out` has is kept, what it lacks is made. write: which sink the plan wants.

    A picture that cannot be taken is rejected with its reason.

    Raises:
        UserError: no picture, or an output that belongs to another run or has a live driver.
        EnvironmentFault, Interrupted: the run stopped; the same call resumes it.
    """
    # What the request names; workers have other working directories, so places are addresses.
    models, where, storage = request.bundle, request.profile, Storage(out)
    warn_of_photographs(models, request.job.images)
    places = {"images": request.job.images, "masks": request.job.masks}
    job = request.job.model_copy(update={name: Storage(uri).uri for name, uri in places.items() if uri})

    def plan() -> Planned:
        planned = write_plan(job, models, storage)
        for link in planned.chain.weighted:
            fetch(link.part, link.folder)
        return planned

    def graph(plan: Planned, missing: Sequence[int]) -> Dataset:
        rows = partitions(plan, missing)
        for group in check_profile(where, plan.chain):
            rows = stage(rows, group, plan.chain)
        return write_shards(rows, plan, where, write(plan))

    return run_job(Job(plan, lambda plan, missing, run: graph(plan, missing).iter_rows(), finish), storage, where)


def summarise_pictures(
    plan: ChainPlan[Any], commits: dict[int, Commit], title: str, pictures: int | None = None
) -> Summary:
    """Write the manifest of a finished run and return what became of its pictures; by default every row is one."""
    write_manifest(plan.out, commits, digest=plan.digest, job=plan.job.name, bundle=plan.bundle.name)
    reasons = Counter[str]()
    for record in commits.values():
        reasons.update(record.facts["reasons"])
    samples, rejected = (sum(record.facts[name] for record in commits.values()) for name in ("samples", "rejected"))
    return Summary(plan.out.uri, samples if pictures is None else pictures, samples - rejected, dict(reasons), title)
