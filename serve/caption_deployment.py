"""Captions by the language model, as a deployment: the jobs' engine, prompts, checks and fallback, kept up."""

import asyncio
import os
import sys
from collections.abc import Sequence

from models.weights.bundle import Part
from pipelines.captions.choose import Texts, choose
from pipelines.captions.engine import EngineSpec, text_seed
from pipelines.captions.resident import Request, ResidentEngine, Written
from pipelines.config.profile import CaptionEngines

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
