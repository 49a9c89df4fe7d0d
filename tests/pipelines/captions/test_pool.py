"""The engines' driver side, with engines that answer at once, late, or not at all; and what engines are made with."""

import json
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.captions.prompt import messages
from models.errors import EnvironmentFault, Interrupted, UserError
from models.weights.bundle import Bundle, Part
from models.weights.store import seal
from pipelines.captions import pool
from pipelines.captions.engine import EngineSpec, environment, sampling, text_seed
from pipelines.captions.pool import Engines
from pipelines.captions.resident import Written
from pipelines.config.captions import VllmOptions
from pipelines.config.profile import CaptionEngines


class FakeEngine:
    """Keeps what it is asked; `answer` or `fail` the oldest call."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[Any], Future[Any]]] = []
        self.write = SimpleNamespace(remote=self._write)

    def _write(self, batch: list[Any]) -> SimpleNamespace:
        self.calls.append((batch, Future()))
        return SimpleNamespace(future=lambda: self.calls[-1][1])

    def answer(self) -> None:
        batch, future = self.calls.pop(0)
        future.set_result([Written(f"text {seed}", 5, 0.0) for _, seed in batch])


def engines(count: int = 2, batch: int = 3, **values: Any) -> tuple[Engines, list[FakeEngine]]:
    spec = SimpleNamespace(engines=CaptionEngines(engines=count, batch=batch, **values), weights="WEIGHTS")
    found, actors = Engines(spec), [FakeEngine() for _ in range(count)]  # type: ignore[arg-type]
    found._actors, found._open = list(actors), [0] * count
    return found, actors


def requests(count: int) -> list[tuple[dict[str, str], int]]:
    return [({}, k) for k in range(count)]


def test_batches_go_to_whoever_has_least_to_do_and_texts_come_back_in_order() -> None:
    found, (one, two) = engines()
    done = list[int]()
    answers = found.submit(requests(8), done.append)
    assert [[len(batch) for batch, _ in engine.calls] for engine in (one, two)] == [[3, 2], [3]]
    two.answer()
    assert done == [3] and found._open == [5, 0]
    more = found.submit(requests(1))
    assert found._open == [5, 1]
    for engine in (one, one, two):
        engine.answer()
    assert done == [3, 3, 2] and found._open == [0, 0]
    assert [text.text for text in found.collect(answers)] == [f"text {k}" for k in range(8)]
    assert [text.text for text in found.collect(more)] == ["text 0"]


def test_engines_are_busy_with_four_batches_each() -> None:
    found, _ = engines()
    found.submit(requests(23))
    assert not found.busy
    found.submit(requests(1))
    assert found.busy


def test_what_an_engine_fails_by_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "TICK", 0.01)
    for error, message in (
        (
            ValueError("trace\nValueError: too long\nmore"),
            r"engine for WEIGHTS failed \(ValueError: ValueError: too long\)",
        ),
        (ValueError("one\ntwo"), r"failed \(ValueError: two\)\. Repair it"),
        (ValueError(" "), "no message"),
        (UserError("captions: no chat template"), "^captions: no chat template$"),
        (UserError("other"), r"failed \(UserError: other\)"),
    ):
        found, (one, _) = engines()
        answers = found.submit(requests(4))
        one.calls[0][1].set_exception(error)
        with pytest.raises(UserError, match=message):
            found.collect(answers)


def test_a_wait_ends_with_the_run_or_when_an_engine_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "TICK", 0.01)
    found, _ = engines(start_seconds=7)
    answers = found.submit(requests(1))
    with pytest.raises(EnvironmentFault, match=r"did not start within 7 s .*raise profile.captions.start_seconds"):
        found._wait(answers, time.monotonic() - 1)
    found.stopped.set()
    with pytest.raises(Interrupted, match="the run has ended"):
        found.collect(answers)
    stopped = threading.Event()
    assert Engines(found.spec, stopped).stopped is stopped


def weights(folder: Path, **config: Any) -> Part:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    seal(folder)
    return Part(kind="vllm", weights=str(folder), licence="mit", dtype="bfloat16")


@pytest.mark.parametrize(("config", "tokens"), [({}, 2048), ({"max_position_embeddings": 256}, 256),
                                                ({"max_position_embeddings": 4096}, 2048)])  # fmt: skip
def test_what_an_engine_is_made_with(config: dict[str, int], tokens: int, tmp_path: Path) -> None:
    part = weights(tmp_path / "model", **config)
    shared = {"model": str(tmp_path / "model"), "dtype": "bfloat16", "max_model_len": tokens}
    shared |= {"disable_log_stats": True, "enable_prefix_caching": False}
    shared |= {"structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True}}
    cpu, gpu = (EngineSpec(part, "", CaptionEngines(gpus=count, threads=3)) for count in (0, 1))
    of_cpus = {"enforce_eager": True, "max_num_seqs": 64, "enable_chunked_prefill": False}
    assert cpu.arguments() == shared | of_cpus
    assert gpu.arguments() == shared
    assert environment(gpu.engines) == {
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING",
    }  # fmt: skip
    assert (
        environment(cpu.engines)["OMP_NUM_THREADS"] == "3" and environment(cpu.engines)["VLLM_CPU_ATTN_SPLIT_KV"] == "0"
    )
    own = part.model_copy(update={"options": {"engine": {"max_model_len": 99}, "temperature": 1.5}})
    assert EngineSpec(own, "", CaptionEngines()).arguments()["max_model_len"] == 99
    assert sampling(EngineSpec(own, "", CaptionEngines()).options) == {
        "temperature": 1.5,
        "top_p": 1.0,
        "max_tokens": 110,
    }
    (tmp_path / "model" / "config.json").write_text("{")
    with pytest.raises(EnvironmentFault, match=r"config\.json cannot be read .*captions=template"):
        cpu.arguments()


def test_prompts_are_made_by_the_models_own_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Any]()

    def apply(chat: list[dict[str, str]], **how: Any) -> str:
        asked.append((chat, how))
        return "prompt"

    def load(folder: str, local_files_only: bool = False) -> Any:
        if tokenizer.broken:
            raise OSError("no tokenizer.json")
        return tokenizer if local_files_only and folder == str(tmp_path / "model") else None

    # Importing the library itself takes seconds.
    monkeypatch.setitem(
        sys.modules, "transformers", SimpleNamespace(AutoTokenizer=SimpleNamespace(from_pretrained=load))
    )
    tokenizer = SimpleNamespace(chat_template="{}", apply_chat_template=apply, broken=False)
    spec = EngineSpec(weights(tmp_path / "model"), "", CaptionEngines())
    assert spec.renderer()(messages({"sex": "man"})) == "prompt"
    ((chat, how),) = asked
    assert how == {"tokenize": False, "add_generation_prompt": True}  # the answer begins where the prompt ends
    assert chat[0]["role"] == "user" and chat[0]["content"].endswith("\n\n- sex: man")
    tokenizer.broken = True
    with pytest.raises(EnvironmentFault, match=r"has no tokenizer that loads \(no tokenizer.json\)"):
        spec.renderer()
    tokenizer.broken, tokenizer.chat_template = False, ""
    with pytest.raises(UserError, match="no chat template; use an instruction-tuned model"):
        spec.renderer()


def test_seeds_of_texts_are_of_the_attempt_and_fit_vllm() -> None:
    seeds = {text_seed(seed, attempt) for seed in range(20) for attempt in range(3)}
    assert len(seeds) == 60 and all(0 <= seed < 2**31 for seed in seeds)
    assert text_seed(7, 0) == 430205887


def test_options_are_read_of_the_part(bundle: Bundle) -> None:
    assert EngineSpec(bundle.part("captions"), bundle.folder, CaptionEngines()).options == VllmOptions()
