"""`thermapair thermalize`: a user's visible pictures in, the same faces in thermal out.

    plan -> open -> [cut faces ->] [parser ->] thermal -> write

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
from pipelines.config.request import ThermalizeRequest, load_thermalize
from pipelines.plan.thermalize import ThermalizePlan, write_thermalize_plan
from pipelines.report.card import front_matter
from pipelines.run.driver import Job, run_job
from pipelines.run.graph import partitions, stage, write_shards
from pipelines.run.writer import write_partition, write_thermal_files
from pipelines.storage.commits import Commit, write_manifest
from pipelines.storage.uri import Storage


@dataclass(frozen=True)
class Summary:
    """What became of the pictures, every page and every face that is cut out one.

    `reasons` counts those that were not taken by the kind of their reason.
    """

    out: str
    pictures: int
    thermalized: int
    reasons: dict[str, int]

    def __str__(self) -> str:
        lines = [f"{self.thermalized} of {self.pictures} pictures thermalized: {self.out}"]
        return "\n".join([*lines, *(f"  {count} not: {kind}" for kind, count in sorted(self.reasons.items()))])


def run(images: str, out: str, *, bundle: str = "starter", profile: str = "laptop", **values: Any) -> Summary:
    """Thermalize, or go on thermalizing, every picture of `images` into `out`; `values` are those of `load_thermalize`."""
    return thermalize(load_thermalize(images, bundle=bundle, profile=profile, **values), out)


def thermalize(request: ThermalizeRequest, out: str) -> Summary:
    """Run a thermalize job: what `out` has is kept, what it lacks is made.

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

    def plan() -> ThermalizePlan:
        planned = write_thermalize_plan(job, models, storage)
        for link in planned.chain.weighted:
            fetch(link.part, link.folder)
        return planned

    work = Job(plan, lambda plan, missing, run: thermal_pictures(plan, missing, where).iter_rows(), _finish)
    return run_job(work, storage, where)


def thermal_pictures(plan: ThermalizePlan, missing: Sequence[int], profile: Profile) -> Dataset:
    """Return the job as one chain of Ray Data; its rows are counts of the partitions as they are committed."""
    rows = partitions(plan, missing)
    for group in check_profile(profile, plan.chain):
        rows = stage(rows, group, plan.chain)
    return write_shards(rows, plan, profile, write_thermal_files if plan.job.layout == "tfake" else write_partition)


def _finish(plan: ThermalizePlan, commits: dict[int, Commit]) -> Summary:
    """Write manifest and card of a finished run and return what it came to."""
    # The manifest, and how many pictures were not taken for which reason.
    write_manifest(plan.out, commits, digest=plan.digest, job=plan.job.name, bundle=plan.bundle.name)
    reasons = Counter[str]()
    for record in commits.values():
        reasons.update(record.facts["reasons"])
    samples, rejected = (sum(record.facts[name] for record in commits.values()) for name in ("samples", "rejected"))
    summary = Summary(plan.out.uri, samples, samples - rejected, dict(reasons))
    plan.out.write("README.md", _card(plan, summary).encode())
    return summary


def _card(plan: ThermalizePlan, summary: Summary) -> str:
    """Return the card of an output; in the record's layout `datasets.load_dataset` reads it."""
    if plan.job.layout == "record":
        layout = "A row of `data/` is a pair; `thermal` is 16-bit centikelvin: degrees Celsius = value / 100 - 273.15."
    else:
        layout = (
            "T-FAKE's layout: `CONDITION/NAME_thermal.png`, 16 bit, degrees Celsius = 20 + 20 * value / 65535; what is "
            "colder or warmer takes the end of the scale. Pair by name with the visible pictures."
        )
    split = (
        f"The split is by person, as `{plan.recipe.source['person']}` says who is shown."
        if plan.by_person
        else "Nothing says who is shown, so all rows are of one split, train: say it with `--person` before you hold people out."
    )
    head = front_matter(f"{plan.job.name} ({plan.bundle.name})", "", [], rows=plan.job.layout == "record")
    names = " and ".join(layer.name for layer in plan.recipe.layers)
    return (
        f"{head}\n# Thermal pictures of {summary.thermalized} visible ones\n\n"
        f"{layout} `rejects/` holds {summary.pictures - summary.thermalized} pictures that were not taken, with reasons.\n\n"
        f"{split}\n\n"
        f"Temperatures are predicted by the network of bundle `{plan.bundle.name}` for {names}, "
        f"not measured. Run digest `{plan.digest}`. The visible pictures keep their own licence.\n"
    )
