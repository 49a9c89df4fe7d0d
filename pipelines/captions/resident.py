"""A vLLM engine in this process, which answers until the process ends: in an actor of a job, in a replica of the service."""

import asyncio
import base64
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from PIL import Image

from models.captions.prompt import messages
from pipelines.captions.engine import EngineSpec, sampling
from pipelines.pictures.open import open_photo


class Structured(NamedTuple):
    """A chat whose answer is JSON of a schema, and its seed. Pictures in its messages are `data:` addresses."""

    chat: list[dict[str, Any]]
    seed: int
    schema: dict[str, Any]
    temperature: float | None = None
    """Instead of that of captions."""


Request = tuple[dict[str, str], int] | Structured
"""Attributes that a text shall state, and its seed (`engine.text_seed`), or a chat with a schema."""
MEMBERS = 200
"""Tokens that a structured answer may have beside a caption's."""


class Written(NamedTuple):
    """A text as the model wrote it, "" for a request that it cannot take; its tokens; unix seconds of its last one."""

    text: str
    tokens: int
    at: float


Answers = list["Future[list[Written]]"]
"""What will hold the texts of some requests, in order."""


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
        return await asyncio.gather(*(self._text(request) for request in requests))

    async def check(self) -> None:
        """Raise vLLM's error when the engine has died."""
        await self.vllm.check_health()

    def close(self) -> None:
        """End the engine's own processes, which would outlive this one."""
        self.vllm.shutdown()

    async def _text(self, request: Request) -> Written:
        import vllm
        from vllm.exceptions import VLLMValidationError

        chat, params, tokens, text = *self._asked(request), 0, ""
        chat, pictures = split_pictures(chat)
        prompt: Any = self.render(chat)
        if pictures:
            prompt = {"prompt": prompt, "multi_modal_data": {"image": pictures}}
        try:
            async for output in self.vllm.generate(prompt, vllm.SamplingParams(**params), uuid.uuid4().hex):
                text, tokens = output.outputs[0].text, len(output.outputs[0].token_ids)
        except (ValueError, VLLMValidationError):
            return Written("", 0, time.time())  # a prompt that is too long: the grammar writes the caption
        return Written(text, tokens, time.time())

    def _asked(self, request: Request) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return the chat of a request and vLLM's sampling parameters for it."""
        if not isinstance(request, Structured):
            attributes, seed = request
            return messages(attributes), {**self.sampling, "seed": seed}
        from vllm.sampling_params import StructuredOutputsParams

        params = {**self.sampling, "seed": request.seed, "max_tokens": self.sampling["max_tokens"] + MEMBERS}
        if request.temperature is not None:
            params["temperature"] = request.temperature
        return request.chat, {**params, "structured_outputs": StructuredOutputsParams(json=request.schema)}


def split_pictures(chat: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[Image.Image]]:
    """Return a chat as templates of vision language models take it, with `{type: image}` where a picture stood, and its
    pictures in their order."""
    messages, pictures = list[dict[str, Any]](), list[Image.Image]()
    for message in chat:
        content = message["content"]
        if not isinstance(content, str):
            content = [{"type": "image"} if part["type"] == "image_url" else part for part in content]
            urls = [part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url"]
            pictures += [Image.fromarray(open_photo(base64.b64decode(url.partition(",")[2]))) for url in urls]
        messages.append({**message, "content": content})
    return messages, pictures
