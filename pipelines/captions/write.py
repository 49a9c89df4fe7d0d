"""The captions of a plan: written chunk after chunk, checked, de-duplicated, committed in order.

A caption is taken when a reader finds the attributes in it and no other sample of the run has the same words. A sample
whose caption is not taken is asked for again with another seed; after `attempts` tries the grammar writes it, and the
plan says so. What the plan holds is what the pictures are made from: later runs read it and ask no engine again.
"""

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from models.captions.measure import normalise_text
from models.errors import EnvironmentFault
from models.seeds import seed_of
from pipelines.captions.choose import Texts, append_words, choose, templates
from pipelines.captions.engine import text_seed
from pipelines.captions.invent import invent_samples
from pipelines.captions.keys import Keys
from pipelines.captions.look import find_shown, show_people
from pipelines.captions.resident import Answers, Request, Structured
from pipelines.captions.writers import Writers, open_writers
from pipelines.config.captions import INVENT, LOOK, TEMPLATE
from pipelines.config.profile import CaptionEngines
from pipelines.plan.attributes import Vocabulary
from pipelines.plan.generate import REFERENCE, GeneratePlan

Progress = Callable[[int, int], None]
"""Called with (first texts written, samples that lacked a caption): at once, and with every batch."""


def ignore_progress(written: int, asked: int) -> None:
    """Tell nobody."""


@dataclass
class Chunk:
    """Samples whose captions are committed together."""

    number: int
    asked: list[dict[str, str]]
    seeds: list[int]
    first: Answers
    """What will hold the first text of each."""

    def requests(self, pairs: Iterable[tuple[int, int]]) -> list[Request]:
        """Return what an engine is asked for (sample, attempt) pairs."""
        return [(self.asked[k], text_seed(self.seeds[k], attempt)) for k, attempt in pairs]


def write_captions(
    plan: GeneratePlan,
    engines: CaptionEngines,
    progress: Progress = ignore_progress,
    stopped: threading.Event | None = None,
) -> dict[str, int]:
    """Write the captions that `plan` lacks and return how many came from where (`llm`, `grammar`, `template`).

    stopped: an event that ends it between two looks, by Interrupted.

    Raises:
        EnvironmentFault: the weights are missing, or the engine or server fails or answers nothing; chunks before are kept.
        UserError: the bundle's options are wrong, or the server refuses the key or has no such model.
    """
    there = plan.list_captioned()
    if all(chunk in there for chunk, _ in plan.chunks()):
        return {}
    missing = sum(plan.rows(k) for chunk, partitions in plan.chunks() if chunk not in there for k in partitions)
    writers, taken = open_writers(plan.job, plan.bundle, engines, stopped), read_taken(plan)
    if writers is None:
        return _write_templates(plan, taken, lambda written: progress(written, missing))
    # Engines start now, which takes a while.
    progress(0, missing)
    began = time.monotonic()
    with writers as pool:
        write = {INVENT: invent_texts, LOOK: look_texts}.get(plan.job.captions.mode, write_texts)
        return write(plan, pool, taken, began, lambda written: progress(written, missing))


def _write_templates(plan: GeneratePlan, taken: Keys, progress: Callable[[int], None]) -> dict[str, int]:
    count, also = 0, plan.job.captions.also
    progress(0)
    for chunk in _chunks(plan):
        began = time.monotonic()
        captions = [append_words(text, also) for text in templates(chunk.asked, chunk.seeds, taken)]
        plan.save_captions(chunk.number, captions, [TEMPLATE] * len(captions), time.monotonic() - began)
        count += len(captions)
        progress(count)
    return {TEMPLATE: count}


def write_texts(
    plan: GeneratePlan, pool: Writers, taken: Keys, began: float, progress: Callable[[int], None]
) -> dict[str, int]:
    """Write what is missing by a pool of engines: asked ahead, chosen and committed in order.

    began: monotonic seconds at which the engines were started. progress: called with the first texts so far.
    """
    # Chunk after chunk: what one takes, no later one may.
    counts, options, also = Counter[str](), pool.spec.options, plan.job.captions.also
    for chunk in _ask_ahead(plan, pool, progress):

        def write(wanted: Sequence[tuple[int, int]], chunk: Chunk = chunk) -> Texts:
            first = wanted[0][1] == 0
            written = pool.collect(chunk.first if first else pool.submit(chunk.requests(wanted)))
            texts = {pair: one.text for pair, one in zip(wanted, written, strict=True) if one.text}
            if not texts and first and len(wanted) > 1:  # one may be odd, all of them are a fault
                raise EnvironmentFault(_no_answer(pool, len(wanted)))
            return texts

        captions, sources = choose(chunk.asked, chunk.seeds, write, options, taken)
        counts.update(sources)
        captions = [append_words(text, also) for text in captions]
        plan.save_captions(chunk.number, captions, sources, time.monotonic() - began)
        began = time.monotonic()
    return dict(counts)


def invent_texts(
    plan: GeneratePlan, pool: Writers, taken: Keys, began: float, progress: Callable[[int], None]
) -> dict[str, int]:
    """Invent attributes and captions of the chunks that have none, as `write_texts` writes captions.

    Nothing is asked ahead: what a later sample may choose depends on what an earlier one chose.
    """
    counts, done = Counter[str](), 0
    vocabulary = Vocabulary(plan.job.views.attributes)

    for number, samples in plan.read_uncaptioned():
        rows, before = samples.to_pylist(), _rows_before(plan, number)
        held = plan.job.views.said_words
        found = invent_samples(rows, vocabulary, partial(_ask, pool), pool.spec.options, taken, before, held)
        counts.update(one.source for one in found)
        words = {
            "attributes": [json.dumps(one.attributes) for one in found],
            "attributes_source": [one.attributes_source for one in found],
        }
        captions, sources = [one.caption for one in found], [one.source for one in found]
        plan.save_captions(number, captions, sources, time.monotonic() - began, words)
        began, done = time.monotonic(), done + len(found)
        progress(done)
    return dict(counts)


def look_texts(
    plan: GeneratePlan, pool: Writers, taken: Keys, began: float, progress: Callable[[int], None]
) -> dict[str, int]:
    """Look at the pictures of people, chunk after chunk, and describe what they show, as `write_texts` writes captions."""
    counts, done, also = Counter[str](), 0, plan.job.captions.also
    for number, samples in plan.read_uncaptioned():
        # What the pictures show; a person whom a limit cut is as in the chunk before.
        rows, people = samples.to_pylist(), (plan.identity_table(k) for k in plan.partitions_of(number))
        pictures = {one["identity_id"]: one[REFERENCE] for table in people for one in table.to_pylist()}
        shown = find_shown(rows, pictures, partial(_ask, pool), pool.spec.options, _rows_before(plan, number))
        words, sources_of = show_people(rows, shown)
        # Captions of it.
        chunk = Chunk(number, words, [row["seed"] for row in rows], [])

        def write(wanted: Sequence[tuple[int, int]], chunk: Chunk = chunk) -> Texts:
            texts = pool.collect(pool.submit(chunk.requests(wanted)))
            return {pair: one.text for pair, one in zip(wanted, texts, strict=True) if one.text}

        captions, sources = choose(chunk.asked, chunk.seeds, write, pool.spec.options, taken)
        counts.update(sources)
        captions = [append_words(text, also) for text in captions]
        columns = {"attributes": [json.dumps(one) for one in words], "attributes_source": sources_of}
        plan.save_captions(number, captions, sources, time.monotonic() - began, columns)
        began, done = time.monotonic(), done + len(rows)
        progress(done)
    return dict(counts)


def _ask(pool: Writers, requests: Sequence[Structured]) -> list[str]:
    """Return the answers. Raises an EnvironmentFault where several requests have none."""
    texts = [one.text for one in pool.collect(pool.submit(requests))]
    if len(texts) > 1 and not any(texts):
        raise EnvironmentFault(_no_answer(pool, len(texts)))
    return texts


def _rows_before(plan: GeneratePlan, chunk: int) -> list[dict[str, Any]]:
    """Return the finished rows of the person whom a limit cut, so that they stand before `chunk` and in it."""
    partition = plan.partitions_of(chunk).start
    person, rows = plan.sample_table(partition)["identity_id"][0].as_py(), list[dict[str, Any]]()
    for earlier in range(partition - 1, -1, -1):
        samples, captions = plan.sample_table(earlier).to_pylist(), plan.captions(earlier).to_pylist()
        own = [{**row, **words} for row, words in zip(samples, captions, strict=True) if row["identity_id"] == person]
        if not own:
            break
        rows = [*own, *rows]
    return rows


def _no_answer(pool: Writers, count: int) -> str:
    return f"captions: {pool.spec.name} answered none of {count} requests {pool.hint}"


def _ask_ahead(plan: GeneratePlan, pool: Writers, progress: Callable[[int], None]) -> Iterator[Chunk]:
    """Yield the chunks in order, their first texts asked for so far ahead that no engine waits while others are chosen."""
    lock, done = threading.Lock(), 0

    def count(answered: int) -> None:
        nonlocal done
        with lock:
            done += answered
            progress(done)

    # Ask until every engine has enough to do; only then is the first chunk waited for, chosen and committed.
    ahead = deque[Chunk]()
    for chunk in _chunks(plan):
        chunk.first = pool.submit(chunk.requests((k, 0) for k in range(len(chunk.asked))), count)
        ahead.append(chunk)
        while ahead and pool.busy:
            yield ahead.popleft()
    yield from ahead


def _chunks(plan: GeneratePlan) -> Iterator[Chunk]:
    """Yield what is asked for in each chunk that has no captions yet."""
    for number, samples in plan.read_uncaptioned():
        yield Chunk(
            number, [json.loads(text) for text in samples["attributes"].to_pylist()], samples["seed"].to_pylist(), []
        )


def read_taken(plan: GeneratePlan) -> Keys:
    """Return the keys of the captions that are committed already."""
    keys = Keys()
    for chunk in sorted(plan.list_captioned()):
        for text in plan.captions_of(chunk):
            keys.add(seed_of(normalise_text(text)))
    return keys
