"""What the graphs of all jobs are made of: a source of whole partitions, pools of actors over whole blocks, a sink.

One block is one partition from the first row to the writer, so a partition is the unit of commit, retry and loss.
"""

from collections.abc import Callable, Sequence
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy

from models.columns import Columns
from pipelines.config.chain import ChainSpec
from pipelines.config.profile import Group, Profile
from pipelines.plan.stored import ChainPlan
from pipelines.run.chain import Chain
from pipelines.run.writer import write_partition

RESTARTS = 16
"""How often the process of one actor may die; nodes that are taken away do not count."""


def partitions(
    plan: ChainPlan[Any], missing: Sequence[int], tasks: int | None = None, gates: Sequence[type] = ()
) -> Dataset:
    """Return the partitions that are asked for: one block each, a row per sample.

    tasks: how many are read at once; by default as many as there are CPUs, each in a process that starts for it.
    gates: each made of (plan, missing) in an actor without a CPU, it holds a partition's block back until it can be made.
    """

    def samples(block: Columns) -> Columns:
        return plan.partition(missing[int(block["id"][0])])

    # A gate holds back what comes after the first it holds, so they come in order: one at a time.
    rows = numbers(missing, 1 if gates else tasks)
    for gate in gates:
        pool = ActorPoolStrategy(size=1)
        rows = rows.map_batches(gate, fn_constructor_args=(plan, missing), batch_size=None, compute=pool, num_cpus=0)
    return rows.map_batches(samples, batch_size=None, compute=TaskPoolStrategy(size=tasks))


def numbers(missing: Sequence[int], tasks: int | None) -> Dataset:
    """Return a block for each of `missing`, with its place among them in the column `id`, made by `tasks` at once."""
    return ray.data.range(len(missing), override_num_blocks=len(missing), concurrency=tasks)


def stage(rows: Dataset, group: Group, chain: ChainSpec, attempts: int = 1) -> Dataset:
    """Return `rows` after the stages of `group`, a pool of actors over whole blocks."""
    # map_batches insists on a batch size beside a GPU, and any batch size merges and cuts blocks. The method behind it
    # takes whole blocks on either device.
    return rows.map_batches_internal(
        Chain,
        fn_constructor_args=(chain, group.stages, attempts, group.threads),
        batch_size=None,
        compute=ActorPoolStrategy(
            min_size=group.actors[0], max_size=group.actors[1], max_tasks_in_flight_per_actor=group.in_flight
        ),
        num_cpus=group.cpus,
        num_gpus=group.gpus or None,
        **group.selector,
        # A process that a broken device keeps ending must end the run at last, not restart for ever.
        max_restarts=RESTARTS,
        max_task_retries=RESTARTS,
        memory=group.memory_mb and group.memory_mb * 2**20,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": str(group.threads)}},
    )


def write_shards(
    rows: Dataset, plan: ChainPlan[Any], profile: Profile, write: Callable[..., Any] = write_partition
) -> Dataset:
    """Return the counts of each partition of `rows`, once `write` has encoded, written and committed it."""
    return rows.map_batches(
        write,
        fn_args=(plan, profile.writer.threads),
        batch_size=None,
        compute=TaskPoolStrategy(size=profile.writer.tasks),
        num_cpus=profile.writer.cpus,
    )
