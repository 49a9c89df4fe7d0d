"""`thermapair world`: pictures of the synthetic world with their ground truth, rendered through Ray Data into shards."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ray.data import ActorPoolStrategy, Dataset

from models.config import apply_edit, check, sort_edits
from models.synthworld.sampling.domain import load_domain
from pipelines.config.profile import RENDER, Profile, load_profile
from pipelines.config.world import WorldJob
from pipelines.plan.world import WorldPlan, write_world_plan
from pipelines.readers.world_layouts import finish_files, write_files
from pipelines.rows.encode import encode_parquet, encode_rendered, name_rendered, tell_room
from pipelines.rows.schema import WORLD, arrow_schema
from pipelines.run.driver import Job, run_job
from pipelines.run.graph import numbers
from pipelines.storage.commits import Commit, commit, write_manifest, write_shard
from pipelines.storage.uri import Storage

PICTURE = 128 * 128
"""Pixels that `render_batch` is counted in: larger pictures are rendered fewer at a time."""
BLOCK_SCHEMA = arrow_schema(("partition", *WORLD))
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
    """Render what is missing of a job into `out`. overrides: `key=value` edits of the job or the profile."""
    # The job and the profile with their edits.
    edits = sort_edits(overrides, {"job": WorldJob, "profile": Profile})
    values |= {"domain": domain, "split": split, "count": count, "size": size}
    for edit in edits["job"]:
        apply_edit(values, edit)
    job = check(WorldJob, values, "world")
    # What the driver runs.
    storage, where = Storage(out), load_profile(profile, edits["profile"])
    work = Job(
        plan=lambda: write_world_plan(job, storage),
        graph=lambda plan, missing, run: render_partitions(plan, missing, where).iter_rows(),
        finish=_finish,
    )
    return run_job(work, storage, where)


def _finish(plan: WorldPlan, commits: dict[int, Commit]) -> Storage:
    """Write the tables that span partitions, and the manifest."""
    finish_files(plan.job, plan.out)
    write_manifest(
        plan.out, commits, kind="world", digest=plan.digest, rows=plan.job.count, job=plan.job.model_dump(mode="json")
    )
    return plan.out


def render_partitions(plan: WorldPlan, missing: list[int], profile: Profile) -> Dataset:
    """Return the job as one chain; its rows are counts of the partitions as they are committed."""
    group = profile.assign([RENDER])[0]
    rendered = numbers(missing, profile.writer.tasks).map_batches(
        Renderer,
        fn_constructor_args=(plan.job, missing, group.threads),
        batch_size=1,
        compute=ActorPoolStrategy(
            min_size=group.actors[0], max_size=group.actors[1], max_tasks_in_flight_per_actor=group.in_flight
        ),
        num_cpus=group.cpus,
        num_gpus=group.gpus,
        **group.selector,
    )
    return rendered.map_batches(
        commit_shard if plan.job.layout == "record" else write_files,
        fn_args=(plan.job, plan.out),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=profile.writer.cpus / 2,
    )


class Renderer:
    """Partition numbers in, a block of encoded rows out."""

    def __init__(self, job: WorldJob, pending: list[int], threads: int):
        import torch

        from models.synthworld.shape.kernels import expect

        torch.set_num_threads(threads)
        expect(job.count)
        self.job, self.pending = job, pending
        self.domain = load_domain(job.domain, job.gap)
        self.batch = max(1, job.render_batch * PICTURE // job.size**2)

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        partition = self.pending[int(batch["id"][0])]
        return pa.Table.from_pylist(list(self.rows(partition)), schema=BLOCK_SCHEMA)

    def rows(self, partition: int) -> Iterator[dict[str, Any]]:
        """Render the rows of one partition, `self.batch` pictures at a time."""
        from models.synthworld.render.render import render
        from models.synthworld.sampling.domain import sample_scene
        from models.synthworld.sampling.scene import attributes

        # Pictures that are marched together.
        numbers = self.job.rows_of(partition)
        for begin in range(0, len(numbers), self.batch):
            pictures = [self.job.picture(row) for row in numbers[begin : begin + self.batch]]
            scenes = [sample_scene(self.domain, *picture) for picture in pictures]
            rendered = render(scenes, self.job.size)
            arrays = {name: value.numpy() for name, value in vars(rendered).items() if hasattr(value, "numpy")}
            # Each with its names, encoded.
            for k, (identity, view, condition) in enumerate(pictures):
                shown = {name: values[k] for name, values in arrays.items()}
                where = (self.domain.name, self.job.gap, self.job.split)
                names = name_rendered(*where, identity, view, condition, attributes(scenes[k]))
                encoded = encode_rendered(names["pair_id"], shown, self.domain.capture.thermal)
                yield {"partition": partition, **names, **tell_room(scenes[k].environment), **encoded}


def commit_shard(block: pa.Table, job: WorldJob, storage: Storage) -> pa.Table:
    """Write one whole partition and its record; returns the record as a row."""
    partition = block.column("partition")[0].as_py()
    rows = len(job.rows_of(partition))
    if len(block) != rows or pc.count_distinct(block.column("partition")).as_py() != 1:
        raise RuntimeError(f"the writer got {len(block)} rows for partition {partition} of {rows} rows")
    content = encode_parquet(block.drop(["partition"]))
    name, digest = write_shard(storage, "data", partition, content)
    commit(storage, partition, Commit(name, rows, digest, len(content)))
    return pa.table({"partition": [partition], "samples": [rows]})
