"""What a watched run of many samples came to: rates, slopes of memory, times of its end, and a plot."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.status import read_ends
from pipelines.storage.uri import Storage

WARM = 0.1
"""Share of the samples after which memory and rates count: before, actors start and pools grow."""
PER = 100_000
"""Samples that a slope is of."""


def read_log(path: Path) -> dict[str, np.ndarray]:
    """Return what `watch.run_watched` wrote as columns."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {name: np.array([row[name] for row in rows], float) for name in rows[0]}


def read_done(out: str) -> tuple[np.ndarray, np.ndarray]:
    """Return when partitions were committed (unix seconds, sorted) and how many samples were done by then."""
    ends = read_ends(Storage(out))
    return np.array([moment for moment, _ in ends]), np.cumsum([samples for _, samples in ends])


def measure(out: str, log: Path) -> dict[str, Any]:
    """Return the figures of the run in `out` that was watched into `log`."""
    seen, (ended, done) = read_log(log), read_done(out)
    samples, began = int(done[-1]), seen["time"][0]
    first, last = rate(ended, done, WARM, 2 * WARM), rate(ended, done, 1 - WARM, 1)
    units = {
        name: unit_of(seen, ended, done, *share)
        for name, share in (("early", (WARM, 2 * WARM)), ("last", (1 - WARM, 1)))
    }
    slopes = {name: slope(seen["time"], seen[name], ended, done) for name in ("driver", "workers", "largest", "ray")}
    return {
        "samples": samples,
        "partitions": len(ended),
        "seconds": round(seen["time"][-1] - began, 1),
        "first_row_seconds": round(ended[0] - began, 1),
        "end_seconds": round(seen["time"][-1] - ended[-1], 1),
        "samples_per_second": {"early": round(first, 1), "last": round(last, 1), "ratio": round(last / first, 3)},
        "unit_ms": {**units, "ratio of rates in units": round(last * units["last"] / (first * units["early"]), 3)},
        "peak_mb": {name: round(float(seen[name].max())) for name in slopes},
        f"mb_per_{PER}": {name: round(value, 2) for name, value in slopes.items()},
        "processor_ms_per_sample": {
            "first half": round(spent(seen, ended, done, WARM, (1 + WARM) / 2), 2),
            "second half": round(spent(seen, ended, done, (1 + WARM) / 2, 1), 2),
        },
        "processor_seconds": {name: round(float(seen[f"cpu_{name}"].max())) for name in ("driver", "workers", "ray")},
    }


def rate(ended: np.ndarray, done: np.ndarray, start: float, stop: float) -> float:
    """Return samples a second between two shares of all samples."""
    first, last = (int(np.searchsorted(done, share * done[-1])) for share in (start, stop))
    return float((done[last] - done[first]) / max(ended[last] - ended[first], 1e-9))


def unit_of(seen: dict[str, np.ndarray], ended: np.ndarray, done: np.ndarray, start: float, stop: float) -> float:
    """Return how many processor milliseconds a fixed piece of work took between two shares of all samples, the median."""
    at = np.interp(seen["time"], ended, done)
    there = (at >= start * done[-1]) & (at <= stop * done[-1]) & (seen["time"] <= ended[-1])
    return round(float(np.median(seen["unit"][there])), 2)


def spent(seen: dict[str, np.ndarray], ended: np.ndarray, done: np.ndarray, start: float, stop: float) -> float:
    """Return milliseconds of processors per sample between two shares of all samples, of processes that lived through both."""
    total = seen["cpu_driver"] + seen["cpu_workers"] + seen["cpu_ray"]
    at = np.interp(seen["time"], ended, done)
    first, last = np.searchsorted(at, start * done[-1]), min(np.searchsorted(at, stop * done[-1]), len(at) - 1)
    return float(1000 * (total[last] - total[first]) / max(at[last] - at[first], 1))


def slope(times: np.ndarray, memory: np.ndarray, ended: np.ndarray, done: np.ndarray) -> float:
    """Return MB per `PER` samples: a line through what was used while the last nine tenths were made."""
    at = np.interp(times, ended, done)
    there = (at > WARM * done[-1]) & (times <= ended[-1])
    return float(np.polyfit(at[there], memory[there], 1)[0] * PER) if there.sum() > 2 else float("nan")


def plot(out: str, log: Path, path: Path) -> None:
    """Draw memory by kind and samples a second over the samples that are done."""
    import matplotlib.pyplot as plt

    seen, (ended, done) = read_log(log), read_done(out)
    at = np.interp(seen["time"], ended, done) / 1000
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
    names = {"driver": "driver", "workers": "all workers", "largest": "largest worker", "ray": "Ray's own processes"}
    for name, told in names.items():
        upper.plot(at, seen[name], label=told, linewidth=1)
    upper.set(ylabel="MB, resident and not shared", ylim=(0, None))
    upper.legend(loc="center right", fontsize="small")
    # Rates over hundredths of the run.
    edges = np.linspace(0, 1, 101)
    rates = [rate(ended, done, start, stop) for start, stop in pairwise(edges)]
    lower.step(edges[1:] * done[-1] / 1000, rates, where="pre", linewidth=1)
    lower.set(xlabel="thousand samples done", ylabel="samples a second", ylim=(0, None))
    figure.savefig(path, dpi=110)
