"""How long each stage of a job takes on some machine, as a run's commits or a bench tell it."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from models.config import digest_of, parse_json
from models.errors import UserError
from pipelines.config.captions import writer_of
from pipelines.config.recipe import StageRecipe
from pipelines.plan.generate import read_generate_plan
from pipelines.run.spent import read_launches
from pipelines.storage.commits import read_commits
from pipelines.storage.uri import Storage

GPU = re.compile(r", \d+ x ")
"""What begins a GPU in the words of `provenance.hardware`."""


@dataclass(frozen=True)
class Rates:
    """What was measured on one machine, per sample: a visible picture with its layers, redraws among it.

    seconds: stage -> seconds of one worker, `write` among them. captions: seconds of one engine; 0 where the grammar writes.
    clock: `wall`, or `processor` where it is the processor's time. start: seconds until an actor is ready. pair_bytes: of a row.
    accepted, redrawn: shares of samples, the latter of those that were drawn more than once. made_of: stage -> digest of its
    weights, options and settings.
    """

    hardware: str
    cores: int
    gpu: bool
    bundle: str
    size: int
    layers: int
    samples: int
    seconds: dict[str, float]
    captions: float
    clock: str
    start: float
    pair_bytes: float
    accepted: float
    redrawn: float
    made_of: dict[str, str] = field(default_factory=dict)


def read_rates(where: str) -> Rates:
    """Return the rates in a file of `thermapair bench stages`, or those of the run in an output.

    Raises UserError for what is neither, or a run that has committed nothing.
    """
    if not where.endswith(".json"):
        return rates_of_run(Storage(where))
    try:
        return Rates(**parse_json(Path(where).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{where} holds no rates, as `thermapair bench stages` writes them: {error}") from None


def rates_of_run(out: Storage) -> Rates:
    """Return what the commits of the run in `out` say of its stages; seconds are those of the clock."""
    plan, commits = read_generate_plan(out), list(read_commits(out).values())
    samples, pairs = (sum(one) for one in ([c.facts["samples"] for c in commits], [c.rows for c in commits]))
    if not samples:
        raise UserError(f"{out.uri} has nothing committed that rates could be read from.")
    total: dict[str, float] = {}
    for record in commits:
        for stage, seconds in record.facts["seconds"].items():
            total[stage] = total.get(stage, 0.0) + float(seconds)
    if not (launches := read_launches(out)):
        raise UserError(f"{out.uri} has no file of a launch, which would say on what hardware it ran.")
    launch = launches[-1]
    writer = writer_of(plan.bundle, plan.job.captions.backend, plan.job.parts)
    engines = launch.profile["captions"]["engines"] if writer else 0
    told = sum(spent for spent, _ in plan.caption_notes().values()) * engines
    first = min(float(one.facts["ended"]) for one in commits)
    return Rates(
        hardware=launch.hardware, cores=int(launch.hardware.split()[0]), gpu=bool(GPU.search(launch.hardware)),
        bundle=plan.bundle.name, size=plan.bundle.size, layers=len(plan.recipe.layers), samples=samples,
        seconds={stage: value / samples for stage, value in total.items()}, captions=told / plan.samples, clock="wall",
        start=first - max((one.began for one in launches if one.began <= first), default=first),
        pair_bytes=sum(c.bytes for c in commits) / max(pairs, 1),
        accepted=1 - sum(c.facts["rejected"] for c in commits) / samples,
        redrawn=sum(c.facts["redrawn"] for c in commits) / samples,
        made_of=digests_of(plan.recipe.stages),
    )  # fmt: skip


def digests_of(stages: tuple[StageRecipe, ...]) -> dict[str, str]:
    """Return of each stage what stands for its weights, options and settings."""
    return {one.stage: digest_of(one.model_dump(mode="json")) for one in stages}
