"""Phase 1 of a generate job: a caption for every sample, written by vLLM, checked, de-duplicated, committed to the plan.

A caption is taken when a reader finds the attributes in it and no other sample of the run has the same words. A sample
whose caption is not taken is asked for again with another seed; after `attempts` tries the grammar writes it, and the
plan says so. What the plan holds is what the pictures are made from: later runs read it and ask no engine again.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import pyarrow as pa

from models.captions import grammar
from models.captions.measure import Agreement, normalise_text
from models.captions.reading import disagreements
from models.captions.sampling import draw_attributes
from models.errors import UserError
from models.seeds import seed_of
from models.weights.bundle import Bundle
from pipelines.captions.keys import Keys
from pipelines.captions.vllm import Engine, Texts, Told, silent
from pipelines.config.captions import GRAMMAR, LLM, TEMPLATE, VllmOptions, vllm_options, writer_of
from pipelines.config.profile import CaptionEngines
from pipelines.plan.generate import GeneratePlan

WAVE = 65_536
"""Samples between two commits: an engine is started once or twice for each wave."""
FEW = 2_048
"""Below so many samples all attempts are written at once, which is quicker than starting an engine again."""


Taken = Keys | set[int]
"""Which texts a run has, as keys."""
Write = Callable[[Sequence[tuple[int, int]]], Texts]


def write_captions(plan: GeneratePlan, engines: CaptionEngines, told: Told = silent) -> dict[str, int]:
    """Write the captions that `plan` lacks and return how many came from where (`llm`, `grammar`, `template`).

    told: is called with (texts written, texts asked for) as the engine goes on.

    Raises:
        EnvironmentFault: the weights are missing or the engine fails or answers nothing; captions of earlier waves are kept.
        UserError: the bundle's options are wrong.
    """
    part, counts = writer_of(plan.bundle, plan.job.captions, plan.job.parts), Counter[str]()
    there = plan.captioned()
    if all(chunk in there for chunk, _ in plan.chunks()):
        return {}
    taken = _taken(plan, there)
    for wave in _waves(plan.uncaptioned()):
        began = time.monotonic()
        table = pa.concat_tables(samples for _, samples in wave)
        asked = [json.loads(text) for text in table["attributes"].to_pylist()]
        seeds = table["seed"].to_pylist()
        if part is None:
            captions, sources = templates(asked, seeds, taken), [TEMPLATE] * len(asked)
        else:
            options = vllm_options(part)
            engine = Engine(part, plan.bundle.folder, engines, options)
            captions, sources = choose(asked, seeds, partial(engine.texts, asked, seeds, told=told), options, taken)
        counts.update(sources)
        start, seconds = 0, (time.monotonic() - began) / len(table)
        for chunk, samples in wave:
            end = start + len(samples)
            plan.save_captions(chunk, captions[start:end], sources[start:end], seconds * len(samples))
            start = end
    return dict(counts)


def measure(bundle: Bundle, engines: CaptionEngines, count: int = 1000, seed: int = 0) -> dict[str, float]:
    """Return how the bundle's caption model does on `count` attribute sets spread over the vocabulary.

    Shares of first attempts: `captions_agree` (the reader finds every attribute), `attributes_agree` (of all asked),
    `distinct`, `answered`. `tokens_per_second` is counted between the first and the last text, `start_seconds` before.
    """
    asked = [draw_attributes(random.Random(seed_of(seed, "measure captions", k))) for k in range(count)]
    seeds = [seed_of(seed, "measure captions", k) for k in range(count)]
    part = writer_of(bundle, "llm")
    if part is None:
        raise UserError(f"bundle {bundle.name} has no language model to measure.")
    engine = Engine(part, bundle.folder, engines, vllm_options(part))
    found = {row.sample: row for row in engine.write(asked, seeds, [(k, 0) for k in range(count)])}
    agreement = Agreement()
    for k, attributes in enumerate(asked):
        agreement.add(attributes, cleaned(found[k].text) if k in found else "")
    first = min((row.seconds for row in found.values()), default=0.0)
    last = max((row.seconds for row in found.values()), default=0.0)
    tokens = sum(row.tokens for row in found.values() if row.seconds > first)
    return {
        **agreement.summary(),
        "answered": len(found) / count,
        "tokens_per_caption": sum(row.tokens for row in found.values()) / max(1, len(found)),
        "tokens_per_second": tokens / (last - first) if last > first else 0.0,
        "start_seconds": first,
    }


def templates(asked: Sequence[dict[str, str]], seeds: Sequence[int], taken: Taken) -> list[str]:
    """Return a caption of the grammar for each sample, none of them in `taken` (which grows by them) if it can be helped."""
    captions = []
    for attributes, seed in zip(asked, seeds, strict=True):
        tries = (grammar.write_caption(attributes, seed_of(seed, "grammar", k)) for k in range(8))
        captions.append(next((text for text in tries if _take(text, taken)), grammar.write_caption(attributes, seed)))
    return captions


def choose(
    asked: Sequence[dict[str, str]], seeds: Sequence[int], write: Write, options: VllmOptions, taken: Taken
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


def _take(text: str, taken: Taken) -> bool:
    key = seed_of(normalise_text(text))
    if key in taken:
        return False
    taken.add(key)
    return True


def _taken(plan: GeneratePlan, there: set[int]) -> Keys:
    """Return the keys of the captions that are committed already, those of chunks `there`."""
    keys = Keys()
    for partition in (k for chunk, partitions in plan.chunks() if chunk in there for k in partitions):
        for text in plan.captions(partition)["caption"].to_pylist():
            keys.add(seed_of(normalise_text(text)))
    return keys


def _waves(chunks: Iterable[tuple[int, pa.Table]]) -> Iterator[list[tuple[int, pa.Table]]]:
    wave: list[tuple[int, pa.Table]] = []
    for chunk in chunks:
        wave.append(chunk)
        if sum(len(samples) for _, samples in wave) >= WAVE:
            yield wave
            wave = []
    if wave:
        yield wave
