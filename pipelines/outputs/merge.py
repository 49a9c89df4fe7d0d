"""`thermapair merge`: the rows of several finished runs as one output, its shards copied as they are.

No pair may be in two of them, and nobody in two splits. A shard is a partition, so the same command resumes.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from models.config import check
from models.errors import EnvironmentFault, UserError
from pipelines.config.profile import load_profile
from pipelines.config.recipe import Recipe
from pipelines.plan.claim import claim, read_recipe
from pipelines.report.card import front_matter
from pipelines.rows.selection import require_commits
from pipelines.run.driver import Job, run_job
from pipelines.run.progress import SECONDS
from pipelines.storage.commits import MANIFEST, Commit, commit, read_shard, remake_advice, write_manifest
from pipelines.storage.uri import Storage

THREADS = 8
"""Shards that are read or copied at once."""
IDS = ["pair_id", "identity_id", "split"]


class MergeJob(BaseModel):
    """What to merge: outputs, in the order of their rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["merge"] = "merge"
    sources: tuple[str, ...] = Field(min_length=2)


@dataclass(frozen=True)
class Source:
    """A shard of one of the runs."""

    out: Storage
    partition: int
    record: Commit


class MergePlan:
    """The shards of all runs, each a partition of what they become."""

    def __init__(self, out: Storage, job: MergeJob, recipe: Recipe, sources: Sequence[Source]) -> None:
        self.out, self.job, self.recipe, self.sources = out, job, recipe, tuple(sources)
        self.title, self.digest, self.partitions = "merge", recipe.digest, len(self.sources)

    @property
    def samples(self) -> int:
        """Number of rows."""
        return sum(source.record.rows for source in self.sources)

    def rows(self, partition: int) -> int:
        """Number of rows of `partition`."""
        return self.sources[partition].record.rows


def run(uris: Sequence[str], out: str) -> str:
    """Merge the runs at `uris` into `out`, or go on merging; returns what it came to in words.

    Raises:
        UserError: a run that is not finished, the same pair in two, a person in two splits, rows with other columns, or an
            output that belongs to something else.
        EnvironmentFault, Interrupted: it stopped, or a shard is damaged; the same call resumes it.
    """
    storage = Storage(out)
    job = check(MergeJob, {"sources": [Storage(uri).uri for uri in uris]}, "merge")
    work = Job(
        plan=lambda: write_merge_plan(job, storage),
        graph=lambda plan, missing, run: copy(plan, missing),
        finish=_finish,
    )
    return run_job(work, storage, load_profile("laptop"), local=True)


def write_merge_plan(job: MergeJob, out: Storage) -> MergePlan:
    """Return the plan of a merge, whose output `out` becomes. Raises what `run` raises of its sources."""
    runs = [Storage(uri) for uri in job.sources]
    if len({*runs, out}) < len(runs) + 1:
        raise UserError("an output is named twice, or is the one to write: each run once, and another --out")
    sources, licences = list[Source](), set[str]()
    for one in runs:
        if not one.exists(MANIFEST):
            raise UserError(f"{one.uri} is not finished: run its command again first (`thermapair status {one.uri}`).")
        sources += [Source(one, k, record) for k, record in require_commits(one).items() if record.file]
        licences.add(read_recipe(one)[0].licence)
    content = hashlib.sha256("".join(source.record.digest for source in sources).encode()).hexdigest()
    sizes = [source.record.rows for source in sources]
    recipe = Recipe(
        kind="merge", source=job.model_dump(mode="json") | {"rows": content, "sizes": sizes}, size=0, layers=(), stages=(),
        encoding={}, partition=1, licence=", ".join(sorted(licences - {""})),
    )  # fmt: skip
    check_rows(sources)
    claim(out, recipe, None, job.model_dump(mode="json"))
    return MergePlan(out, job, recipe, sources)


def check_rows(sources: Sequence[Source]) -> None:
    """Raise a UserError where two shards hold the same pair, a person is in two splits, or columns differ.

    Of every row 16 bytes are kept: of ten million pairs 160 MB.
    """
    keys, people, first = list[np.ndarray](), list[np.ndarray](), list[pa.Schema]()
    with ThreadPoolExecutor(THREADS) as threads:
        for source, (schema, ids, splits) in zip(sources, threads.map(_read_ids, sources), strict=True):
            first = first or [schema]
            if others := set(first[0].names) ^ set(schema.names):
                raise UserError(
                    f"{source.out.uri} has other columns than {sources[0].out.uri} ({', '.join(sorted(others)[:6])}): export "
                    "them instead, each by itself"
                )
            keys.append(ids)
            people.append(splits)
    # The same pair, by its first shard and by a later one.
    whole, owner = np.concatenate(keys), np.repeat(np.arange(len(sources)), [len(one) for one in keys])
    order = np.argsort(whole, kind="stable")
    same = np.flatnonzero(whole[order][1:] == whole[order][:-1])
    if len(same):
        one, two = (sources[owner[order[same[0] + k]]].out.uri for k in (0, 1))
        raise UserError(
            f"{len(same)} pairs are there twice, the first in {one} and in {two}: runs of the same seed and people make the same "
            "ids. Take one of them, or make another with another seed."
        )
    # A person is in one split: (person, split) -> person.
    persons = np.unique(np.concatenate(people), axis=0)
    _, count = np.unique(persons[:, 0], return_counts=True)
    if double := int((count > 1).sum()):
        raise UserError(
            f"{double} people are in two splits, as train and test, so what is trained on one would know the other. Merge runs "
            "whose splits were made alike."
        )


def _read_ids(source: Source) -> tuple[pa.Schema, np.ndarray, np.ndarray]:
    """Return the schema of a shard, uint64 [N] of its pairs, and uint64 [people, 2] of (person, split)."""
    table = read_shard(source.out, source.partition, source.record.file, columns=IDS)
    schema = pq.read_schema(source.out.path(source.record.file), filesystem=source.out.arrow)
    ids = np.array([_number(name) for name in table["pair_id"].to_pylist()], np.uint64)
    told = {*zip(table["identity_id"].to_pylist(), table["split"].to_pylist(), strict=True)}
    return (
        schema,
        ids,
        np.array([(_number(person), _number(split)) for person, split in told], np.uint64).reshape(-1, 2),
    )


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def copy(plan: MergePlan, missing: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Copy the shards that are asked for and commit each; yields counts."""
    with ThreadPoolExecutor(THREADS) as threads:
        yield from threads.map(partial(_copy, plan), missing)


def _copy(plan: MergePlan, place: int) -> dict[str, Any]:
    source, began = plan.sources[place], time.monotonic()
    content = source.out.read(source.record.file)
    if hashlib.sha256(content).hexdigest() != source.record.digest:
        raise EnvironmentFault(f"{source.out.shown(source.record.file)} is damaged{remake_advice(source.partition)}")
    name = f"data/part-{place:05d}-{source.record.digest[:12]}.parquet"
    plan.out.write(name, content)
    facts = {"source": source.out.uri, "partition": source.partition, "ended": time.time()}
    commit(plan.out, place, replace(source.record, file=name, facts=facts))
    return {
        "partition": place,
        "samples": source.record.rows,
        "pairs": source.record.rows,
        f"{SECONDS}copy": time.monotonic() - began,
    }


def _finish(plan: MergePlan, commits: dict[int, Commit]) -> str:
    """Write manifest and card of the whole, and say what it came to."""
    rows = sum(record.rows for record in commits.values())
    write_manifest(plan.out, commits, kind="merge", digest=plan.digest, rows=rows, sources=list(plan.job.sources))
    head = front_matter(f"{rows:,} rows of {len(plan.job.sources)} runs", plan.recipe.licence, ["synthetic", "paired"])
    told = "\n".join(f"- `{uri}`" for uri in plan.job.sources)
    plan.out.write("README.md", f"{head}\n\n# {rows:,} rows\n\nMerged by `thermapair merge`, of:\n\n{told}\n".encode())
    return f"{rows:,} rows of {len(plan.job.sources)} runs, in {len(commits):,} shards\n{plan.out.uri}"
