"""A training on Ray Train: workers that share each batch, watched and started again by the driver."""

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from models.errors import EnvironmentFault, Interrupted, UserError
from pipelines.config.profile import Profile, Training
from pipelines.run.faults import cause_of
from pipelines.run.interrupts import Signals, in_thread
from pipelines.storage.lease import Lease
from pipelines.storage.uri import Storage
from pipelines.training.fit import fit
from pipelines.training.job import TrainJob
from pipelines.training.metrics import read_metrics

log = logging.getLogger(__name__)

STOP = "stop"
"""A file of this name asks the workers to save and stop."""
STOP_SECONDS = 3
"""How often a worker looks for it."""
SAVE_SECONDS = 90
"""How long workers that were asked to stop may take to save."""


def train_worker(arguments: dict[str, Any]) -> None:
    """The train function of Ray Train: one worker's run. arguments: job and pool as JSON, `out` a URI."""
    import ray.train
    import ray.train.torch

    # Asking the storage at every step would cost more than the steps of a small model.
    context, storage, asked = ray.train.get_context(), Storage(arguments["out"]), 0.0

    def stop() -> bool:
        nonlocal asked
        if time.monotonic() - asked < STOP_SECONDS:
            return False
        asked = time.monotonic()
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


def fit_on_ray(
    job: TrainJob,
    storage: Storage,
    profile: Profile,
    *,
    digest: str,
    signals: Signals,
    lease: Lease,
    say: Callable[[dict[str, float]], None],
) -> None:
    """Train with the workers of `profile.training`.

    A lost worker ends its group; the group starts again from the last checkpoint.
    digest: of the job. say: takes every record of the metrics, where the storage is local.

    Raises:
        UserError: the workers cannot share a batch, or one of them refused the job.
        EnvironmentFault, Interrupted: the run stopped; the same call goes on.
    """
    from pipelines.run.session import check_alive, ray_session

    pool, seen = profile.training, len(read_metrics(storage))
    batch = job.load_task()[1].batch
    if batch % pool.workers:
        raise UserError(f"batch {batch} cannot be shared equally by {pool.workers} workers (profile.training.workers)")

    # While the workers run: the lease is held, a signal becomes a file that they look for, and their records are told.
    waited = 0

    def watch() -> None:
        nonlocal seen, waited
        lease.check()
        check_alive()
        if signals.name:  # the workers save and stop; whoever cannot within the time is cut off
            if not waited:
                storage.write(STOP, b"")
            waited += 1
            if waited > SAVE_SECONDS:
                signals.check()
        if storage.local:
            records = read_metrics(storage)
            for record in records[seen:]:
                say(record)
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
                cause = _worker_error(error)
                if isinstance(cause, UserError) or not left:
                    raise cause from error
                log.warning("a worker was lost (%s); starting again from the last checkpoint", cause)


def _trainer(job: TrainJob, storage: Storage, pool: Training, digest: str) -> Any:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    # What a worker needs to know, as JSON, and what it gets of a node.
    arguments = {"job": job.model_dump(mode="json"), "out": storage.uri, "pool": pool.model_dump(mode="json")}
    resources = {"CPU": pool.cpus} | ({"GPU": pool.gpus} if pool.gpus else {})
    return TorchTrainer(
        train_worker,
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
