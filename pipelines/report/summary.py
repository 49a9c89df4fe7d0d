"""What a run came to, added up from its commit records."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.config.captions import AUTHORS
from pipelines.plan.generate import GeneratePlan
from pipelines.storage.commits import Commit

PAGE = "report/index.html"


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
    bytes: int

    @property
    def shortfall(self) -> int:
        """Samples that were asked for and never accepted."""
        return self.samples - self.accepted

    def summary_text(self) -> str:
        """Return what the run came to, in two lines."""
        counts = f"{self.pairs:,} pairs; {self.accepted:,} of {self.samples:,} samples accepted"
        counts += f", {self.redrawn:,} drawn again, {self.shortfall:,} given up"
        captions = ", ".join(f"{count:,} by {AUTHORS[name]}" for name, count in self.captions.items())
        return f"{counts}\ncaptions: {captions}" if captions else counts


def summarise(plan: GeneratePlan, commits: Iterable[Commit]) -> Report:
    """Add up the commit records."""
    commits = list(commits)
    reasons, seconds, captions = Counter[str](), Counter[str](), Counter[str]()
    for record in commits:
        reasons.update(record.facts["reasons"])
        seconds.update(record.facts["seconds"])
        captions.update(record.facts["captions"])
    samples, rejected = (sum(c.facts[name] for c in commits) for name in ("samples", "rejected"))
    return Report(
        out=plan.out.uri,
        page=plan.out.path(PAGE),
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
        seconds={name: round(value, 2) for name, value in {"captions": plan.caption_seconds(), **seconds}.items()},
        captions=dict(captions.most_common()),
        bytes=sum(c.bytes for c in commits),
    )
