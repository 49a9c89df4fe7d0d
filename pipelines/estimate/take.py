"""`thermapair plan`: what a job will take before it runs, from rates that were measured on some machine."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from models.errors import UserError
from pipelines.config.captions import CHAT
from pipelines.config.chain import check_profile
from pipelines.config.generate import BLOCKS, identities_per_partition, sample_bytes
from pipelines.config.profile import Group
from pipelines.config.recipe import stage_recipes
from pipelines.config.request import Request
from pipelines.estimate.rates import Rates, digests_of
from pipelines.plan.people.source import people_of
from pipelines.report.write import SHARDS_READ, SHARDS_SHOWN

WRITE, CAPTIONS, CORES = "write", "captions", "cores"
PLAN_BYTES = 2600
"""Of a person in the plan: an embedding of 512 numbers and a few words; of a sample 200 more, its caption among them."""
REQUESTS = 14
"""Of a partition on object storage, at most: its plan and captions read, two shards and a record written."""
REPORT_REQUESTS = 8
"""Of a shard that the report at the end reads, at most."""


@dataclass(frozen=True)
class Estimate:
    """What a job will take.

    pace: pool -> seconds of the whole per sample; the slowest, `bottleneck`, decides. None where there are no rates.
    """

    samples: int
    pairs: int
    partitions: int
    object_store_mb: int
    requests: int
    storage_gb: float | None = None
    wall_hours: float | None = None
    gpu_hours: float | None = None
    cost: float | None = None
    pace: dict[str, float] = field(default_factory=dict)
    bottleneck: str = ""
    advice: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"makes      {self.samples:,} samples, {self.pairs:,} pairs asked for, in {self.partitions:,} partitions (shards)",
            f"memory     {self.object_store_mb:,} MB of object store hold {BLOCKS} partitions",
            f"requests   {self.requests:,} at most, on object storage",
        ]
        if self.storage_gb is not None:
            lines.append(f"storage    {self.storage_gb:,.2f} GB")
        if self.wall_hours is not None:
            cost = f", {self.cost:,.2f} at the profile's price" if self.cost is not None else ""
            gpus = f", {self.gpu_hours:,.1f} GPU hours" if self.gpu_hours else ""
            lines.append(f"time       {self.wall_hours:,.2f} hours{gpus}{cost}")
            lines.append(
                "pace       " + ", ".join(f"{name} {1 / one:,.2f}/s" for name, one in self.pace.items() if one)
            )
            lines.append(f"slowest    {self.bottleneck}: {self.advice}")
        return "\n".join([*lines, *(f"note       {note}" for note in self.notes)])

    def to_json(self) -> str:
        """Return all of it as JSON."""
        return json.dumps(asdict(self), indent=1)


def estimate(request: Request, rates: Rates | None = None, most: int | None = None) -> Estimate:
    """Return what a job will take. most: actors of each pool there is room for; by default as many as the profile allows.

    Raises UserError where the rates lack a stage, or were measured without a GPU for a profile that has some.
    """
    job, bundle = request.job, request.bundle
    each = job.views.per_identity * job.views.draws
    people = job.identities.count or len(people_of(job.identities, bundle, job.seed, job.parts))
    samples = min(people * each, job.limit or people * each)
    whole = identities_per_partition(job, bundle, request.chain) * each
    partitions = -(-samples // whole)
    store = BLOCKS * min(whole, samples) * sample_bytes(job, bundle, request.chain) // 2**20
    requests = partitions * REQUESTS + REPORT_REQUESTS * (min(partitions, SHARDS_READ) + min(partitions, SHARDS_SHOWN))
    plain = Estimate(samples, samples * len(job.layers), partitions, store, requests)
    if rates is None:
        note = "no rates: time and storage come with --rates, a file of `thermapair bench stages` or an output"
        return Estimate(**{**asdict(plain), "notes": (note,)})
    notes = _check_rates(request, rates)
    # The slowest pool decides, as all of them work at once.
    pools = check_profile(request.profile, request.chain, job.gates.attempts)
    pace = _paces(request, rates, pools, most)
    bottleneck = max(pace, key=lambda name: pace[name])
    hours = (rates.start + samples * pace[bottleneck]) / 3600
    gpus = sum(_actors(group, most) * group.gpus for group in pools)
    if CAPTIONS in pace:
        gpus += request.profile.captions.engines * request.profile.captions.gpus
    pairs = samples * len(job.layers) * rates.accepted
    price = request.profile.price
    return Estimate(
        **{
            **asdict(plain),
            "storage_gb": (pairs * rates.pair_bytes + people * PLAN_BYTES + samples * 200) / 1e9,
            "wall_hours": hours,
            "gpu_hours": hours * gpus,
            "cost": None if price is None else hours * price,
            "pace": pace,
            "bottleneck": bottleneck,
            "advice": _advise(bottleneck, rates, pools),
            "notes": notes,
        }
    )


def _check_rates(request: Request, rates: Rates) -> tuple[str, ...]:
    """Return what is to be said of rates that fit; UserError where they do not."""
    if lacking := [link.stage for link in request.chain.links if link.stage not in rates.seconds]:
        raise UserError(
            f"the rates say nothing of {', '.join(lacking)}: measure this job with `thermapair bench stages`."
        )
    if any(group.gpus for group in request.profile.groups if set(group.stages) & set(rates.seconds)) and not rates.gpu:
        raise UserError(
            f"profile {request.profile.name} has GPUs, and the rates are of {rates.hardware}: run `thermapair bench stages` on "
            "a machine that has one."
        )
    notes = [
        f"rates of {rates.hardware}, {rates.samples} samples at {rates.size} px by the {rates.clock}'s clock, "
        f"{rates.redrawn:.0%} of them drawn again"
    ]
    now = digests_of(stage_recipes(request.chain))
    if others := [stage for stage, digest in now.items() if rates.made_of.get(stage) != digest]:
        notes.append(f"measured with other weights or settings: {', '.join(others)}")
    if rates.layers != len(request.job.layers):
        notes.append(f"measured with {rates.layers} thermal pictures a sample; the job has {len(request.job.layers)}")
    return tuple(notes)


def _paces(request: Request, rates: Rates, pools: list[Group], most: int | None) -> dict[str, float]:
    """Return pool -> seconds per sample of all its workers together."""
    profile = request.profile
    work = {" + ".join(group.stages): sum(rates.seconds[stage] for stage in group.stages) for group in pools}
    pace = {name: seconds / _actors(group, most) for (name, seconds), group in zip(work.items(), pools, strict=True)}
    pace[WRITE] = rates.seconds[WRITE] / profile.writer.tasks
    if rates.captions and request.job.captions.backend != CHAT:
        pace[CAPTIONS] = rates.captions / profile.captions.engines
    # On one machine without a GPU all of it shares the cores.
    if not profile.ray.address and not any(group.gpus for group in pools) and profile.name != "cluster":
        pace[CORES] = (sum(work.values()) + rates.seconds[WRITE] + rates.captions) / rates.cores
    return pace


def _actors(group: Group, most: int | None) -> int:
    return min(group.actors[1], most or group.actors[1])


def _advise(bottleneck: str, rates: Rates, pools: list[Group]) -> str:
    """Return what would halve the time of the slowest pool."""
    if bottleneck == WRITE:
        return "twice the tasks (profile.writer.tasks) would halve it"
    if bottleneck == CAPTIONS:
        return "twice the engines (profile.captions.engines) would halve it, or the grammar (captions=template)"
    stages: Mapping[str, Any] = rates.seconds
    if bottleneck != CORES:
        stages = {
            stage: rates.seconds[stage] for group in pools for stage in group.stages if stage in bottleneck.split(" + ")
        }
    total = sum(stages.values())
    stage, seconds = max(stages.items(), key=lambda entry: entry[1])
    more = "twice the cores" if bottleneck == CORES else "twice the actors"
    half = f"; {stage} is {seconds / total:.0%} of it" if total else ""
    return f"{more} would halve it{half}"
