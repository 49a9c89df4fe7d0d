"""`thermapair export`: rows of an output as WebDataset shards, a folder of pictures, or a data set of a hub, split by person.

    webdataset   SPLIT-00012.tar           PAIR.visible.jpg, PAIR.thermal.png, PAIR.classes.png, PAIR.json ... of a row
    images       SPLIT/PAIR-visible.jpg    and SPLIT/metadata.jsonl, a line a row, as `datasets` reads folders of pictures
    hf           SPLIT-00012.parquet       and README.md, the card by which `load_dataset` finds the splits

Pictures are copied as they are stored, nothing is encoded again: `thermal` stays 16-bit centikelvin. A partition of the output is
the unit of commit, retry and loss, as everywhere: the same command resumes.
"""

import hashlib
import io
import json
import math
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.columns import COLUMNS, SPLITS, Columns
from models.config import check, sort_edits
from models.errors import UserError
from pipelines.config.export import ExportJob
from pipelines.config.profile import Profile, load_profile
from pipelines.config.recipe import Recipe
from pipelines.plan.claim import claim
from pipelines.report.card import front_matter
from pipelines.rows.schema import PICTURE
from pipelines.rows.selection import require_commits
from pipelines.run.driver import Job, run_job
from pipelines.run.graph import numbers
from pipelines.run.progress import SECONDS
from pipelines.storage.commits import Commit, commit, read_shard, write_manifest
from pipelines.storage.uri import Storage

LINES = "_lines"
"""Lines of `metadata.jsonl` that wait for those of other partitions."""
JSON = ("attributes", "attributes_source", "scores", "provenance", "reject")
"""Columns that hold JSON text: they become objects."""
ROW_GROUP = 64
"""Rows of a Parquet file that are read at once."""


@dataclass(frozen=True)
class Summary:
    """What was written: rows and shards (or pictures) by split."""

    out: str
    rows: dict[str, int]
    files: dict[str, int]

    def __str__(self) -> str:
        lines = [f"{split}: {count:,} rows in {self.files[split]:,} files" for split, count in self.rows.items()]
        return "\n".join([*lines, self.out])


class ExportPlan:
    """The finished partitions of an output, each a partition of its export."""

    def __init__(self, out: Storage, job: ExportJob, recipe: Recipe, source: Sequence[tuple[int, str, int]]) -> None:
        self.out, self.job, self.digest = out, job, recipe.digest
        self.source = tuple(source)
        """(partition, file, rows) of the output's shards that hold rows."""

    @property
    def title(self) -> str:
        """What the run is called."""
        return f"export {self.job.format}"

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return len(self.source)

    @property
    def samples(self) -> int:
        """Number of rows."""
        return sum(rows for _, _, rows in self.source)

    def rows(self, partition: int) -> int:
        """Number of rows of `partition`."""
        return self.source[partition][2]


def write_export_plan(job: ExportJob, out: Storage) -> ExportPlan:
    """Return the plan of a job, whose output `out` becomes.

    Raises UserError where `job.data` holds no rows, or `out` something else, also the export of a run that has grown since.
    """
    data = Storage(job.data)
    if data.uri == out.uri:
        raise UserError(f"--out {out.uri} is the output itself: give another")
    records = {number: record for number, record in require_commits(data).items() if record.file}
    content = hashlib.sha256("".join(record.digest for record in records.values()).encode()).hexdigest()
    recipe = Recipe(
        kind="export", source=job.model_dump(mode="json") | {"rows": content}, size=0, layers=(), stages=(), encoding={},
        partition=1, licence="",
    )  # fmt: skip
    claim(out, recipe, None, job.model_dump(mode="json"))
    return ExportPlan(out, job, recipe, [(number, record.file, record.rows) for number, record in records.items()])


def run(
    data: str,
    out: str,
    format: str,
    splits: Sequence[str] = SPLITS,
    *,
    profile: str = "laptop",
    overrides: Sequence[str] = (),
    local: bool = False,
) -> Summary:
    """Export what is missing of the rows of `data` into `out`. overrides: edits of the profile. local: without Ray.

    Raises:
        UserError: an unknown format or split, no rows, or an output that belongs to another run or has a live driver.
        EnvironmentFault, Interrupted: the run stopped; the same call resumes it.
    """
    values = {"data": Storage(data).uri, "format": format, "splits": tuple(splits)}
    job, storage = check(ExportJob, values, "export"), Storage(out)
    where = load_profile(profile, sort_edits(overrides, {"profile": Profile})["profile"])
    work = Job(
        plan=lambda: write_export_plan(job, storage),
        graph=lambda plan, missing, run: export_partitions(plan, missing, where, local),
        finish=_finish,
    )
    return run_job(work, storage, where, local=local)


def export_partitions(plan: ExportPlan, missing: list[int], profile: Profile, local: bool) -> Iterator[dict[str, Any]]:
    """Yield counts of the partitions as they are committed. local: in this process, without Ray."""
    exporter = Exporter(plan, missing)
    if local:
        for place in range(len(missing)):
            yield {name: values[0] for name, values in exporter({"id": np.array([place])}).items()}
        return
    rows = numbers(missing, profile.writer.tasks).map_batches(exporter, batch_size=1, num_cpus=profile.writer.cpus)
    yield from rows.iter_rows()


class Exporter:
    """Partition numbers in, counts out: reads a shard, writes its files by split, and commits them."""

    def __init__(self, plan: ExportPlan, pending: list[int]) -> None:
        self.plan, self.pending = plan, pending

    def __call__(self, batch: Columns) -> Columns:
        place, began = self.pending[int(batch["id"][0])], time.monotonic()
        number, file, rows = self.plan.source[place]
        table = read_shard(Storage(self.plan.job.data), number, file)
        # Rows by split, each with its pictures and the rest of it.
        written, counts, digest, size = dict[str, int](), Counter[str](), hashlib.sha256(), 0
        for split in self.plan.job.splits:
            chosen = table.filter(pc.field("split") == split)
            if not len(chosen):
                continue
            files = WRITERS[self.plan.job.format](split, place, chosen)
            for name, content in files:
                self.plan.out.write(name, content)
                digest.update(content)
                size += len(content)
            written[split] = sum(not name.startswith(LINES) for name, _ in files)
            counts[split] = len(chosen)
        licences = sorted(set(table["licence"].to_pylist()) - {"", None}) if "licence" in table.schema.names else []
        facts = {"rows": dict(counts), "files": written, "licences": licences, "ended": time.time()}
        commit(self.plan.out, place, Commit("", counts.total(), digest.hexdigest(), size, facts))
        said: dict[str, float] = {"partition": place, "samples": rows, f"{SECONDS}export": time.monotonic() - began}
        return {name: np.array([value]) for name, value in said.items()}


Sample = tuple[str, dict[str, tuple[str, bytes]], dict[str, Any]]
"""A row's id, its pictures (column -> ending and content), and its other columns as JSON takes them."""


def _samples(table: pa.Table) -> Iterator[Sample]:
    """Yield the rows of a table as files take them."""
    pictures = [field.name for field in table.schema if field.type == PICTURE]
    yield from (_sample(row, pictures) for row in table.to_pylist())


def _sample(row: dict[str, Any], pictures: Sequence[str]) -> Sample:
    """Return a row as files take it."""
    shown = {name: (row[name]["path"].rpartition(".")[2], row[name]["bytes"]) for name in pictures if row[name]}
    facts = {name: _plain(name, value) for name, value in row.items() if name not in pictures}
    return row["pair_id"], shown, facts


def _plain(name: str, value: Any) -> Any:
    """Return a value as JSON has it: NaN becomes null, text that is JSON an object, lists of points pairs."""
    if name in JSON and isinstance(value, str):
        return json.loads(value) if value else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        flat = [_plain("", one) for one in value]
        shape = COLUMNS[name].shape if name in COLUMNS else ()
        if len(shape) == 2 and isinstance(shape[1], int):
            return [flat[k : k + shape[1]] for k in range(0, len(flat), shape[1])]
        return flat
    return value


def _tar(split: str, place: int, samples: Iterable[Sample]) -> list[tuple[str, bytes]]:
    """Return one tar of all samples; equal rows give equal bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, pictures, facts in samples:
            files = [(f"{name}.{column}.{ending}", content) for column, (ending, content) in pictures.items()]
            for file, content in [*files, (f"{name}.json", json.dumps(facts).encode())]:
                entry = tarfile.TarInfo(file)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return [(f"{split}-{place:05d}.tar", buffer.getvalue())]


def _folder(split: str, place: int, samples: Iterable[Sample]) -> list[tuple[str, bytes]]:
    """Return the pictures of all samples, and their lines of metadata."""
    files, lines = list[tuple[str, bytes]](), list[str]()
    for name, pictures, facts in samples:
        names = {column: f"{name}-{column}.{ending}" for column, (ending, _) in pictures.items()}
        files += [(f"{split}/{names[column]}", content) for column, (_, content) in pictures.items()]
        # `datasets` makes a column of pictures of each key that ends in file_name.
        lines.append(json.dumps({**{f"{column}_file_name": file for column, file in names.items()}, **facts}))
    return [*files, (f"{LINES}/{split}-{place:05d}.jsonl", ("\n".join(lines) + "\n").encode())]


def _shard(split: str, place: int, table: pa.Table) -> list[tuple[str, bytes]]:
    """Return one Parquet file of all rows, their columns and features as they are."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=ROW_GROUP)
    return [(f"{split}-{place:05d}.parquet", sink.getvalue().to_pybytes())]


WRITERS: dict[str, Callable[[str, int, pa.Table], list[tuple[str, bytes]]]] = {
    "webdataset": lambda split, place, table: _tar(split, place, _samples(table)),
    "images": lambda split, place, table: _folder(split, place, _samples(table)),
    "hf": _shard,
}


def _finish(plan: ExportPlan, commits: dict[int, Commit]) -> Summary:
    """Write what spans partitions: `metadata.jsonl` of each split, or the list of its shards; and the manifest."""
    rows, files, shards = Counter[str](), Counter[str](), dict[str, list[str]]()
    for place, record in commits.items():
        rows.update(record.facts["rows"])
        files.update(record.facts["files"])
        for split in record.facts["rows"]:
            shards.setdefault(split, []).append(f"{split}-{place:05d}")
    if plan.job.format == "images":
        for split, names in shards.items():
            lines = b"".join(plan.out.read(f"{LINES}/{name}.jsonl") for name in names)
            plan.out.write(f"{split}/metadata.jsonl", lines)
    elif plan.job.format == "hf":
        plan.out.write("README.md", _card(plan, rows, commits).encode())
    else:
        listed = {split: [f"{name}.tar" for name in names] for split, names in shards.items()}
        plan.out.write("shards.json", (json.dumps({"rows": dict(rows), "shards": listed}, indent=1) + "\n").encode())
    write_manifest(
        plan.out, commits, kind="export", digest=plan.digest, rows=rows.total(), job=plan.job.model_dump(mode="json")
    )
    order = [split for split in SPLITS if split in rows]
    return Summary(plan.out.uri, {split: rows[split] for split in order}, {split: files[split] for split in order})


def _card(plan: ExportPlan, rows: Mapping[str, int], commits: Mapping[int, Commit]) -> str:
    """Return the card of a data set: its licences, its splits and where they lie, and how temperatures are read."""
    licences = sorted({one for record in commits.values() for one in record.facts["licences"]})
    splits = [split for split in SPLITS if split in rows]
    head = front_matter("Paired visible and thermal faces", ", ".join(licences), ["paired"], splits=splits)
    counted = ", ".join(f"{rows[split]:,} of {split}" for split in splits)
    return (
        f"{head}\n# Paired visible and thermal faces\n\nOne row is one pair; rows: {counted}. A person is in one split alone.\n\n"
        "`thermal` is a picture of 16 bits in centikelvin: degrees Celsius = value / 100 - 273.15. `licence` of a row says what\n"
        "it may be used for, `provenance` how it was made.\n"
    )
