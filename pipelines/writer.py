"""The end of the graph: one whole partition in, encoded, written and committed."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.chain import stacked
from pipelines.commits import Commit, commit, write_shard
from pipelines.plan import Plan
from pipelines.record import PICTURES, reasons, table_of

ROW_GROUP = 64


def write_partition(block: dict[str, np.ndarray], plan: Plan, threads: int) -> dict[str, np.ndarray]:
    """Write the partition that `block` holds whole; returns one row of counts.

    Accepted pairs go to `data/`, samples that stayed rejected and the failed attempts at others to `rejects/`. The bytes
    depend on the rows alone: plan order, no time, no host.

    Raises:
        AssertionError: the block is not exactly one partition. That would be a fault of the graph, never of data.
        EnvironmentFault: the storage failed.
    """
    partition, rows = whole_partition(block, plan)
    accepted = np.flatnonzero(rows["final"] & (rows["reject"] == ""))
    refused = np.flatnonzero(rows["reject"] != "")
    lost = refused[rows["final"][refused]]
    with ThreadPoolExecutor(threads) as pool:
        file, digest, size = _written(plan, "data", partition, table_of(plan, rows, accepted, pool))
        rejects, _, _ = _written(plan, "rejects", partition, table_of(plan, rows, refused, pool))
    counts = {
        "samples": int(rows["final"].sum()),
        "rejected": len(lost),
        "redrawn": int((rows["attempt"][rows["final"]] > 0).sum()),
    }
    facts = {**counts, "rejects": rejects, "reasons": dict(Counter(reasons(rows, refused)))}
    facts["seconds"] = json.loads(rows["seconds"][0])
    pairs = len(accepted) * len(plan.job.conditions)
    commit(plan.out, partition, Commit(file, pairs, digest, size, facts))
    row: dict[str, Any] = {"partition": partition, "pairs": pairs, "bytes": size, **counts}
    return {key: np.array([value]) for key, value in row.items()}


def whole_partition(block: dict[str, np.ndarray], plan: Plan) -> tuple[int, dict[str, np.ndarray]]:
    """Return (partition, rows in plan order, failed attempts after them) if `block` is exactly one partition."""
    partitions = set(np.asarray(block["partition"]).tolist())
    assert len(partitions) == 1, f"the writer was given rows of partitions {sorted(partitions)}; a block must hold one"
    partition = partitions.pop()
    wanted = plan.sample_table(partition)["sample_id"].to_pylist()
    names = [str(name) for name in block["sample_id"]]
    final = np.asarray(block["final"])
    given = sorted(name for name, last in zip(names, final) if last)
    assert given == sorted(wanted), (
        f"partition {partition} has {len(wanted)} samples, the writer was given {len(given)}"
    )
    place = {name: index for index, name in enumerate(wanted)}
    order = sorted(range(len(names)), key=lambda k: (not final[k], place[names[k]], block["attempt"][k]))
    rows = {key: _objects(np.asarray(values))[order] for key, values in block.items()}
    return partition, stacked([rows])


def encoded(table: pa.Table) -> bytes:
    """Return `table` as the bytes of a Parquet file; pictures are neither compressed again nor counted in statistics."""
    plain = [f"{name}.{part}" for name in PICTURES for part in ("bytes", "path")]
    columns = [_leaf(name, table) for name in table.column_names if name not in PICTURES]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=ROW_GROUP,
        compression={**dict.fromkeys(plain, "NONE"), **dict.fromkeys(columns, "ZSTD")},
        use_dictionary=False,
        write_statistics=["pair_id", "identity_id"],
    )
    return sink.getvalue().to_pybytes()


def _written(plan: Plan, folder: str, partition: int, table: pa.Table) -> tuple[str, str, int]:
    if not len(table):
        return "", "", 0
    content = encoded(table)
    name, digest = write_shard(plan.out, folder, partition, content)
    return name, digest, len(content)


def _leaf(name: str, table: pa.Table) -> str:
    return f"{name}.list.element" if pa.types.is_fixed_size_list(table.schema.field(name).type) else name


def _objects(values: np.ndarray) -> np.ndarray:
    return values.astype(object) if values.dtype.kind in "US" else values
