"""Captions by the language model, as a deployment: the jobs' engine, prompts, checks and fallback, kept up."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from models.weights.bundle import Part
from pipelines.captions.choose import Texts, choose
from pipelines.captions.engine import EngineSpec, text_seed
from pipelines.captions.invent import Invented, invent_samples
from pipelines.captions.read import Reading, ask_reading, explains, parse_reading, read_by_words
from pipelines.captions.resident import Request, ResidentEngine, Structured, Written
from pipelines.config.profile import CaptionEngines
from pipelines.plan.attributes import Vocabulary

ENGINE_DEAD = "EngineDeadError"
"""vLLM's, by name: vLLM is only there where it runs."""


class CaptionDeployment:
    """Attribute sets in, captions out, chosen among the engine's texts as a job chooses them.

    part: a bundle's captions part that vLLM runs; folder: what its weights are of.
    """

    async def __init__(self, part: Part, folder: str, engines: CaptionEngines) -> None:  # type: ignore[misc]
        spec = EngineSpec(part, folder, engines)
        self.options, self.engine = spec.options, ResidentEngine(spec)

    async def write(self, asked: Sequence[dict[str, str]], seeds: Sequence[int]) -> tuple[list[str], list[str]]:
        """Return (captions, sources) of the attribute sets `asked`; `sources` say `llm`, or `grammar` in its place."""
        loop = asyncio.get_running_loop()

        def texts(wanted: Sequence[tuple[int, int]]) -> Texts:
            requests = [(asked[k], text_seed(seeds[k], attempt)) for k, attempt in wanted]
            written = asyncio.run_coroutine_threadsafe(self._write_texts(requests), loop).result()
            return {pair: one.text for pair, one in zip(wanted, written, strict=True) if one.text}

        return await asyncio.to_thread(choose, asked, seeds, texts, self.options, set())

    async def invent(self, rows: Sequence[Mapping[str, Any]], allowed: Mapping[str, Any]) -> list[Invented]:
        """Return what the model makes of `rows` (of `SAMPLE_SCHEMA`), whose words are among those that a job allows."""
        loop = asyncio.get_running_loop()

        def ask(requests: Sequence[Structured]) -> list[str]:
            return [one.text for one in asyncio.run_coroutine_threadsafe(self._write_texts(requests), loop).result()]

        return await asyncio.to_thread(invent_samples, rows, Vocabulary(allowed), ask, self.options, set())

    async def read(self, prompts: Sequence[str], conditions: Sequence[str]) -> list[Reading]:
        """Return what each of `prompts` asks for; conditions: the words that the thermal part knows."""
        return await asyncio.gather(*(self._read(prompt, conditions) for prompt in prompts))

    async def _read(self, prompt: str, conditions: Sequence[str]) -> Reading:
        tries = 0 if explains(prompt, conditions) or not self.options.read else self.options.attempts
        for attempt in range(tries):
            (written,) = await self._write_texts([ask_reading(prompt, conditions, attempt)])
            reading = parse_reading(written.text, prompt, conditions)
            if reading is not None:
                return reading
        return read_by_words(prompt, conditions)

    async def _write_texts(self, requests: Sequence[Request]) -> list[Written]:
        """Return the engine's texts. Once it has died this process ends: its callers are told, and Serve starts another."""
        try:
            return await self.engine.write(requests)
        except Exception as error:
            if type(error).__name__ == ENGINE_DEAD:
                print(f"the engine died, leaving the process: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            raise

    async def check_health(self) -> None:
        """Raise when the engine has died, so that Serve starts another."""
        await self.engine.check()

    def __del__(self) -> None:
        """Called by Serve before it ends the replica."""
        if hasattr(self, "engine"):  # not if it never started
            self.engine.close()
