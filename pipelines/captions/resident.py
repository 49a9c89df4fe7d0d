"""The caption engine of the jobs, kept up for a service: same weights, prompts, options, seeds and arguments."""

import asyncio
import uuid
from collections.abc import Sequence

from pipelines.captions.vllm import Engine, Texts, renderer, sampling, text_seed


class ResidentEngine:
    """One vLLM engine that answers until the process ends. It batches what is asked at the same time by itself.

    Make it in a process with the variables of `pipelines.captions.vllm.environment`, inside the event loop that calls it.

    Raises EnvironmentFault for weights without a tokenizer; what vLLM raises when it does not start passes through.
    """

    def __init__(self, engine: Engine) -> None:
        import vllm

        self.render, self.sampling = renderer(engine.weights), sampling(engine.options)
        arguments = vllm.AsyncEngineArgs(model=str(engine.weights), disable_log_stats=True, **engine.arguments())
        self.vllm = vllm.AsyncLLMEngine.from_engine_args(arguments)

    async def texts(
        self, asked: Sequence[dict[str, str]], seeds: Sequence[int], wanted: Sequence[tuple[int, int]]
    ) -> Texts:
        """Return the texts of `wanted` (sample, attempt) pairs, as `Engine.texts` does."""
        found = await asyncio.gather(*(self._text(asked[k], text_seed(seeds[k], attempt)) for k, attempt in wanted))
        return {pair: text for pair, text in zip(wanted, found) if text}

    async def check(self) -> None:
        """Raise vLLM's error when the engine has died."""
        await self.vllm.check_health()

    def close(self) -> None:
        """End the engine's own processes, which would outlive this one."""
        self.vllm.shutdown()

    async def _text(self, attributes: dict[str, str], seed: int) -> str:
        import vllm
        from vllm.exceptions import VLLMValidationError

        params = vllm.SamplingParams(**self.sampling, seed=seed)
        text = ""
        try:
            async for output in self.vllm.generate(self.render(attributes), params, uuid.uuid4().hex):
                text = output.outputs[0].text
        except (ValueError, VLLMValidationError):
            return ""  # a prompt that is too long: the grammar writes the caption, as in a job
        return text
