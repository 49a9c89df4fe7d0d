"""Real vLLM on real Ray: an engine that dies is started again; a run that streams captions is killed and resumed."""

import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from models.captions.sampling import draw_attributes
from models.stages import CAPTIONS
from models.weights.bundle import Bundle, load_bundle
from pipelines.captions import writers
from pipelines.captions.engine import text_seed
from pipelines.captions.pool import Engines
from pipelines.captions.write import write_captions
from pipelines.config.job import GenerateJob
from pipelines.plan.extend import write_generate_plan
from pipelines.storage.commits import list_finished
from pipelines.storage.uri import Storage
from tests.pipelines import small
from tests.pipelines.captions.conftest import children_named

pytestmark = pytest.mark.soak
Job = Callable[..., GenerateJob]
PEOPLE = "identities.count=12"
"""48 samples: 6 partitions, in chunks of 1, 2 and 3 of them."""


def test_an_engine_that_dies_is_started_again_and_asked_again(pool: Engines) -> None:
    requests = [(draw_attributes(random.Random(k % 24)), text_seed(k, 0)) for k in range(64)]
    before = pool.collect(pool.submit(requests))
    asked = pool.submit(requests)
    for engine in children_named("VLLM::EngineCore"):
        engine.kill()
    assert [one.text for one in pool.collect(asked)] == [one.text for one in before]
    assert all(one.text for one in before)


def test_pairs_come_before_the_last_caption_and_a_killed_run_keeps_every_caption(
    pool: Engines, bundle: Bundle, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real vLLM: three chunks; killed once a pair is there and captions are missing, then resumed to the end."""
    weights = str(load_bundle("starter").main(CAPTIONS))
    bundle = small.with_part(bundle, CAPTIONS, kind="vllm", weights=weights, licence="apache-2.0")
    out = Storage(tmp_path / "out")
    process = small.start_driver(DRIVER, str(Path(bundle.folder, "bundle.yaml")), out.uri)
    while process.poll() is None and not list_finished(out):
        time.sleep(0.1)
    process.kill()
    _, errors = process.communicate(timeout=60)
    chunks = {f"_plan/captions/part-{k:05d}.parquet" for k in range(3)}
    kept = {name: out.read(name) for name in chunks & set(out.list("_plan/captions"))}
    assert list_finished(out), errors
    assert 1 <= len(kept) < 3  # a pair was committed before the last caption was written

    monkeypatch.setattr(writers, "Engines", lambda spec, stopped: nullcontext(pool))  # started already
    report = small.make(job(PEOPLE, "captions=llm"), bundle, out.uri, "captions.batch=8")
    assert report.accepted + report.rejected == 48
    assert {name: out.read(name) for name in kept} == kept
    rows = pq.read_table(out.path("data")).to_pylist() + pq.read_table(out.path("rejects")).to_pylist()
    captions = {row["sample_id"]: row["caption"] for row in rows}
    assert len(captions) == len(set(captions.values())) == 48
    plan = write_generate_plan(job(PEOPLE, "captions=llm"), bundle, out)
    planned = [row["sample_id"] for k in range(plan.partitions) for row in plan.sample_table(k).to_pylist()]
    assert sorted(captions) == sorted(planned)
    assert write_captions(plan, small.profile().captions) == {}


DRIVER = """
import sys, time
from models.weights.bundle import load_bundle
from pipelines.plan.generate import GeneratePlan
from tests.pipelines import small

save = GeneratePlan.save_captions

def save_first(plan, chunk, *rest):
    if chunk:
        time.sleep(120)  # later captions are late, however fast the engine
    save(plan, chunk, *rest)

GeneratePlan.save_captions = save_first
small.register()
job, edits = small.job("identities.count=12", "captions=llm"), ("captions.batch=8", "captions.threads=1")
small.make(job, load_bundle(sys.argv[1]), sys.argv[2], *edits)
"""
