"""`thermapair train`: a task of `models/tasks` through the one loop, on Ray Train or in this process.

out/run.json  checkpoints.json  checkpoints/  metrics.jsonl  tensorboard/  pictures/  curve.png  export/
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from models.card import Card
from pipelines.config.profile import load_profile
from pipelines.run.interrupts import Signals
from pipelines.run.provenance import emulates_bfloat16
from pipelines.storage.lease import Lease
from pipelines.storage.uri import Storage
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.export import export_part
from pipelines.training.fit import fit
from pipelines.training.job import TrainJob, claim, resolve_job, split_edits
from pipelines.training.on_ray import fit_on_ray

log = logging.getLogger(__name__)


def run(
    task: str | None,
    data: str | None,
    out: str,
    *,
    job_file: Path | None = None,
    bundle: str = "",
    validation: str | None = None,
    split: str | None = None,
    validation_split: str | None = None,
    overrides: Sequence[str] = (),
    profile: str = "laptop",
    local: bool = False,
    threads: int | None = None,
    limit: int | None = None,
    checkpoint_seconds: float | None = None,
    export: str | None = None,
    fresh: bool = False,
) -> Card:
    """Train to the end, or on from the last checkpoint of `out`, then export the best weights with their card.

    job_file: YAML of a `TrainJob`; what is given here takes the place of what it says. bundle: begin with the weights of
    this bundle's part. split, validation_split: whose rows (see `TrainJob`). overrides: `key=value` of the task's config,
    of the profile as `profile.key=value` and of the bundle as `bundle.key=value`.
    local: in this process, without Ray. export: URI of the folder of the bundle part, by default `out/export`.
    """
    # The job: from its file, and from what is given here. Nothing is claimed before its rows are found.
    storage = Storage(out)
    given = {
        "task": task,
        "data": data,
        "validation": validation,
        "split": split,
        "validation_split": validation_split,
        "limit": limit,
        "checkpoint_seconds": checkpoint_seconds,
    }
    edits = split_edits(overrides)
    job = resolve_job(given, job_file, edits["config"], bundle, edits["bundle"])
    digest = job.digest()
    job.check_rows()
    where = load_profile(profile, edits["profile"])
    pool = where.training.model_copy(update={"threads": threads} if threads else {})
    warn_of_bf16(job, torch.cuda.is_available() if local else bool(pool.gpus))
    # The run, by one driver: in this process or on Ray; then its export.
    with Signals() as signals, Lease(storage) as lease:
        if fresh:
            Checkpoints(storage).forget()
        claim(job, digest, storage)
        if local:
            fit(job, storage, pool, stop=lambda: bool(signals.name) or bool(lease.lost), say=_print_record)
        else:
            chosen = where.model_copy(update={"training": pool})
            fit_on_ray(job, storage, chosen, digest=digest, signals=signals, lease=lease, say=_print_record)
        return export_part(job, storage, Storage(export) if export else Storage(f"{storage.uri}/export"))


def warn_of_bf16(job: TrainJob, on_gpu: bool) -> None:
    """Say so where a training in bfloat16 runs on a processor that only emulates it."""
    if job.load_task()[1].bf16 and not on_gpu and emulates_bfloat16():
        log.warning(
            "WARNING: this processor only emulates bfloat16, so steps are slow: --set bf16=false trains in float32, and "
            "thermapair doctor measures both."
        )


def _print_record(record: dict[str, float]) -> None:
    """Print one record as a line, its first values only."""
    values = " ".join(f"{name}={value:.4g}" for name, value in list(record.items())[:10] if name != "step")
    print(f"step {record['step']:>6}  {values}", flush=True)
