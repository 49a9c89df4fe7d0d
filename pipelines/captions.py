"""Phase 1 of a generate job: a caption for every sample, written by vLLM, checked, de-duplicated, committed to the plan.

A caption is taken when a reader finds the attributes in it and no other sample of the run has the same words. A sample
whose caption is not taken is asked for again with another seed; after `attempts` tries the grammar writes it, and the
plan says so. What the plan holds is what the pictures are made from: later runs read it and ask no engine again.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.bundle import Bundle, Part, fetch
from models.captions import grammar
from models.captions.measure import normalised
from models.captions.prompt import messages
from models.captions.reading import disagreements
from models.errors import EnvironmentFault, UserError
from models.seeds import seed_of
from pipelines.faults import cause_of
from pipelines.plan import Plan
from pipelines.profile import CaptionEngines

LLM, GRAMMAR, TEMPLATE = "llm", "grammar", "template"
"""Who wrote a caption: the language model; the grammar in its place; the grammar because the job asks for templates."""
WAVE = 65_536
"""Samples between two commits: an engine is started once or twice for each wave."""
FEW = 2_048
"""Below so many samples all attempts are written at once, which is quicker than starting an engine again."""


class CaptionOptions(BaseModel):
    """`options` of a bundle's captions part."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(default=0.9, gt=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=110, ge=8)
    attempts: int = Field(default=3, ge=1, le=16)
    """Captions asked for one sample before the grammar writes it."""
    stated: float = Field(default=1.0, ge=0, le=1)
    """Share of the attributes that the reader must find in a caption."""
    engine: dict[str, Any] = {}
    """Further arguments of the vLLM engine (max_model_len, quantization, ...)."""


Texts = dict[tuple[int, int], str]
"""(sample, attempt) -> text"""
Write = Callable[[Sequence[tuple[int, int]]], Texts]


def write_captions(plan: Plan, engines: CaptionEngines) -> dict[str, int]:
    """Write the captions that `plan` lacks and return how many came from where (`llm`, `grammar`, `template`).

    Raises:
        EnvironmentFault: the weights are missing or the engine fails; captions of earlier waves are kept.
        UserError: the bundle's options are wrong.
    """
    part, counts = plan.bundle.captions, Counter[str]()
    options = caption_options(part)
    open_chunks = list(plan.uncaptioned())
    taken = _taken(plan, {chunk for chunk, _ in open_chunks}) if open_chunks else set()
    for wave in _waves(open_chunks):
        table = pa.concat_tables(samples for _, samples in wave)
        asked = [json.loads(text) for text in table["attributes"].to_pylist()]
        seeds = table["seed"].to_pylist()
        if plan.job.captions == TEMPLATE or part.kind == TEMPLATE:
            captions, sources = templates(asked, seeds, taken), [TEMPLATE] * len(asked)
        else:
            writer = Engine(part, plan.bundle, engines, options).writer(asked, seeds)
            captions, sources = choose(asked, seeds, writer, options, taken)
        counts.update(sources)
        start = 0
        for chunk, samples in wave:
            end = start + len(samples)
            plan.save_captions(chunk, captions[start:end], sources[start:end])
            start = end
    return dict(counts)


def caption_options(part: Part) -> CaptionOptions:
    """Return the options of a captions part; a UserError names the one that is wrong."""
    try:
        return CaptionOptions.model_validate(part.options)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"captions.options.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def templates(asked: Sequence[dict[str, str]], seeds: Sequence[int], taken: set[int]) -> list[str]:
    """Return a caption of the grammar for each sample, none of them in `taken` (which grows by them) if it can be helped."""
    captions = []
    for attributes, seed in zip(asked, seeds, strict=True):
        tries = (grammar.caption(attributes, seed_of(seed, "grammar", k)) for k in range(8))
        captions.append(next((text for text in tries if _take(text, taken)), grammar.caption(attributes, seed)))
    return captions


def choose(
    asked: Sequence[dict[str, str]], seeds: Sequence[int], write: Write, options: CaptionOptions, taken: set[int]
) -> tuple[list[str], list[str]]:
    """Return (captions, sources) of the samples with `asked` attributes.

    Attempt after attempt, in plan order, a sample takes the first text that states its attributes and is not `taken`.
    So the choice depends on the texts alone, never on how many of them an engine was asked for at once.
    """
    captions: dict[int, str] = {}
    texts: Texts = {}
    for attempt in range(options.attempts):
        waiting = [k for k in range(len(asked)) if k not in captions]
        if not waiting:
            break
        if attempt == 0 or (waiting[0], attempt) not in texts:
            ahead = options.attempts if len(waiting) <= FEW else attempt + 1
            texts = write([(k, a) for k in waiting for a in range(attempt, ahead)])
        for k in waiting:
            text = cleaned(texts.get((k, attempt), ""))
            if _states(text, asked[k], options.stated) and _take(text, taken):
                captions[k] = text
    left = [k for k in range(len(asked)) if k not in captions]
    filled = dict(zip(left, templates([asked[k] for k in left], [seeds[k] for k in left], taken), strict=True))
    whole = [captions.get(k) or filled[k] for k in range(len(asked))]
    return whole, [LLM if k in captions else GRAMMAR for k in range(len(asked))]


def cleaned(text: str) -> str:
    """Return `text` on one line, without the quotation marks that chat models like to put around an answer."""
    return " ".join(text.split()).strip("\"'“” ")


def _states(text: str, attributes: dict[str, str], share: float) -> bool:
    """Whether `text` is finished (a cut one has no full stop) and states at least `share` of `attributes`."""
    said = grammar.statable(attributes)
    return text.endswith((".", "!")) and len(disagreements(text, attributes)) <= (1 - share) * len(said) + 1e-9


def _take(text: str, taken: set[int]) -> bool:
    key = seed_of(normalised(text))
    if key in taken:
        return False
    taken.add(key)
    return True


def _taken(plan: Plan, open_chunks: set[int]) -> set[int]:
    """Return the keys of the captions that are committed already."""
    there = [k for k in range(plan.partitions) if k // plan.partitions_per_chunk not in open_chunks]
    return {seed_of(normalised(text)) for k in there for text in plan.captions(k)["caption"].to_pylist()}


def _waves(chunks: Iterable[tuple[int, pa.Table]]) -> Iterator[list[tuple[int, pa.Table]]]:
    wave: list[tuple[int, pa.Table]] = []
    for chunk in chunks:
        wave.append(chunk)
        if sum(len(samples) for _, samples in wave) >= WAVE:
            yield wave
            wave = []
    if wave:
        yield wave


class Engine:
    """vLLM behind `ray.data.llm`: started for one call of the writer, shut down after it."""

    def __init__(self, part: Part, bundle: Bundle, engines: CaptionEngines, options: CaptionOptions) -> None:
        try:
            self.weights = fetch(part, bundle)
        except EnvironmentFault as error:
            raise EnvironmentFault(f"captions: {error} {WAY_OUT}") from None
        self.dtype, self.engines, self.options = part.dtype, engines, options

    def writer(self, asked: Sequence[dict[str, str]], seeds: Sequence[int]) -> Write:
        """Return the function that writes texts for (sample, attempt) pairs; a text that failed is absent."""
        prompt = _prompter(self.weights)

        def write(wanted: Sequence[tuple[int, int]]) -> Texts:
            prompts = {k: prompt(asked[k]) for k in dict.fromkeys(k for k, _ in wanted)}
            rows = pa.table(
                {
                    "sample": [k for k, _ in wanted],
                    "attempt": [a for _, a in wanted],
                    "prompt": [prompts[k] for k, _ in wanted],
                    # vLLM takes any integer; 31 bits fit every generator.
                    "seed": [seed_of(seeds[k], "caption", a) % 2**31 for k, a in wanted],
                }
            )
            return self._run(rows)

        return write

    def _run(self, rows: pa.Table) -> Texts:
        import ray
        from ray.data.llm import build_processor

        batch = self.engines.batch
        blocks = [rows.slice(start, batch) for start in range(0, len(rows), batch)]
        sampling = {
            "temperature": self.options.temperature,
            "top_p": self.options.top_p,
            "max_tokens": self.options.max_tokens,
        }
        context = ray.data.DataContext.get_current()
        before, context.wait_for_min_actors_s = context.wait_for_min_actors_s, self.engines.start_seconds
        try:
            process = build_processor(
                self._config(),
                preprocess=lambda row: {
                    "sample": row["sample"],
                    "attempt": row["attempt"],
                    "prompt": row["prompt"],
                    "sampling_params": {**sampling, "seed": int(row["seed"])},
                },
                postprocess=lambda row: {
                    "sample": row["sample"],
                    "attempt": row["attempt"],
                    "text": row["generated_text"],
                },
            )
            found = process(ray.data.from_arrow(blocks)).iter_rows()
            return {(int(r["sample"]), int(r["attempt"])): r["text"] for r in found if r.get("text")}
        except Exception as error:
            cause = cause_of(error)
            text = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
            raise EnvironmentFault(
                f"captions: the vLLM engine for {self.weights} failed ({type(cause).__name__}: {text[:300]}). {WAY_OUT}"
            ) from error
        finally:
            context.wait_for_min_actors_s = before

    def _config(self) -> Any:
        from ray.data.llm import vLLMEngineProcessorConfig

        cpu = not self.engines.gpus
        engine: dict[str, Any] = {
            "dtype": self.dtype,
            "max_model_len": _positions(self.weights),
            "enable_prefix_caching": False,
        }
        if cpu:
            engine |= {"enforce_eager": True, "max_num_seqs": 64}
        bundle = {"CPU": self.engines.cpus} | ({} if cpu else {"GPU": self.engines.gpus})
        return vLLMEngineProcessorConfig(
            model_source=str(self.weights),
            engine_kwargs=engine | self.options.engine,
            batch_size=self.engines.batch,
            concurrency=(self.engines.engines, self.engines.engines),
            placement_group_config={"bundles": [bundle]},
            runtime_env={"env_vars": _environment(cpu, self.engines.threads)},
            should_continue_on_error=True,  # one prompt that is too long ends no run
            log_engine_metrics=False,
            # Prompts are rendered by the driver, and the engine has its own tokenizer.
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
        )


WAY_OUT = "Repair it and run the same command again, or write captions without a model: --set captions=template"


def _positions(weights: Path) -> int:
    """Return how many tokens of prompt and caption an engine holds for one request: 1024, or fewer if the model has fewer."""
    try:
        config = json.loads((weights / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise EnvironmentFault(f"captions: {weights / 'config.json'} cannot be read ({error}). {WAY_OUT}") from None
    return min(1024, int(config.get("max_position_embeddings", 1024)))


def _environment(cpu: bool, threads: int) -> dict[str, str]:
    variables = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if cpu:
        variables |= {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_ATTN_SPLIT_KV": "0",  # sums of one sequence must not depend on its neighbours
            "OMP_NUM_THREADS": str(threads),
        }
    return variables


def _prompter(weights: Path) -> Callable[[dict[str, str]], str]:
    """Return attributes -> prompt, by the chat template of the model in `weights`."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(weights), local_files_only=True)
    except Exception as error:
        raise EnvironmentFault(f"captions: {weights} has no tokenizer that loads ({error}). {WAY_OUT}") from error
    if not tokenizer.chat_template:
        raise UserError(f"captions: the tokenizer in {weights} has no chat template; use an instruction-tuned model.")
    return lambda attributes: tokenizer.apply_chat_template(
        messages(attributes), tokenize=False, add_generation_prompt=True
    )
