"""The stages of one group in one actor: arrays are handed on in place, partition by partition.

A partition that comes in leaves whole: every sample keeps its row, also when it is rejected. Samples that fail the gates
are drawn again with the noise of the next attempt; the failed attempts leave as extra rows with `final` false.
"""

import importlib
import inspect
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from models.weights.bundle import Bundle, Part, fetch
from models.errors import UserError
from pipelines.run import faults
from pipelines.plan.samples import noise_id
from pipelines.progress import Tracker

Columns = dict[str, np.ndarray]
Stage = Callable[[Columns], Columns]

ERROR = "error in "
"""Begins the reason of a row that a stage could not take; such a row is not drawn again."""
COMPUTE = ("dtype", "threads", "batch")
"""Arguments that every stage with weights has, and that are no options."""
EMPTY: dict[str, Any] = {"reject": "", "scores": "", "reached": ""}


@dataclass(frozen=True)
class StageSpec:
    """What an actor needs to make a stage: small and picklable, weights are loaded where it runs."""

    name: str
    path: str
    """module:Class."""
    part: Part | None
    """Its weights; None for a stage without any."""
    bundle: Bundle | None
    batch: int
    """Rows given to the stage at a time."""
    arguments: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise a UserError that names an option of the part that its stage does not take."""
        if self.part is None or not self.part.options:  # what has none need not be imported
            return
        parameters = inspect.signature(self._make()).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return
        ours = {*COMPUTE, *self.arguments}
        known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ours]
        for key in sorted(self.part.options.keys() - set(known)):
            told = f"known here: {', '.join(known)}" if known else "this stage takes none"
            raise UserError(f"bundle.{self.name}.options.{key}: unknown key; {told}.")

    def _make(self) -> Callable[..., Stage]:
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)

    def load(self, threads: int) -> Stage:
        """Return the stage, its weights fetched and verified."""
        make = self._make()
        if self.part is None or self.bundle is None:
            return make(**self.arguments)
        weights: Path = fetch(self.part, self.bundle)
        options = dict(zip(COMPUTE, (self.part.dtype, threads, self.part.batch), strict=True))
        return make(weights, **options, **self.part.options, **self.arguments)


class Chain:
    """The stages of one group. `attempts` are those made here; `begins` says that the first stage of all is among them.

    loaded: the stages of `stages` where their weights are in memory already; by default they are loaded here.
    """

    def __init__(
        self,
        stages: Sequence[StageSpec],
        attempts: Sequence[int] = (0,),
        begins: bool = True,
        threads: int = 1,
        tracker: str = "",
        loaded: Sequence[Stage] = (),
    ) -> None:
        self.specs = list(stages)
        self.stages = list(loaded) or [spec.load(threads) for spec in stages]
        self.attempts, self.begins = list(attempts), begins
        self.tracker = Tracker.find(tracker)

    def __call__(self, block: Columns) -> Columns:
        rows, failed = prepared(block), list[Columns]()
        if not len(rows["sample_id"]):
            return rows
        seconds = json.loads(rows["seconds"][0])
        for attempt in self.attempts:
            if attempt > 0 and self.begins:
                failed.append(reopen(rows, attempt))
            open_ = np.flatnonzero((rows["reject"] == "") & rows["final"] & (rows["attempt"] == attempt))
            for spec, stage in zip(self.specs, self.stages):
                open_ = self._run(spec, stage, rows, open_, seconds)
        rows["seconds"][:] = json.dumps(seconds)
        return stacked([rows, *failed])

    def _run(
        self, spec: StageSpec, stage: Stage, rows: Columns, open_: np.ndarray, seconds: dict[str, float]
    ) -> np.ndarray:
        """Run one stage over the open rows, batch by batch, in place; returns the rows still open."""
        for start in range(0, len(open_), spec.batch):
            chosen = open_[start : start + spec.batch]
            began = time.perf_counter()
            given = {key: values[chosen] for key, values in rows.items()}
            smaller: list[int] = []
            result, found, reasons = faults.survivors(partial(called, stage, smaller), given, spec.name)
            put(rows, chosen[found], result)
            for row, reason in zip(chosen, reasons):
                rows["reject"][row] = reason or rows["reject"][row]
                if smaller:
                    rows["marks"][row] += f"{spec.name} in batches of {min(smaller)};"
            spent = time.perf_counter() - began
            seconds[spec.name] = round(seconds.get(spec.name, 0.0) + spent, 4)
            self.tracker.add(spec.name, len(chosen), spent)
        return open_[rows["reject"][open_] == ""]


def called(stage: Stage, smaller: list[int], rows: Columns) -> Columns:
    """Call `stage`; when memory runs out once more, then with half its compute batch, a quarter, ...

    A batch that had to shrink is added to `smaller`: its rows may differ in the last digits, so they are marked.
    A device that failed takes this process with it.
    """
    batch = size = getattr(stage, "batch", 1)
    again = True
    try:
        while True:
            try:
                return checked(stage(rows), len(rows["sample_id"]))
            except Exception as error:
                kind = faults.kind_of(error)
                if kind == "device":
                    faults.leave(error)
                if kind != "memory" or (size == 1 and not again):
                    raise
            faults.free_memory()
            if not again:
                size = max(1, size // 2)
                smaller.append(size)
                stage.batch = size  # type: ignore[attr-defined]
            again = False
    finally:
        if smaller:
            stage.batch = batch  # type: ignore[attr-defined]


def prepared(block: Columns) -> Columns:
    """Return a writable copy of a block with the columns that this module keeps."""
    rows = {key: np.array(values, dtype=_dtype(values)) for key, values in block.items()}
    count = len(rows["sample_id"])
    rows.setdefault("final", np.ones(count, bool))
    rows.setdefault("seconds", np.full(count, "{}", object))
    rows.setdefault("reached", np.full(count, "", object))
    rows.setdefault("marks", np.full(count, "", object))
    return rows


def reopen(rows: Columns, attempt: int) -> Columns:
    """Give the samples that failed the gates at the attempt before a new one, in place; returns their failed rows."""
    failing = np.array([bool(text) and not str(text).startswith(ERROR) for text in rows["reject"]], bool)
    chosen = np.flatnonzero(failing & rows["final"] & (rows["attempt"] == attempt - 1))
    failed = {key: values[chosen] for key, values in rows.items()}
    failed["final"] = np.zeros(len(chosen), bool)
    rows["attempt"][chosen] = attempt
    rows["reject"][chosen] = ""
    rows["reached"][chosen] = rows["marks"][chosen] = ""
    rows["noise_id"][chosen] = [noise_id(str(name), attempt) for name in rows["sample_id"][chosen]]
    return failed


def put(rows: Columns, chosen: np.ndarray, result: Columns) -> None:
    """Write what a stage returned for rows `chosen` into `rows`; a new column is zero (or empty) everywhere else."""
    count, added = len(rows["sample_id"]), []
    for key, values in result.items():
        values = np.asarray(values)
        if values.dtype.kind in "US":
            values = values.astype(object)
        if key not in rows:
            blank = EMPTY.get(key, "") if values.dtype == object else 0
            rows[key] = np.full((count, *values.shape[1:]), blank, values.dtype)
        if key not in ("seconds", "reached", "final", "marks"):
            rows[key][chosen] = values
            added.append(key)
    if added:
        for row in chosen:
            rows["reached"][row] = ",".join(sorted({*str(rows["reached"][row]).split(","), *added} - {""}))


def stacked(parts: Sequence[Columns]) -> Columns:
    """Return the rows of several blocks under each other."""
    keys = parts[0].keys()
    kept = [part for part in parts if len(part["sample_id"])]
    return {key: np.concatenate([_wide(part, key, parts[0]) for part in kept]) for key in keys} if kept else parts[0]


def _wide(part: Columns, key: str, like: Columns) -> np.ndarray:
    if key in part:
        return part[key]
    values = like[key]
    return np.full((len(part["sample_id"]), *values.shape[1:]), "" if values.dtype == object else 0, values.dtype)


def checked(result: Columns, count: int) -> Columns:
    """Return `result` if every column has `count` rows."""
    short = {key: len(values) for key, values in result.items() if len(values) != count}
    if short:
        raise ValueError(f"a stage was given {count} rows and returned {short}")
    return result


def _dtype(values: np.ndarray) -> Any:
    return object if values.dtype.kind in "USO" else values.dtype
