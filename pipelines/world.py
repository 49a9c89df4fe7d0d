"""`thermapair world`: pictures of the synthetic world with their ground truth, rendered through Ray Data into shards."""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data
from ray.data import ActorPoolStrategy, Dataset

from models.config import check
from models.errors import UserError
from models.synthworld.domain import load_domain
from pipelines.commits import Commit, commit, committed, write_manifest, write_shard
from pipelines.config.profile import Profile, load_profile
from pipelines.interrupts import Signals, in_thread
from pipelines.lease import Lease
from pipelines.rows.encode import encode_rendered, name_rendered, parquet
from pipelines.rows.schema import WORLD, schema
from pipelines.session import ray_session
from pipelines.storage import Storage
from pipelines.world_files import finish_files, write_files
from pipelines.world_job import WorldJob, identities

log = logging.getLogger(__name__)

PICTURE = 128 * 128
"""Pixels that `render_batch` is counted in: larger pictures are rendered fewer at a time."""
BLOCK = schema(("partition", *WORLD))
"""A rendered partition on its way to the writer."""


def run(
    domain: str,
    split: str,
    count: int,
    out: str,
    *,
    size: int = 128,
    profile: str = "laptop",
    overrides: Sequence[str] = (),
    **values: Any,
) -> Storage:
    """Render what is missing of a job into `out`. `overrides` are `key=value` edits of the profile."""
    job = check(WorldJob, {"domain": domain, "split": split, "count": count, "size": size, **values}, "world")
    storage, where = Storage(out), load_profile(profile, overrides)
    with Signals() as signals, Lease(storage) as lease:
        pending = plan(job, storage)
        log.info("%d of %d partitions to render", len(pending), job.partitions)

        def watch() -> None:
            signals.check()
            lease.check()

        if pending:
            with ray_session(where.ray):
                signals.watch()
                in_thread(lambda: _drain(world(job, pending, where, storage), len(pending)), watch)
        committed(storage, job.partitions)  # some may have been deleted meanwhile
        finish_files(job, storage)
        write_manifest(storage, kind="world", rows=job.count, job=job.model_dump(mode="json"))
    return storage


def _drain(records: Dataset, total: int) -> None:
    """Run the chain and log each partition as it is committed."""
    rows, begin = 0, time.monotonic()
    for done, record in enumerate(records.iter_rows(), 1):
        rows += record["rows"]
        speed = rows / (time.monotonic() - begin)
        log.info("%s: %d of %d partitions, %.1f pictures/s", record["file"], done, total, speed)


def plan(job: WorldJob, storage: Storage) -> list[int]:
    """Return the partitions that are not committed yet. Raises UserError when `storage` holds another job."""
    identities(job)  # refuses a split or a first person that is not there
    thermal = load_domain(job.domain, job.gap).capture.thermal
    if thermal == "none" and job.layout not in ("record", "facesynthetics"):
        raise UserError(
            f"domain {job.domain} has no thermal picture: it fills --layout facesynthetics, not {job.layout}"
        )
    facts: dict[str, Any] = {"digest": job.digest(), "job": job.model_dump(mode="json")}
    if not storage.create("world.json", json.dumps(facts, indent=1).encode()):
        before = json.loads(storage.read("world.json"))
        if before["digest"] != facts["digest"]:
            old = {"layout": "record", **before["job"]}
            changed = [k for k, v in facts["job"].items() if k != "count" and old.get(k) != v]
            raise UserError(
                f"{storage.uri} holds another world (different: {', '.join(changed) or 'the domain file'}): "
                "give another --out, or the values it was made with"
            )
    done = committed(storage)
    short = [part for part, record in done.items() if part < job.partitions and record.rows != len(job.rows_of(part))]
    if short:
        raise UserError(
            f"{storage.uri} ends in a part shard ({done[short[0]].rows} of {len(job.rows_of(short[0]))} rows) and cannot "
            f"grow: give a count that is a multiple of {job.rows} from the start, or another --out"
        )
    return [part for part in range(job.partitions) if part not in done]


def world(job: WorldJob, pending: list[int], profile: Profile, storage: Storage) -> Dataset:
    """Return the job as one chain; its rows are the commit records. One block is one partition from here to the writer."""
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = None
    group = profile.grouped(["render"])[0]
    parts = ray.data.range(len(pending), override_num_blocks=len(pending))
    rendered = parts.map_batches(
        Renderer,
        fn_constructor_args=(job, pending, group.threads),
        batch_size=1,
        compute=ActorPoolStrategy(
            min_size=group.actors[0], max_size=group.actors[1], max_tasks_in_flight_per_actor=group.in_flight
        ),
        num_cpus=group.cpus,
        num_gpus=group.gpus,
        **group.selector,
    )
    return rendered.map_batches(
        commit_shard if job.layout == "record" else write_files,
        fn_args=(job, storage),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=profile.writer.cpus / 2,
    )


class Renderer:
    """Partition numbers in, a block of encoded rows out."""

    def __init__(self, job: WorldJob, pending: list[int], threads: int):
        import torch

        from models.synthworld.kernels import expect

        torch.set_num_threads(threads)
        expect(job.count)
        self.job, self.pending = job, pending
        self.domain = load_domain(job.domain, job.gap)
        self.batch = max(1, job.render_batch * PICTURE // job.size**2)

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        part = self.pending[int(batch["id"][0])]
        return pa.Table.from_pylist(list(self.rows(part)), schema=BLOCK)

    def rows(self, part: int) -> Iterator[dict[str, Any]]:
        """Render the rows of one partition, `self.batch` pictures at a time."""
        from models.synthworld.domain import sample_scene
        from models.synthworld.render import render
        from models.synthworld.scene import attributes

        numbers = self.job.rows_of(part)
        for begin in range(0, len(numbers), self.batch):
            pictures = [self.job.picture(row) for row in numbers[begin : begin + self.batch]]
            scenes = [sample_scene(self.domain, *picture) for picture in pictures]
            rendered = render(scenes, self.job.size)
            arrays = {name: value.numpy() for name, value in vars(rendered).items() if hasattr(value, "numpy")}
            for k, (identity, view, condition) in enumerate(pictures):
                shown = {name: values[k] for name, values in arrays.items()}
                where = (self.domain.name, self.job.gap, self.job.split)
                names = name_rendered(*where, identity, view, condition, attributes(scenes[k]))
                encoded = encode_rendered(names["pair_id"], shown, self.domain.capture.thermal)
                yield {"partition": part, **names, **encoded}


def commit_shard(block: pa.Table, job: WorldJob, storage: Storage) -> pa.Table:
    """Write one whole partition and its record; returns the record as a row."""
    part = block.column("partition")[0].as_py()
    rows = len(job.rows_of(part))
    if len(block) != rows or pc.count_distinct(block.column("partition")).as_py() != 1:
        raise RuntimeError(f"the writer got {len(block)} rows for partition {part} of {rows} rows")
    content = parquet(block.drop(["partition"]))
    name, digest = write_shard(storage, "data", part, content)
    commit(storage, part, Commit(name, rows, digest, len(content)))
    return pa.table({"part": [part], "rows": [rows], "file": [name]})
