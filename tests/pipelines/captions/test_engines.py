"""Real vLLM on real Ray: what an engine writes, reads and sees, and how engines fail."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models.captions.answers import look_schema
from models.captions.prompt import look_messages
from models.captions.reading import disagreements
from models.errors import EnvironmentFault
from models.stages import CAPTIONS
from models.weights.bundle import Bundle, Part
from models.weights.store import seal
from pipelines.captions.engine import EngineSpec
from pipelines.captions.keys import Keys
from pipelines.captions.look import LASTING, UNCLEAR, read_look, to_address
from pipelines.captions.pool import Engines
from pipelines.captions.read import ask_reading, parse_reading, read_by_words
from pipelines.captions.resident import Structured
from pipelines.captions.write import Chunk, look_texts, write_texts
from pipelines.config.job import GenerateJob
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan
from pipelines.storage.uri import Storage
from tests.pipelines import small
from tests.pipelines.captions.conftest import ENGINES, run_engines
from tests.pipelines.captions.test_look import BLUE, RED, people, picture
from tests.pipelines.captions.vision_model import write_vision_model

pytestmark = pytest.mark.slow
Job = Callable[..., GenerateJob]
COLOURS = (RED, BLUE, (250, 250, 250), (10, 10, 10), (30, 220, 30), (128, 128, 128))


@pytest.fixture(scope="module")
def pool(local_ray: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """One engine that writes as the starter's and looks at pictures, too: each start takes half a minute."""
    weights = write_vision_model(tmp_path_factory.mktemp("vision-model"))
    with run_engines(EngineSpec(Part(kind="vllm", weights=weights, licence="apache-2.0"), "", ENGINES)) as engines:
        yield engines


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
    monkeypatch.setattr(Chunk, "requests", lambda self, pairs: [({"sex": "woman " * 20000}, 1) for _ in pairs])
    with pytest.raises(EnvironmentFault, match=r"answered none of 8 requests .*captions=template"):
        write_by(pool, plan)


def test_a_prompt_is_read_in_its_own_words(pool: Engines) -> None:
    """What the tables find in it stands; of its other words the model keeps some, in their order."""
    prompt = "a bloke with whiskers, grinning from ear to ear"
    (written,) = pool.collect(pool.submit([ask_reading(prompt, ["warm", "cold"])]))
    reading = parse_reading(written.text, prompt, ["warm", "cold"])
    assert reading is not None and reading.source == "llm"
    certain = read_by_words(prompt, ["warm", "cold"]).attributes
    assert certain and {name: reading.attributes.get(name) for name in certain} == certain
    words = iter(prompt.replace(",", "").split())
    assert all(word in words for word in reading.also.replace(",", "").split())


def test_what_is_seen_is_in_its_schema_and_depends_on_the_picture(pool: Engines) -> None:
    """Together the prompts are longer than what an engine computes at once; those with a seed must not be cut for it."""
    addresses = [to_address(picture(colour)) for colour in COLOURS]
    likeliest, drawn = (
        [Structured(look_messages(LASTING, one), 1, look_schema(LASTING), temperature) for one in addresses]
        for temperature in (0.0, None)
    )
    answers = [one.text for one in pool.collect(pool.submit([*likeliest, *drawn, *likeliest]))]
    assert all(read_look(text) is not None for text in answers)
    assert answers[: len(COLOURS)] == answers[-len(COLOURS) :]
    assert len(set(answers[: len(COLOURS)])) > 1  # nothing else differs: neither seed nor words


def test_people_are_described_as_the_model_says_they_look(pool: Engines, bundle: Bundle, tmp_path: Path) -> None:
    """Of three people one has no picture; of the others words come from the model, and the captions state them."""
    source = people(tmp_path / "people.parquet", [picture(RED), picture(BLUE), None])
    weights = str(pool.spec.weights)
    chosen = small.with_part(bundle, CAPTIONS, kind="vllm", weights=weights, licence="apache-2.0")
    job = small.job("captions={backend: llm, mode: look}", f"identities.source={source}", "identities.count=null")
    plan = write_generate_plan(job, chosen, Storage(tmp_path / "out"))
    look_texts(plan, pool, Keys(), time.monotonic(), lambda written: None)
    rows = [
        {**row, **found}
        for k in range(plan.partitions)
        for row, found in zip(plan.sample_table(k).to_pylist(), plan.captions(k).to_pylist(), strict=True)
    ]
    assert len(rows) == 12
    for row in rows:
        words, sources = json.loads(row["attributes"]), json.loads(row["attributes_source"])
        seen = {name for name in LASTING if sources[name] == "estimated"}
        assert disagreements(row["caption"], words) == {}
        assert all(words[name] in LASTING[name] and words[name] != UNCLEAR for name in seen)
        # Hair and beard are read off no embedding: they were seen, or are as if nobody had looked.
        assert row["identity_id"] != "p2" or not seen & {"hair_style", "beard"}
    sources = [json.loads(row["attributes_source"]) for row in rows]
    assert any("estimated" in (one["hair_style"], one["beard"]) for one in sources)
