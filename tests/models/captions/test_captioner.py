"""The starter captioner's prompt, tokenizer and training step, in plain Python."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from models.captions.answers import EITHER_SIDE, member_tokens
from models.captions.grammar import write_caption
from models.captions.prompt import INSTRUCTION, messages
from models.captions.sampling import draw_attributes
from models.captions.tokenizer import caption_tokenizer
from models.card import Card
from models.tasks import captioner


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return caption_tokenizer()


def test_prompt_lists_the_attributes_in_a_fixed_order() -> None:
    (message,) = messages({"scar": "on the chin", "beard": "none", "sex": "man", "clothing_colour": "red"})
    assert message["role"] == "user"
    assert (
        message["content"] == f"{INSTRUCTION}\n\n- sex: man\n- beard: none\n- clothing colour: red\n- scar: on the chin"
    )


def test_a_value_cannot_add_a_line_to_the_prompt() -> None:
    (message,) = messages({"sex": "man\n- beard: full"})
    assert message["content"].endswith("\n\n- sex: man - beard: full")


def test_a_member_of_an_answer_is_one_token_that_begins_like_the_prompts(tokenizer: PreTrainedTokenizerFast) -> None:
    members = member_tokens()
    known = tokenizer.get_vocab()
    assert all(len(tokenizer(member)["input_ids"]) == 1 for member in members)
    assert all(like in known for like in members.values() if like)
    assert members['"sex":"man",'] == "<sex=man>" and members['"beard":"full",'] == "<beard=full>"
    # Words that leave the side open stand in no prompt of a caption, nor do rooms.
    assert {members[f'"pose":"{word}",'] for word in EITHER_SIDE} == {""} == {members['"conditions":["warm"],']}


def test_compact_prompt_is_one_token_a_value(tokenizer: PreTrainedTokenizerFast) -> None:
    chat = messages({"sex": "man", "hair_colour": "dark brown", "pose": "turned slightly left", "background": "indoor"})
    tokens = tokenizer.tokenize(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
    assert tokens == [
        "<sex=man>", "<hair colour=dark brown>", "<pose=turned slightly left>", "<background=indoor>", "<caption>",
    ]  # fmt: skip


@settings(max_examples=100)
@given(st.integers(0, 2**31), st.text(max_size=40))
def test_tokenizer_round_trip(seed: int, text: str) -> None:
    tokenizer = caption_tokenizer()
    said = write_caption(draw_attributes(random.Random(seed)), seed)
    ids = tokenizer(said)["input_ids"]
    assert tokenizer.decode(ids) == said
    assert len(ids) <= 1.25 * len(tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(said))
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text  # bytes of anything else, too


def test_labels_cover_the_caption_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    groups = captioner.examples(range(48), captioner.Config(describe=0.4, invent=0.3))
    assert [len(tokens) for tokens, _ in groups] == [captioner.GROUP] * 6
    ends = {tokenizer.convert_tokens_to_ids(mark) for mark in ("<caption>", "<invent>", "<answer>")}
    for row, wanted in ((row, wanted) for group in groups for row, wanted in zip(*group, strict=True)):
        assert len(row) <= captioner.MAX_TOKENS
        begin = next(place for place, token in enumerate(row.tolist()) if token in ends) + 1
        assert (wanted[:begin] == -100).all()
        said = wanted[wanted != -100]
        assert said[-1] == tokenizer.eos_token_id
        assert torch.equal(row[begin : begin + len(said)], said)


@pytest.mark.slow
def test_training_learns_and_exports_a_folder_that_transformers_loads(tmp_path: Path) -> None:
    config = captioner.Config(width=64, layers=1, heads=2, hidden=128, steps=30)
    torch.manual_seed(0)
    model = captioner.build(config)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []
    for step in range(30):
        value, _ = captioner.loss(model, {"draw": np.arange(step * 8, step * 8 + 8)}, config, step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert np.mean(losses[-3:]) < 0.75 * losses[0]
    captioner.export(model, config, tmp_path, Card(title="captioner", task="captioner"))
    again = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ((tokens, _),) = captioner.examples([1], config)
    with torch.inference_mode():
        assert torch.allclose(again(tokens).logits, model(tokens).logits, atol=0.05)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    chat = messages({"sex": "woman", "age": "young"})
    assert loaded.apply_chat_template(chat, tokenize=False) == "<sex=woman><age=young><caption>"
