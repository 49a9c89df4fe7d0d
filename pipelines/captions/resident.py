"""A vLLM engine in this process, which answers until the process ends: in an actor of a job, in a replica of the service."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from pipelines.captions.engine import EngineSpec, sampling

Request = tuple[dict[str, str], int]
"""Attributes that a text shall state, and its seed (`engine.text_seed`)."""


class Written(NamedTuple):
    """A text as the model wrote it, "" for a request that it cannot take; its tokens; unix seconds of its last one."""

    text: str
    tokens: int
    at: float


class ResidentEngine:
    """One vLLM engine. It batches what is asked at the same time by itself.

    Make it in a process with the variables of `engine.environment`, inside the event loop that calls it.

    Raises EnvironmentFault for weights without a tokenizer; what vLLM raises when it does not start passes through.
    """

    def __init__(self, spec: EngineSpec) -> None:
        import vllm

        self.render, self.sampling = spec.renderer(), sampling(spec.options)
        self.vllm = vllm.AsyncLLMEngine.from_engine_args(vllm.AsyncEngineArgs(**spec.arguments()))

    async def write(self, requests: Sequence[Request]) -> list[Written]:
        """Return a text for each request, in order. Raises vLLM's EngineDeadError once the engine's own process has died."""
        return await asyncio.gather(*(self._text(*request) for request in requests))

    async def check(self) -> None:
        """Raise vLLM's error when the engine has died."""
        await self.vllm.check_health()

    def close(self) -> None:
        """End the engine's own processes, which would outlive this one."""
        self.vllm.shutdown()

    async def _text(self, attributes: dict[str, str], seed: int) -> Written:
        import vllm
        from vllm.exceptions import VLLMValidationError

        params, tokens, text = vllm.SamplingParams(**self.sampling, seed=seed), 0, ""
        try:
            async for output in self.vllm.generate(self.render(attributes), params, uuid.uuid4().hex):
                text, tokens = output.outputs[0].text, len(output.outputs[0].token_ids)
        except (ValueError, VLLMValidationError):
            return Written("", 0, time.time())  # a prompt that is too long: the grammar writes the caption
        return Written(text, tokens, time.time())
