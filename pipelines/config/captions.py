"""Who may write captions: kind of a bundle's captions part -> what it is loaded with. Nothing here loads a model."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, model_serializer, model_validator

from models.errors import UserError
from models.stages import CAPTIONS, NoOptions, parse_settings
from models.weights.bundle import MAIN, Bundle, Part, small_files
from pipelines.config.chat import ChatServer, TextOptions, check_server

CHAT = "chat"
"""Backend: a server of chat completions."""
LLM, GRAMMAR, TEMPLATE, GIVEN, NONE = "llm", "grammar", "template", "given", "none"
"""Who wrote a caption: the language model; the grammar in its place; the grammar because the job asks for templates; whoever
sent it with a request; nobody."""
AUTHORS = {LLM: "the language model", GRAMMAR: "the grammar in its place", TEMPLATE: "the grammar, as asked"}
INVENTED = "invented"
"""Where an attribute comes from whose word the language model chose."""
Source = Literal["llm", "template", "chat"]
DESCRIBE, INVENT, PARSE, LOOK = "describe", "invent", "parse", "look"
Mode = Literal["describe", "invent", "parse", "look"]


class Captions(ChatServer):
    """Who writes captions, and of what. One word, the backend, means that it describes. The server's fields are of `chat`."""

    backend: Source = "llm"
    mode: Mode = "describe"
    """`describe` states the attributes that the job draws; `invent` lets the language model choose among drawn words; `parse`
    reads the job's `prompt`; `look` describes people as their pictures show them."""
    also: str = Field(default="", max_length=600)
    """Words that every caption ends with: what a prompt says beyond attributes."""

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: object) -> object:
        if isinstance(value, dict) and not isinstance(value.get("key", ""), str):
            raise ValueError(
                "key is the name of an environment variable"
            )  # said here, where no message repeats the value
        return {"backend": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_mode(self) -> "Captions":
        if self.mode == INVENT and self.backend == TEMPLATE:
            raise ValueError(
                "template does not invent (in mode describe the job draws the attributes); invent needs backend llm or chat"
            )
        if self.mode == LOOK and self.backend == TEMPLATE:
            raise ValueError(
                "template looks at no pictures; look needs backend llm or chat, with a model that takes images"
            )
        return self

    @model_validator(mode="after")
    def _check_server(self) -> "Captions":
        if self.backend == CHAT:
            check_server(self)
        elif own := sorted(self.model_fields_set & set(ChatServer.model_fields)):
            raise ValueError(f"{', '.join(own)}: backend {self.backend} asks no server; say backend: chat")
        return self

    @model_serializer(mode="plain")
    def _to_word(self) -> str | dict[str, Any]:
        """One word where that says everything."""
        if self.backend != CHAT and self == Captions(backend=self.backend):
            return self.backend
        values: dict[str, Any] = {"backend": self.backend, "mode": self.mode, "also": self.also}
        if self.backend == CHAT:
            values |= {name: getattr(self, name) for name in ChatServer.model_fields if name != "options"}
            values["options"] = self.options.model_dump(mode="json")
        return values


class VllmOptions(TextOptions):
    """`options` of a captions part that vLLM runs."""

    read: bool = Field(default=True)
    """Whether the model reads free prompts, beside the tables of words."""
    engine: dict[str, Any] = Field(default={})
    """Further arguments of the vLLM engine (max_model_len, quantization, ...)."""


VLLM = "vllm"
CONFIG = "config.json"
OF_IMAGES = re.compile(r"vision|visual|image|img|vit_")
"""What some key of a model's configuration is called where the model takes images, whatever its family."""
BACKENDS: dict[str, tuple[type[BaseModel], tuple[str, ...]]] = {VLLM: (VllmOptions, (MAIN,)), TEMPLATE: (NoOptions, ())}
"""kind -> (options, names of the weights it needs)."""


def check_captions(bundle: Bundle) -> None:
    """Raise a UserError for a captions part of an unknown kind, or with weights or options that its kind does not have."""
    for name, part in bundle.parts.items():
        if part.stage != CAPTIONS:
            continue
        where = f"bundle {bundle.name}: {name}"
        if part.kind not in BACKENDS:
            raise UserError(f"{where}.kind: no kind {part.kind!r} of captions; known: {', '.join(BACKENDS)}.")
        options, weights = BACKENDS[part.kind]
        if set(part.weights) != set(weights):
            raise UserError(f"{where}.weights: kind {part.kind} takes {', '.join(weights) or 'none'}.")
        parse_settings(options, part.options, f"{where}.options")
        if part.settings:
            raise UserError(f"{where}.settings: captions have none; see options.")


def check_writer(captions: Captions, bundle: Bundle, parts: Mapping[str, str]) -> None:
    """Raise a UserError where the bundle has no language model for the mode, or look has one that takes no images."""
    if captions.backend == CHAT or captions.mode not in (INVENT, LOOK):
        return
    writer = writer_of(bundle, captions.backend, parts)
    if writer is None:
        does = "invents; describe is left" if captions.mode == INVENT else "looks at pictures"
        raise UserError(f"captions.mode: bundle {bundle.name} has no language model, and only one {does}.")
    if captions.mode == LOOK and not takes_images(small_files(writer, bundle.folder)[MAIN].json(CONFIG)):
        model = writer.weights[MAIN].uri
        raise UserError(
            f"captions.mode look: the model in {model} takes no images. Give the bundle a captions part with a vision "
            "language model, or ask a server that has one: captions.backend chat."
        )


def takes_images(config: Mapping[str, Any]) -> bool:
    """Return whether a model takes images, by the keys of its configuration (a `config.json` of transformers)."""
    return any(OF_IMAGES.search(key) for key in config)


def writer_of(bundle: Bundle, source: Source, parts: Mapping[str, str] | None = None) -> Part | None:
    """Return the part whose language model writes captions, None where a server does, or the grammar: asked to, or the
    bundle's own.
    """
    found = None if source in (TEMPLATE, CHAT) else bundle.part_for(CAPTIONS, parts)
    return None if found is None or found[1].kind == TEMPLATE else found[1]


def vllm_options(part: Part) -> VllmOptions:
    """Return the options of a captions part that vLLM runs."""
    options = parse_settings(VllmOptions, part.options, "captions.options")
    assert isinstance(options, VllmOptions)
    return options
