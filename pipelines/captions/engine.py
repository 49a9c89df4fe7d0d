"""What an engine of a language model is made with: weights, arguments, variables of its process, prompts, seeds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.errors import EnvironmentFault, UserError
from models.seeds import seed_of
from models.weights.bundle import MAIN, Part, fetch
from pipelines.config.captions import VllmOptions, vllm_options
from pipelines.config.profile import CaptionEngines

WAY_OUT = (
    "Repair it and run the same command again, or write captions without a model into another folder: "
    "--set captions=template --out FOLDER"
)
MOST_TOKENS = 2048
"""Of prompt and answer together: a free prompt comes with the whole vocabulary."""


class EngineSpec:
    """Everything that an engine for a bundle's captions part is made with. Small and picklable; starts nothing.

    A text depends on the weights, the prompt, the options and its own seed. vLLM batches requests as they come, and a
    batch of another size may round a logit differently: over thousands of texts one can come out in other words. So the
    plan keeps what was written, and nothing is ever asked for twice.

    Raises EnvironmentFault, with the way out, for weights that are missing, UserError for options that are wrong.
    """

    def __init__(self, part: Part, folder: str, engines: CaptionEngines) -> None:
        try:
            self.weights = fetch(part, folder)[MAIN]
        except EnvironmentFault as error:
            raise EnvironmentFault(f"captions: {error} {WAY_OUT}") from None
        self.dtype, self.engines, self.options = part.dtype, engines, vllm_options(part)

    @property
    def name(self) -> str:
        """The model in a message."""
        return f"the model in {self.weights}"

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the vLLM engine."""
        engine: dict[str, Any] = {"model": str(self.weights), "dtype": self.dtype}
        engine |= {"max_model_len": _positions(self.weights), "disable_log_stats": True}
        engine |= {"enable_prefix_caching": False}  # a cached prompt is summed in another order
        engine |= {"structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True}}
        if not self.engines.gpus:
            engine |= {"enforce_eager": True, "max_num_seqs": 64}
        return engine | self.options.engine

    def renderer(self) -> Callable[[list[dict[str, Any]]], str]:
        """Return what makes the prompt of a chat: the model's own chat template, which it must have."""
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(self.weights), local_files_only=True)
        except Exception as error:
            raise EnvironmentFault(
                f"captions: {self.weights} has no tokenizer that loads ({error}). {WAY_OUT}"
            ) from error
        if not tokenizer.chat_template:
            raise UserError(
                f"captions: the tokenizer in {self.weights} has no chat template; use an instruction-tuned model."
            )

        def render(chat: list[dict[str, Any]]) -> str:
            return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)

        return render


def sampling(options: VllmOptions) -> dict[str, Any]:
    """Return vLLM's sampling parameters but for the seed."""
    return {name: getattr(options, name) for name in ("temperature", "top_p", "max_tokens")}


def text_seed(seed: int, attempt: int) -> int:
    """Return vLLM's seed for one attempt at the caption of a sample."""
    return seed_of(seed, "caption", attempt) % 2**31


def environment(engines: CaptionEngines) -> dict[str, str]:
    """Return the variables of the engine's processes."""
    variables = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if not engines.gpus:
        variables |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the model runs in the engine's process: one start less, fewer copies
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_ATTN_SPLIT_KV": "0",  # sums of one sequence must not depend on its neighbours
            "OMP_NUM_THREADS": str(engines.threads),
        }
    return variables


def _positions(weights: Path) -> int:
    """Return how many tokens of prompt and caption one request may have: `MOST_TOKENS`, or fewer if the model has fewer."""
    try:
        config = json.loads((weights / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise EnvironmentFault(f"captions: {weights / 'config.json'} cannot be read ({error}). {WAY_OUT}") from None
    return min(MOST_TOKENS, int(config.get("max_position_embeddings", MOST_TOKENS)))
