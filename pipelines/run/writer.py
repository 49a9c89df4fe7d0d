"""The end of the graph: one whole partition in, encoded, written and committed."""

import hashlib
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.columns import Columns
from models.temperature import from_centikelvin
from pipelines.pictures.codecs import encode_png
from pipelines.plan.stored import ChainPlan
from pipelines.plan.thermalize import ThermalizePlan
from pipelines.rows.ids import planned_id
from pipelines.rows.record import encode_pairs, reasons
from pipelines.rows.schema import PICTURE
from pipelines.run import metrics
from pipelines.run.chain import stack_rows
from pipelines.run.progress import SECONDS
from pipelines.storage.commits import Commit, commit, write_shard

ROW_GROUP = 64


def write_partition(block: Columns, plan: ChainPlan[Any], threads: int) -> Columns:
    """Write the partition that `block` holds whole; returns one row of counts.

    Accepted pairs go to `data/`, samples that stayed rejected and the failed attempts at others to `rejects/`. The bytes
    depend on the rows alone: plan order, no time, no host.

    Raises:
        AssertionError: the block is not exactly one partition. That would be a fault of the graph, never of data.
        EnvironmentFault: the storage failed.
    """
    # Whole and in plan order, then the accepted pairs as a shard under its digest's name.
    began = time.monotonic()
    partition, rows = whole_partition(block, plan)
    accepted = np.flatnonzero(rows["final"] & (rows["reject"] == ""))
    with ThreadPoolExecutor(threads) as pool:
        file, digest, size = _write_rows(plan, "data", partition, encode_pairs(plan.record, rows, accepted, pool))
    pairs = len(accepted) * len(plan.record.layers)
    return finish_partition(partition, rows, plan, threads, Commit(file, pairs, digest, size), began)


def write_thermal_files(block: Columns, plan: ThermalizePlan, threads: int) -> Columns:
    """Write the partition that `block` holds whole in T-FAKE's layout: `CONDITION/NAME_thermal.png`, 16 bit.

    A value means 20 + 20 * value / 65535 degrees Celsius; what is colder or warmer takes the end of the scale. Otherwise
    as `write_partition`: files of equal rows have equal bytes and names, so an attempt that is repeated changes nothing.
    """
    began = time.monotonic()
    partition, rows = whole_partition(block, plan)
    accepted, layers = np.flatnonzero(rows["final"] & (rows["reject"] == "")), plan.record.layers

    def write(place: tuple[int, int]) -> tuple[int, str]:
        row, index = place
        name = f"{layers[index].name}/{rows['name'][row]}_thermal.png"
        content = encode_png(tfake_values(from_centikelvin(rows["thermal"][row, index])))
        plan.out.write(name, content)
        return len(content), f"{name} {hashlib.sha256(content).hexdigest()}"

    # Every layer of every accepted row; the record's digest is of all files together.
    places = [(int(row), index) for row in accepted for index in range(len(layers))]
    with ThreadPoolExecutor(threads) as pool:
        written = list(pool.map(write, places))
    digest = hashlib.sha256("\n".join(told for _, told in written).encode()).hexdigest()
    record = Commit("", len(places), digest, sum(n for n, _ in written))
    return finish_partition(partition, rows, plan, threads, record, began)


def tfake_values(celsius: np.ndarray) -> np.ndarray:
    """Return degrees Celsius as T-FAKE's uint16: 20 degrees and no reading are 0, 40 degrees 65535."""
    share = np.clip(np.nan_to_num((celsius.astype(np.float64) - 20) / 20), 0, 1)
    return np.rint(share * 65535).astype(np.uint16)


def finish_partition(
    partition: int, rows: Columns, plan: ChainPlan[Any], threads: int, record: Commit, began: float
) -> Columns:
    """Write the rejects of a partition and commit `record` with its counts; returns them as a row.

    began: monotonic seconds at which writing began.
    """
    # What was refused, failed attempts among it, as a shard of its own.
    refused = np.flatnonzero(rows["reject"] != "")
    with ThreadPoolExecutor(threads) as pool:
        rejects, _, _ = _write_rows(plan, "rejects", partition, encode_pairs(plan.record, rows, refused, pool))
    # What became of the partition, for the report and for the view.
    counts = {
        "items": len({planned_id(str(name)) for name in rows["sample_id"]}),
        "samples": int(rows["final"].sum()),
        "rejected": int(rows["final"][refused].sum()),
        "redrawn": int((rows["attempt"][rows["final"]] > 0).sum()),
    }
    facts = {**counts, "rejects": rejects, "reasons": dict(Counter(reasons(rows, refused)))}
    if "caption_source" in rows:
        facts["captions"] = dict(Counter(rows["caption_source"][rows["final"]].tolist()))
    if "caption_cut" in rows and (cut := int((rows["caption_cut"][rows["final"]] > 0).sum())):
        facts["captions_cut"] = cut
    spent = dict(zip(plan.chain.stages, rows["seconds"].sum(axis=0).round(4).tolist(), strict=True))
    spent["write"] = time.monotonic() - began
    facts |= {"seconds": spent, "ended": time.time()}
    # With its record the partition is finished; the first writer's counts.
    if commit(plan.out, partition, replace(record, facts=facts)):
        metrics.count_partition(plan.digest, record.rows, record.bytes, facts)
    row: dict[str, Any] = {"partition": partition, "pairs": record.rows, "bytes": record.bytes, **counts}
    row |= {f"{SECONDS}{stage}": seconds for stage, seconds in spent.items()}
    return {key: np.array([value]) for key, value in row.items()}


def whole_partition(block: Columns, plan: ChainPlan[Any]) -> tuple[int, Columns]:
    """Return (partition, rows in plan order, failed attempts after them) if `block` is exactly one partition.

    The source may have made several rows of a planned item (`rows.ids.page_id`).
    """
    # One partition, and no other's rows.
    partitions = set(np.asarray(block["partition"]).tolist())
    assert len(partitions) == 1, f"the writer was given rows of partitions {sorted(partitions)}; a block must hold one"
    partition = partitions.pop()
    planned = plan.sample_table(partition)["sample_id"].to_pylist()
    names = [str(name) for name in block["sample_id"]]
    final = np.asarray(block["final"])
    # Every planned item is there, by as many rows as the source made of it, and no row is there twice.
    given = [name for name, last in zip(names, final) if last]
    items = {planned_id(name) for name in given}
    assert items == set(planned) and len(set(given)) == len(given), (
        f"partition {partition} has {len(planned)} items, the writer was given {len(given)} rows of {len(items)}"
    )
    # Plan order: final rows first, pages of an item behind each other, then failed attempts.
    place = {name: index for index, name in enumerate(planned)}
    key = [
        (not final[k], place[planned_id(name)], len(name), name, block["attempt"][k]) for k, name in enumerate(names)
    ]
    order = sorted(range(len(names)), key=key.__getitem__)
    rows = {key: _objects(np.asarray(values))[order] for key, values in block.items()}
    return partition, stack_rows([rows])


def encode_table(table: pa.Table) -> bytes:
    """Return `table` as the bytes of a Parquet file; pictures are neither compressed again nor counted in statistics."""
    pictures = [name for name in table.column_names if table.schema.field(name).type == PICTURE]
    plain = [f"{name}.{part}" for name in pictures for part in ("bytes", "path")]
    columns = [_leaf(name, table) for name in table.column_names if name not in pictures]
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


def _write_rows(plan: ChainPlan[Any], folder: str, partition: int, table: pa.Table) -> tuple[str, str, int]:
    if not len(table):
        return "", "", 0
    content = encode_table(table)
    name, digest = write_shard(plan.out, folder, partition, content)
    return name, digest, len(content)


def _leaf(name: str, table: pa.Table) -> str:
    return f"{name}.list.element" if pa.types.is_fixed_size_list(table.schema.field(name).type) else name


def _objects(values: np.ndarray) -> np.ndarray:
    return values.astype(object) if values.dtype.kind in "US" else values
