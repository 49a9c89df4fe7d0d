"""A tiny rendered world for the tests of reading and training: real pictures, 32 px, made once a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather

from pipelines.config.profile import Group, Profile
from pipelines.config.world import WorldJob
from pipelines.plan.world import write_world_plan
from pipelines.rows.encode import encode_parquet
from pipelines.rows.schema import GATHERED, RECORD, arrow_schema
from pipelines.storage.commits import Commit, commit, write_shard
from pipelines.storage.uri import Storage
from pipelines.world import Renderer, commit_shard
from tests.once import make_once

JOB = WorldJob(
    domain="portrait", split="generator", count=16, size=32, views=2, conditions=("warm", "cold"), partition=8
)

PROFILE = Profile(name="test", groups=[Group(stages=["render"], actors=(1, 2))])


def render(job: WorldJob) -> list[pa.Table]:
    """Return the blocks of a job's partitions, by the same stage that Ray Data runs."""
    renderer = Renderer(job, list(range(job.partitions)), threads=1)
    return [renderer({"id": np.array([part])}) for part in range(job.partitions)]


def render_once(factory: pytest.TempPathFactory) -> list[pa.Table]:
    """Return the blocks of `JOB`, rendered once a run of pytest."""

    def make(folder: Path) -> None:
        for part, block in enumerate(render(JOB)):
            feather.write_feather(block, folder / f"{part}.arrow")

    folder = make_once(factory, "world-blocks", make)
    return [feather.read_table(folder / f"{part}.arrow", memory_map=False) for part in range(JOB.partitions)]


def write(folder: Path, blocks: list[pa.Table], job: WorldJob = JOB) -> str:
    """Write the rendered blocks of a job into `folder`, as Ray Data's last stage does; returns the folder."""
    storage = Storage(folder)
    write_world_plan(job, storage)
    for block in blocks:
        commit_shard(block, job, storage)
    return storage.uri


def write_record(folder: Path, blocks: list[pa.Table], held_out: int) -> str:
    """Write rendered pairs as `generate` writes its own: the record's columns alone; the last people are of validation."""
    storage = Storage(folder)
    people = sorted({number for block in blocks for number in block.column("world_identity").to_pylist()})
    validation = people[len(people) - held_out :]
    for part, block in enumerate(blocks):
        rows = []
        for row in block.to_pylist():
            split = "validation" if row["world_identity"] in validation else "train"
            changed = {"split": split, "thermal_kind": "predicted", "caption": "A face.", "seed": 0}
            rows.append({name: value for name, value in (row | changed).items() if name in RECORD})
        content = encode_parquet(pa.Table.from_pylist(rows, schema=arrow_schema(RECORD)))
        name, digest = write_shard(storage, "data", part, content)
        commit(storage, part, Commit(name, len(rows), digest))
    return storage.uri


def write_apart(folder: Path, blocks: list[pa.Table], *, lists: bool = False, alone: str = "") -> str:
    """Write the warm rows as `gather` writes those of cameras that stood apart: each half a row of its own, the thermal one with
    its points 1 px to the right. lists: say that visible rows enrol and thermal ones ask. alone: whose first visible picture is
    the only one."""
    storage = Storage(folder)
    for part, block in enumerate(blocks):
        rows = list[dict[str, Any]]()
        for row in block.to_pylist():
            if row["condition"] != "warm":
                continue
            points = np.array(row["landmarks_70"], np.float32).reshape(70, 2)
            for half in ("visible", "thermal"):
                own = {"name": f"{row['identity_id']}_{row['view']}/{half}", "sample_id": f"{row['sample_id']}/{half}"}
                own["attributes"] = json.dumps({"role": "model" if half == "visible" else "probe"} if lists else {})
                own["view"] = len(rows)
                if half == "visible":
                    own |= {"thermal": None, "thermal_kind": ""}
                else:
                    own |= {
                        "visible_kind": "thermal",
                        "landmarks_70": (points + np.array([1, 0], np.float32)).ravel().tolist(),
                    }
                if half == "thermal" or row["identity_id"] != alone or row["view"] == 0:
                    rows.append({name: value for name, value in (row | own).items() if name in GATHERED})
        names = [name for name in GATHERED if all(name in row for row in rows)]
        file, digest = write_shard(
            storage, "data", part, encode_parquet(pa.Table.from_pylist(rows, arrow_schema(names)))
        )
        commit(storage, part, Commit(file, len(rows), digest))
    return storage.uri
