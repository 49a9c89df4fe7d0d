"""Who may write captions: kind of a bundle's captions part -> what it is loaded with. Nothing here loads a model."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.errors import UserError
from models.stages import CAPTIONS, NoOptions, parse_settings
from models.weights.bundle import MAIN, Bundle, Part

LLM, GRAMMAR, TEMPLATE, GIVEN, NONE = "llm", "grammar", "template", "given", "none"
"""Who wrote a caption: the language model; the grammar in its place; the grammar because the job asks for templates; whoever
sent it with a request; nobody."""
AUTHORS = {LLM: "the language model", GRAMMAR: "the grammar in its place", TEMPLATE: "the grammar, as asked"}
Source = Literal["llm", "template"]


class VllmOptions(BaseModel):
    """`options` of a captions part that vLLM runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(default=0.8, gt=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=110, ge=8)
    attempts: int = Field(default=3, ge=1, le=16)
    """Captions asked for one sample before the grammar writes it."""
    stated: float = Field(default=1.0, ge=0, le=1)
    """Share of the attributes that the reader must find in a caption."""
    engine: dict[str, Any] = {}
    """Further arguments of the vLLM engine (max_model_len, quantization, ...)."""


VLLM = "vllm"
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


def writer_of(bundle: Bundle, source: Source, parts: Mapping[str, str] | None = None) -> Part | None:
    """Return the part whose language model writes captions, None where the grammar does: asked to, or the bundle's own."""
    found = None if source == TEMPLATE else bundle.part_for(CAPTIONS, parts)
    return None if found is None or found[1].kind == TEMPLATE else found[1]


def vllm_options(part: Part) -> VllmOptions:
    """Return the options of a captions part that vLLM runs."""
    options = parse_settings(VllmOptions, part.options, "captions.options")
    assert isinstance(options, VllmOptions)
    return options
