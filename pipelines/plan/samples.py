"""The plan of a generate job: every sample with its id, seed, words and caption, cut into partitions.

    _plan/run.json             what this output is: digest, job, bundle, sizes (written last: with it the plan is whole)
    _plan/identities.parquet   one row group per partition
    _plan/samples.parquet      one row group per partition
    _plan/captions/            written by the caption phase, chunk by chunk

A sample is (identity, view, draw). Ids and seeds hash the job's seed and those, never the configuration, and people come
in a stable order: a larger job starts with the same samples. All views of a person share a partition.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from math import gcd
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.weights.bundle import Bundle
from models.config import digest_of
from models.errors import EnvironmentFault, UserError
from models.seeds import seed_of
from pipelines.plan.attributes import draw
from pipelines.plan.identities import Identity, digest, identities, table_of
from pipelines.config.job import GenerateJob
from pipelines.storage import Storage

RUN, IDENTITIES, SAMPLES, CAPTIONS = (
    "_plan/run.json", "_plan/identities.parquet", "_plan/samples.parquet", "_plan/captions",
)  # fmt: skip
RAW_BYTES = 256 * 2**20
"""A partition's pictures, uncompressed, at most."""
CHUNK_SAMPLES = 4096


def sample_id(seed: int, identity: str, view: int, draw: int) -> str:
    """Return the id of one visible picture: 20 hex digits."""
    return _hashed("sample", seed, identity, view, draw)


def pair_id(sample: str, condition: str) -> str:
    """Return the id of one visible and thermal pair: 20 hex digits."""
    return _hashed("pair", sample, condition)


def noise_id(sample: str, attempt: int) -> str:
    """Return what the noise of one attempt at a sample is drawn from."""
    return f"{sample}/{attempt}"


class Plan:
    """A plan that lies whole in `out`. Picklable and small: workers read their partition from storage."""

    def __init__(self, out: Storage, job: GenerateJob, bundle: Bundle, digest: str, partitions: int) -> None:
        self.out, self.job, self.bundle, self.digest, self.partitions = out, job, bundle, digest, partitions

    def __getstate__(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("out", "job", "bundle", "digest", "partitions")}

    @cached_property
    def _samples(self) -> pq.ParquetFile:
        return pq.ParquetFile(self.out.path(SAMPLES), filesystem=self.out.arrow)

    @cached_property
    def _identities(self) -> pq.ParquetFile:
        return pq.ParquetFile(self.out.path(IDENTITIES), filesystem=self.out.arrow)

    @property
    def samples(self) -> int:
        """Number of samples in all partitions."""
        return self._samples.metadata.num_rows

    def rows(self, partition: int) -> int:
        """Number of samples of `partition`."""
        return self._samples.metadata.row_group(partition).num_rows

    @property
    def partitions_per_chunk(self) -> int:
        """Partitions whose captions share a file."""
        return max(1, CHUNK_SAMPLES // self.rows(0))

    def sample_table(self, partition: int) -> pa.Table:
        """Return sample_id, identity_id, view, draw, seed, attributes (JSON) of `partition`."""
        return self._samples.read_row_group(partition)

    def identity_table(self, partition: int) -> pa.Table:
        """Return identity_id, embedding, given, estimated (JSON) of the people of `partition`."""
        return self._identities.read_row_group(partition)

    def captions(self, partition: int) -> pa.Table:
        """Return caption and caption_source (llm | grammar | template) of `partition`, in the order of its samples."""
        chunk, place = divmod(partition, self.partitions_per_chunk)
        with pq.ParquetFile(self.out.path(_captions(chunk)), filesystem=self.out.arrow) as file:
            return file.read_row_group(place)

    def uncaptioned(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield (chunk, sample table) of the chunks that have no captions yet."""
        there = set(self.out.list(CAPTIONS))
        for chunk in range(-(-self.partitions // self.partitions_per_chunk)):
            if _captions(chunk) not in there:
                yield chunk, pa.concat_tables(self.sample_table(k) for k in self._chunk(chunk))

    def save_captions(self, chunk: int, captions: list[str], sources: list[str], seconds: float = 0.0) -> None:
        """Commit the captions of `chunk`, who wrote them and the seconds it took, one per row of its table.

        The first to commit wins.
        """
        sizes = [self.rows(k) for k in self._chunk(chunk)]
        if len(captions) != sum(sizes):
            raise ValueError(f"chunk {chunk} has {sum(sizes)} samples, not {len(captions)}")
        columns = {"caption": pa.array(captions, pa.string()), "caption_source": pa.array(sources, pa.string())}
        table, sink, start = pa.table(columns), pa.BufferOutputStream(), 0
        with pq.ParquetWriter(sink, table.schema) as writer:
            for size in sizes:
                writer.write_table(table.slice(start, size), row_group_size=size)
                start += size
        if self.out.create(_captions(chunk), sink.getvalue().to_pybytes()):
            self.out.write(f"{CAPTIONS}/part-{chunk:05d}.json", json.dumps({"seconds": seconds}).encode())

    def caption_seconds(self) -> float:
        """Return how long the captions took to write, of all runs together."""
        seconds = 0.0
        for name in self.out.list(CAPTIONS):
            if name.endswith(".json"):
                seconds += json.loads(self.out.read(name))["seconds"]
        return seconds

    def _chunk(self, chunk: int) -> range:
        first = chunk * self.partitions_per_chunk
        return range(first, min(first + self.partitions_per_chunk, self.partitions))

    def partition(self, partition: int) -> dict[str, np.ndarray]:
        """Return the samples of `partition` as the columns that stages take, attempt 0, nothing rejected."""
        tables = self.sample_table(partition), self.identity_table(partition), self.captions(partition)
        return columns_of(*tables, partition)


def columns_of(samples: pa.Table, people: pa.Table, captions: pa.Table, partition: int) -> dict[str, np.ndarray]:
    """Return samples as the columns that stages take, attempt 0, nothing rejected.

    The tables are those that `Plan` keeps of a partition: `sample_table`, `identity_table` and `captions`.
    """
    embeddings = np.asarray(people["embedding"].combine_chunks().flatten(), np.float32).reshape(len(people), -1)
    order = {name: row for row, name in enumerate(people["identity_id"].to_pylist())}
    rows = np.array([order[name] for name in samples["identity_id"].to_pylist()])
    columns: dict[str, np.ndarray] = {name: _numpy(samples[name]) for name in samples.column_names}
    known = {name: _numpy(people[name])[rows] for name in ("given", "estimated")}
    return {
        **columns,
        **known,
        **{name: _numpy(column) for name, column in zip(captions.column_names, captions.columns, strict=True)},
        "embedding": embeddings[rows],
        "partition": np.full(len(rows), partition, np.int32),
        "attempt": np.zeros(len(rows), np.int32),
        "noise_id": _strings([noise_id(name, 0) for name in samples["sample_id"].to_pylist()]),
        "reject": _strings([""] * len(rows)),
    }


def write_plan(job: GenerateJob, bundle: Bundle, out: Storage) -> Plan:
    """Return the plan that lies in `out`, written now if there is none.

    Raises:
        UserError: `out` holds something else: another job, bundle or people; the message says what differs.
    """
    people = identities(job.identities, bundle, job.seed)
    total = digest_of(job.digest(bundle), digest(people))
    if not out.exists(RUN):
        occupied = [name for name in out.list() if not name.startswith(("_plan/", "_lease/"))]
        if occupied:
            raise UserError(f"{out.uri} is not empty ({occupied[0]}, ...) and no output of ours; choose another --out.")
        _write(job, bundle, people, total, out)
    return read_plan(out, job, bundle, total)


def read_plan(out: Storage, job: GenerateJob | None = None, bundle: Bundle | None = None, digest: str = "") -> Plan:
    """Return the plan in `out`; with `job`, `bundle` and `digest`, only if it was made from those."""
    run = read_run(out)
    if run["job"]["kind"] != "generate":
        raise UserError(f"{out.uri} is the output of `thermapair {run['job']['kind']}`, not of generate.")
    if digest and run["digest"] != digest:
        made = {"job": run["job"], "bundle": run["bundle"]}
        asked = {"job": job, "bundle": bundle}  # in JSON's types, as they were written: a tuple is no list
        now = {name: value.model_dump(mode="json") if value else {} for name, value in asked.items()}
        changed = ", ".join(differences(made, now)) or "the weights or the identities"
        raise UserError(
            f"{out.uri} belongs to another run ({run['digest']}, this is {digest}); what differs: {changed}. "
            "Choose another --out, or run with the same bundle and job."
        )
    if job is None:
        job = GenerateJob.model_validate(run["job"])
    if bundle is None:
        bundle = Bundle.model_validate(run["bundle"])
        bundle._folder = run["bundle_folder"]
    return Plan(out, job, bundle, run["digest"], run["partitions"])


def read_run(out: Storage) -> dict[str, Any]:
    """Return what `_plan/run.json` says, among it `digest`, `partitions` and `job` with its `kind`.

    Raises:
        UserError: there is none. EnvironmentFault: it is damaged.
    """
    try:
        run = json.loads(out.read(RUN))
        _ = run["digest"], run["partitions"], run["job"]["kind"]  # what all readers rely on
        return run
    except FileNotFoundError:
        raise UserError(f"{out.uri} holds no run ({RUN} is missing).") from None
    except (ValueError, TypeError, KeyError):
        raise EnvironmentFault(
            f"{out.path(RUN)} is damaged: without it nothing tells what this output is. Restore it from a copy, or make "
            "the output anew in another --out."
        ) from None


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Return `key: old -> new` for every leaf in which two nested values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(old.keys() | new.keys())
        return [d for n in names for d in differences(old.get(n), new.get(n), f"{key}.{n}".lstrip("."))]
    return [] if old == new else [f"{key}: {old} -> {new}"]


def identities_per_partition(job: GenerateJob, bundle: Bundle) -> int:
    """Return how many whole people a partition holds.

    As many as `partition_samples` and `RAW_BYTES` allow, at least one, and if possible so that the samples fill the
    visible stage's batches.
    """
    each = job.views.per_identity * job.views.draws
    raw = bundle.size**2 * (3 + 1 + 2 * len(job.conditions)) * each
    count = max(1, min(job.partition_samples // each, RAW_BYTES // raw))
    full = bundle.visible.batch // gcd(bundle.visible.batch, each)
    return count // full * full or count


def _write(job: GenerateJob, bundle: Bundle, people: list[Identity], total: str, out: Storage) -> None:
    groups = _groups(job, bundle, people)
    by_id = {person.id: person for person in people}
    persons = [[by_id[name] for name in dict.fromkeys(row["identity_id"] for row in rows)] for rows in groups]
    out.write(IDENTITIES, _parquet([table_of(group) for group in persons]))
    out.write(SAMPLES, _parquet([pa.Table.from_pylist(rows, schema=SCHEMA) for rows in groups]))
    run = {
        "digest": total,
        "partitions": len(groups),
        "samples": sum(map(len, groups)),
        "job": job.model_dump(),
        "bundle": bundle.model_dump(),
        "bundle_folder": bundle._folder,
    }
    out.create(RUN, (json.dumps(run, indent=1) + "\n").encode())


SCHEMA = pa.schema(
    {
        "sample_id": pa.string(),
        "identity_id": pa.string(),
        "view": pa.int32(),
        "draw": pa.int32(),
        "seed": pa.int64(),
        "attributes": pa.string(),
    }
)


def _groups(job: GenerateJob, bundle: Bundle, people: list[Identity]) -> list[list[dict[str, Any]]]:
    """Return the samples of every partition, cut at `job.limit`."""
    size, left = identities_per_partition(job, bundle), job.limit or 10**18
    groups = []
    for start in range(0, len(people), size):
        rows = [row for person in people[start : start + size] for row in samples_of(job, person)][:left]
        left -= len(rows)
        if rows:
            groups.append(rows)
    return groups


def samples_of(job: GenerateJob, person: Identity) -> Iterator[dict[str, Any]]:
    """Yield the samples of one person as rows of `SCHEMA`."""
    for view in range(job.views.per_identity):
        words = draw(job.seed, person.id, view, person.estimated | person.given, job.views.attributes)
        for number in range(job.views.draws):
            yield {
                "sample_id": sample_id(job.seed, person.id, view, number),
                "identity_id": person.id,
                "view": view,
                "draw": number,
                "seed": seed_of(job.seed, person.id, view, number),
                "attributes": json.dumps(words),
            }


def _parquet(tables: list[pa.Table]) -> bytes:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, tables[0].schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table, row_group_size=len(table))
    return sink.getvalue().to_pybytes()


def _captions(chunk: int) -> str:
    return f"{CAPTIONS}/part-{chunk:05d}.parquet"


def _hashed(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:20]


def _strings(values: list[str]) -> np.ndarray:
    return np.array(values, dtype=object)


def _numpy(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_string(column.type):
        return _strings(column.to_pylist())
    return column.to_numpy()
