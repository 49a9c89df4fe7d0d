"""The end of a run: manifest, data-set card, and a report of what was made, how fast, and what was refused."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config.generate import POSE
from pipelines.plan.generate import GeneratePlan
from pipelines.report.card import render_card
from pipelines.report.page import render_page
from pipelines.report.pose import PoseError, pose_errors, read_poses
from pipelines.report.sheet import collect_samples, draw_contact_sheet
from pipelines.report.summary import PAGE, Report, summarise
from pipelines.storage.commits import Commit, read_shard, write_manifest

JSON, SHEET = "report/report.json", "report/contact.png"
SHARDS_READ = 256
"""Shards whose scores go into the histograms, at most."""
SHARDS_SHOWN = 32
"""Shards that are opened for the samples that are shown, at most: people may have fewer views than are looked for."""
PEOPLE_SHOWN, VIEWS_SHOWN, REJECTS_SHOWN = 8, 4, 8


def finish(plan: GeneratePlan, commits: dict[int, Commit]) -> Report:
    """Write manifest, card and report of a finished run and return the report."""
    write_manifest(plan.out, commits, digest=plan.digest, job=plan.job.name, bundle=plan.bundle.name)
    report, sheet = write_pages(plan, commits, PAGE, SHEET)
    # The card shows the contact sheet; the figures of the page are there for programs, too.
    refused = any(commit.facts.get("rejects") for commit in commits.values())
    plan.out.write("README.md", render_card(plan, report.pairs, refused, sheet).encode())
    plan.out.write(JSON, json.dumps(asdict(report), indent=1).encode())
    return report


def write_pages(plan: GeneratePlan, commits: dict[int, Commit], page: str, sheet: str) -> tuple[Report, bool]:
    """Write the page of the partitions that `commits` has and their contact sheet, to files of these names.

    Returns the report, and whether there is a sheet: rows without pictures have none.
    """
    report = summarise(plan, commits, page)
    # Who is shown: the first people of the accepted samples, and of the refused ones.
    accepted = {k: commit.file for k, commit in commits.items() if commit.file}
    refused = {k: commit.facts["rejects"] for k, commit in commits.items() if commit.facts.get("rejects")}
    samples = collect_samples(_tables(plan, accepted), PEOPLE_SHOWN, VIEWS_SHOWN)
    rejects = collect_samples(_tables(plan, refused), 4, 2)
    shown = any(sample.visible is not None for sample in samples)
    if shown:
        plan.out.write(sheet, draw_contact_sheet(samples))
    # The page, with what the gates measured.
    some = dict(islice(accepted.items(), SHARDS_READ))
    scores = _scores(plan, some)
    report = replace(report, pose=_pose(plan, some))
    plan.out.write(page, render_page(report, plan, samples, rejects[:REJECTS_SHOWN], scores).encode())
    return report, shown


def _tables(plan: GeneratePlan, files: dict[int, str]) -> Iterable[pa.Table]:
    return (read_shard(plan.out, partition, name) for partition, name in islice(files.items(), SHARDS_SHOWN))


def _pose(plan: GeneratePlan, files: dict[int, str]) -> tuple[PoseError, ...]:
    """Return how far the accepted samples are from the poses asked for, of a job that asks for some."""
    if POSE not in plan.chain.given:
        return ()
    names, first = [POSE, "pose", "condition", "thermal_draw"], plan.recipe.layers[0]
    tables = (read_shard(plan.out, partition, name, columns=names) for partition, name in files.items())
    own = (pc.field("condition") == first.condition) & (pc.field("thermal_draw") == first.draw)
    return tuple(pose_errors(*read_poses(table.filter(own) for table in tables)))


def _scores(plan: GeneratePlan, files: dict[int, str]) -> dict[str, list[float]]:
    """Return score -> its values over the accepted samples."""
    values: dict[str, list[float]] = {}
    first = plan.recipe.layers[0]  # scores are of the sample: its first layer alone is read
    for partition, name in files.items():
        table = read_shard(plan.out, partition, name, columns=["scores", "condition", "thermal_draw"])
        layers = zip(table["condition"].to_pylist(), table["thermal_draw"].to_pylist())
        for text, layer in zip(table["scores"].to_pylist(), layers):
            if layer == (first.condition, first.draw) and text:
                for key, value in json.loads(text).items():
                    values.setdefault(key, []).append(float(value))
    return values
