"""`thermapair train`: a task of `models/tasks` through the one loop, on Ray Train or in this process.

out/run.json  checkpoints.json  checkpoints/  metrics.jsonl  tensorboard/  pictures/  curve.png  export/
"""

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from models.bundle import SEAL, contents_digest, fetch, load_bundle, seal
from models.card import Card, history
from models.config import apply_edit, check, digest_of, read_config
from models.errors import EnvironmentFault, Interrupted, UserError
from models.tasks import Side, Task, TrainConfig, load
from models.training import Hooks, Result, start, train
from pipelines.checkpoints import Checkpoints
from pipelines.faults import cause_of
from pipelines.frames import Frames, frame_names
from pipelines.interrupts import Signals, in_thread
from pipelines.lease import Lease
from pipelines.metrics import Metrics, read
from pipelines.profile import Profile, Training, load_profile
from pipelines.provenance import commit_of, hardware
from pipelines.shards import Drawn, Shards, records
from pipelines.storage import Storage

log = logging.getLogger(__name__)

STOP = "stop"
"""A file of this name asks the workers to save and stop."""


PARTS = {"thermalizer": "thermal", "parser": "parser"}
"""Parts of a bundle that a task can begin with."""


class TrainJob(BaseModel):
    """What to train on what, in a YAML file or as flags. `config` holds the values of the task's `Config`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    data: str = ""
    """Shards, several with commas; empty for a task that draws its rows itself."""
    validation: str | None = None
    config: dict[str, Any] = {}
    limit: int | None = None
    """Use only so many rows of the data."""
    checkpoint_seconds: float = 180.0

    def parsed(self) -> tuple[Task, TrainConfig]:
        """Return the task's module and its full config; raises UserError for an unknown key or a wrong value."""
        task = load(self.task)
        if task.COLUMNS and not self.data:
            raise UserError(
                f"task {self.task} reads {', '.join(task.COLUMNS)}: name the shards that have them with --data"
            )
        return task, check(task.Config, self.config, f"task {self.task}")

    def digest(self) -> str:
        """Return the digest of everything that may change a weight: task, full config, the committed rows, what begins it."""
        task, config = self.parsed()
        rows = [_committed_rows(self.data)] if self.data else [[]]
        rows += [_committed_rows(side.uri) for side in sides_of(task, config).values() if side.columns]
        paths = [Path(config.init)] if config.init else []
        paths += getattr(task, "weights", lambda config: [])(config)
        known = [contents_digest(path) for path in paths]
        return digest_of(self.task, config.model_dump(mode="json"), *rows, self.limit, *known)

    def check_sources(self) -> None:
        """Raise a UserError for data or weights that are not there, before anything is written."""
        self.digest()
        if self.validation:
            _committed_rows(self.validation)
        for side in sides_of(*self.parsed()).values():
            if not side.columns:
                frame_names(Storage(side.uri))


def _committed_rows(uris: str) -> list[list[Any]]:
    return [[part, record.digest] for uri in uris.split(",") for part, record in records(Storage(uri)).items()]


def sides_of(task: Task, config: TrainConfig) -> dict[str, Side]:
    """Return the sources of rows beside the main data that a task asks for."""
    sides = getattr(task, "sides", None)
    return sides(config) if sides else {}


def run(
    task: str | None,
    data: str | None,
    out: str,
    *,
    job_file: Path | None = None,
    bundle: str = "",
    validation: str | None = None,
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
    this bundle's part. overrides: `key=value` of the task's config, and of the profile as `profile.key=value`.
    local: in this process, without Ray. export: URI of the folder of the bundle part, by default `out/export`.
    """
    storage = Storage(out)
    content = read_config(_JobFile, job_file).model_dump(exclude_none=True) if job_file else {}
    given = {"task": task, "data": data, "validation": validation, "limit": limit}
    content |= {key: value for key, value in given.items() if value is not None}
    if "task" not in content:
        raise UserError("name a task, or a --job that names one")
    values = defaults(load(content["task"]).Config)
    merge(values, content.get("config", {}))
    for edit in overrides:
        if not edit.startswith("profile."):
            apply_edit(values, edit)
    if bundle:
        values["init"] = str(part_of(content["task"], bundle))
    where = load_profile(profile, [edit.removeprefix("profile.") for edit in overrides if edit.startswith("profile.")])
    pool = where.training.model_copy(update={"threads": threads} if threads else {})
    uris = {
        key: ",".join(Storage(uri).uri for uri in content[key].split(","))
        for key in ("data", "validation")
        if content.get(key)
    }
    if checkpoint_seconds is not None:
        content["checkpoint_seconds"] = checkpoint_seconds
    job = TrainJob(**(content | uris | {"config": values}))
    job.check_sources()
    with Signals() as signals, Lease(storage) as lease:
        if fresh:
            Checkpoints(storage).forget()
        digest = claim(job, storage)
        if local:
            fit(job, storage, pool, stop=lambda: bool(signals.name) or bool(lease.lost), say=_say)
        else:
            _fit_on_ray(job, storage, where.model_copy(update={"training": pool}), digest, signals, lease)
        return export_part(job, storage, Storage(export) if export else Storage(f"{storage.uri}/export"))


class _JobFile(BaseModel):
    """A `TrainJob` of which flags may give the rest."""

    model_config = ConfigDict(extra="forbid")

    task: str | None = None
    data: str | None = None
    validation: str | None = None
    config: dict[str, Any] | None = None
    limit: int | None = None
    checkpoint_seconds: float | None = None


def merge(values: dict[str, Any], own: dict[str, Any]) -> None:
    """Put the nested values `own` over `values` in place, key by key."""
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            merge(values[key], value)
        else:
            values[key] = value


def part_of(task: str, bundle: str) -> Path:
    """Return the folder of the weights that `task` begins with, fetched and verified."""
    if task not in PARTS:
        raise UserError(f"--bundle: {task} begins with random weights; a bundle's are for {', '.join(PARTS)}")
    chosen = load_bundle(bundle)
    return fetch(chosen.parts()[PARTS[task]], chosen).resolve()


def defaults(model: type[TrainConfig]) -> dict[str, Any]:
    """Return the default values of a config, nested, for edits to start from: an edit of one key keeps its neighbours."""
    given = {name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()}
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    whole = model.model_construct(**given).model_dump(mode="json", warnings=False)
    return {name: value for name, value in whole.items() if name not in required}


def claim(job: TrainJob, storage: Storage) -> str:
    """Write `run.json`, or check that this job is the one it names; returns the digest."""
    config = job.parsed()[1]
    facts: dict[str, Any] = {"digest": job.digest(), "task": job.task, "config": config.model_dump(mode="json")}
    facts |= {"data": job.data, "validation": job.validation, "limit": job.limit}
    facts |= {
        "commit": commit_of(),
        "command": " ".join(["thermapair", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    if not storage.create("run.json", json.dumps(facts, indent=1).encode()):
        before = json.loads(storage.read("run.json"))
        if before["digest"] != facts["digest"]:
            changed = [key for key, value in facts["config"].items() if before["config"].get(key) != value]
            changed += [key for key in ("task", "data", "limit") if before[key] != facts[key]]
            raise UserError(
                f"{storage.uri} holds another run (different: {', '.join(changed) or 'its rows, or weights it reads'}): "
                "give another --out, the values it was made with, or --fresh to start over"
            )
    return facts["digest"]


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
    torch.set_num_threads(pool.threads)
    task, config = job.parsed()
    memory = pool.memory_mb * 2**20
    prepare = getattr(task, "prepare", None)
    begin = time.monotonic()
    data: Shards | Drawn = Drawn()
    if job.data:
        data = Shards(
            job.data,
            task.COLUMNS,
            prepare=prepare and partial(prepare, config=config),
            memory=memory,
            threads=pool.threads,
            limit=job.limit,
        )
    sides = opened_sides(sides_of(task, config), data, memory, pool.threads)
    validation: Shards | Drawn | None = None if job.data else data
    if job.validation and rank == 0:
        columns, rows = getattr(task, "VALIDATION_COLUMNS", task.COLUMNS), config.validate_rows
        optional = getattr(task, "VALIDATION_OPTIONAL", ())
        validation = Shards(job.validation, columns, optional=optional, memory=memory, threads=pool.threads, limit=rows)
    log.info("%d rows in %.1f s", len(data), time.monotonic() - begin)
    seen = "".join(f"/{side.digest}/{len(side)}" for side in sides.values())
    checkpoints = Checkpoints(storage, f"{data.digest}/{len(data)}{seen}", getattr(data, "skipped", ()))
    with tempfile.TemporaryDirectory(prefix="train-") as folder:
        scratch = Path(folder)
        resume = checkpoints.restore(scratch)
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


def opened_sides(sides: dict[str, Side], data: Shards | Drawn, memory: int, threads: int) -> dict[str, Shards | Frames]:
    """Open a task's further sources; thermal frames are resized to the pictures of `data`."""
    opened: dict[str, Shards | Frames] = {}
    for name, side in sides.items():
        if side.columns:
            opened[name] = Shards(side.uri, side.columns, memory=memory, threads=threads)
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
    from pipelines.session import ray_session

    pool, seen = profile.training, len(read(storage))
    batch = job.parsed()[1].batch
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
            said = read(storage)
            for record in said[seen:]:
                _say(record)
            seen = len(said)

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


def export_part(job: TrainJob, storage: Storage, target: Storage) -> Card:
    """Write the bundle part of the best checkpoint (the last, without validation) and its card into `target`."""
    task, config = job.parsed()
    checkpoints = Checkpoints(storage)
    with tempfile.TemporaryDirectory(prefix="export-") as scratch:
        restored = checkpoints.restore(Path(scratch), "best") or checkpoints.restore(Path(scratch))
        if restored is None:
            raise UserError(f"{storage.uri} has no checkpoint to export")
        state = start(task, config, torch.device("cpu"), restored)
    state.use_average()
    # Exporters see plain memory order: safetensors and ONNX know no other.
    state.model.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    facts = json.loads(storage.read("run.json"))
    card = Card(
        title=f"{job.task} of thermapair",
        task=job.task,
        seed=config.seed,
        data=shown(job.data) if job.data else "drawn as needed, from the seed",
        data_digest=facts["digest"],
        splits=({"train": described(job.data)} if job.data else {})
        | ({"validation": described(job.validation)} if job.validation else {}),
        config=facts["config"] | {"init": shown(config.init)},
        config_digest=facts["digest"],
        steps=state.step,
        wall_seconds=state.seconds,
        hardware=hardware(),
        parameters=sum(p.numel() for p in state.model.parameters()),
        commit=facts["commit"],
        command=facts["command"],
        history=history(Path(config.init)) if config.init else [],
        metrics={"validation": state.metrics} if state.metrics else {},
    )
    with tempfile.TemporaryDirectory(prefix="export-") as scratch:
        folder = Path(target.path()) if target.local else Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        task.export(state.model, config, folder, card)
        seal(folder)
        if not target.local:
            _upload(folder, target)
    log.info("exported step %d to %s", state.step, target.uri)
    return card


def _upload(folder: Path, target: Storage) -> None:
    """Copy an exported folder; the list of its files goes last, for with it the folder is whole."""
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    for name in sorted(names, key=lambda name: (name == SEAL, name)):
        target.write(name, (folder / name).read_bytes())


def described(uris: str) -> str:
    """Return which rows rendered data sets hold, in words."""
    return "; ".join(_described(uri) for uri in uris.split(","))


def _described(uri: str) -> str:
    try:
        world = json.loads(Storage(uri).read("world.json"))
    except FileNotFoundError:
        return shown(uri)
    job = world["job"]
    gap = f" (gap {job['gap']:g})" if job["gap"] != 1 else ""
    return (
        f"{job['count']} pictures of domain {job['domain']}{gap}, split {job['split']} from person {job['first']} on, "
        f"{job['views']} views, {'+'.join(job['conditions'])}, {job['size']} px (digest {world['digest']})"
    )


def shown(uris: str) -> str:
    """Return local paths below the working directory as relative ones: a card is read on other machines."""
    here = f"{os.getcwd()}/"
    return ",".join(os.path.relpath(uri) if uri.startswith(here) else uri for uri in uris.split(","))


def _say(record: dict[str, float]) -> None:
    """Print one record as a line, its first values only."""
    values = " ".join(f"{name}={value:.4g}" for name, value in list(record.items())[:10] if name != "step")
    print(f"step {record['step']:>6}  {values}", flush=True)
