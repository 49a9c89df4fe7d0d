"""`thermapair translate`: thermal pictures in, the same faces in visible light out.

    plan -> open -> translate -> write

The machinery is generate's: a partition is the unit of commit, retry and loss; the same command resumes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray.data import Dataset

from models.weights.bundle import fetch
from pipelines.config.chain import check_profile
from pipelines.config.photographs import warn_of_photographs
from pipelines.config.profile import Profile
from pipelines.config.request import TranslateRequest, load_translate
from pipelines.plan.translate import TranslatePlan, write_translate_plan
from pipelines.report.card import front_matter
from pipelines.run.driver import Job, run_job
from pipelines.run.graph import partitions, stage, write_shards
from pipelines.run.writer import write_partition
from pipelines.storage.commits import Commit, write_manifest
from pipelines.storage.uri import Storage


@dataclass(frozen=True)
class Summary:
    """What became of the pictures. `reasons` counts those that were not taken by the kind of their reason."""

    out: str
    pictures: int
    translations: int
    reasons: dict[str, int]

    def __str__(self) -> str:
        lines = [f"{self.translations} translations of {self.pictures} pictures: {self.out}"]
        return "\n".join([*lines, *(f"  {count} not: {kind}" for kind, count in sorted(self.reasons.items()))])


def run(images: str, out: str, *, bundle: str = "starter", profile: str = "laptop", **values: Any) -> Summary:
    """Translate, or go on translating, every picture of `images` into `out`; `values` are those of `load_translate`."""
    return translate(load_translate(images, bundle=bundle, profile=profile, **values), out)


def translate(request: TranslateRequest, out: str) -> Summary:
    """Run a translate job: what `out` has is kept, what it lacks is made.

    A picture that cannot be taken is rejected with its reason.

    Raises:
        UserError: no picture, or an output that belongs to another run or has a live driver.
        EnvironmentFault, Interrupted: the run stopped; the same call resumes it.
    """
    models, where, storage = request.bundle, request.profile, Storage(out)
    warn_of_photographs(models, request.job.images)
    job = request.job.model_copy(update={"images": Storage(request.job.images).uri})

    def plan() -> TranslatePlan:
        planned = write_translate_plan(job, models, storage)
        for link in planned.chain.weighted:
            fetch(link.part, link.folder)
        return planned

    work = Job(plan, lambda plan, missing, run: visible_pictures(plan, missing, where).iter_rows(), finish)
    return run_job(work, storage, where)


def visible_pictures(plan: TranslatePlan, missing: Sequence[int], profile: Profile) -> Dataset:
    """Return the job as one chain of Ray Data; its rows are counts of the partitions as they are committed."""
    rows = partitions(plan, missing)
    for group in check_profile(profile, plan.chain):
        rows = stage(rows, group, plan.chain)
    return write_shards(rows, plan, profile, write_partition)


def finish(plan: TranslatePlan, commits: dict[int, Commit]) -> Summary:
    """Write manifest and card of a finished run and return what it came to."""
    write_manifest(plan.out, commits, digest=plan.digest, job=plan.job.name, bundle=plan.bundle.name)
    reasons = Counter[str]()
    for record in commits.values():
        reasons.update(record.facts["reasons"])
    made = sum(record.facts["samples"] - record.facts["rejected"] for record in commits.values())
    summary = Summary(plan.out.uri, plan.samples, made, dict(reasons))
    plan.out.write("README.md", _card(plan, summary).encode())
    return summary


def _card(plan: TranslatePlan, summary: Summary) -> str:
    """Return the card of an output, which `datasets.load_dataset` reads."""
    head = front_matter(f"{plan.job.name} ({plan.bundle.name})", "", [], rows=True)
    return (
        f"{head}\n# {summary.translations} visible pictures of {summary.pictures} thermal ones\n\n"
        "A row of `data/` is a pair: `visible` is made (`visible_kind` translated), `thermal` is what came. Of kind "
        "`measured` it is 16-bit centikelvin: degrees Celsius = value / 100 - 273.15. Of kind `agc` it is the 8-bit grey "
        "levels that came, which are no temperatures. `attributes_source` says of each attribute whether it was given, "
        "estimated from the thermal picture, or asked for at the population's shares because thermal cannot show it.\n\n"
        f"A translation is a picture that could be, not what the person looks like. Run digest `{plan.digest}`.\n"
    )
