"""The dashboard and the figures that its queries name."""

import json
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cluster import cli
from cluster.manifests.grafana import dashboard
from models.weights.bundle import load_bundle
from pipelines.run import metrics
from tests.pipelines import small

OURS = {f"ray_thermapair_{name}_total": ("run", *labels) for name, (_, labels) in metrics.COUNTERS.items()}
OURS[f"ray_thermapair_{metrics.BATCH}_bucket"] = ("stage", "le")


def queries(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_the_dashboard_asks_for_what_there_is() -> None:
    printed = CliRunner().invoke(cli.cli, ["manifest", "grafana", "--name", "pairs"], catch_exceptions=False)
    board = json.loads(printed.output)
    assert board == dashboard("pairs") and board["title"] == "pairs"
    named = {name for query in queries(board) for name in re.findall(r"ray_thermapair_\w+", query)}
    assert named == OURS.keys()
    # Labels that are grouped by are labels that the figures have.
    for query in queries(board):
        for labels, name in re.findall(r"by \(([\w, ]+)\) \(rate\((ray_thermapair_\w+)", query):
            assert set(labels.split(", ")) <= set(OURS[name]), query
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]}
    assert len(places) == len(board["panels"])


@pytest.mark.slow
def test_a_run_exports_its_figures(local_ray: Any, tmp_path: Path) -> None:
    job = small.job("identities.count=4", "gates={attempts: 2, face_area: [0.05, 0.9]}")
    edit = "groups=[{stages: [visible, parser, thermal, faces, gates, landmarks], cpus: 1}]"
    report = small.make(job, load_bundle("null"), tmp_path / "out", edit)
    (node,) = local_ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    # Workers tell their node's exporter every few seconds.
    deadline, found = time.monotonic() + 60, dict[str, float]()
    while time.monotonic() < deadline and found.get("ray_thermapair_rows_total", 0) < report.pairs:
        time.sleep(1)
        text = urllib.request.urlopen(url, timeout=20).read().decode()
        found = {}
        for line in text.splitlines():
            name = line.partition("{")[0]
            if name in OURS and (f'run="{report.digest}"' in line or name.endswith("_bucket")):
                found[name] = found.get(name, 0.0) + float(line.rpartition(" ")[2])
    assert found["ray_thermapair_rows_total"] == report.pairs
    assert found["ray_thermapair_samples_total"] == report.samples
    assert found["ray_thermapair_bytes_total"] == report.bytes
    assert found["ray_thermapair_stage_seconds_total"] > 0 and found["ray_thermapair_batch_seconds_bucket"] > 0
    assert found.get("ray_thermapair_rejects_total", 0) == sum(report.reasons.values())
