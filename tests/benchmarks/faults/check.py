"""Is what a disturbed run made what an undisturbed one makes? By records, by files, and where they differ by rows."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.captions.write import write_captions
from pipelines.config.request import load_request
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import read_generate_plan
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


def compare_said(out: Storage, reference: Storage, kept: Mapping[str, bytes]) -> str:
    """Return what differs of a run whose captions a language model wrote: its texts may come out in other words, its ids not.

    kept: files of captions that were committed before something happened.
    """
    if changed := [name for name, content in kept.items() if out.read(name) != content]:
        return f"{len(changed)} files of captions were written again"
    found, wanted = (
        sorted(name for record in read_commits(one).values() for name in _column(one, record.file))
        for one in (out, reference)
    )
    if found != wanted:
        return f"{len(found)} of {len(wanted)} pairs, or others"
    # Each pair has the caption that was committed for it, and no sample another's.
    plan, said = read_generate_plan(out), dict[str, str]()
    for k in range(plan.partitions):
        said |= zip(plan.sample_table(k)["sample_id"].to_pylist(), plan.captions(k)["caption"].to_pylist(), strict=True)
    if len(set(said.values())) < len(said):
        return "captions twice"
    rows = (row for record in read_commits(out).values() for row in _rows(out, record.file))
    other = sum(row["caption"] != said[row["sample_id"]] for row in rows)
    return f"{other} captions that were not committed" if other else ""


def _column(out: Storage, name: str) -> list[str]:
    return pq.read_table(out.path(name), filesystem=out.arrow, columns=["pair_id"], partitioning=None)[
        "pair_id"
    ].to_pylist()


def _rows(out: Storage, name: str) -> list[dict[str, Any]]:
    table = pq.read_table(out.path(name), filesystem=out.arrow, partitioning=None)
    return table.drop_columns(list(LOOSE)).to_pylist()
