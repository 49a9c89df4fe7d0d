"""Real vLLM on real Ray: what engines write, how they fail and come back, and a run that streams is killed and resumed."""

import contextlib
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from models.captions.reading import disagreements
from models.captions.sampling import draw_attributes
from models.errors import EnvironmentFault
from models.stages import CAPTIONS
from models.weights.bundle import Bundle, Part, load_bundle
from models.weights.store import seal
from pipelines.captions import writers
from pipelines.captions.engine import EngineSpec, text_seed
from pipelines.captions.keys import Keys
from pipelines.captions.pool import Engines
from pipelines.captions.write import Chunk, write_captions, write_texts
from pipelines.config.job import GenerateJob
from pipelines.config.profile import CaptionEngines
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan
from pipelines.storage.commits import list_finished
from pipelines.storage.uri import Storage
from tests.pipelines import small

pytestmark = pytest.mark.slow
Job = Callable[..., GenerateJob]
ENGINES = CaptionEngines(threads=1)
PEOPLE = "identities.count=12"
"""48 samples: 6 partitions, in chunks of 1, 2 and 3 of them."""


@pytest.fixture(scope="module")
def starter() -> Bundle:
    return load_bundle("starter")


def llm_plan(starter: Bundle, job: Job, bundle: Bundle, out: Path) -> GeneratePlan:
    """A plan of the small bundle whose captions the starter's model writes."""
    weights = str(starter.main(CAPTIONS))
    mixed = small.with_part(bundle, CAPTIONS, kind="vllm", weights=weights, licence="apache-2.0")
    return write_generate_plan(job("captions=llm"), mixed, Storage(out))


def test_an_engine_that_cannot_start_is_one_message_with_the_way_out(
    local_ray: Any, starter: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "captioner"
    shutil.copytree(starter.main(CAPTIONS), folder)
    (folder / "model.safetensors").write_bytes(b"no weights at all")
    seal(folder)
    part = Part(kind="vllm", weights=str(folder), licence="apache-2.0")
    with (
        pytest.raises(EnvironmentFault, match=r"vLLM engine for .*captioner failed .*captions=template"),
        Engines(EngineSpec(part, starter.folder, ENGINES)),
    ):
        pass


@pytest.fixture(scope="module")
def pool(local_ray: Any, starter: Bundle) -> Iterator[Engines]:
    """The starter's engine, for several tests: each start takes half a minute. Its own processes end with it."""
    with Engines(EngineSpec(starter.part(CAPTIONS), starter.folder, ENGINES)) as engines:
        yield engines
    gone = time.monotonic() + 20
    while children_named("VLLM::EngineCore") and time.monotonic() < gone:
        time.sleep(0.2)
    assert not children_named("VLLM::EngineCore")


def write_by(pool: Engines, plan: GeneratePlan) -> dict[str, int]:
    """Write the captions of a plan by engines that run already."""
    return write_texts(plan, pool, Keys(), time.monotonic(), lambda written: None)


def test_vllm_writes_captions_that_state_their_attributes(
    pool: Engines, starter: Bundle, bundle: Bundle, job: Job, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    plans = [llm_plan(starter, job, bundle, tmp_path / name) for name in ("first", "second")]
    counts = write_by(pool, plans[0])
    assert counts["llm"] >= 0.9 * plans[0].samples
    written = [row for k in range(plans[0].partitions) for row in plans[0].captions(k).to_pylist()]
    asked = [
        json.loads(text)
        for k in range(plans[0].partitions)
        for text in plans[0].sample_table(k)["attributes"].to_pylist()
    ]
    for row, attributes in zip(written, asked, strict=True):
        assert disagreements(row["caption"], attributes) == {}
    assert len({row["caption"] for row in written}) == len(written)
    monkeypatch.setattr(pool.spec, "engines", ENGINES.model_copy(update={"batch": 8}))
    write_by(pool, plans[1])
    again = [row for k in range(plans[1].partitions) for row in plans[1].captions(k).to_pylist()]
    assert written == again


def test_a_model_that_answers_nothing_is_a_fault(
    pool: Engines, starter: Bundle, bundle: Bundle, job: Job, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Every prompt is longer than the engine's context."""
    plan = llm_plan(starter, job, bundle, tmp_path / "out")
    monkeypatch.setattr(Chunk, "requests", lambda self, pairs: [({"sex": "woman " * 2000}, 1) for _ in pairs])
    with pytest.raises(EnvironmentFault, match=r"answered none of 8 requests .*captions=template"):
        write_by(pool, plan)


def test_an_engine_that_dies_is_started_again_and_asked_again(pool: Engines) -> None:
    requests = [(draw_attributes(random.Random(k % 24)), text_seed(k, 0)) for k in range(64)]
    before = pool.collect(pool.submit(requests))
    asked = pool.submit(requests)
    for engine in children_named("VLLM::EngineCore"):
        engine.kill()
    assert [one.text for one in pool.collect(asked)] == [one.text for one in before]
    assert all(one.text for one in before)


def children_named(name: str) -> list[psutil.Process]:
    """Processes below this one whose command begins with `name`."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline() and process.cmdline()[0].startswith(name):
                found.append(process)
    return found


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
