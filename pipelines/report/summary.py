"""What a run came to, added up from its commit records."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from models.captions.measure import attribute_entropy, distinct_n
from models.visible.angles import TRAINED
from pipelines.config.captions import AUTHORS
from pipelines.plan.generate import GeneratePlan
from pipelines.report.pose import PoseError
from pipelines.storage.commits import Commit

PAGE = "report/index.html"
POINTS = 200
DIVERSE = 4096
"""Samples whose captions and attributes the report compares, at most: distinct-n falls with their number."""


@dataclass(frozen=True)
class Report:
    """What a run came to. Counts of samples; a sample has one pair per condition."""

    out: str
    page: str
    job: str
    bundle: str
    digest: str
    partitions: int
    pairs: int
    samples: int
    accepted: int
    rejected: int
    redrawn: int
    reasons: dict[str, int]
    """Failed attempts by reason."""
    seconds: dict[str, float]
    """Stage -> seconds of all its workers together; `captions` with the start of the engines."""
    captions: dict[str, int]
    """Samples by who wrote their caption."""
    captions_cut: int
    """Samples whose caption's end no text encoder read: it was longer than their windows."""
    bytes: int
    timeline: dict[str, list[tuple[float, int]]]
    """`captions`, `samples` -> (seconds since the first of all, how many were committed by then), at most `POINTS` of each."""
    diversity: dict[str, float] = field(default_factory=dict)
    """Of the first `DIVERSE` captions: `distinct_1` and `distinct_2` (share of different words and pairs of words), and
    `entropy`, bits of an attribute's words, averaged over attributes."""
    pose: tuple[PoseError, ...] = ()
    """Of the accepted samples, by angle and by how large it is; empty where the job asks for no angles."""

    @property
    def shortfall(self) -> int:
        """Samples that were asked for and never accepted."""
        return self.samples - self.accepted

    def summary_text(self) -> str:
        """Return what the run came to: a line each for samples, captions, cut ones, and poses where angles are asked for."""
        counts = f"{self.pairs:,} pairs; {self.accepted:,} of {self.samples:,} samples accepted"
        counts += f", {self.redrawn:,} drawn again, {self.shortfall:,} given up"
        captions = ", ".join(f"{count:,} by {AUTHORS[name]}" for name, count in self.captions.items())
        lines = [counts, *([f"captions: {captions}"] if captions else [])]
        if self.captions_cut:
            lines.append(
                f"{self.captions_cut:,} captions are longer than what the visible part reads; their ends were cut"
            )
        # How well the pose is met, and how much of it training had not shown.
        if self.pose:
            lines.append("pose: " + "; ".join(found.text for found in self.pose))
        if beyond := sum(found.beyond_training for found in self.pose):
            most = ", ".join(f"{name} {angle:g}" for name, angle in TRAINED.items())
            lines.append(
                f"{beyond:,} angles are beyond what the visible model was trained on ({most}); their rows say so"
            )
        return "\n".join(lines)


def summarise(plan: GeneratePlan, records: Mapping[int, Commit], page: str = PAGE) -> Report:
    """Add up the commit records of a run, or of its first partitions. page: where the report will be."""
    # Counts by name over all partitions, the most frequent first.
    commits = list(records.values())
    reasons, seconds, captions = Counter[str](), Counter[str](), Counter[str]()
    for record in commits:
        reasons.update(record.facts["reasons"])
        seconds.update(record.facts["seconds"])
        captions.update(record.facts["captions"])
    notes = plan.caption_notes()
    samples, rejected = (sum(c.facts[name] for c in commits) for name in ("samples", "rejected"))
    return Report(
        out=plan.out.uri,
        page=plan.out.shown(page),
        job=plan.job.name,
        bundle=plan.bundle.name,
        digest=plan.digest,
        partitions=len(commits),
        pairs=sum(c.rows for c in commits),
        samples=samples,
        accepted=samples - rejected,
        rejected=rejected,
        redrawn=sum(c.facts["redrawn"] for c in commits),
        reasons=dict(reasons.most_common()),
        seconds={
            name: round(value, 2)
            for name, value in {"captions": sum(spent for spent, _ in notes.values()), **seconds}.items()
        },
        captions=dict(captions.most_common()),
        captions_cut=sum(c.facts.get("captions_cut", 0) for c in commits),
        bytes=sum(c.bytes for c in commits),
        diversity=measure_diversity(plan, records),
        timeline=_timeline(plan, notes, commits),
    )


def measure_diversity(plan: GeneratePlan, partitions: Iterable[int]) -> dict[str, float]:
    """Return how different the first captions of `partitions` and their attributes are; nothing where there are none."""
    texts, sets = list[str](), list[dict[str, str]]()
    for partition in partitions:
        if len(texts) >= DIVERSE:
            break
        captions = plan.captions(partition)
        # Attributes that the language model invented stand beside the captions.
        source = captions if "attributes" in captions.column_names else plan.sample_table(partition)
        texts += captions["caption"].to_pylist()
        sets += [json.loads(words) for words in source["attributes"].to_pylist()]
    if not texts:
        return {}
    entropies = attribute_entropy(sets).values()
    return {
        "distinct_1": distinct_n(texts, 1),
        "distinct_2": distinct_n(texts, 2),
        "entropy": sum(entropies) / max(1, len(entropies)),
    }


def _timeline(
    plan: GeneratePlan, notes: dict[int, tuple[float, float]], commits: Sequence[Commit]
) -> dict[str, list[tuple[float, int]]]:
    """Return what was committed by when, thinned."""
    sizes = {chunk: sum(map(plan.rows, partitions)) for chunk, partitions in plan.chunks()}
    events = {
        "captions": sorted((notes[chunk][1], size) for chunk, size in sizes.items() if chunk in notes),
        "samples": sorted((float(c.facts["ended"]), int(c.facts["samples"])) for c in commits),
    }
    began = min((ended for found in events.values() for ended, _ in found), default=0.0)
    curves = {}
    for name, found in events.items():
        sums = list(accumulate(size for _, size in found))
        every = max(1, len(found) // POINTS)
        kept = [k for k in range(len(found)) if k % every == every - 1 or k == len(found) - 1]
        curves[name] = [(round(found[k][0] - began, 2), sums[k]) for k in kept]
    return curves
