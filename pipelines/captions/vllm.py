"""vLLM behind `ray.data.llm`: attribute sets in, texts out, one engine for each call."""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from models.captions.prompt import messages
from models.errors import EnvironmentFault, UserError
from models.seeds import seed_of
from models.weights.bundle import MAIN, Part, fetch
from pipelines.config.captions import VllmOptions
from pipelines.config.profile import CaptionEngines
from pipelines.run.faults import cause_of

WAY_OUT = "Repair it and run the same command again, or write captions without a model: --set captions=template"


Texts = dict[tuple[int, int], str]
"""(sample, attempt) -> text; one that failed is absent."""
Told = Callable[[int, int], None]
"""Called with (texts written, texts asked for)."""


def silent(written: int, asked: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Written:
    """One text as it came from the engine, `seconds` after the call."""

    sample: int
    attempt: int
    text: str
    tokens: int
    seconds: float


class Engine:
    """Writes texts for attribute sets with the model of a bundle's captions part.

    A text depends on the weights, the prompt, the options and its own seed. vLLM batches requests as they come, and a
    batch of another size may round a logit differently: over thousands of texts one can come out in other words. So the
    plan keeps what was written, and nothing is ever asked for twice.

    Raises EnvironmentFault, with the way out, for weights that are missing or an engine that does not start.
    """

    def __init__(self, part: Part, folder: str, engines: CaptionEngines, options: VllmOptions) -> None:
        try:
            self.weights = fetch(part, folder)[MAIN]
        except EnvironmentFault as error:
            raise EnvironmentFault(f"captions: {error} {WAY_OUT}") from None
        self.dtype, self.engines, self.options = part.dtype, engines, options

    def texts(
        self,
        asked: Sequence[dict[str, str]],
        seeds: Sequence[int],
        wanted: Sequence[tuple[int, int]],
        told: Told = silent,
    ) -> Texts:
        """Return the texts of `wanted` (sample, attempt) pairs; samples index `asked` and `seeds`.

        Raises EnvironmentFault if the model answers none of several requests: one may be odd, all of them are a fault.
        """
        found: Texts = {}
        for row in self.write(asked, seeds, wanted):
            found[row.sample, row.attempt] = row.text
            told(len(found), len(wanted))
        if not found and len(wanted) > self.options.attempts:
            raise EnvironmentFault(
                f"captions: the model in {self.weights} answered none of {len(wanted)} requests (are the prompts longer than "
                f"its max_model_len?). {WAY_OUT}"
            )
        return found

    def write(
        self, asked: Sequence[dict[str, str]], seeds: Sequence[int], wanted: Sequence[tuple[int, int]]
    ) -> Iterator[Written]:
        """Start the engine, yield the texts as they are finished, shut it down."""
        import ray
        from ray.data.llm import build_processor

        blocks = self._requests(asked, seeds, wanted)
        context, begin = ray.data.DataContext.get_current(), time.monotonic()
        before, context.wait_for_min_actors_s = context.wait_for_min_actors_s, self.engines.start_seconds
        try:
            process = build_processor(self._config(), preprocess=_Request(self.options), postprocess=_answer)
            for row in process(ray.data.from_arrow(blocks)).iter_rows():
                if row.get("text"):  # a request that failed has none
                    passed = time.monotonic() - begin
                    yield Written(int(row["sample"]), int(row["attempt"]), row["text"], int(row["tokens"]), passed)
        except Exception as error:
            raise EnvironmentFault(
                f"captions: the vLLM engine for {self.weights} {self._failure(error)}. {WAY_OUT}"
            ) from error
        finally:
            context.wait_for_min_actors_s = before

    def _failure(self, error: Exception) -> str:
        """Return what happened to the engine, in a line."""
        import ray.exceptions

        if isinstance(error, ray.exceptions.GetTimeoutError):
            seconds = self.engines.start_seconds
            return f"did not start within {seconds} s (the machine is short of CPUs, or raise profile.captions.start_seconds)"
        cause = cause_of(error)
        if not str(cause).strip():  # Ray Data puts an empty exception at the end of the chain
            cause = error
        lines = [line for line in str(cause).splitlines() if line.strip()]
        told = [line for line in lines if re.match(r"\s*[\w.]*(Error|Exception|Fault)\b", line)] or lines
        return f"failed ({type(cause).__name__}: {told[-1].strip()[:300] if told else 'no message'})"

    def _requests(
        self, asked: Sequence[dict[str, str]], seeds: Sequence[int], wanted: Sequence[tuple[int, int]]
    ) -> list[pa.Table]:
        """Return the requests in blocks of the engine's batch, prompts rendered by the model's own chat template."""
        render = renderer(self.weights)
        prompts = {k: render(asked[k]) for k in dict.fromkeys(k for k, _ in wanted)}
        table = pa.table(
            {
                "sample": [k for k, _ in wanted],
                "attempt": [a for _, a in wanted],
                "prompt": [prompts[k] for k, _ in wanted],
                "seed": [text_seed(seeds[k], a) for k, a in wanted],
            }
        )
        return [table.slice(start, self.engines.batch) for start in range(0, len(table), self.engines.batch)]

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the vLLM engine, but for the model."""
        engine: dict[str, Any] = {"dtype": self.dtype, "max_model_len": _positions(self.weights)}
        engine |= {"enable_prefix_caching": False}  # a cached prompt is summed in another order
        if not self.engines.gpus:
            engine |= {"enforce_eager": True, "max_num_seqs": 64}
        return engine | self.options.engine

    def _config(self) -> Any:
        from ray.data.llm import vLLMEngineProcessorConfig

        bundle = {"CPU": self.engines.cpus} | ({"GPU": self.engines.gpus} if self.engines.gpus else {})
        return vLLMEngineProcessorConfig(
            model_source=str(self.weights),
            engine_kwargs=self.arguments(),
            batch_size=self.engines.batch,
            concurrency=(self.engines.engines, self.engines.engines),
            placement_group_config={"bundles": [bundle]},
            runtime_env={"env_vars": environment(self.engines)},
            should_continue_on_error=True,  # one prompt that is too long ends no run
            log_engine_metrics=False,
            # Prompts are rendered here, and the engine has its own tokenizer: no actors for these.
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
        )


class _Request:
    """Row -> what the engine stage reads."""

    def __init__(self, options: VllmOptions) -> None:
        self.sampling = sampling(options)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        seed = int(row["seed"])
        return {
            **{k: row[k] for k in ("sample", "attempt", "prompt")},
            "sampling_params": {**self.sampling, "seed": seed},
        }


def sampling(options: VllmOptions) -> dict[str, Any]:
    """Return vLLM's sampling parameters but for the seed."""
    return {name: getattr(options, name) for name in ("temperature", "top_p", "max_tokens")}


def text_seed(seed: int, attempt: int) -> int:
    """Return vLLM's seed for one attempt at the caption of a sample."""
    return seed_of(seed, "caption", attempt) % 2**31


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "sample": row["sample"],
        "attempt": row["attempt"],
        "text": row["generated_text"],
        "tokens": row["num_generated_tokens"],
    }


def _positions(weights: Path) -> int:
    """Return how many tokens of prompt and caption one request may have: 1024, or fewer if the model has fewer."""
    try:
        config = json.loads((weights / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise EnvironmentFault(f"captions: {weights / 'config.json'} cannot be read ({error}). {WAY_OUT}") from None
    return min(1024, int(config.get("max_position_embeddings", 1024)))


def environment(engines: CaptionEngines) -> dict[str, str]:
    """Return the variables of the engine's processes."""
    variables = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if not engines.gpus:
        variables |= {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_ATTN_SPLIT_KV": "0",  # sums of one sequence must not depend on its neighbours
            "OMP_NUM_THREADS": str(engines.threads),
        }
    return variables


def renderer(weights: Path) -> Callable[[dict[str, str]], str]:
    """Return what makes the prompt of an attribute set: the model's own chat template, which it must have."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(weights), local_files_only=True)
    except Exception as error:
        raise EnvironmentFault(f"captions: {weights} has no tokenizer that loads ({error}). {WAY_OUT}") from error
    if not tokenizer.chat_template:
        raise UserError(f"captions: the tokenizer in {weights} has no chat template; use an instruction-tuned model.")

    def render(attributes: dict[str, str]) -> str:
        return tokenizer.apply_chat_template(messages(attributes), tokenize=False, add_generation_prompt=True)

    return render
