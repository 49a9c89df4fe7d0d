"""The exact run on real Ray: every partition once, the same bytes whatever the profile."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from models.errors import EnvironmentFault, UserError
from models.weights.bundle import Bundle, load_bundle
from pipelines.config.job import GenerateJob
from pipelines.plan.generate import GeneratePlan
from pipelines.report.summary import Report
from pipelines.storage.commits import list_finished
from pipelines.storage.uri import Storage
from tests.pipelines import small

pytestmark = pytest.mark.slow
Job = Callable[..., GenerateJob]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def first(local_ray: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bundle, Report]]:
    """One finished run that several tests look at."""
    folder = tmp_path_factory.mktemp("first")
    with small.registered():
        bundle = small.write_bundle(folder / "bundle")
        yield bundle, small.make(small.job(), bundle, folder / "out")


def test_every_sample_is_there_once_and_the_shards_open_as_a_data_set(
    first: tuple[Bundle, Report], tmp_path: Path
) -> None:
    _, report = first
    out = Path(report.out)
    assert (report.samples, report.partitions) == (24, 3)
    assert report.accepted + report.rejected == 24
    assert report.redrawn > 0
    table = pq.read_table(out / "data")
    assert len(table) == report.pairs == 2 * report.accepted
    assert len(set(table["pair_id"].to_pylist())) == len(table)
    refused = pq.read_table(out / "rejects")
    assert all(refused["reject"].to_pylist())
    assert set(table["reject"].to_pylist()) == {""}
    manifest = json.loads((out / "manifest.json").read_text())
    assert [p["partition"] for p in manifest["partitions"]] == [0, 1, 2]
    assert (out / "report" / "index.html").stat().st_size > 10_000

    import datasets  # here, for it takes long to import

    pairs = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(pairs) == report.pairs
    row = pairs[0]
    celsius = np.asarray(row["thermal"], np.float32) / 100 - 273.15
    assert celsius.shape == (32, 32)
    assert 28 < celsius.min() < celsius.max() < 36
    assert row["visible"].size == row["classes"].size == (32, 32)


def test_the_same_bytes_come_out_of_one_actor_or_of_split_pools(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    """Redraws stay with the first stage's actor; what comes after the gates may live anywhere, without redraws every stage."""
    bundle = small.with_part(bundle, "landmarks", kind="null", batch=4)
    small.make_here(job(), bundle, tmp_path / "one")
    groups = "{stages: [visible, parser, thermal, faces, gates], actors: [1, 2], cpus: 0.25}, {stages: [landmarks]}"
    small.make(job(), bundle, tmp_path / "two", f"groups=[{groups}]", "writer.threads=1")
    assert small.shards(tmp_path / "two") == small.shards(tmp_path / "one")
    small.make_here(job("gates.attempts=1"), bundle, tmp_path / "once")
    groups = "[visible], actors: [1, 2]", "[parser, thermal]", "[faces, gates, landmarks]"
    split = "[" + ", ".join(f"{{stages: {stages}, cpus: 0.25}}" for stages in groups) + "]"
    small.make(job("gates.attempts=1"), bundle, tmp_path / "many", f"groups={split}")
    assert small.shards(tmp_path / "many") == small.shards(tmp_path / "once")


def test_the_null_bundle_runs_the_whole_graph(local_ray: Any, job: Job, tmp_path: Path) -> None:
    """Conditions in words and degrees, two draws, landmarks; and rows alone, without pixels."""
    edits = "conditions=[warm, 22.5]", "samples=2", "gates.attempts=2"
    report = small.make(job(*edits), load_bundle("null"), tmp_path / "out")
    assert (report.accepted, report.pairs, report.partitions) == (24, 96, 3)
    rows = pq.read_table(tmp_path / "out" / "data").to_pylist()
    layers = {(row["condition"], row["thermal_draw"]) for row in rows}
    assert layers == {("warm", 0), ("warm", 1), ("22.5", 0), ("22.5", 1)}
    assert all(len(row["landmarks_70"]) == 140 and row["thermal"] and row["classes"] for row in rows)
    small.make_here(job(*edits), load_bundle("null"), tmp_path / "here")
    assert small.shards(tmp_path / "here") == small.shards(tmp_path / "out")

    bare = load_bundle("null", ["visible.options.pictures=false"])
    report = small.make(job(*edits), bare, tmp_path / "bare")
    assert (report.accepted, report.pairs) == (24, 96)
    rows = pq.read_table(tmp_path / "bare" / "data").to_pylist()
    assert {row[name] for row in rows for name in ("visible", "thermal", "valid", "classes", "size")} == {None}
    assert len({row["pair_id"] for row in rows}) == 96 and all(row["caption"] and row["embedding"] for row in rows)


def test_a_larger_job_begins_with_the_same_pairs(first: tuple[Bundle, Report], job: Job, tmp_path: Path) -> None:
    bundle, report = first
    small.make(job("identities.count=8"), bundle, tmp_path / "more")
    few, more = small.shards(Path(report.out)), small.shards(tmp_path / "more")
    assert few.items() < more.items()


def test_a_finished_output_is_kept_and_another_job_is_refused(first: tuple[Bundle, Report], job: Job) -> None:
    bundle, report = first
    before = small.shards(Path(report.out))
    small.make(job(), bundle, report.out, "writer.tasks=1")
    assert small.shards(Path(report.out)) == before
    with pytest.raises(UserError, match=r"another run.*what differs: seed: 3 -> 4\. "):
        small.make(job("seed=4"), bundle, report.out)


def test_one_bad_row_is_rejected_with_its_reason_and_ends_nothing(
    local_ray: Any, bundle: Bundle, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GeneratePlan, "save_captions", _spoil(GeneratePlan.save_captions))
    report = small.make(job("gates.identity=-1"), bundle, tmp_path / "out")

    assert report.rejected == 1
    refused = pq.read_table(tmp_path / "out" / "rejects").to_pylist()
    assert {row["reject"] for row in refused} == {"error in visible: ValueError: a caption that cannot be drawn"}
    assert refused[0]["visible"] is None


def _spoil(save: Callable[..., None]) -> Callable[..., None]:
    def saved(self: Any, chunk: int, captions: list[str], *rest: Any) -> None:
        save(self, chunk, [captions[0], "BAD", *captions[2:]] if chunk == 0 else captions, *rest)

    return saved


def test_a_run_that_rejects_nearly_everything_stops_early(
    local_ray: Any, bundle: Bundle, job: Job, tmp_path: Path
) -> None:
    hopeless = job("gates.detection=1.0", "gates.celsius=[0, 1]", "stop.first_samples=8", "identities.count=12")
    with pytest.raises(EnvironmentFault, match="samples were rejected"):
        small.make(hopeless, bundle, tmp_path / "out")
    assert list_finished(Storage(tmp_path / "out"))  # what was found out is kept
