"""Landmarks in a data set: the stage joins where the bundle has a part, the record holds them, the report draws them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from models.landmarks.network import LandmarkerConfig, new_landmarker
from models.weights.bundle import Bundle, load_bundle
from models.weights.networks import save_network
from models.weights.store import seal
from pipelines import generate
from pipelines.captions.write import write_captions
from pipelines.config.job import GenerateJob
from pipelines.plan.samples import write_plan
from pipelines.report import finish
from pipelines.run.chain import Chain
from pipelines.sheet import tiles, views_of
from pipelines.storage import Storage
from pipelines.writer import write_partition
from tests.pipelines import small


@pytest.fixture
def whole(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The small bundle with an untrained landmarker."""
    part = tmp_path / "bundle" / "landmarks"
    torch.manual_seed(0)
    config = LandmarkerConfig(size=32, width=0.25, head=32, outputs="softplus")
    save_network(new_landmarker(config), part / "70" / "landmarker.safetensors")
    seal(part)
    path = tmp_path / "bundle" / "bundle.yaml"
    content = yaml.safe_load(path.read_text())
    content["landmarks"] = {"kind": "mobilenet", "weights": "landmarks", "licence": "apache-2.0", "batch": 4}
    path.write_text(yaml.safe_dump(content))
    stages = {**small.STAGES, "landmarks": "models.landmarks.stage:LandmarkStage"}
    monkeypatch.setattr(generate, "STAGES", stages)
    return load_bundle(str(path))


def test_a_bundle_without_the_part_has_no_such_stage(bundle: Bundle, whole: Bundle) -> None:
    assert generate.stages_of(whole) == [*small.STAGES, "landmarks"]
    assert generate.stages_of(bundle) == list(small.STAGES)
    groups = small.profile().grouped(generate.stages_of(whole))
    assert len(groups) == 1 and groups[0].stages[-1] == "landmarks"


def test_accepted_pairs_carry_landmarks_and_the_report_draws_them(
    whole: Bundle, job: Callable[..., GenerateJob], tmp_path: Path
) -> None:
    plan = write_plan(job("identities.count=2"), whole, Storage(tmp_path / "out"))
    write_captions(plan, small.profile().captions)
    chain = Chain([generate.spec(name, plan.job, plan.bundle) for name in generate.stages_of(whole)], range(3))
    write_partition(chain(plan.partition(0)), plan, threads=1)
    table = pq.read_table(tmp_path / "out" / "data")
    rows = table.to_pylist()
    assert rows
    for row in rows:
        assert len(row["landmarks_70"]) == 140 and np.isfinite(row["landmarks_70"]).all()
        assert all(v > 0 for v in row["variance_70_visible"] + row["variance_70_thermal"])
        assert row["seen_70_visible"].count(True) == 70 and len(row["pose"]) == 3
        assert row["landmarks_478"] is None and row["variance_478_thermal"] is None
    pair = [row for row in rows if row["sample_id"] == rows[0]["sample_id"]]
    assert pair[0]["landmarks_70"] == pair[1]["landmarks_70"]
    assert pair[0]["variance_70_visible"] == pair[1]["variance_70_visible"]
    refused = pq.read_table(tmp_path / "out" / "rejects").to_pylist()
    assert all(row["landmarks_70"] is None for row in refused)
    (view, *_) = views_of([table], 1, 1)
    shown = tiles(view, (20, 40))
    assert list(shown)[-2:] == ["landmarks, visible", "landmarks, warm"]
    assert finish(plan).seconds["landmarks"] > 0
    assert "landmarks, warm" in (tmp_path / "out" / "report" / "index.html").read_text()
    assert json.loads(rows[0]["scores"])


def test_the_shards_open_as_a_data_set(whole: Bundle, job: Callable[..., GenerateJob], tmp_path: Path) -> None:
    from datasets import load_dataset

    plan = write_plan(job("identities.count=2"), whole, Storage(tmp_path / "out"))
    write_captions(plan, small.profile().captions)
    chain = Chain([generate.spec(name, plan.job, plan.bundle) for name in generate.stages_of(whole)], range(3))
    write_partition(chain(plan.partition(0)), plan, threads=1)
    finish(plan)
    opened = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(opened[0]["landmarks_70"]) == 140 and opened[0]["seen_70_thermal"][0] in (True, False)
