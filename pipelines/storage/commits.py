"""What is finished: one small record per partition, created only if absent.

    data/part-00003-1f2e3d4c5b6a.parquet   a shard, written first, its name holding the digest of its content
    _commits/part-00003.json               names the shard, its rows and digest: with it the partition is finished
    manifest.json                          all records in one file, written when the last partition is

There is no rename on object storage, and a worker that was given up may still write. A shard without a record is an
orphan; of two attempts at a partition the first record wins, and equal content has equal names.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.config import parse_json
from models.errors import EnvironmentFault
from pipelines.storage.errors import fault, remote
from pipelines.storage.uri import Storage

COMMITS, MANIFEST = "_commits", "manifest.json"


@dataclass(frozen=True)
class Commit:
    """The record of one finished partition."""

    file: str
    """Name of the shard in the storage; empty where the partition has no row to show."""
    rows: int
    digest: str
    """SHA-256 of the shard."""
    bytes: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    """What else the job wants to remember of the partition."""

    def files(self) -> Iterator[str]:
        """Yield the names of all files that belong to this partition."""
        yield from (name for name in (self.file, self.facts.get("rejects", "")) if name)


def write_shard(out: Storage, folder: str, partition: int, content: bytes) -> tuple[str, str]:
    """Write `content` and return (name, SHA-256). The name holds the digest: equal attempts meet in one file."""
    digest = hashlib.sha256(content).hexdigest()
    name = f"{folder}/part-{partition:05d}-{digest[:12]}.parquet"
    out.write(name, content)
    return name, digest


def commit(out: Storage, partition: int, record: Commit) -> bool:
    """Declare `partition` finished; returns False when it already was (then `record` is dropped)."""
    content = json.dumps({"partition": partition, **asdict(record)}, indent=1, sort_keys=True)
    return out.create(_name(partition), content.encode())


def remake_advice(partition: int) -> str:
    """Return the way out for a shard that is damaged, the end of a sentence that names it."""
    return f" (delete {_name(partition)} there and run the command that made it again: this partition is made anew)"


def read_shard(out: Storage, partition: int, name: str, **options: Any) -> pa.Table:
    """Return the shard `name` of a finished partition; options: `columns`, `filters` of Parquet.

    Raises EnvironmentFault, with the way out, for one that is missing or damaged.
    """
    try:
        return pq.read_table(out.path(name), filesystem=out.arrow, partitioning=None, **options)
    except (pa.ArrowException, OSError) as error:
        if remote(error):
            raise fault(error, out.path(name), "read") from error
        raise EnvironmentFault(f"{out.shown(name)} is missing or damaged{remake_advice(partition)}.") from error


def list_finished(out: Storage) -> set[int]:
    """Return the finished partitions, from the listing alone."""
    return {int(name.rsplit("-", 1)[1].removesuffix(".json")) for name in _records(out)}


def read_commits(out: Storage, planned: int | None = None) -> dict[int, Commit]:
    """Return the records of the finished partitions, in order. planned: how many there have to be, at the end of a run.

    Raises:
        EnvironmentFault: a record is damaged, or fewer are there than planned: some were deleted while the run went on.
    """
    # Small files, each a request of its own on object storage.
    with ThreadPoolExecutor(16) as threads:
        records = dict(sorted(threads.map(lambda name: _read(out, name), _records(out))))
    if planned is not None and (lost := [k for k in range(planned) if k not in records]):
        raise EnvironmentFault(
            f"{out.uri}: the run came to its end, and {len(lost)} of its {planned} partitions have no commit record (the first "
            f"is {_name(lost[0])}): they were deleted meanwhile. Run the same command again: these partitions are made anew."
        )
    return records


def read_commit(out: Storage, partition: int) -> Commit | None:
    """Return the record of one partition, or None while it is not finished."""
    try:
        return _read(out, _name(partition))[1]
    except FileNotFoundError:
        return None


def write_manifest(out: Storage, commits: Mapping[int, Commit], **facts: object) -> dict[str, Any]:
    """Write `manifest.json`, the compaction of all records `commits` with `facts` before them; returns it."""
    partitions = [{"partition": number, **asdict(record)} for number, record in commits.items()]
    manifest = {**facts, "partitions": partitions}
    out.write(MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    return manifest


def _records(out: Storage) -> list[str]:
    return [name for name in out.list(COMMITS) if name.endswith(".json")]


def _read(out: Storage, name: str) -> tuple[int, Commit]:
    try:
        content = parse_json(out.read(name))
        return content.pop("partition"), Commit(**content)
    except (ValueError, TypeError, KeyError):
        raise EnvironmentFault(
            f"{out.shown(name)} is damaged. Delete it and run again: its partition is made anew."
        ) from None


def _name(partition: int) -> str:
    return f"{COMMITS}/part-{partition:05d}.json"
