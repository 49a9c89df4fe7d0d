"""`thermapair status` and `runs`: how far a run is, or all below a folder, read from outputs alone: while they run, after it,
and from any machine."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from models.errors import UserError
from pipelines.config.export import ExportJob
from pipelines.export import write_export_plan
from pipelines.plan.claim import RUN, read_run
from pipelines.plan.pieces import read_pieces
from pipelines.plan.world import read_world
from pipelines.run.spent import read_launches, worked_seconds
from pipelines.storage.commits import MANIFEST, Commit, read_commits
from pipelines.storage.lease import find_driver
from pipelines.storage.uri import Storage

RECENT = 0.1
"""Share of what is done, the last, whose rate tells when the rest will be: a run's begin is slow."""
FEWEST = 4
"""Partitions that a rate is read from, at least."""
DEPTHS = ("", "*/", "*/*/")
"""Folders below the one that is named in which runs are looked for."""


@dataclass
class Status:
    """Where a run stands.

    samples: planned and done. rows: pairs or rows written. rate: samples a second over the last of what was done, None where
    the records do not say when. left: seconds to go at that rate. elapsed: seconds of work of all launches. driver: the
    process that writes it, "" where none lives. reasons: of failed attempts or refused items. seconds: of all workers by stage.
    cost: at the price that was given, else at the profile's.
    """

    uri: str
    kind: str
    digest: str
    state: str
    samples: int
    done: int
    partitions: int
    committed: int
    rows: int
    bytes: int
    rejected: int = 0
    redrawn: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    rate: float | None = None
    left: float | None = None
    elapsed: float | None = None
    cost: float | None = None
    driver: str = ""

    def __str__(self) -> str:
        share = self.done / self.samples if self.samples else 0.0
        lines = [
            f"{self.kind} {self.uri} ({self.digest}): {self.state}",
            f"samples    {self.done:,} of {self.samples:,} ({share:.1%}), {self.committed:,} of {self.partitions:,} partitions",
            f"written    {self.rows:,} rows, {self.bytes / 1e9:.3f} GB",
        ]
        if self.rejected or self.redrawn:
            lines.append(f"rejected   {self.rejected:,} given up, {self.redrawn:,} drawn again")
        lines += [f"           {count:,} {reason}" for reason, count in _most(self.reasons)]
        if self.rate is not None:
            left = f", {_span(self.left)} to go" if self.left else ""
            lines.append(f"rate       {self.rate:.2f} samples/s{left}")
        if self.elapsed is not None:
            cost = f", {self.cost:.2f} at that price" if self.cost is not None else ""
            lines.append(f"worked     {_span(self.elapsed)}{cost}")
        total = sum(self.seconds.values())
        shares = ", ".join(f"{stage} {seconds / total:.0%}" for stage, seconds in _most(self.seconds)) if total else ""
        return "\n".join([*lines, *([f"time       {shares}"] if shares else [])])

    def to_json(self) -> str:
        """Return all of it as JSON."""
        return json.dumps(asdict(self), indent=1)


def read_status(uri: str, price: float | None = None) -> Status:
    """Return where the run in `uri` stands. price: of an hour of all that runs it, in any currency; by default the profile's.

    Raises:
        UserError: there is no run. EnvironmentFault: what it says of itself is damaged.
    """
    out = Storage(uri)
    run, commits = read_run(out), read_commits(out)
    samples, partitions, sizes = _planned(out, run)
    found = Status(
        uri=out.uri, kind=run["job"]["kind"], digest=str(run["digest"]), state="", samples=samples, partitions=partitions,
        done=sum(sizes(partition) for partition in commits), committed=len(commits),
        rows=sum(one.rows for one in commits.values()), bytes=sum(one.bytes for one in commits.values()),
        driver=find_driver(out),
    )  # fmt: skip
    _add_facts(found, list(commits.values()))
    _add_times(found, commits, sizes, price)
    finished = found.committed >= found.partitions and out.exists(MANIFEST)
    stopped = (
        "stopped; the same command goes on" if found.committed else "begun, nothing committed yet; no process writes it"
    )
    found.state = "finished" if finished else f"running ({found.driver})" if found.driver else stopped
    return found


def read_runs(folder: str) -> list[Status]:
    """Return where each run in `folder`, or up to two folders below it, stands, sorted by its place.

    A run that cannot be read (damaged, or of another version) is there with what is wrong as its state.
    """
    storage = Storage(folder)
    storage.fsspec.invalidate_cache()
    found = {name for depth in DEPTHS for name in storage.fsspec.glob(f"{storage.path()}/{depth}{RUN}")}
    runs = []
    for name in sorted(found):
        inner = name.removeprefix(storage.path()).removesuffix(RUN).strip("/")
        uri = f"{storage.uri}/{inner}" if inner else storage.uri
        try:
            runs.append(read_status(uri))
        except UserError as error:
            runs.append(Status(uri, "?", "", f"cannot be read: {error}", 0, 0, 0, 0, 0, 0))
    return runs


def show_runs(runs: list[Status]) -> str:
    """Return a line for each run: kind, share, rows, GB, state, place."""
    lines = [f"{'kind':10} {'done':>6} {'rows':>12} {'GB':>9}  state, place"]
    for run in runs:
        share = run.done / run.samples if run.samples else 0.0
        lines.append(f"{run.kind:10} {share:6.1%} {run.rows:12,} {run.bytes / 1e9:9.3f}  {run.state}: {run.uri}")
    return "\n".join(lines if runs else ["no run"])


def _planned(out: Storage, run: dict[str, Any]) -> tuple[int, int, Any]:
    """Return samples and partitions of the plan, and what gives the samples of a partition."""
    if run["job"]["kind"] == "export":
        plan = write_export_plan(ExportJob.model_validate(run["job"]), out)
        return plan.samples, plan.partitions, plan.rows
    if run["job"]["kind"] == "merge":
        sizes = run["recipe"]["source"]["sizes"]
        return sum(sizes), len(sizes), sizes.__getitem__
    if run["job"]["kind"] == "world":
        world = read_world(out)
        assert world is not None
        job = world[0]
        return job.count, job.partitions, lambda partition: len(job.rows_of(partition))
    pieces = read_pieces(out)
    return pieces.samples, pieces.partitions, pieces.rows


def _add_facts(found: Status, commits: Sequence[Commit]) -> None:
    """Add up what the records say beside their rows."""
    reasons, seconds = Counter[str](), Counter[str]()
    for record in commits:
        found.rejected += int(record.facts.get("rejected", 0))
        found.redrawn += int(record.facts.get("redrawn", 0))
        reasons.update(record.facts.get("reasons", {}))
        seconds.update(record.facts.get("seconds", {}))
    found.reasons, found.seconds = dict(reasons), dict(seconds)


def read_ends(out: Storage) -> list[tuple[float, int]]:
    """Return (unix seconds, samples) of each finished partition, the earliest first."""
    sizes = _planned(out, read_run(out))[2]
    return _ends(read_commits(out), sizes)


def _ends(commits: dict[int, Commit], sizes: Any) -> list[tuple[float, int]]:
    return sorted((float(one.facts["ended"]), sizes(k)) for k, one in commits.items() if "ended" in one.facts)


def _add_times(found: Status, commits: dict[int, Commit], sizes: Any, price: float | None) -> None:
    """Say rate, time to go, hours of work, and cost, where the records say when they were written."""
    ended, out = _ends(commits, sizes), Storage(found.uri)
    if launches := read_launches(out):
        now = time.time() if found.driver else None
        found.elapsed = worked_seconds([one.began for one in launches], [moment for moment, _ in ended], now)
        price = launches[-1].profile.get("price") if price is None else price
        found.cost = None if price is None else price * found.elapsed / 3600
    if not ended:
        return
    # The rate of the last tenth, from the end of the partition before it.
    count = min(max(FEWEST, round(RECENT * len(ended))), len(ended) - 1)
    if count < 1 or (span := ended[-1][0] - ended[-1 - count][0]) <= 0:
        return
    found.rate = sum(samples for _, samples in ended[-count:]) / span
    found.left = max(found.samples - found.done, 0) / found.rate


def _most(counts: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return a mapping's entries, the largest first."""
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def _span(seconds: float | None) -> str:
    return str(timedelta(seconds=round(seconds or 0)))
