"""Figures of a run for Prometheus, through Ray's own exporter on every node; Ray puts `ray_` before each name.

    thermapair_rows_total, thermapair_bytes_total, thermapair_samples_total          counted as partitions are committed
    thermapair_rejects_total{reason}                        failed attempts, by the kind of the reason
    thermapair_stage_seconds_total{stage}                   of all workers together, writing among it
    thermapair_batch_seconds{stage}                         histogram of the batches of a stage

Each has the label `run`, the digest of the recipe, but batches, which know of no run.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import ray
from ray.util.metrics import Counter, Histogram

COUNTERS = {
    "rows": ("Rows written.", ()),
    "bytes": ("Bytes of shards written.", ()),
    "samples": ("Samples that are done, accepted or given up.", ()),
    "rejects": ("Failed attempts by the kind of the reason.", ("reason",)),
    "stage_seconds": ("Seconds of all workers by stage.", ("stage",)),
}
"""Name after `thermapair_` -> what it counts, and its labels beside `run`."""
BATCH = "batch_seconds"
BOUNDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]


def count_partition(run: str, rows: int, size: int, facts: Mapping[str, Any]) -> None:
    """Count a partition that was committed. Without a Ray nobody asks, so nothing is done."""
    if not ray.is_initialized():
        return
    for name, value in {"rows": rows, "bytes": size, "samples": facts["samples"]}.items():
        _add(name, value, run=run)
    for reason, count in facts["reasons"].items():
        _add("rejects", count, run=run, reason=reason)
    for stage, seconds in facts["seconds"].items():
        _add("stage_seconds", seconds, run=run, stage=stage)


def observe_batch(stage: str, seconds: float) -> None:
    """Note how long a batch of `stage` took."""
    if ray.is_initialized():
        _histogram().observe(seconds, tags={"stage": stage})


def _add(name: str, value: float, **labels: str) -> None:
    if value > 0:
        _counter(name).inc(value, tags=labels)


@cache
def _counter(name: str) -> Counter:
    text, labels = COUNTERS[name]
    return Counter(f"thermapair_{name}", description=text, tag_keys=("run", *labels))


@cache
def _histogram() -> Histogram:
    return Histogram(f"thermapair_{BATCH}", "Seconds of a batch by stage.", boundaries=BOUNDS, tag_keys=("stage",))
