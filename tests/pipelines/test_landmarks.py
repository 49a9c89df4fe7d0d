"""Landmarks in a data set: the stage joins where the bundle has a part, the record holds them, the report draws them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from models.landmarks.network import LandmarkerConfig, new_landmarker
from models.weights.bundle import Bundle
from models.weights.networks import save_network
from models.weights.store import seal
from pipelines.config.generate import chain_for
from pipelines.config.job import GenerateJob
from pipelines.report.sheet import collect_samples, tiles
from tests.pipelines import small

Job = Callable[..., GenerateJob]


@pytest.fixture
def whole(bundle: Bundle) -> Bundle:
    """The small bundle with an untrained landmarker."""
    part = Path(bundle.folder, "landmarks")
    torch.manual_seed(0)
    config = LandmarkerConfig(size=32, width=0.25, head=32, outputs="softplus")
    save_network(new_landmarker(config), part / "70" / "landmarker.safetensors")
    seal(part)
    return small.with_part(bundle, "landmarks", kind="mobilenet", weights="landmarks", licence="apache-2.0", batch=4)


def test_a_bundle_without_the_part_has_no_such_stage(bundle: Bundle, whole: Bundle, job: Job) -> None:
    assert chain_for(job(), bundle).stages == ("visible", "parser", "thermal", "faces", "gates")
    chain = chain_for(job(), whole)
    assert chain.stages == ("visible", "parser", "thermal", "faces", "gates", "landmarks")
    (group,) = small.profile().assign(chain.stages)
    assert group.stages[-1] == "landmarks"
    assert (
        "landmarks_70" in chain.tracked and "landmarks_478" not in chain.tracked
    )  # of the networks that lie in the part


def test_accepted_pairs_carry_landmarks_and_the_report_draws_them(whole: Bundle, job: Job, tmp_path: Path) -> None:
    plan = small.make_here(job("identities.count=2"), whole, tmp_path / "out")
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
    (view, *_) = collect_samples([table], 1, 1)
    shown = tiles(view, {})
    assert list(shown)[-2:] == ["landmarks, visible", "landmarks, warm"]
    assert small.finish(plan).seconds["landmarks"] > 0
    assert "landmarks, warm" in (tmp_path / "out" / "report" / "index.html").read_text()
    assert json.loads(rows[0]["scores"])


def test_the_shards_open_as_a_data_set(whole: Bundle, job: Job, tmp_path: Path) -> None:
    from datasets import load_dataset

    small.finish(small.make_here(job("identities.count=2"), whole, tmp_path / "out"))
    opened = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(opened[0]["landmarks_70"]) == 140 and opened[0]["seen_70_thermal"][0] in (True, False)
