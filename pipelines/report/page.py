"""The report as one self-contained HTML page, by `templates/page.html`: no script, and no file beside it."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.config.captions import AUTHORS
from pipelines.config.chain import ChainSpec
from pipelines.plan.generate import GeneratePlan
from pipelines.report.sheet import Scales, ShownSample, colour_degrees, face_scales, tiles
from pipelines.report.summary import Report
from pipelines.report.template import load_template

TEMPLATE = Path(__file__).parent / "templates" / "page.html"
BARS = 24
WIDE, HIGH = 1000, 120
"""Of the timeline's box."""


@dataclass(frozen=True)
class Histogram:
    """The distribution of one score. `bars`: counts in equal steps from `low` to `high`, as shares of the largest."""

    name: str
    median: float
    low: float
    high: float
    bars: list[float]


@dataclass(frozen=True)
class Curve:
    """How many were committed by when. `points`: of an SVG polyline in steps, in a box of `WIDE` x `HIGH`."""

    name: str
    points: str
    first: float
    """Seconds at which the first was there."""
    last: float


@dataclass(frozen=True)
class Figure:
    """One sample on the page: `tiles` are its pictures by name, as data URIs."""

    sample: ShownSample
    tiles: dict[str, str]


def render_page(
    report: Report,
    plan: GeneratePlan,
    samples: list[ShownSample],
    rejects: list[ShownSample],
    scores: dict[str, list[float]],
) -> str:
    """Return the report as HTML. scores: name -> values over the accepted samples, NaN for none."""
    # A scale for all pictures of a layer, the refused ones too; the colours are the same.
    scales = face_scales(samples)
    palette = np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(8, axis=0)
    return load_template(TEMPLATE).render(
        report=report,
        description=plan.job.description,
        size=plan.bundle.size,
        counts=counts(report),
        scales=scales,
        palette=data_uri(colour_degrees(palette, (0, 1)), "PNG"),
        people=figures_by_person(samples, scales),
        charts=[chart for name, values in scores.items() if (chart := histogram(name, values))],
        curves=draw_curves(report.timeline),
        total_seconds=max(sum(report.seconds.values()), 1e-9),
        links=links(plan.chain),
        rejects=figures_by_person(rejects, scales),
    )


def counts(report: Report) -> dict[str, str]:
    """Return what was counted over the run, by its name."""
    return {
        "pairs": f"{report.pairs:,}",
        "samples accepted": f"{report.accepted:,} / {report.samples:,}",
        "drawn again": f"{report.redrawn:,}",
        "given up": f"{report.shortfall:,}",
        **{f"captions by {AUTHORS[name]}": f"{count:,}" for name, count in report.captions.items()},
        **({"captions cut at their end": f"{report.captions_cut:,}"} if report.captions_cut else {}),
        **{
            label: f"{report.diversity[name]:.3f}"
            for name, label in (
                ("distinct_1", "different words of captions"),
                ("distinct_2", "different pairs of words"),
            )
            if name in report.diversity
        },
        **({"bits of an attribute": f"{report.diversity['entropy']:.2f}"} if report.diversity else {}),
        "MB per 1,000 pairs": f"{report.bytes / max(report.pairs, 1) / 1000:.1f}",
    }


def figures_by_person(samples: list[ShownSample], scales: Scales) -> dict[str, list[Figure]]:
    """Return identity -> the figures of its samples, in order. scales: of the layers, in degrees Celsius."""
    people: dict[str, list[Figure]] = {}
    for sample in samples:
        uris = {
            name: data_uri(pixels, "PNG" if name == "classes" else "JPEG")
            for name, pixels in tiles(sample, scales).items()
        }
        people.setdefault(sample.identity, []).append(Figure(sample, uris))
    return people


def histogram(name: str, values: list[float]) -> Histogram | None:
    """Return the histogram of a score, None where no value is finite."""
    finite = np.array([value for value in values if np.isfinite(value)])
    if not len(finite):
        return None
    found, edges = np.histogram(finite, bins=BARS)
    bars = (found / found.max()).tolist()
    return Histogram(name.replace("_", " "), float(np.median(finite)), float(edges[0]), float(edges[-1]), bars)


def draw_curves(timeline: Mapping[str, Sequence[tuple[float, int]]]) -> list[Curve]:
    """Return the curves of a timeline (`Report.timeline`), each a share of its own total; none for an empty one."""
    end = max((points[-1][0] for points in timeline.values() if points), default=0.0) or 1.0
    curves = []
    for name, points in timeline.items():
        if not points:
            continue
        # A step at every commit: what is there stays until the next.
        path, before = [f"0,{HIGH}"], 0
        for seconds, count in points:
            x = WIDE * seconds / end
            path += [f"{x:.1f},{HIGH * (1 - share / points[-1][1]):.1f}" for share in (before, count)]
            before = count
        curves.append(Curve(name, " ".join([*path, f"{WIDE},0"]), points[0][0], points[-1][0]))
    return curves


def links(chain: ChainSpec) -> list[dict[str, Any]]:
    """Return of every stage its part, what it reads from which stage, and what it writes, in words."""
    return [
        {
            "stage": stage,
            "part": f"{part} ({kind})",
            "reads": ", ".join(f"{name} ({writer})" for name, writer in read),
            "writes": ", ".join(link.flow.writes),
        }
        for (stage, part, kind, read), link in zip(chain.pipes, chain.links, strict=True)
    ]


def data_uri(pixels: np.ndarray, kind: str) -> str:
    """Return uint8 [H, W, 3] as a `data:` URI; kind: PNG or JPEG."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, kind, **({"quality": 92} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(sink.getvalue()).decode()}"
