"""Which caption a sample takes, what is committed, and real vLLM on real Ray."""

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest

from models.captions.grammar import write_caption
from models.captions.measure import normalise_text
from models.captions.reading import disagreements
from models.captions.sampling import draw_attributes
from models.errors import EnvironmentFault, UserError
from models.stages import CAPTIONS
from models.weights.bundle import Bundle, Part, load_bundle
from pipelines.captions import measure as measuring
from pipelines.captions.choose import Texts, choose, clean, templates
from pipelines.captions.engine import EngineSpec, text_seed
from pipelines.captions.keys import Keys
from pipelines.captions.measure import measure
from pipelines.captions.pool import Engines
from pipelines.captions.resident import Request, ResidentEngine, Written
from pipelines.captions.write import write_captions, write_texts
from pipelines.config.captions import VllmOptions, vllm_options
from pipelines.config.job import GenerateJob
from pipelines.config.profile import CaptionEngines
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan
from pipelines.storage.uri import Storage

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


def test_an_engine_is_asked_for_a_sample_by_its_attributes_and_its_own_seed() -> None:
    engine = object.__new__(ResidentEngine)
    engine.sampling = {"temperature": 0.7, "max_tokens": 60}
    chat, params = engine._asked(({"sex": "woman", "beard": "none"}, 41))
    assert "woman" in chat[-1]["content"] and params == {"temperature": 0.7, "max_tokens": 60, "seed": 41}


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


class FakePool:
    """Engines that answer at once by `answer` (attributes, seed), and keep what they were asked."""

    busy = False

    def __init__(self, answer: Callable[[dict[str, str], int], str]) -> None:
        self.spec = SimpleNamespace(options=VllmOptions(), name="the model in WEIGHTS")
        self.hint = Engines.hint
        self.answer, self.calls = answer, list[list[Request]]()

    def submit(self, requests: list[Request], progress: Callable[[int], None] = lambda answered: None) -> list[Request]:
        self.calls.append(requests)
        progress(len(requests))
        return requests

    def collect(self, asked: list[Request]) -> list[Written]:
        return [Written(self.answer(*request), 9, 0.0) for request in asked]


def llm_plan(bundle: Bundle, job: Callable[..., GenerateJob], out: Path) -> GeneratePlan:
    return write_generate_plan(job("captions=llm"), bundle, Storage(out))


def test_chunks_are_written_in_order_and_what_is_not_taken_is_asked_for_again(
    bundle: Bundle, job: Callable[..., GenerateJob], tmp_path: Path
) -> None:
    """The first texts of all chunks are asked for ahead; a later attempt has a seed of its own."""
    plan, written = llm_plan(bundle, job, tmp_path / "out"), list[int]()
    rows = {row["seed"]: row for k in range(3) for row in plan.sample_table(k).to_pylist()}
    first = [text_seed(seed, 0) for seed in rows]
    bad = set(first[::5])
    pool = FakePool(lambda words, seed: "A person." if seed in bad else write_caption(words, seed))
    taken = Keys()
    assert write_texts(plan, pool, taken, 0.0, written.append) == {"llm": 24}  # type: ignore[arg-type]
    assert written == [8, 24] and len(taken) == 24
    assert [len(call) for call in pool.calls] == [8, 16, 2, 3]
    assert [seed for call in pool.calls[:2] for _, seed in call] == first
    assert [seed for call in pool.calls[2:] for _, seed in call] == [text_seed(seed, 1) for seed in list(rows)[::5]]
    for k in range(3):
        for sample, caption in zip(plan.sample_table(k).to_pylist(), plan.captions(k).to_pylist(), strict=True):
            words, attempt = json.loads(sample["attributes"]), int(text_seed(sample["seed"], 0) in bad)
            assert caption == {
                "caption": write_caption(words, text_seed(sample["seed"], attempt)),
                "caption_source": "llm",
            }
    seconds = {chunk: took for chunk, (took, _) in plan.caption_notes().items()}
    assert list(seconds) == [0, 1] and seconds[0] > 0


def test_an_engine_that_answers_nothing_is_a_fault_and_one_odd_sample_is_none(
    bundle: Bundle, job: Callable[..., GenerateJob], tmp_path: Path
) -> None:
    plan = llm_plan(bundle, job, tmp_path / "silent")
    with pytest.raises(EnvironmentFault, match=r"the model in WEIGHTS answered none of 8 requests .*max_model_len"):
        write_texts(plan, FakePool(lambda words, seed: ""), Keys(), 0.0, lambda written: None)  # type: ignore[arg-type]
    assert plan.list_captioned() == set()
    odd = {text_seed(plan.sample_table(0)["seed"][3].as_py(), attempt) for attempt in range(3)}
    pool = FakePool(lambda words, seed: "" if seed in odd else write_caption(words, seed))
    assert write_texts(plan, pool, Keys(), 0.0, lambda written: None) == {"llm": 23, "grammar": 1}  # type: ignore[arg-type]
    assert [row["caption_source"] for row in plan.captions(0).to_pylist()].index("grammar") == 3
    alone = llm_plan(bundle, lambda edit: job(edit, "limit=1"), tmp_path / "alone")
    assert write_texts(alone, FakePool(lambda words, seed: ""), Keys(), 0.0, lambda written: None) == {  # type: ignore[arg-type]
        "grammar": 1
    }


def test_missing_weights_are_one_message_with_the_way_out(bundle: Bundle, tmp_path: Path) -> None:
    part = Part(kind="vllm", weights=str(tmp_path / "nowhere"), licence="apache-2.0")
    with pytest.raises(EnvironmentFault, match=r"nowhere does not exist.*captions=template"):
        EngineSpec(part, bundle.folder, ENGINES)


def test_what_a_caption_model_does_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three texts come together after two seconds, one two seconds later; the fifth request is not answered."""

    class Fake:
        def __init__(self, spec: EngineSpec) -> None:
            self.began = time.time()

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def submit(self, requests: Sequence[Request]) -> list[Written]:
            texts = [Written(write_caption(one[0], one[1]), 10, self.began + 2) for one in requests[:3]]
            return [*texts, Written("A man.", 30, self.began + 4), Written("", 0, self.began + 9)]

        def collect(self, answers: list[Written]) -> list[Written]:
            return answers

    monkeypatch.setattr(measuring, "Engines", Fake)
    found = measure(load_bundle("starter"), ENGINES, count=5)
    assert found["captions_agree"] == 0.6 and found["distinct"] == 1 and 0.5 < found["attributes_agree"] < 0.9
    assert found["answered"] == 0.8 and found["tokens_per_caption"] == 15
    assert found["tokens_per_second"] == pytest.approx(15) and found["start_seconds"] == pytest.approx(2, abs=0.2)


def test_a_bundle_without_a_language_model_has_none_to_measure() -> None:
    with pytest.raises(UserError, match="bundle null has no language model to measure"):
        measure(load_bundle("null"), ENGINES)
