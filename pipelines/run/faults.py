"""Errors have kinds, and each kind its answer: reject a row, try smaller batches, stop the run, end the process."""

import gc
import os
import re
import sys
from collections.abc import Callable
from typing import Literal

import numpy as np

from models.columns import Columns
from models.errors import BadRows, EnvironmentFault, UserError
from pipelines.storage.errors import fault, remote

Kind = Literal["row", "memory", "environment", "device"]


def kind_of(error: BaseException) -> Kind:
    """Return what `error` is about.

    memory: too large a batch. device: an accelerator that no longer answers. environment: storage, disk, weights, an
    engine, or a request that no row can satisfy. row: anything else, so one of the rows is to blame.
    """
    text = str(error).lower()
    torch = sys.modules.get("torch")  # slow to import, and a process that has not raises no error of its
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate" in text:
        return "memory"
    if torch and isinstance(error, torch.OutOfMemoryError):
        return "memory"
    if "cuda error" in text or "cudnn_status" in text or (torch and isinstance(error, torch.AcceleratorError)):
        return "device"
    if isinstance(error, OSError | UserError | ImportError):
        return "environment"
    return "row"


def free_memory() -> None:
    """Return to the system what Python and the accelerator's allocator hold without need."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()


def leave(error: BaseException) -> None:
    """End this worker process: after a device error every further call fails, a fresh process may not."""
    print(f"the accelerator failed, leaving the process: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def survivors(call: Callable[[Columns], Columns], rows: Columns, stage: str) -> tuple[Columns, np.ndarray, list[str]]:
    """Return (results, indices, reasons): `call` over the rows that it can take, without those that it names, and bisecting
    around others that it cannot take.

    `indices` are the rows that the results belong to; `reasons` has a text per row of `rows`, empty for survivors.
    """
    count = len(rows["sample_id"])
    try:
        return call(rows), np.arange(count), [""] * count
    except BadRows as bad:
        # Without the rows that are named; others may still be to blame.
        rest = np.array([row for row in range(count) if row not in bad.reasons], int)
        told = [bad.reasons.get(row, "") for row in range(count)]
        if not len(rest):
            return {}, rest, told
        result, found, reasons = survivors(call, {key: values[rest] for key, values in rows.items()}, stage)
        for row, reason in zip(rest, reasons, strict=True):
            told[row] = reason
        return result, rest[found], told
    except Exception as error:
        if kind_of(error) != "row":
            raise
        if count == 1:
            return {}, np.arange(0), [f"error in {stage}: {type(error).__name__}: {str(error)[:300]}"]
    # Nobody says which row it is: look in both halves.
    half = count // 2
    first = survivors(call, {key: values[:half] for key, values in rows.items()}, stage)
    second = survivors(call, {key: values[half:] for key, values in rows.items()}, stage)
    kept = [part[0] for part in (first, second) if len(part[1])]
    merged = {key: np.concatenate([part[key] for part in kept]) for key in kept[0]} if kept else {}
    return merged, np.concatenate([first[1], second[1] + half]), first[2] + second[2]


def cause_of(error: BaseException) -> BaseException:
    """Return what a chain of wrapped errors (Ray's, around a worker's) started with, a UserError first of all."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        hidden = current.__suppress_context__  # raised `from None`: what came before is no cause
        current = getattr(current, "cause", None) or current.__cause__ or (None if hidden else current.__context__)
    for found in seen:
        if isinstance(found, UserError) and not hasattr(found, "cause"):  # Ray's wrapper is of its cause's class, too
            return found
    # An actor that fails in its constructor reports its error as text alone.
    for found in seen:
        told = re.findall(r"^models\.errors\.(?:UserError|EnvironmentFault): (.+)$", str(found), re.MULTILINE)
        if told:
            return EnvironmentFault(told[-1])
    telling = [found for found in seen if str(found).strip() and type(found).__name__ != "SystemException"]
    starting = [found for found in telling if "while starting actors" in str(found)]
    return (starting or telling[-1:] or [error])[0]


def as_fault(error: BaseException) -> UserError:
    """Return `error` of a run as the one message its user sees."""
    found = cause_of(error)
    if isinstance(found, UserError):
        return found
    if remote(found):
        return fault(found, "the output's storage", "used")
    if "while starting actors" in str(found):
        return EnvironmentFault(
            "no actor of a stage started in time: the machine is busy, or there is no node with the cpus, gpus and memory "
            "that the profile's groups ask for. Lower those, raise profile.start_seconds, or run the same command later: "
            "finished partitions are kept."
        )
    text = str(found).strip().splitlines() or [type(found).__name__]
    return EnvironmentFault(
        f"the run stopped: {type(found).__name__}: {text[-1] if len(text[0]) > 400 else text[0]}. "
        "Finished partitions are kept; run the same command again to resume."
    )
