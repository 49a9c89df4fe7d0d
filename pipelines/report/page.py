"""The report as one self-contained HTML page: no script from elsewhere, no file beside it."""

import base64
import html
import io

import numpy as np
from PIL import Image

from pipelines.config.captions import AUTHORS
from pipelines.plan.generate import GeneratePlan
from pipelines.report.sheet import View, coloured, scale_of, tiles
from pipelines.report.summary import Report

STYLE = """
:root { --ink: #1c1e22; --paper: #fafaf8; --faint: #71757c; --line: #e3e3de; --card: #fff; --accent: #c2452d; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9e9e6; --paper: #15171a; --faint: #9a9ea6; --line: #2c2f34; --card: #1d2024; --accent: #ff8a5c; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 40px 28px 80px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 30px; margin: 0 0 4px; letter-spacing: -.02em; }
h2 { font-size: 19px; margin: 48px 0 14px; }
.sub, .caption, dt, th { color: var(--faint); }
code { font-size: 12.5px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 12px; margin: 26px 0 0; }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.facts b { display: block; font-size: 24px; font-variant-numeric: tabular-nums; letter-spacing: -.02em; }
.person { margin: 0 0 26px; }
.person > code { color: var(--faint); }
.views { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 18px; margin-top: 6px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.tiles { display: grid; grid-template-columns: 1fr 1fr; gap: 2px; }
.tiles span { position: relative; display: block; }
.tiles img { display: block; width: 100%; }
.tiles i { position: absolute; left: 7px; bottom: 5px; font: 600 11px system-ui; color: #fff;
  text-shadow: 0 0 3px #000, 0 0 2px #000; }
figcaption { padding: 9px 12px 11px; font-size: 13px; line-height: 1.4; }
figcaption small { display: block; color: var(--faint); margin-top: 5px; font-variant-numeric: tabular-nums; }
.bad { color: var(--accent); }
.scale { display: flex; align-items: center; gap: 10px; margin: 0 0 18px; font-variant-numeric: tabular-nums; }
.scale img { width: 320px; height: 14px; border-radius: 7px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; } td, th { padding: 5px 22px 5px 0; border-bottom: 1px solid var(--line); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 16px; }
.charts figure { padding: 12px 14px; } .charts rect { fill: var(--accent); opacity: .8; }
.charts text { fill: var(--faint); font: 11px system-ui; } .charts b { font-size: 13px; }
"""


def page(
    report: Report, plan: GeneratePlan, views: list[View], rejects: list[View], scores: dict[str, list[float]]
) -> str:
    """Return the report as HTML. Every text that comes from data is escaped."""
    scale = scale_of(views)
    body = [
        f"<h1>{_text(report.job)}</h1>",
        f"<div class=sub>{_text(plan.job.description)} Bundle <b>{_text(report.bundle)}</b>, "
        f"{plan.bundle.size} × {plan.bundle.size} px, run <code>{report.digest}</code>.</div>",
        facts(report),
        "<h2>Pairs</h2>",
        degree_scale(scale),
        *people(views, scale),
        "<h2>What the gates measured</h2>",
        "<div class=charts>" + "".join(histogram(name, values) for name, values in scores.items()) + "</div>",
        "<h2>Stages</h2>",
        stages(report),
        "<h2>Chain</h2>",
        chain(plan),
    ]
    if rejects:
        body += ["<h2>Refused</h2>", refused(report), *people(rejects, scale)]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{_text(report.job)}: report</title><style>{STYLE}</style><body>{''.join(body)}</body></html>"
    )


def facts(report: Report) -> str:
    """Return the counts as cards."""
    shown = {
        "pairs": f"{report.pairs:,}",
        "samples accepted": f"{report.accepted:,} / {report.samples:,}",
        "drawn again": f"{report.redrawn:,}",
        "given up": f"{report.shortfall:,}",
        **{f"captions by {AUTHORS[name]}": f"{count:,}" for name, count in report.captions.items()},
        "MB per 1,000 pairs": f"{report.bytes / max(report.pairs, 1) / 1000:.1f}",
    }
    return (
        "<div class=facts>"
        + "".join(f"<div><b>{v}</b><span class=sub>{k}</span></div>" for k, v in shown.items())
        + "</div>"
    )


def degree_scale(scale: tuple[float, float]) -> str:
    """Return the palette with its ends in degrees Celsius."""
    ramp = coloured(np.linspace(scale[0], scale[1], 256, dtype=np.float32)[None].repeat(8, 0), scale)
    return f"<div class=scale>{scale[0]:.0f} °C <img src='{_data(ramp, 'PNG')}' alt=''> {scale[1]:.0f} °C</div>"


def people(views: list[View], scale: tuple[float, float]) -> list[str]:
    """Return a section per person with a figure per view."""
    sections = []
    for identity in dict.fromkeys(view.identity for view in views):
        figures = "".join(figure(view, scale) for view in views if view.identity == identity)
        sections.append(f"<div class=person><code>{_text(identity)}</code><div class=views>{figures}</div></div>")
    return sections


def figure(view: View, scale: tuple[float, float]) -> str:
    """Return one view: its pictures, its caption, what the gates said."""
    pictures = "".join(
        f"<span><img src='{_data(pixels, 'PNG' if name == 'classes' else 'JPEG')}' alt=''><i>{_text(name)}</i></span>"
        for name, pixels in tiles(view, scale).items()
    )
    numbers = f"identity {view.scores['identity']:.2f}" if "identity" in view.scores else ""
    numbers += f" · attempt {view.attempt}" if view.attempt else ""
    why = f"<small class=bad>{_text(view.reject)}</small>" if view.reject else ""
    return (
        f"<figure><div class=tiles>{pictures}</div><figcaption>{_text(view.caption)}"
        f"<small>view {view.view} · {numbers} · {view.sample}</small>{why}</figcaption></figure>"
    )


def histogram(name: str, values: list[float]) -> str:
    """Return a histogram as inline SVG."""
    finite = np.array([value for value in values if np.isfinite(value)])
    if not len(finite):
        return ""
    counts, edges = np.histogram(finite, bins=24)
    bars = "".join(
        f"<rect x='{10 * k}' y='{70 - 66 * count / counts.max():.1f}' width=9 height='{66 * count / counts.max():.1f}'/>"
        for k, count in enumerate(counts)
    )
    return (
        f"<figure><b>{_text(name.replace('_', ' '))}</b> <small class=sub>median {np.median(finite):.3g}</small>"
        f"<svg viewBox='0 0 240 86' width='100%'>{bars}<text x=0 y=84>{edges[0]:.3g}</text>"
        f"<text x=240 y=84 text-anchor=end>{edges[-1]:.3g}</text></svg></figure>"
    )


def stages(report: Report) -> str:
    """Return seconds and throughput of each stage; redraws count as work, not as samples."""
    rows = "".join(
        f"<tr><td>{_text(name)}<td>{seconds:.1f}<td>{seconds / max(sum(report.seconds.values()), 1e-9):.0%}"
        f"<td>{report.samples / max(seconds, 1e-9):.1f}"
        for name, seconds in report.seconds.items()
    )
    return f"<table><tr><th>stage<th>worker seconds<th>share<th>samples per worker second{rows}</table>"


def chain(plan: GeneratePlan) -> str:
    """Return every stage, its part, and what it reads from whom."""
    rows = ""
    for (stage, part, kind, read), link in zip(plan.chain.pipes, plan.chain.links, strict=True):
        reads = ", ".join(f"{name} ({who})" for name, who in read)
        cells = (stage, f"{part} ({kind})", reads, ", ".join(link.flow.writes))
        rows += "<tr>" + "".join(f"<td>{_text(cell)}" for cell in cells)
    return f"<table><tr><th>stage<th>part<th>reads (from)<th>writes{rows}</table>"


def refused(report: Report) -> str:
    """Return the failed attempts by reason."""
    rows = "".join(f"<tr><td>{_text(reason)}<td>{count}" for reason, count in report.reasons.items())
    return f"<table><tr><th>failed attempts<th>{rows}</table><br>"


def _data(pixels: np.ndarray, kind: str) -> str:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, kind, **({"quality": 92} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(sink.getvalue()).decode()}"


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
