"""What captioners learn to answer is what vLLM's grammar of a schema lets through, token by token."""

import json
import random

import pytest

from models.attributes import ATTRIBUTES
from models.captions.answers import CAPTION, REST, invent_schema, read_schema, write_answer
from models.captions.free_prompts import draw_prompt
from models.captions.tokenizer import caption_tokenizer
from models.weights.bundle import load_bundle
from pipelines.captions.engine import EngineSpec
from pipelines.config.profile import load_profile

xgrammar = pytest.importorskip("xgrammar")
ROOMS = ("warm", "cold")


@pytest.fixture(scope="module")
def compiler() -> object:
    """Compiles schemas for the captioner's tokens."""
    tokenizer = caption_tokenizer()
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=len(tokenizer))
    return xgrammar.GrammarCompiler(info)


def refused(compiler: object, schema: dict, answer: str) -> str:
    """Return what of an answer's tokens the grammar lets through, "" if it lets all and then the end."""
    # As vLLM's backend compiles it with what our engines are told.
    bundle = load_bundle("starter")
    asked = EngineSpec(bundle.part("captions"), bundle.folder, load_profile("laptop").captions).arguments()
    tight = asked["structured_outputs_config"]["disable_any_whitespace"]
    made = {"any_whitespace": not tight, "separators": (",", ":") if tight else None}
    matcher = xgrammar.GrammarMatcher(compiler.compile_json_schema(json.dumps(schema), **made))  # type: ignore[attr-defined]
    tokenizer = caption_tokenizer()
    tokens = tokenizer(answer + tokenizer.eos_token)["input_ids"]
    for count, token in enumerate(tokens):
        if not matcher.accept_token(token):
            return f"{tokenizer.decode(tokens[:count])}|{tokenizer.decode(tokens[count:])}"
    return "" if matcher.is_terminated() else f"{answer}|"


def test_answers_of_the_trainings_pass_the_grammar(compiler: object) -> None:
    draw = random.Random(0)
    for _ in range(12):
        wish = draw_prompt(draw)
        rest = f" {wish.rest}" if wish.rest else ""
        answer = write_answer(wish.attributes, REST, rest, wish.conditions)
        assert not refused(compiler, read_schema(wish.text, ROOMS), answer)
    chosen = {name: words[-1] for name, (_, _, words) in ATTRIBUTES.items()}
    offered = {name: list(words) for name, (_, _, words) in ATTRIBUTES.items()}
    assert not refused(compiler, invent_schema(offered), write_answer(chosen, CAPTION, "An old man, smiling."))
    # Blanks between members are not let through.
    assert refused(compiler, invent_schema({"sex": ["man"]}), '{"sex": "man", "caption": "A man."}').endswith(
        'A man."}<end>'
    )
