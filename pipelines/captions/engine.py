"""What an engine of a language model is made with: weights, arguments, variables of its process, prompts, seeds."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from models.errors import EnvironmentFault, UserError
from models.seeds import seed_of
from models.weights.bundle import MAIN, Part, fetch
from pipelines.config.captions import CONFIG, VllmOptions, takes_images, vllm_options
from pipelines.config.profile import CaptionEngines

WAY_OUT = (
    "Repair it and run the same command again, or write captions without a model into another folder: "
    "--set captions=template --out FOLDER"
)
MOST_TOKENS = 2048
"""Of prompt and answer together: a free prompt comes with the whole vocabulary."""
TOKENS_OF_PICTURE = 4096
"""Beside them, of the one picture that a request may have: tiles of a picture of 512 pixels take up to 2,900 tokens."""


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
        config = _read_config(self.weights)
        engine: dict[str, Any] = {"model": str(self.weights), "dtype": self.dtype}
        engine |= {"max_model_len": _positions(config), "disable_log_stats": True}
        if takes_images(config):  # one picture a request, which no later one asks for again
            engine |= {"limit_mm_per_prompt": {"image": 1, "video": 0}, "mm_processor_cache_gb": 0}
        engine |= {"enable_prefix_caching": False}  # a cached prompt is summed in another order
        engine |= {"structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True}}
        if not self.engines.gpus:
            engine |= {"enforce_eager": True, "max_num_seqs": 64}
            # Of a prompt in pieces vLLM turns the seeded generator back, which torch's for CPUs cannot: the engine dies.
            engine |= {"enable_chunked_prefill": False}
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
        # Older vision language models keep the template in a file of their processor.
        of_processor = self.weights / "chat_template.json"
        if not tokenizer.chat_template and of_processor.is_file():
            tokenizer.chat_template = json.loads(of_processor.read_text())["chat_template"]
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


def _read_config(weights: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((weights / CONFIG).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise EnvironmentFault(f"captions: {weights / CONFIG} cannot be read ({error}). {WAY_OUT}") from None


def _positions(config: Mapping[str, Any]) -> int:
    """Return how many tokens of prompt, picture and caption one request may have; fewer where the model has fewer."""
    most = MOST_TOKENS + (TOKENS_OF_PICTURE if takes_images(config) else 0)
    # A vision language model keeps the language model's own configuration below its own.
    positions = config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")
    return min(most, int(positions or most))
