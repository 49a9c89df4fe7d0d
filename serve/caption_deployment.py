"""Captions by the language model, as a deployment: the jobs' engine, prompts, checks and fallback, kept up."""

import asyncio
from collections.abc import Sequence

from models.weights.bundle import Part
from pipelines.captions.resident import ResidentEngine
from pipelines.captions.vllm import Engine, Texts
from pipelines.captions.write import choose
from pipelines.config.captions import vllm_options
from pipelines.config.profile import CaptionEngines


class CaptionWriter:
    """Attribute sets in, captions out, chosen among the engine's texts as a job chooses them.

    part: a bundle's captions part that vLLM runs; folder: what its weights are of.
    """

    async def __init__(self, part: Part, folder: str, engines: CaptionEngines) -> None:  # type: ignore[misc]
        self.options = vllm_options(part)
        self.engine = ResidentEngine(Engine(part, folder, engines, self.options))

    async def write(self, asked: Sequence[dict[str, str]], seeds: Sequence[int]) -> tuple[list[str], list[str]]:
        """Return (captions, sources) of the attribute sets `asked`; `sources` say `llm`, or `grammar` in its place."""
        loop = asyncio.get_running_loop()

        def texts(wanted: Sequence[tuple[int, int]]) -> Texts:
            return asyncio.run_coroutine_threadsafe(self.engine.texts(asked, seeds, wanted), loop).result()

        return await asyncio.to_thread(choose, asked, seeds, texts, self.options, set())

    async def check_health(self) -> None:
        """Raise when the engine has died, so that Serve starts another."""
        await self.engine.check()

    def __del__(self) -> None:
        """Called by Serve before it ends the replica."""
        if hasattr(self, "engine"):  # not if it never started
            self.engine.close()
