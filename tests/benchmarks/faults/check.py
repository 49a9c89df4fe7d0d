"""Is what a disturbed run made what an undisturbed one makes? By records, by files, and where they differ by rows."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.captions.write import write_captions
from pipelines.config.request import load_request
from pipelines.plan.extend import write_generate_plan
from pipelines.run.chain import Chain
from pipelines.run.writer import write_partition
from pipelines.storage.commits import list_finished, read_commits
from pipelines.storage.uri import Storage

LOOSE = ("provenance",)
"""What a row may say of how it came to be: a batch that memory halved is marked there."""


def make_reference(folder: Path, profile: Path, edits: tuple[str, ...]) -> Storage:
    """Make the rows of a job of the null bundle in this process, without Ray, and return where they are."""
    out = Storage(folder)
    request = load_request("null", str(profile), "pairs", list(edits))
    plan = write_generate_plan(request.job, request.bundle, out)
    write_captions(plan, request.profile.captions)
    chain = Chain(plan.chain, plan.chain.stages, request.job.gates.attempts)
    for partition in sorted(set(range(plan.partitions)) - list_finished(out)):
        write_partition(chain(plan.partition(partition)), plan, threads=1)
    return out


def compare(out: Storage, reference: Storage) -> str:
    """Return what differs between two outputs, empty where nothing does; `marked` for rows that say that memory ran out."""
    found, wanted = read_commits(out), read_commits(reference)
    if found.keys() != wanted.keys():
        return f"{len(found)} of {len(wanted)} partitions"
    # Nothing beside what the records name, and no pair twice.
    named = {name for record in found.values() for name in record.files()}
    if spare := {name for folder in ("data", "rejects") for name in out.list(folder)} - named:
        return f"{len(spare)} files that no record names"
    ids = Counter(name for record in found.values() for name in _column(out, record.file))
    if twice := [name for name, count in ids.items() if count > 1]:
        return f"{len(twice)} pairs twice"
    other = [number for number in found if found[number].digest != wanted[number].digest]
    if any(_rows(out, found[k].file) != _rows(reference, wanted[k].file) for k in other):
        return f"rows of {len(other)} partitions"
    return f"marked: {len(other)} partitions" if other else ""


def _column(out: Storage, name: str) -> list[str]:
    return pq.read_table(out.path(name), filesystem=out.arrow, columns=["pair_id"], partitioning=None)[
        "pair_id"
    ].to_pylist()


def _rows(out: Storage, name: str) -> list[dict[str, Any]]:
    table = pq.read_table(out.path(name), filesystem=out.arrow, partitioning=None)
    return table.drop_columns(list(LOOSE)).to_pylist()
