"""The end of a run: manifest, data-set card, and a report of what was made, how fast, and what was refused."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice

import pyarrow as pa

from pipelines.plan.generate import GeneratePlan
from pipelines.report.card import card
from pipelines.report.page import page
from pipelines.report.sheet import contact_sheet, views_of
from pipelines.report.summary import PAGE, Report, summary
from pipelines.storage.commits import Commit, read_shard, write_manifest

JSON, SHEET = "report/report.json", "report/contact.png"
SHARDS_READ = 256
"""Shards whose scores go into the histograms, at most."""
PEOPLE_SHOWN, VIEWS_SHOWN, REJECTS_SHOWN = 8, 4, 8


def finish(plan: GeneratePlan, commits: dict[int, Commit]) -> Report:
    """Write manifest, card and report of a finished run and return the report."""
    write_manifest(plan.out, commits, digest=plan.digest, job=plan.job.name, bundle=plan.bundle.name)
    report = summary(plan, commits.values())
    shown = {k: c.file for k, c in commits.items() if c.file}
    refused = {k: c.facts["rejects"] for k, c in commits.items() if c.facts.get("rejects")}
    views = views_of(_tables(plan, shown), PEOPLE_SHOWN, VIEWS_SHOWN)
    rejects = views_of(_tables(plan, refused), 4, 2)
    sheet = any(view.visible is not None for view in views)
    if sheet:
        plan.out.write(SHEET, contact_sheet(views))
    plan.out.write("README.md", card(plan, report.pairs, bool(refused), sheet).encode())
    scores = _scores(plan, dict(islice(shown.items(), SHARDS_READ)))
    plan.out.write(PAGE, page(report, plan, views, rejects[:REJECTS_SHOWN], scores).encode())
    plan.out.write(JSON, json.dumps(asdict(report), indent=1).encode())
    return report


def _tables(plan: GeneratePlan, files: dict[int, str]) -> Iterable[pa.Table]:
    return (read_shard(plan.out, partition, name) for partition, name in files.items())


def _scores(plan: GeneratePlan, files: dict[int, str]) -> dict[str, list[float]]:
    """Return score -> its values over the accepted samples."""
    values: dict[str, list[float]] = {}
    for partition, name in files.items():
        table = read_shard(plan.out, partition, name, columns=["scores", "condition", "thermal_draw"])
        first = plan.recipe.layers[0]  # scores are of the sample: its first layer alone is read
        layers = zip(table["condition"].to_pylist(), table["thermal_draw"].to_pylist())
        for text, layer in zip(table["scores"].to_pylist(), layers):
            if layer == (first.condition, first.draw) and text:
                for key, value in json.loads(text).items():
                    values.setdefault(key, []).append(float(value))
    return values
