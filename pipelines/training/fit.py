"""One worker's run of a training: its rows, the loop, checkpoints and metrics. The same in every process that trains."""

import logging
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from models.tasks import Side
from models.training.loop import Hooks, Result, train
from pipelines.config.profile import Training
from pipelines.readers.frames import Frames
from pipelines.rows.halves import Halves
from pipelines.rows.shards import NoData, Shards
from pipelines.storage.uri import Storage
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.job import TrainJob, sides_of
from pipelines.training.metrics import Metrics

log = logging.getLogger(__name__)


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
    """Train `job` into `storage`, on from its last checkpoint; returns step, seconds and the last validation metrics.

    pool: threads and memory of this worker. rank: of several workers; the first alone validates and writes. stop: whether to
    save and stop. say: takes every record of the metrics as it comes.
    """
    # The rows: of the main data, which some tasks draw themselves, of its further sources, and to validate on.
    torch.set_num_threads(pool.threads)
    task, config = job.load_task()
    memory = pool.memory_mb * 2**20
    prepare = getattr(task, "prepare", None)
    begin = time.monotonic()
    data: Shards | Halves | NoData = NoData()
    if job.data:
        prepare = prepare and partial(prepare, config=config)
        data = job.data_rows(prepare=prepare, memory=memory, threads=pool.threads, limit=job.limit)
    sides = open_sides(sides_of(task, config), data, memory, pool.threads)
    validation: Shards | Halves | NoData | None = None if job.data else data
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


def open_sides(
    sides: dict[str, Side], data: Shards | Halves | NoData, memory: int, threads: int
) -> dict[str, Shards | Frames]:
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
