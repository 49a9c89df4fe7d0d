"""The project's one training loop: plain torch, one process per worker, no cluster needed.

The order of rows is a function of (seed, step), so (epoch, step) is all the state there is beside weights and moments: a
run that is resumed at step k sees the same rows with the same draws as one that was never disturbed. With
`torch.distributed` initialised, each worker takes an equal share of the same global batch.
"""

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from models.columns import Columns
from models.errors import Interrupted, UserError
from models.seeds import seed_of
from models.tasks import Task, TrainConfig
from models.training.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint

STOP_EVERY = 4
"""Steps after which several workers ask each other whether to stop."""


class Source(Protocol):
    """Rows by index, decoded; `pipelines.rows.shards.Shards` is one."""

    def __len__(self) -> int: ...

    def rows(self, indices: np.ndarray) -> Columns: ...


@dataclass
class Hooks:
    """What the caller does with a run's products; the loop itself writes no file but checkpoints in `scratch`."""

    scratch: Path
    save: Callable[[Path, int, float | None], None]
    """(folder, step, score): keep this checkpoint folder. Called on the first worker only."""
    log: Callable[[dict[str, float]], None]
    picture: Callable[[int, np.ndarray], None] = lambda step, sheet: None
    stop: Callable[[], bool] = lambda: False
    checkpoint_seconds: float = 180.0
    log_every: int = 20


@dataclass
class Result:
    """A finished run: the averaged weights are in `model`."""

    model: nn.Module
    step: int
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)


def batch_rows(count: int, batch: int, step: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (row int64 [batch], epoch int64 [batch]) of a step: epochs are seeded permutations laid end to end.

    count: rows of the data set. A step may end one epoch and begin the next.
    """
    position = np.arange(step * batch, (step + 1) * batch)
    epoch, place = np.divmod(position, count)
    rows = np.empty(batch, np.int64)
    for number in np.unique(epoch):
        order = np.random.default_rng(seed_of(seed, "order", number)).permutation(count)
        rows[epoch == number] = order[place[epoch == number]]
    return rows, epoch


def visit_seeds(seed: int, epoch: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Return the seed of each visit to a row, int64 [B]: what a task's `batch["draw"]` is."""
    return np.array([seed_of(seed, "draw", e, r) for e, r in zip(epoch, row, strict=True)], np.int64)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate at a step: linear warm-up, then a cosine down to `final_lr * lr`."""
    warmup = min(config.warmup, config.steps // 10)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    share = (step - warmup) / max(1, config.steps - warmup)
    return config.lr * (config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * share)))


def train(
    task: Task,
    config: TrainConfig,
    data: Source,
    validation: Source | None,
    hooks: Hooks,
    *,
    sides: Mapping[str, Source] | None = None,
    resume: Path | None = None,
    device: torch.device | None = None,
) -> Result:
    """Train to `config.steps` and return the averaged model; `resume` is a checkpoint folder of the same config.

    sides: further rows by name (see `models/tasks`); each row of a batch brings one of each.

    Raises `Interrupted` after saving when `hooks.stop()` turns true, `UserError` for a batch that workers cannot share
    and for a loss that is not finite.
    """
    # Who this worker is, and where its model lives.
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if config.batch % world:
        raise UserError(f"batch {config.batch} cannot be shared equally by {world} workers")
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    state = start(task, config, device, resume)
    step_module = _Step(task, config, state.model)
    # A task may leave parameters out of a step's loss (a network per condition).
    worker = nn.parallel.DistributedDataParallel(step_module, find_unused_parameters=True) if world > 1 else step_module
    clock = _Clock(state.seconds)
    with contextlib.closing(_batches(data, sides or {}, config, state.step, rank, world)) as batches:
        for step, batch in batches:
            # Whatever a model draws itself (dropout) is seeded by the step, so that a resumed run repeats it.
            torch.manual_seed(seed_of(config.seed, "step", step, rank))

            # One optimizer step.
            loss, metrics = worker(batch, step)
            _update(state, config, step, loss)
            metrics["loss"] = float(loss.detach())
            clock.add(metrics, config.batch)
            state.step, state.seconds = step + 1, clock.seconds()

            # Log, validate, save.
            if step % hooks.log_every == hooks.log_every - 1 or step + 1 == config.steps:
                _log(hooks, state, config, clock, rank)
            if rank == 0:
                _validate_and_save(task, config, state, validation, hooks, clock)

            # All workers leave at the same step, with a checkpoint to go on from.
            if _asked_to_stop(hooks, step, world, device):
                if rank == 0:
                    hooks.save(save_checkpoint(hooks.scratch, state, config), state.step, None)
                if world > 1:
                    dist.barrier()  # the first process that leaves would end the group
                raise Interrupted(f"stopped at step {state.step} of {config.steps}; the same command continues")
    state.use_average()
    return Result(state.model, state.step, state.seconds, state.metrics)


def _asked_to_stop(hooks: Hooks, step: int, world: int, device: torch.device) -> bool:
    """Whether to stop after this step: as soon as one worker was asked to, all say so at the same step."""
    if world == 1:
        return hooks.stop()
    if (step + 1) % STOP_EVERY:
        return False
    asked = torch.tensor(float(hooks.stop()), device=device)
    dist.all_reduce(asked, op=dist.ReduceOp.MAX)
    return bool(asked)


def start(task: Task, config: TrainConfig, device: torch.device, resume: Path | None) -> Checkpoint:
    """Return model, moments and average at step 0, or as `resume` holds them."""
    torch.manual_seed(seed_of(config.seed, "init"))
    model = task.build(config).to(device)
    # Begin with other weights: a bundle's part by the task's own reader, else a checkpoint whose names must match.
    if config.init:
        path, begin = Path(config.init), getattr(task, "begin", None)
        checkpoint = (path / "model.safetensors").exists() and not (path / "config.json").exists()
        if begin is not None and path.is_dir() and not checkpoint:
            begin(model, path)
        else:
            load_weights(model, path)
    if config.channels_last:
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = Checkpoint(model, _optimizer(model, config))
    if resume is not None:
        load_checkpoint(resume, state, config)
    return state


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW on what can be trained, with weight decay on matrices and kernels alone, less those marked against it."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UserError("the task built a model without trainable parameters")
    decays = [p.ndim > 1 and not getattr(p, "_no_weight_decay", False) for p in parameters]  # Mamba's own mark
    groups = [
        {"params": [p for p, d in zip(parameters, decays, strict=True) if d], "weight_decay": config.weight_decay},
        {"params": [p for p, d in zip(parameters, decays, strict=True) if not d], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, betas=config.betas, fused=True)


class _Step(nn.Module):
    """One forward pass as a module, so that DistributedDataParallel sees the call and averages the gradients."""

    def __init__(self, task: Task, config: TrainConfig, model: nn.Module):
        super().__init__()
        self.task, self.config, self.model = task, config, model

    def forward(self, batch: Columns, step: int) -> tuple[Tensor, dict[str, float]]:
        device = next(self.model.parameters()).device
        self.model.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.bf16):
            return self.task.loss(self.model, batch, self.config, step)


def _update(state: Checkpoint, config: TrainConfig, step: int, loss: Tensor) -> None:
    """Take one optimizer step on `loss`: backward, clip, AdamW, average. Raises UserError for a gradient that is not finite."""
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(parameters, config.clip or math.inf)
    if not torch.isfinite(norm):
        raise UserError(
            f"gradient is {float(norm)} at step {step} (loss {float(loss.detach()):.4g}): lower lr, or bf16=false"
        )
    state.gradient_norm = float(norm)
    state.optimizer.step()
    # The average's decay grows from 0.1 (as TensorFlow's ExponentialMovingAverage has it), so that a short run is not judged
    # by its first weights.
    state.update_average(min(config.ema, (1 + step) / (10 + step)) if config.ema else 0.0)


def _batches(
    data: Source, sides: Mapping[str, Source], config: TrainConfig, first: int, rank: int, world: int
) -> Generator[tuple[int, Columns], None, None]:
    """Yield (step, this worker's rows); a thread reads two steps ahead."""
    if len(data) == 0:
        raise UserError("the training data has no rows")
    share = config.batch // world

    def read(step: int) -> Columns:
        mine = slice(rank * share, (rank + 1) * share)
        row, epoch = (values[mine] for values in batch_rows(len(data), config.batch, step, config.seed))
        batch = {**data.rows(row), "row": row, "draw": visit_seeds(config.seed, epoch, row)}
        # A row of every further source, chosen by the visit's seed.
        for name, source in sides.items():
            beside = np.array([seed_of(draw, name) % len(source) for draw in batch["draw"]], np.int64)
            batch |= {f"{name}.{column}": values for column, values in source.rows(beside).items()}
        return batch

    with ThreadPoolExecutor(1, "rows") as pool:
        ahead = {step: pool.submit(read, step) for step in range(first, min(first + 2, config.steps))}
        for step in range(first, config.steps):
            batch = ahead.pop(step).result()
            if step + 2 < config.steps:
                ahead[step + 2] = pool.submit(read, step + 2)
            yield step, batch


def _validate_and_save(
    task: Task, config: TrainConfig, state: Checkpoint, validation: Source | None, hooks: Hooks, clock: "_Clock"
) -> None:
    """Validate and save when it is time: by steps for validations, by the clock for checkpoints, both at the end."""
    last = state.step == config.steps
    due = validation is not None and (last or (config.validate_every and state.step % config.validate_every == 0))
    if due and validation is not None:
        state.metrics = evaluate(task, config, state, validation, hooks)
        hooks.log({"step": state.step, **{f"validation/{name}": value for name, value in state.metrics.items()}})
    if due or last or clock.since_save() > hooks.checkpoint_seconds:
        if validation is not None and not due and not clock.saves:  # the first one shows that something is learned
            with state.average_in_use(), torch.inference_mode():
                _show(task, config, state, next(_validation_batches(validation, config)), hooks)
        score = state.metrics["score"] if due else None
        hooks.save(save_checkpoint(hooks.scratch, state, config), state.step, score)
        clock.mark_saved()


def evaluate(
    task: Task, config: TrainConfig, state: Checkpoint, validation: Source, hooks: Hooks | None = None
) -> dict[str, float]:
    """Return the task's metrics of the averaged weights on the first `validate_rows` rows, in float32."""
    with state.average_in_use(), torch.inference_mode():
        state.model.eval()
        batches = _validation_batches(validation, config)
        metrics = {name: float(value) for name, value in task.validate(state.model, batches, config).items()}
        if hooks is not None:
            _show(task, config, state, next(_validation_batches(validation, config)), hooks)
    if "score" not in metrics:
        raise UserError(f"task {task.__name__} returned no `score` from validate")  # type: ignore[attr-defined]
    return metrics


def _validation_batches(validation: Source, config: TrainConfig) -> Iterator[Columns]:
    """Yield the first `validate_rows` rows in batches."""
    count = min(len(validation), config.validate_rows)
    for begin in range(0, count, config.batch):
        row = np.arange(begin, min(begin + config.batch, count))
        yield {**validation.rows(row), "row": row}


def _show(task: Task, config: TrainConfig, state: Checkpoint, rows: Columns, hooks: Hooks) -> None:
    """Hand the task's sample sheet of `rows` to the caller, if it draws one."""
    pictures = getattr(task, "pictures", None)
    if pictures is not None:
        hooks.picture(state.step, pictures(state.model.eval(), rows, config))


def _log(hooks: Hooks, state: Checkpoint, config: TrainConfig, clock: "_Clock", rank: int) -> None:
    """Hand the means since the last call to the caller; the loss is averaged over workers."""
    metrics, speed = clock.means()
    if dist.is_initialized() and dist.get_world_size() > 1:
        loss = torch.tensor(metrics["loss"], device=next(state.model.parameters()).device)
        dist.all_reduce(loss)
        metrics["loss"] = float(loss) / dist.get_world_size()
    if rank == 0:
        rate, norm = learning_rate(config, state.step - 1), state.gradient_norm
        hooks.log({"step": state.step, "lr": rate, "gradient_norm": norm, "rows_per_second": speed, **metrics})


class _Clock:
    """Wall time of the run over all its starts, speed, and running means of the metrics."""

    def __init__(self, before: float):
        self.before, self.begin, self.save_time = before, time.monotonic(), time.monotonic()
        self.values: dict[str, list[float]] = {}
        self.rows, self.mark, self.saves = 0, time.monotonic(), 0

    def add(self, metrics: dict[str, float], rows: int) -> None:
        self.rows += rows
        for name, value in metrics.items():
            self.values.setdefault(name, []).append(float(value))

    def means(self) -> tuple[dict[str, float], float]:
        """Return the metrics' means and the rows per second since the last call."""
        now = time.monotonic()
        means = {name: float(np.mean(values)) for name, values in self.values.items()}
        speed = self.rows / max(now - self.mark, 1e-9)
        self.values, self.rows, self.mark = {}, 0, now
        return means, speed

    def seconds(self) -> float:
        """Return the run's wall time, earlier starts included."""
        return self.before + time.monotonic() - self.begin

    def since_save(self) -> float:
        return time.monotonic() - self.save_time

    def mark_saved(self) -> None:
        self.save_time, self.saves = time.monotonic(), self.saves + 1
