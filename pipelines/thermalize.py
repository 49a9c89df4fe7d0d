"""`thermapair thermalize`: a user's visible pictures in, the same faces in thermal out.

    plan -> open -> [parser ->] thermal -> write

The machinery is generate's: a partition is the unit of commit, retry and loss; the same command resumes.
"""

import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import yaml
from ray.data import Dataset

from models.weights.bundle import fetch
from pipelines import clean
from pipelines.commits import committed, finished, write_manifest
from pipelines.config.chain import check_profile
from pipelines.config.profile import Profile
from pipelines.config.request import ThermalizeRequest, load_thermalize
from pipelines.generate import complete, data_context, pending_partitions, stage, write_shards
from pipelines.interrupts import Signals, in_thread
from pipelines.lease import Lease
from pipelines.plan.photos import PhotoPlan, write_photo_plan
from pipelines.run import faults
from pipelines.session import ray_session
from pipelines.storage import Storage
from pipelines.writer import write_partition, write_thermal_files

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What became of the pictures; `reasons` counts those that were not taken by the kind of their reason."""

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
    models, where, storage = request.bundle, request.profile, Storage(out)
    # Workers have other working directories.
    places = {"images": request.job.images, "masks": request.job.masks}
    job = request.job.model_copy(update={name: Storage(uri).uri for name, uri in places.items() if uri})
    with Lease(storage) as lease, Signals() as signals:
        plan = in_thread(lambda: write_photo_plan(job, models, storage), signals.check)
        for link in plan.chain.links:
            fetch(link.part, link.folder)
        if not complete(plan):
            with ray_session(where.ray), data_context(where):
                signals.watch()
                _drive(plan, where, lease, signals)
        return in_thread(lambda: _finish(plan), signals.check)


def _drive(plan: PhotoPlan, profile: Profile, lease: Lease, signals: Signals) -> None:
    """Run the graph and log every partition as it is committed, watched by the lease and by signals."""
    total, begin = plan.partitions - len(finished(plan.out)), time.monotonic()

    def work() -> None:
        pictures = 0
        for done, row in enumerate(thermal_pictures(plan, profile).iter_rows(), 1):
            pictures += int(row["samples"])
            speed = pictures / (time.monotonic() - begin)
            log.info("%d of %d partitions, %d pictures, %.1f a second", done, total, pictures, speed)

    def watch() -> None:
        signals.check()
        lease.check()

    try:
        in_thread(work, watch)
    except Exception as error:
        raise faults.as_fault(error) from error


def thermal_pictures(plan: PhotoPlan, profile: Profile) -> Dataset:
    """Return the job as one chain of Ray Data; its rows are counts of the partitions as they are committed."""
    rows = pending_partitions(plan)
    for group in check_profile(profile, plan.chain):
        rows = stage(rows, group, plan.chain)
    return write_shards(rows, plan, profile, write_thermal_files if plan.job.layout == "tfake" else write_partition)


def _finish(plan: PhotoPlan) -> Summary:
    """Write manifest and card of a finished run and return what it came to. Removes orphans of dropped attempts."""
    commits = committed(plan.out, plan.partitions)
    clean.remove_orphans(plan.out, commits)
    write_manifest(plan.out, digest=plan.digest, job=plan.job.name, bundle=plan.bundle.name)
    reasons = Counter[str]()
    for record in commits.values():
        reasons.update(record.facts["reasons"])
    rejected = sum(record.facts["rejected"] for record in commits.values())
    summary = Summary(plan.out.uri, plan.samples, plan.samples - rejected, dict(reasons))
    plan.out.write("README.md", _card(plan, summary).encode())
    return summary


def _card(plan: PhotoPlan, summary: Summary) -> str:
    """Return the card of an output; in the record's layout `datasets.load_dataset` reads it."""
    front: dict[str, object] = {"pretty_name": f"{plan.job.name} ({plan.bundle.name})", "tags": ["thermal", "faces"]}
    if plan.job.layout == "record":
        front["configs"] = [{"config_name": "default", "data_files": "data/*.parquet", "default": True}]
        layout = "A row of `data/` is a pair; `thermal` is 16-bit centikelvin: degrees Celsius = value / 100 - 273.15."
    else:
        layout = (
            "T-FAKE's layout: `CONDITION/NAME_thermal.png`, 16 bit, degrees Celsius = 20 + 20 * value / 65535; what is "
            "colder or warmer takes the end of the scale. Pair by name with the visible pictures."
        )
    split = (
        f"The split is by person, as `{plan.recipe.source['person']}` says who is shown."
        if plan.known
        else "Nothing says who is shown, so all rows are of one split, train: say it with `--person` before you hold people out."
    )
    names = " and ".join(layer.name for layer in plan.recipe.layers)
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n# Thermal pictures of {summary.thermalized} visible ones\n\n"
        f"{layout} `rejects/` holds {summary.pictures - summary.thermalized} pictures that were not taken, with reasons.\n\n"
        f"{split}\n\n"
        f"Temperatures are predicted by the network of bundle `{plan.bundle.name}` for {names}, "
        f"not measured. Run digest `{plan.digest}`. The visible pictures keep their own licence.\n"
    )
