"""`thermapair gather`: a data set on disk, in its own layout, into shards that training and evaluation read.

    plan -> read, check, cut [-> parser] -> write

A partition is the unit of commit, retry and loss, as everywhere: the same command resumes. What cannot be taken lies under
`rejects/` with its reason.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from ray.data import ActorPoolStrategy

from models.classes import IGNORE
from models.columns import Columns
from models.config import apply_edit, check, sort_edits
from models.errors import UserError
from models.weights.bundle import Bundle, load_bundle
from pipelines.config.gather import GatherJob
from pipelines.config.profile import Profile, load_profile
from pipelines.pictures.codecs import encode_jpeg, encode_png_rgb
from pipelines.pictures.open import BadPicture
from pipelines.readers import read_rows
from pipelines.readers.item import Item, Sample
from pipelines.readers.plan import GatherPlan, parser_link, write_gather_plan
from pipelines.readers.registration import measure_registration
from pipelines.readers.sets.source import describe
from pipelines.readers.spread import tell_left
from pipelines.report.card import front_matter
from pipelines.rows.encode import encode_gathered, encode_parquet
from pipelines.rows.schema import GATHERED, arrow_schema
from pipelines.rows.shards import Shards
from pipelines.run.driver import Job, run_job
from pipelines.run.graph import numbers
from pipelines.run.progress import SECONDS
from pipelines.storage.commits import Commit, commit, write_manifest, write_shard
from pipelines.storage.uri import Storage

LOOKED_AT = 24
"""Pairs in whose halves the face is looked for."""
PAGE = 2**25
"""Between the views of two pages of one file: more than a data set has items, and 64 of them fit 32 bits."""
REJECT_SCHEMA = pa.schema({"name": pa.string(), "reason": pa.string()})


@dataclass(frozen=True)
class Summary:
    """What became of a data set's rows. reasons: kind -> (how many, the first of them in words). registered: how far the halves
    of pairs are apart, "" where nobody looked. left: which rows were not asked for, "" for none."""

    out: str
    rows: int
    gathered: int
    reasons: dict[str, tuple[int, str]]
    registered: str = ""
    left: str = ""

    def __str__(self) -> str:
        lines = [f"{self.gathered} of {self.rows} rows gathered: {self.out}"]
        reasons = sorted(self.reasons.items(), key=lambda entry: (-entry[1][0], entry[0]))
        lines += [f"  {count} not: {kind} (first: {first})" for kind, (count, first) in reasons]
        lines += [f"  each by its name and reason: {self.out}/rejects"] if reasons else []
        lines += [f"  left out: {self.left}"] if self.left else []
        lines += [f"registration: {self.registered}"] if self.registered else []
        return "\n".join(lines)


def run(
    job: dict[str, Any],
    out: str,
    *,
    bundle: str = "",
    profile: str = "laptop",
    overrides: Sequence[str] = (),
    local: bool = False,
    registration: bool = False,
) -> Summary:
    """Gather what is missing of a job (values of `GatherJob`) into `out`.

    bundle: its parser finds the classes of pictures in colour that have no mask. overrides: `key=value` edits of the job, the
    profile or the bundle.
    local: in this process, without Ray. registration: look for the face in both halves of some pairs at the end, and say on the
    card how far they are apart.

    Raises:
        UserError: a wrong request, a folder that is not of the layout or of which nothing can be taken, or an output
            that belongs to another run or has a live driver.
        EnvironmentFault, Interrupted: the run stopped; the same call resumes it.
    """
    # The three files with their edits.
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
    # What the driver runs.
    storage = Storage(out)
    work = Job(
        plan=lambda: write_gather_plan(wanted, chosen, storage),
        graph=lambda plan, missing, run: gather_partitions(plan, missing, where, local),
        finish=partial(_finish, registration=registration),
    )
    return run_job(work, storage, where, local=local)


def gather_set(
    images: str,
    reader: str,
    out: str,
    protocol: str = "",
    *,
    parser: str = "",
    condition: str = "",
    rows_per_person: int | None = None,
) -> str:
    """Gather a published data set, the folder `images` in the layout `reader`, into `out` in this process; return the rows' URI.

    What is gathered already stays. protocol: of `mcxface`, where there are several. parser: the bundle whose parser finds the
    classes of pictures in colour. condition: of rows where the data set says none. rows_per_person: at most so many of each.
    Raises as `run`.
    """
    job = {"layout": reader, "images": images, "protocol": protocol, "condition": condition}
    print(run({**job, "rows_per_person": rows_per_person}, out, bundle=parser, local=True))
    return Storage(out).uri


def gather_partitions(plan: GatherPlan, missing: list[int], profile: Profile, local: bool) -> Iterator[dict[str, Any]]:
    """Yield counts of the partitions as they are committed; a block is a partition. local: in this process, without Ray."""
    if local:
        gatherer = Gatherer(plan, missing, threads=2)
        for place in range(len(missing)):
            yield {name: values[0] for name, values in gatherer({"id": np.array([place])}).items()}
        return
    # A pool of actors, for a parser is loaded once and files are read in threads.
    rows = numbers(missing, profile.writer.tasks).map_batches(
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

    def __call__(self, batch: Columns) -> Columns:
        partition, began = self.pending[int(batch["id"][0])], time.monotonic()
        # Rows, or why there is none; the place in the listing and the page tell pictures of a person apart.
        found = list(self.threads.map(self._read, self.plan.items(partition)))
        for place, (pages, _, _) in enumerate(found):
            for page, row in enumerate(pages):
                row["view"] = partition * self.plan.job.partition + place + page * PAGE
        rows = [row for pages, _, _ in found for row in pages]
        refused = [(name, reason) for _, name, reason in found if reason]
        # Classes where the data set has none, then all pictures encoded.
        self._parse(rows)
        encode, suffix = (encode_png_rgb, "png") if self.plan.job.encoding.visible == "png" else (encode_jpeg, "jpg")
        encoded = list(self.threads.map(partial(encode_gathered, visible=encode, suffix=suffix), rows))
        self._commit(partition, encoded, refused)
        counts: dict[str, float] = {"partition": partition, "samples": len(found), "rejected": len(refused)}
        counts[f"{SECONDS}gather"] = time.monotonic() - began
        return {name: np.array([value]) for name, value in counts.items()}

    def _read(self, item: Item) -> tuple[list[dict[str, Any]], str, str]:
        """Return (rows, name, ""), or ([], name, reason) of an item that cannot be taken."""
        try:
            return read_rows(item, self.plan.job, self.plan.out), item.name, ""
        except BadPicture as error:
            return [], item.name, str(error)

    def _parse(self, rows: list[dict[str, Any]]) -> None:
        """Find the classes of rows in colour that have no mask: of a thermal picture in grey a parser knows nothing."""
        bare = [row for row in rows if row["visible_kind"] == "rgb" and (row["classes"] == IGNORE).all()]
        if self.parser and self.stage and bare:
            visible = np.stack([row["visible"] for row in bare])
            found = self.stage({"visible": visible}, self.parser.settings, self.parser.batch(0))
            for row, classes in zip(bare, found["classes"], strict=True):
                row["classes"] = classes

    def _commit(self, partition: int, rows: list[dict[str, Any]], refused: list[tuple[str, str]]) -> None:
        """Write a partition's rows and rejects, where there are any, and its record."""
        out, file, digest, size, rejects = self.plan.out, "", "", 0, ""
        if rows:
            content = encode_parquet(pa.Table.from_pylist(rows, schema=arrow_schema(GATHERED)))
            file, digest = write_shard(out, "data", partition, content)
            size = len(content)
        if refused:
            table = pa.Table.from_pylist([{"name": n, "reason": r} for n, r in refused], schema=REJECT_SCHEMA)
            rejects, _ = write_shard(out, "rejects", partition, encode_parquet(table))
        # Reasons by their kind, each with its first case in words.
        kinds = Counter(reason.split(":")[0] for _, reason in refused)
        first = {reason.split(":")[0]: f"{name}: {reason}" for name, reason in reversed(refused)}
        facts = {"rejected": len(refused), "rejects": rejects, "reasons": dict(kinds), "first": first}
        commit(out, partition, Commit(file, len(rows), digest, size, facts))


def _finish(plan: GatherPlan, commits: dict[int, Commit], *, registration: bool) -> Summary:
    """Write manifest and card of a finished run and return what it came to."""
    # Kinds of reasons of all partitions, each with the first case.
    reasons = dict[str, tuple[int, str]]()
    for record in commits.values():
        for kind, count in record.facts["reasons"].items():
            before, first = reasons.get(kind, (0, record.facts["first"][kind]))
            reasons[kind] = (before + count, first)
    rows, rejected = (sum(n) for n in zip(*((r.rows, r.facts["rejected"]) for r in commits.values()), strict=True))
    write_manifest(
        plan.out, commits, kind="gathered", digest=plan.digest, rows=rows, job=plan.job.model_dump(mode="json")
    )
    registered = _measure_registration(plan.out.uri) if registration and rows else ""
    left = tell_left(plan.left, plan.job.rows_per_person)
    summary = Summary(plan.out.uri, rows + rejected, rows, reasons, registered, left)
    plan.out.write("README.md", _card(plan, summary).encode())
    if not rows:
        raise UserError(f"no row could be taken: {summary}")
    return summary


def _measure_registration(uri: str) -> str:
    """Return in words how far the halves of `LOOKED_AT` gathered pairs are apart, from everywhere in the rows."""
    try:
        shards = Shards(uri, ("visible", "thermal"), colour=True, memory=0)
    except UserError:
        return "there is no pair of a picture in colour and a thermal one"
    chosen = np.unique(np.linspace(0, len(shards) - 1, min(LOOKED_AT, len(shards))).astype(int))
    rows = shards.rows(chosen)
    kind = "grey" if rows["thermal"].dtype == np.uint8 else "celsius"
    pairs = zip(rows["visible"], rows["thermal"], strict=True)
    return str(measure_registration([Sample(visible=one, **{kind: other}) for one, other in pairs]))


def _card(plan: GatherPlan, summary: Summary) -> str:
    return (
        f"{front_matter(f'gathered from {plan.job.layout}', '', [])}\n# Rows of a data set in the layout {plan.job.layout}\n\n"
        f"{summary}\n\nPictures of {plan.job.size} x {plan.job.size} px ({plan.job.crop}). `thermal` is 16-bit "
        "centikelvin (degrees Celsius = value / 100 - 273.15), or, where `thermal_kind` is minmax, 8-bit grey, which is no "
        "temperature. Points that the data set does not give are NaN; classes are 255 where there is no mask. The pictures "
        f"keep their licence. {describe(plan.job.layout)}\n\n```json\n"
        f"{json.dumps(plan.job.model_dump(mode='json'), indent=1)}\n```\n"
    )
