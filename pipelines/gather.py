"""`thermapair gather`: a data set on disk, in its own layout, into shards that training and evaluation read.

    plan -> read, check, cut [-> parser] -> write

A partition is the unit of commit, retry and loss, as everywhere: the same command resumes. What cannot be taken lies under
`rejects/` with its reason.
"""

import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from ray.data import ActorPoolStrategy

from models.classes import IGNORE
from models.config import apply_edit, check, sort_edits
from models.errors import UserError
from models.weights.bundle import Bundle, licence_of, load_bundle
from pipelines.config.chain import Link, chain_spec, resolve_chain
from pipelines.config.gather import GatherJob
from pipelines.config.profile import Profile, load_profile
from pipelines.config.recipe import Recipe, stage_recipes
from pipelines.pictures.codecs import encode_jpeg, encode_png_rgb
from pipelines.pictures.open import BadPicture
from pipelines.plan.claim import claim
from pipelines.plan.listing import extend_by_rows, new_rows
from pipelines.plan.photos import sizes
from pipelines.plan.pieces import Pieces, read_pieces
from pipelines.plan.stored import StoredPlan
from pipelines.readers import list_files, list_items, read_row
from pipelines.readers.item import ITEM_SCHEMA, Item
from pipelines.report.card import front_matter
from pipelines.rows.encode import encode_gathered, encode_parquet
from pipelines.rows.schema import GATHERED, arrow_schema
from pipelines.run.driver import Job, run_job
from pipelines.run.graph import numbers
from pipelines.run.progress import SECONDS
from pipelines.storage.commits import Commit, commit, write_manifest, write_shard
from pipelines.storage.uri import Storage

FIRST = 16
"""When none of the first so many rows can be taken, the folder or the options are wrong: nothing is written."""
REJECT_SCHEMA = pa.schema({"name": pa.string(), "reason": pa.string()})


@dataclass(frozen=True)
class Summary:
    """What became of a data set's rows; `reasons`: kind -> (how many, the first of them in words)."""

    out: str
    rows: int
    gathered: int
    reasons: dict[str, tuple[int, str]]

    def __str__(self) -> str:
        lines = [f"{self.gathered} of {self.rows} rows gathered: {self.out}"]
        told = sorted(self.reasons.items(), key=lambda entry: (-entry[1][0], entry[0]))
        lines += [f"  {count} not: {kind} (first: {first})" for kind, (count, first) in told]
        return "\n".join(lines)


class GatherPlan(StoredPlan[GatherJob]):
    """The rows to be of a data set; workers read the files of their partition themselves. bundle: of the parser, if any."""

    def __init__(self, out: Storage, job: GatherJob, bundle: Bundle | None, recipe: Recipe, pieces: Pieces) -> None:
        super().__init__(out, job, recipe, pieces)
        self.bundle = bundle

    @property
    def title(self) -> str:
        """What the run is called."""
        return f"gather {self.job.layout}"

    def items(self, part: int) -> list[Item]:
        """Return the rows to be of a partition."""
        table = self.sample_table(part).drop_columns([BYTES])
        return [Item(**row) for row in table.to_pylist()]


def run(
    job: dict[str, Any],
    out: str,
    *,
    bundle: str = "",
    profile: str = "laptop",
    overrides: Sequence[str] = (),
    local: bool = False,
) -> Summary:
    """Gather what is missing of a job (values of `GatherJob`) into `out`.

    bundle: its parser finds the classes of pictures that have no mask. overrides: `key=value` edits of the job, the profile
    or the bundle.
    local: in this process, without Ray.

    Raises:
        UserError: a wrong request, a folder that is not of the layout or of which nothing can be taken, or an output
            that belongs to another run or has a live driver.
        EnvironmentFault, Interrupted: the run stopped; the same call resumes it.
    """
    edits = sort_edits(overrides, {"job": GatherJob, "profile": Profile, "bundle": Bundle})
    if edits["bundle"] and not bundle:
        raise UserError(
            f"--set {edits['bundle'][0]} is of a bundle: name one with --bundle, whose parser finds classes"
        )
    values = dict(job)
    for edit in edits["job"]:
        apply_edit(values, edit)
    values |= {key: Storage(values[key]).uri for key in ("images", "thermal") if values.get(key)}
    wanted, where = check(GatherJob, values, "gather"), load_profile(profile, edits["profile"])
    chosen = load_bundle(bundle, edits["bundle"]) if bundle else None
    storage = Storage(out)
    work = Job(
        plan=lambda: write_plan(wanted, chosen, storage),
        graph=lambda plan, missing, run: gather_partitions(plan, missing, where, local),
        finish=_finish,
    )
    return run_job(work, storage, where, local=local)


BYTES = "bytes"
"""Beside the columns of an item: the size of its files together, by which a changed one is noticed."""


def write_plan(job: GatherJob, bundle: Bundle | None, out: Storage) -> GatherPlan:
    """Return the plan that lies in `out`, written now if there is none, and extended by rows that the folder has gained.

    Raises UserError when the folder is not of the layout, none of its first rows can be taken, `out` holds another run, or
    rows that are planned have changed or gone.
    """
    if Storage(job.images).uri == out.uri:
        raise UserError(f"--out {out.uri} is the folder of the data set itself: give another")
    files = list_files(job)
    beside = sizes(Storage(job.thermal)) if job.thermal else {}
    parser = parser_link(bundle) if bundle else None
    recipe = Recipe(
        kind="gather",
        source=job.model_dump(mode="json", exclude={"limit", "encoding", "partition", "size"}),
        size=job.size,
        layers=(),
        stages=stage_recipes(chain_spec([parser], ("visible",))) if parser else (),
        encoding=job.encoding.model_dump(mode="json"),
        partition=job.partition,
        licence=licence_of([parser.part]) if parser else "",
    )
    found, pieces = list_items(job, files, out), read_pieces(out)
    if not pieces.found:
        found = _looked_at(found, job, out)
    claim(out, recipe, bundle, job.model_dump(mode="json"))
    new = new_rows(pieces, _rows(found, files | beside), ("name", "condition", "thermal"))
    content = hashlib.sha256()
    pieces = extend_by_rows(
        pieces,
        new,
        ITEM_SCHEMA.append(pa.field(BYTES, pa.int64())),
        job.partition,
        note=lambda rows: content.update(json.dumps(rows, sort_keys=True).encode()),
        digest=content.hexdigest,
        extent={"limit": job.limit},
    )
    return GatherPlan(out, job, bundle, recipe, pieces)


def parser_link(bundle: Bundle) -> Link:
    """Return the stage that finds the classes of pictures without a mask."""
    return resolve_chain(bundle, given=("visible",), wanted=("classes",)).link("parser")


def _rows(found: Iterable[Item], files: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Yield rows to be as the plan keeps them."""
    for item in found:
        size = sum(files.get(name, 0) for name in (item.visible, item.thermal, item.mask, item.points))
        yield {**vars(item), BYTES: size}


def _looked_at(found: Iterator[Item], job: GatherJob, out: Storage) -> Iterator[Item]:
    """Return all of `found` once one of the first that have all their files was taken."""
    first, openable = list[Item](), 0
    while openable < FIRST and (item := next(found, None)):
        first.append(item)
        openable += not item.reason
    _look(first, job, out)
    return itertools.chain(first, found)


def _look(first: list[Item], job: GatherJob, out: Storage) -> None:
    reasons = []
    for item in first:
        try:
            read_row(item, job, out)
            return
        except BadPicture as error:
            reasons.append(f"  {item.name}: {error}")
    told = "\n".join(dict.fromkeys(reasons[:4] + reasons[-2:]))
    raise UserError(f"none of the first {len(first)} rows of {job.images} can be taken as {job.layout}:\n{told}")


def gather_partitions(plan: GatherPlan, missing: list[int], profile: Profile, local: bool) -> Iterator[dict[str, Any]]:
    """Yield counts of the partitions as they are committed; a block is a partition. local: in this process, without Ray."""
    if local:
        gatherer = Gatherer(plan, missing, threads=2)
        for place in range(len(missing)):
            yield {name: values[0] for name, values in gatherer({"id": np.array([place])}).items()}
        return
    rows = numbers(missing).map_batches(
        Gatherer,
        fn_constructor_args=(plan, missing, profile.writer.threads),
        batch_size=1,
        compute=ActorPoolStrategy(min_size=1, max_size=profile.writer.tasks, max_tasks_in_flight_per_actor=2),
        num_cpus=profile.writer.cpus,
    )
    yield from rows.iter_rows()


class Gatherer:
    """Partition numbers in, counts out: reads, checks, cuts, encodes, writes and commits a partition."""

    def __init__(self, plan: GatherPlan, pending: list[int], threads: int) -> None:
        self.plan, self.pending = plan, pending
        self.threads = ThreadPoolExecutor(threads, "gather")
        self.parser = parser_link(plan.bundle) if plan.bundle else None
        self.stage = self.parser.load(threads=1) if self.parser else None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        part, began = self.pending[int(batch["id"][0])], time.monotonic()
        found = list(self.threads.map(self._opened, self.plan.items(part)))
        for place, (row, _, _) in enumerate(found):
            if row is not None:
                row["view"] = part * self.plan.job.partition + place  # the place in the listing tells pictures apart
        rows = [row for row, _, _ in found if row is not None]
        self._parse(rows)
        encode, suffix = (encode_png_rgb, "png") if self.plan.job.encoding.visible == "png" else (encode_jpeg, "jpg")
        encoded = list(self.threads.map(partial(encode_gathered, visible=encode, suffix=suffix), rows))
        refused = [(name, reason) for row, name, reason in found if row is None]
        self._commit(part, encoded, refused)
        counts: dict[str, float] = {"partition": part, "samples": len(found), "rejected": len(refused)}
        counts[f"{SECONDS}gather"] = time.monotonic() - began
        return {name: np.array([value]) for name, value in counts.items()}

    def _opened(self, item: Item) -> tuple[dict[str, Any] | None, str, str]:
        try:
            return read_row(item, self.plan.job, self.plan.out), item.name, ""
        except BadPicture as error:
            return None, item.name, str(error)

    def _parse(self, rows: list[dict[str, Any]]) -> None:
        """Find the classes of rows that have no mask."""
        bare = [row for row in rows if (row["classes"] == IGNORE).all()]
        if self.parser and self.stage and bare:
            visible = np.stack([row["visible"] for row in bare])
            found = self.stage({"visible": visible}, self.parser.settings, self.parser.batch(0))
            for row, classes in zip(bare, found["classes"], strict=True):
                row["classes"] = classes

    def _commit(self, part: int, rows: list[dict[str, Any]], refused: list[tuple[str, str]]) -> None:
        out, file, digest, size, rejects = self.plan.out, "", "", 0, ""
        if rows:
            content = encode_parquet(pa.Table.from_pylist(rows, schema=arrow_schema(GATHERED)))
            file, digest = write_shard(out, "data", part, content)
            size = len(content)
        if refused:
            table = pa.Table.from_pylist([{"name": n, "reason": r} for n, r in refused], schema=REJECT_SCHEMA)
            rejects, _ = write_shard(out, "rejects", part, encode_parquet(table))
        kinds = Counter(reason.split(":")[0] for _, reason in refused)
        first = {reason.split(":")[0]: f"{name}: {reason}" for name, reason in reversed(refused)}
        facts = {"rejected": len(refused), "rejects": rejects, "reasons": dict(kinds), "first": first}
        commit(out, part, Commit(file, len(rows), digest, size, facts))


def _finish(plan: GatherPlan, commits: dict[int, Commit]) -> Summary:
    """Write manifest and card of a finished run and return what it came to."""
    reasons = dict[str, tuple[int, str]]()
    for record in commits.values():
        for kind, count in record.facts["reasons"].items():
            before, first = reasons.get(kind, (0, record.facts["first"][kind]))
            reasons[kind] = (before + count, first)
    rows, rejected = (sum(n) for n in zip(*((r.rows, r.facts["rejected"]) for r in commits.values()), strict=True))
    write_manifest(
        plan.out, commits, kind="gathered", digest=plan.digest, rows=rows, job=plan.job.model_dump(mode="json")
    )
    summary = Summary(plan.out.uri, rows + rejected, rows, reasons)
    plan.out.write("README.md", _card(plan, summary).encode())
    if not rows:
        raise UserError(f"no row could be taken: {summary}")
    return summary


def _card(plan: GatherPlan, summary: Summary) -> str:
    return (
        f"{front_matter(f'gathered from {plan.job.layout}', '', [])}\n# Rows of a data set in the layout {plan.job.layout}\n\n"
        f"{summary}\n\nPictures of {plan.job.size} x {plan.job.size} px ({plan.job.crop}). `thermal` is 16-bit "
        "centikelvin (degrees Celsius = value / 100 - 273.15), or, where `thermal_kind` is minmax, 8-bit grey, which is no "
        "temperature. Points that the data set does not give are NaN; classes are 255 where there is no mask. The pictures "
        f"keep their licence.\n\n```json\n{json.dumps(plan.job.model_dump(mode='json'), indent=1)}\n```\n"
    )
