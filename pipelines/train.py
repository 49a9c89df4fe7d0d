"""`thermapair train`: a task of `models/tasks` through the one loop, on Ray Train or in this process.

out/run.json  checkpoints.json  checkpoints/  metrics.jsonl  tensorboard/  pictures/  curve.png  export/
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.card import Card
from models.errors import EnvironmentFault, Interrupted, UserError
from models.tasks import Side
from models.training.loop import Hooks, Result, train
from pipelines.config.profile import Profile, Training, load_profile
from pipelines.readers.frames import Frames
from pipelines.rows.shards import NoData, Shards
from pipelines.run.faults import cause_of
from pipelines.run.interrupts import Signals, in_thread
from pipelines.storage.lease import Lease
from pipelines.storage.uri import Storage
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.export import export_part
from pipelines.training.job import TrainJob, claim, resolve_job, sides_of, split_edits
from pipelines.training.metrics import Metrics, read_metrics

log = logging.getLogger(__name__)

STOP = "stop"
"""A file of this name asks the workers to save and stop."""


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
    # The run, by one driver: in this process or on Ray; then its export.
    with Signals() as signals, Lease(storage) as lease:
        if fresh:
            Checkpoints(storage).forget()
        claim(job, digest, storage)
        if local:
            fit(job, storage, pool, stop=lambda: bool(signals.name) or bool(lease.lost), say=_print_record)
        else:
            _fit_on_ray(job, storage, where.model_copy(update={"training": pool}), digest, signals, lease)
        return export_part(job, storage, Storage(export) if export else Storage(f"{storage.uri}/export"))


def fit(
    job: TrainJob,
    storage: Storage,
    pool: Training,
    *,
    device: torch.device | None = None,
    rank: int = 0,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[dict[str, float]], None] = lambda record: None,
) -> dict[str, float]:
    """One worker's whole run, in any process: rows, loop, checkpoints. Returns step and last validation metrics."""
    # The rows: of the main data, which some tasks draw themselves, of its further sources, and to validate on.
    torch.set_num_threads(pool.threads)
    task, config = job.load_task()
    memory = pool.memory_mb * 2**20
    prepare = getattr(task, "prepare", None)
    begin = time.monotonic()
    data: Shards | NoData = NoData()
    if job.data:
        prepare = prepare and partial(prepare, config=config)
        data = job.data_rows(prepare=prepare, memory=memory, threads=pool.threads, limit=job.limit)
    sides = open_sides(sides_of(task, config), data, memory, pool.threads)
    validation: Shards | NoData | None = None if job.data else data
    if job.validation and rank == 0:
        validation = job.validation_rows(memory=memory, threads=pool.threads, limit=config.validate_rows)
    log.info("%d rows in %.1f s", len(data), time.monotonic() - begin)
    # Checkpoints know the rows that they are of: a run does not go on with others.
    seen = "".join(f"/{side.digest}/{len(side)}" for side in sides.values())
    checkpoints = Checkpoints(storage, f"{data.digest}/{len(data)}{seen}", getattr(data, "skipped", ()))
    with tempfile.TemporaryDirectory(prefix="train-") as folder:
        scratch = Path(folder)
        resume = checkpoints.restore(scratch)
        # The first worker alone writes.
        if rank > 0:
            hooks = Hooks(scratch, lambda *_: None, lambda *_: None)
            return _facts(train(task, config, data, None, hooks, sides=sides, resume=resume, device=device))
        with Metrics(storage, int(checkpoints.pointer().get("step", 0))) as metrics:

            def save(folder: Path, step: int, score: float | None) -> None:
                checkpoints.save(folder, step, score)
                metrics.flush()
                metrics.curve()

            def tell(record: dict[str, float]) -> None:
                metrics.log(record)
                say(record)

            hooks = Hooks(scratch, save, tell, metrics.picture, stop, job.checkpoint_seconds)
            return _facts(train(task, config, data, validation, hooks, sides=sides, resume=resume, device=device))


def open_sides(sides: dict[str, Side], data: Shards | NoData, memory: int, threads: int) -> dict[str, Shards | Frames]:
    """Open a task's further sources; thermal frames are resized to the pictures of `data`."""
    opened: dict[str, Shards | Frames] = {}
    for name, side in sides.items():
        if side.columns:
            colour = "visible" in side.columns
            opened[name] = Shards(side.uri, side.columns, colour=colour, memory=memory, threads=threads, reader=name)
        else:
            opened[name] = Frames(side.uri, data.rows(np.arange(1))["visible"].shape[1], side.unit)
        log.info("%s: %d rows", name, len(opened[name]))
    return opened


def _facts(result: Result) -> dict[str, float]:
    return {"step": result.step, "seconds": result.seconds, **result.metrics}


def worker(arguments: dict[str, Any]) -> None:
    """The train function of Ray Train: one worker's run."""
    import ray.train
    import ray.train.torch

    context, storage, looked = ray.train.get_context(), Storage(arguments["out"]), 0.0

    def stop() -> bool:
        nonlocal looked
        if time.monotonic() - looked < 3:
            return False
        looked = time.monotonic()
        return storage.exists(STOP)

    facts = fit(
        TrainJob.model_validate(arguments["job"]),
        storage,
        Training.model_validate(arguments["pool"]),
        device=ray.train.torch.get_device(),
        rank=context.get_world_rank(),
        stop=stop,
    )
    ray.train.report(facts)


def _fit_on_ray(job: TrainJob, storage: Storage, profile: Profile, digest: str, signals: Signals, lease: Lease) -> None:
    """Run the workers. A lost worker ends its group; the group starts again from the last checkpoint."""
    from pipelines.run.session import ray_session

    # What is watched while the workers run: the lease, a signal, and their records, which are printed here.
    pool, seen = profile.training, len(read_metrics(storage))
    batch = job.load_task()[1].batch
    if batch % pool.workers:
        raise UserError(f"batch {batch} cannot be shared equally by {pool.workers} workers (profile.training.workers)")
    patience = 0

    def watch() -> None:
        nonlocal seen, patience
        lease.check()
        if signals.name:  # the workers save and stop; whoever cannot within the time is cut off
            if not patience:
                storage.write(STOP, b"")
            patience += 1
            if patience > 90:
                signals.check()
        if storage.local:
            records = read_metrics(storage)
            for record in records[seen:]:
                _print_record(record)
            seen = len(records)

    # A group that ends is started again as often as the profile allows, unless what ended it is the user's to mend.
    storage.remove(STOP)
    # Ray's own limit of a minute is short for a node that starts, or a laptop that does something else.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(profile.start_seconds))
    with ray_session(profile.ray):
        signals.watch()
        for left in range(pool.failures, -1, -1):
            try:
                in_thread(partial(_trainer(job, storage, pool, digest).fit), watch, interval=1.0)
                return
            except (Interrupted, EnvironmentFault):
                raise
            except Exception as error:
                found = _worker_error(error)
                if isinstance(found, UserError) or not left:
                    raise found from error
                log.warning("a worker was lost (%s); starting again from the last checkpoint", found)


def _trainer(job: TrainJob, storage: Storage, pool: Training, digest: str) -> Any:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    arguments = {"job": job.model_dump(mode="json"), "out": storage.uri, "pool": pool.model_dump(mode="json")}
    resources = {"CPU": pool.cpus} | ({"GPU": pool.gpus} if pool.gpus else {})
    return TorchTrainer(
        worker,
        train_loop_config=arguments,
        torch_config=TorchConfig(backend="nccl" if pool.gpus else "gloo"),
        scaling_config=ScalingConfig(num_workers=pool.workers, use_gpu=pool.gpus > 0, resources_per_worker=resources),
        # Ray Train resumes by name, silently: the name carries the digest of config and data.
        run_config=RunConfig(
            name=f"{job.task.rsplit('.', 1)[-1]}-{digest}",
            storage_path=storage.path("_ray"),
            storage_filesystem=storage.arrow,
        ),
    )


def _worker_error(error: BaseException) -> BaseException:
    """Return what went wrong in a worker, a UserError first of all."""
    failures = list(getattr(error, "worker_failures", {}).values())
    causes = [cause_of(failure) for failure in failures] or [cause_of(error)]
    return next((cause for cause in causes if isinstance(cause, UserError)), causes[0])


def _print_record(record: dict[str, float]) -> None:
    """Print one record as a line, its first values only."""
    values = " ".join(f"{name}={value:.4g}" for name, value in list(record.items())[:10] if name != "step")
    print(f"step {record['step']:>6}  {values}", flush=True)
