"""Processor time and memory of a call, and the ledger that keeps what was measured."""

import contextlib
import ctypes
import gc
import json
import os
import resource
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tests.benchmarks.selective_scan.rows import Call

SLOW = 12.0
"""Seconds above which a call is not repeated."""
MB = 2**20
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Names of glibc's `mallopt`."""


class Key(NamedTuple):
    """What a line of the ledger is of. size: tokens, of translators pixels. gradient: with the backward pass."""

    what: str
    size: int
    gradient: bool
    row: str


Found = dict[Key, dict[str, Any]]


def read_ledger(path: Path) -> Found:
    """Return the lines of a ledger by what they are of; of several the last."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return {Key(*(line[name] for name in Key._fields)): line for line in lines}


def append(path: Path, key: Key, facts: dict[str, Any]) -> None:
    """Add a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({**key._asdict(), **facts}) + "\n")


def held(key: str) -> float:
    """Return MB of `key` of /proc/self/status: VmRSS now, VmHWM at most since it was reset, VmSize of addresses."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) / 1024


def bound_memory(gigabytes: float) -> None:
    """Let this process take at most so much more than it has: a call that wants more fails, and the machine goes on."""
    limit = int(held("VmSize") * MB + gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def give_back_memory(at_once: bool) -> None:
    """Let the C library give memory back as soon as it is freed, so that none hides what the next call takes; or keep it as it
    does by itself once large pieces were freed, for without that every call pays for pages anew."""
    library = ctypes.CDLL(None)
    library.mallopt(MMAP_THRESHOLD, 64 * 1024 if at_once else 32 * MB)
    library.mallopt(TRIM_THRESHOLD, 128 * 1024 if at_once else 64 * MB)
    library.malloc_trim(0)


def run_once(call: Call, gradient: bool) -> float | None:
    """Return processor seconds of one call; None where memory ran out."""
    gc.collect()
    start = time.process_time()
    try:
        if gradient:
            made = call()
            assert isinstance(made, Tensor)
            made.square().sum().backward()
        else:
            with torch.inference_mode():
                call()
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        return None
    return time.process_time() - start


def measure_memory(call: Call, gradient: bool) -> float | None:
    """Return by how many MB the process grows in one call; None where memory ran out."""
    gc.collect()
    give_back_memory(at_once=True)  # what others have freed, too
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = held("VmRSS")
    return None if run_once(call, gradient) is None else max(0.0, held("VmHWM") - before)


def measure_group(calls: dict[str, Call], gradient: bool, rounds: int) -> dict[str, dict[str, Any]]:
    """Return what is known of each call: the least seconds of `rounds`, in which all take turns, and the memory of one more."""
    found: dict[str, dict[str, Any]] = {}
    give_back_memory(at_once=False)
    for turn in range(rounds):
        for name, call in calls.items():
            old = found.get(name, {"seconds": float("inf")})["seconds"]
            if turn and (old is None or old > SLOW):
                continue
            seconds = run_once(call, gradient)
            found[name] = {
                "seconds": seconds if seconds is None or old is None else min(seconds, old),
                "load": round(os.getloadavg()[0], 1),
            }
    # What memory it takes is asked apart: the answer costs time.
    return {name: {**facts, "mb": measure_memory(calls[name], gradient)} for name, facts in found.items()}
