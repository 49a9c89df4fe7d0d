"""Real vLLM on real Ray: what engines write, and how they fail."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.captions.reading import disagreements
from models.errors import EnvironmentFault
from models.stages import CAPTIONS
from models.weights.bundle import Bundle, Part
from models.weights.store import seal
from pipelines.captions.engine import EngineSpec
from pipelines.captions.keys import Keys
from pipelines.captions.pool import Engines
from pipelines.captions.write import Chunk, write_texts
from pipelines.config.job import GenerateJob
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan
from pipelines.storage.uri import Storage
from tests.pipelines import small
from tests.pipelines.captions.conftest import ENGINES

pytestmark = pytest.mark.slow
Job = Callable[..., GenerateJob]


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
