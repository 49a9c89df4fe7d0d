"""Which caption a sample takes, what is committed, and real vLLM on real Ray."""

import contextlib
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from models.captions.grammar import write_caption
from models.captions.measure import normalise_text
from models.captions.reading import disagreements
from models.captions.sampling import draw_attributes
from models.errors import EnvironmentFault, UserError
from models.stages import CAPTIONS
from models.weights.bundle import Bundle, Part, load_bundle
from models.weights.store import seal
from pipelines.captions.choose import Texts, choose, clean, templates
from pipelines.captions.engine import EngineSpec, text_seed
from pipelines.captions.keys import Keys
from pipelines.captions.pool import Engines
from pipelines.captions.write import Chunk, write_captions, write_texts
from pipelines.config.captions import VllmOptions, vllm_options
from pipelines.config.job import GenerateJob
from pipelines.config.profile import CaptionEngines
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan
from pipelines.storage.uri import Storage
from tests.pipelines import small

ENGINES = CaptionEngines(threads=1)
PEOPLE = [draw_attributes(random.Random(k)) for k in range(24)]
SEEDS = list(range(24))


def said(sample: int, attempt: int) -> str:
    """What an honest writer answers."""
    return write_caption(PEOPLE[sample], 100 * sample + attempt)


def written(
    taken: set[int], answer: Callable[[int, int], str], count: int = 24
) -> tuple[list[str], list[str], list[int]]:
    """Return captions, sources and how many texts each call asked for."""
    calls: list[int] = []

    def write(wanted: Sequence[tuple[int, int]]) -> Texts:
        calls.append(len(wanted))
        return {pair: answer(*pair) for pair in wanted}

    found, sources = choose(PEOPLE[:count], SEEDS[:count], write, VllmOptions(), taken)
    return found, sources, calls


def test_a_text_that_states_its_attributes_is_taken() -> None:
    found, sources, calls = written(set(), said)
    assert found == [said(k, 0) for k in range(24)]
    assert set(sources) == {"llm"}
    assert calls == [24]


def test_a_text_that_does_not_is_asked_for_again_and_written_by_the_grammar_in_the_end() -> None:
    def answer(sample: int, attempt: int) -> str:
        bad = sample == 3 or (sample == 5 and attempt < 2)
        return "A person." if bad else said(sample, attempt)

    found, sources, _ = written(set(), answer)
    assert found[5] == said(5, 2)
    assert sources[3] == "grammar"
    assert disagreements(found[3], PEOPLE[3]) == {}
    assert [k for k in range(24) if sources[k] != "llm"] == [3]


def test_unfinished_texts_are_not_taken() -> None:
    found, sources, _ = written(set(), lambda k, a: said(k, a).removesuffix(".") if a == 0 else said(k, a), 4)
    assert found == [said(k, 1) for k in range(4)]
    assert set(sources) == {"llm"}


def test_no_two_samples_share_a_text() -> None:
    same = [dict(PEOPLE[0])] * 6
    texts = {0: "one", 1: "two", 2: "three"}

    def write(wanted: Sequence[tuple[int, int]]) -> Texts:
        return {(k, a): f"{write_caption(PEOPLE[0], 7)[:-1]}, {texts[a]}." for k, a in wanted}

    found, sources = choose(same, SEEDS[:6], write, VllmOptions(), set())
    assert len({normalise_text(text) for text in found}) == 6
    assert sources == ["llm"] * 3 + ["grammar"] * 3


def test_only_samples_without_a_caption_are_asked_for_again() -> None:
    def answer(sample: int, attempt: int) -> str:
        return said(sample, attempt) if (sample + attempt) % 3 == 0 else "A person."

    found, sources, calls = written(set(), answer)
    assert calls == [24, 16, 8]
    assert found == [said(k, -k % 3) for k in range(24)] and set(sources) == {"llm"}


def test_templates_differ_and_state_everything() -> None:
    people = [PEOPLE[0]] * 50
    found = templates(people, range(50), set())
    assert len(set(found)) == 50
    assert all(not disagreements(text, PEOPLE[0]) for text in found)
    assert found == templates(people, range(50), set())


def test_answers_of_chat_models_are_cleaned() -> None:
    assert clean(' "A woman\nwith  green eyes." ') == "A woman with green eyes."


def test_a_wrong_option_is_named(bundle: Bundle) -> None:
    part = bundle.part(CAPTIONS).model_copy(update={"options": {"temprature": 1}})
    with pytest.raises(UserError, match="captions.options.temprature: unknown key; known here: temperature"):
        vllm_options(part)


def test_captions_are_committed_once(bundle: Bundle, job: Callable[..., GenerateJob], tmp_path: Path) -> None:
    plan = write_generate_plan(job(), bundle, Storage(tmp_path / "out"))
    assert write_captions(plan, ENGINES) == {"template": plan.samples}
    assert list(plan.read_uncaptioned()) == []
    assert write_captions(plan, ENGINES) == {}
    for k in range(plan.partitions):
        table = plan.captions(k)
        asked = [json.loads(text) for text in plan.sample_table(k)["attributes"].to_pylist()]
        for text, attributes in zip(table["caption"].to_pylist(), asked, strict=True):
            assert disagreements(text, attributes) == {}
    everything = [text for k in range(plan.partitions) for text in plan.captions(k)["caption"].to_pylist()]
    assert len(set(everything)) == len(everything)


def test_a_run_that_goes_on_knows_the_captions_that_are_there(
    bundle: Bundle, job: Callable[..., GenerateJob], tmp_path: Path
) -> None:
    first, second = (write_generate_plan(job(), bundle, Storage(tmp_path / name)) for name in ("first", "second"))
    write_captions(first, ENGINES)
    # In the second run the samples of the first chunk have what those of the next one would take.
    before = first.captions(1)["caption"].to_pylist()
    second.save_captions(0, before, ["llm"] * 8)
    assert write_captions(second, ENGINES) == {"template": 16}
    texts = [text for k in range(3) for text in second.captions(k)["caption"].to_pylist()]
    assert texts[:8] == before and len(set(map(normalise_text, texts))) == 24


@pytest.fixture(scope="module")
def starter() -> Bundle:
    return load_bundle("starter")


def llm_plan(starter: Bundle, job: Callable[..., GenerateJob], bundle: Bundle, out: Path) -> GeneratePlan:
    """A plan of the small bundle whose captions the starter's model writes."""
    weights = str(starter.main(CAPTIONS))
    mixed = small.with_part(bundle, CAPTIONS, kind="vllm", weights=weights, licence="apache-2.0")
    return write_generate_plan(job("captions=llm"), mixed, Storage(out))


@pytest.mark.slow
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
    """The starter's engine, for several tests: each start takes half a minute."""
    with Engines(EngineSpec(starter.part(CAPTIONS), starter.folder, ENGINES)) as engines:
        yield engines


def write_by(pool: Engines, plan: GeneratePlan) -> dict[str, int]:
    """Write the captions of a plan by engines that run already."""
    return write_texts(plan, pool, Keys(), time.monotonic(), lambda written: None)


@pytest.mark.slow
def test_vllm_writes_captions_that_state_their_attributes(
    pool: Engines, starter: Bundle, bundle: Bundle, job: Callable[..., GenerateJob], tmp_path: Path,
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


@pytest.mark.slow
def test_a_model_that_answers_nothing_is_a_fault(
    pool: Engines, starter: Bundle, bundle: Bundle, job: Callable[..., GenerateJob], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Every prompt is longer than the engine's context."""
    plan = llm_plan(starter, job, bundle, tmp_path / "out")
    monkeypatch.setattr(Chunk, "requests", lambda self, pairs: [({"sex": "woman " * 2000}, 1) for _ in pairs])
    with pytest.raises(EnvironmentFault, match=r"answered none of 8 requests .*captions=template"):
        write_by(pool, plan)


@pytest.mark.slow
def test_an_engine_that_dies_is_started_again_and_asked_again(pool: Engines) -> None:
    requests = [(PEOPLE[k % 24], text_seed(k, 0)) for k in range(64)]
    before = pool.collect(pool.submit(requests))
    asked = pool.submit(requests)
    for engine in children_named("VLLM::EngineCore"):
        engine.kill()
    assert [one.text for one in pool.collect(asked)] == [one.text for one in before]
    assert all(one.text for one in before)
    # Engines' own processes end with them. No later test needs these.
    pool.__exit__(None, None, None)
    gone = time.monotonic() + 20
    while children_named("VLLM::EngineCore") and time.monotonic() < gone:
        time.sleep(0.2)
    assert not children_named("VLLM::EngineCore")


def children_named(name: str) -> list[psutil.Process]:
    """Processes below this one whose command begins with `name`."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline() and process.cmdline()[0].startswith(name):
                found.append(process)
    return found


def test_missing_weights_are_one_message_with_the_way_out(bundle: Bundle, tmp_path: Path) -> None:
    part = Part(kind="vllm", weights=str(tmp_path / "nowhere"), licence="apache-2.0")
    with pytest.raises(EnvironmentFault, match=r"nowhere does not exist.*captions=template"):
        EngineSpec(part, bundle.folder, ENGINES)
