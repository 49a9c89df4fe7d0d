"""A tiny rendered world for the tests of reading and training: real pictures, 32 px, made once a session."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.config.profile import Group, Profile
from pipelines.rows.encode import encode_parquet
from pipelines.rows.schema import RECORD, arrow_schema
from pipelines.storage.commits import Commit, commit, list_finished, write_shard
from pipelines.storage.uri import Storage
from pipelines.world import Renderer, WorldJob, commit_shard, write_plan

JOB = WorldJob(
    domain="portrait", split="generator", count=16, size=32, views=2, conditions=("warm", "cold"), partition=8
)

PROFILE = Profile(name="test", groups=[Group(stages=["render"], actors=(1, 2))])


def write(folder: Path, job: WorldJob = JOB) -> str:
    """Render `job` into `folder` in this process, by the same stages that Ray Data runs; returns the folder."""
    storage = Storage(folder)
    planned, done = write_plan(job, storage), list_finished(storage)
    pending = [part for part in range(planned.partitions) if part not in done]
    renderer = Renderer(job, pending, threads=1)
    for number in range(len(pending)):
        commit_shard(renderer({"id": [number]}), job, storage)
    return storage.uri


def write_record(folder: Path, people: int, held_out: int, size: int = 64) -> str:
    """Write rendered pairs as `generate` writes its own: the record's columns alone; the last people are of validation."""
    job = WorldJob(
        domain="portrait",
        split="generator",
        count=people * 4,
        size=size,
        views=2,
        conditions=("warm", "cold"),
        partition=16,
    )
    storage, first = Storage(folder), job.picture(0)[0]
    renderer = Renderer(job, list(range(job.partitions)), threads=1)
    for part in range(job.partitions):
        rows = []
        for row in renderer({"id": np.array([part])}).to_pylist():
            split = "validation" if row["world_identity"] - first >= people - held_out else "train"
            changed = {"split": split, "thermal_kind": "predicted", "caption": "A face.", "seed": 0}
            rows.append({name: value for name, value in (row | changed).items() if name in RECORD})
        content = encode_parquet(pa.Table.from_pylist(rows, schema=arrow_schema(RECORD)))
        name, digest = write_shard(storage, "data", part, content)
        commit(storage, part, Commit(name, len(rows), digest))
    return storage.uri
