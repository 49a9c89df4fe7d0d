"""Memory and processor time of a job's processes, second by second, while it runs."""

import hashlib
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from models.weights.store import ROOT

VIEWS = 4
"""Of a person, in runs of the null bundle."""
KINDS = ("driver", "workers", "ray")
"""The command's own process; actors and tasks; Ray's own processes (raylet, GCS, agents)."""


def run_watched(words: Sequence[str], log: Path, every: float = 1.0) -> int:
    """Run a command, write what its processes use to `log`, a line of JSON every `every` seconds, and return its exit code.

    A line has `time` (unix seconds), `unit` (`work_a_unit`), and of each kind its MB (resident without what is shared, so the
    object store counts for nobody), of the largest worker its MB, and processor seconds, also of those that have ended.
    """
    spent: dict[str, dict[int, float]] = {kind: {} for kind in KINDS}
    with log.open("a") as lines, subprocess.Popen(words, cwd=ROOT) as process:
        while process.poll() is None:
            lines.write(json.dumps(look(process.pid, spent) | {"unit": work_a_unit()}) + "\n")
            lines.flush()
            time.sleep(every)
    return process.returncode


def work_a_unit() -> float:
    """Return the processor milliseconds of a fixed piece of work, which tell how fast the machine is now.

    A virtual machine's cores are as fast as its neighbours leave them, and its memory as near as its host has it.
    """
    began = time.process_time()
    hashlib.sha256(bytes(1_000_000)).digest()
    np.full(250_000, 1.5).cumsum()
    sum(number * number for number in range(20_000))
    return round(1000 * (time.process_time() - began), 3)


def command_of(*words: str) -> list[str]:
    """Return the words that run a command of ours in a process of its own."""
    return [sys.executable, "-m", "cluster", *words]


def null_command(out: str, samples: int, edits: Sequence[str]) -> list[str]:
    """Return the words that make `samples` rows of the null bundle in `out`, with distinct captions by the grammar."""
    values = [
        "visible.options.pictures=false", "captions=template", f"identities.count={samples // VIEWS}",
        f"views.per_identity={VIEWS}", *edits,
    ]  # fmt: skip
    words = command_of("generate", "--bundle", "null", "--job", "pairs", "--out", out)
    return [*words, *(word for value in values for word in ("--set", value))]


def look(pid: int, spent: dict[str, dict[int, float]]) -> dict[str, Any]:
    """Return what process `pid` and those below it use now.

    spent: kind -> processor seconds by process, kept from look to look.
    """
    memory, largest = defaultdict[str, float](float), 0.0
    for kind, process in _family(pid):
        try:
            used, worked = process.memory_info(), process.cpu_times()
        except psutil.Error:  # it has ended
            continue
        own = (used.rss - used.shared) / 2**20
        memory[kind] += own
        spent[kind][process.pid] = worked.user + worked.system
        largest = max(largest, own if kind == "workers" else 0.0)
    found = {"time": time.time(), "largest": round(largest, 2)}
    found |= {kind: round(memory[kind], 2) for kind in KINDS}
    return found | {f"cpu_{kind}": round(sum(spent[kind].values()), 2) for kind in KINDS}


def _family(pid: int) -> Iterator[tuple[str, psutil.Process]]:
    try:
        driver = psutil.Process(pid)
        yield "driver", driver
        for child in driver.children(recursive=True):
            words = child.cmdline()
            yield ("workers" if words and words[0].startswith("ray::") else "ray"), child
    except psutil.Error:
        return
