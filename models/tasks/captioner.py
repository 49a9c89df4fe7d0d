"""Train the starter's caption model: a small Llama that writes what the grammar writes, from a list of attributes.

Attribute sets and captions are drawn as they are needed, so the task reads no column of any data set.
"""

import copy
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from models.captions.grammar import write_caption
from models.captions.measure import Agreement
from models.captions.prompt import messages
from models.captions.sampling import draw_attributes
from models.captions.tokenizer import caption_tokenizer
from models.card import Card
from models.columns import Columns
from models.seeds import seed_of
from models.tasks import TrainConfig

COLUMNS: tuple[str, ...] = ()
SUMMARY = (
    "A small Llama that turns a list of attributes into a varied English caption that states them. It is a Hugging Face "
    "folder: transformers and vLLM load it, and its chat template reads the same messages as any chat model's."
)
LIMITS = (
    "It knows the words of the synthetic world and nothing else: it was trained on sentences of a grammar, so it cannot "
    "follow other instructions or describe other attributes. Captions are checked by a reader before they are used."
)
MAX_TOKENS = 128
"""Positions of the model: at most 15 attributes, the begin mark and about 90 tokens of caption."""


class Config(TrainConfig):
    steps: int = Field(1600, gt=0)
    batch: int = Field(32, gt=0)
    lr: float = Field(3e-3, gt=0)
    ema: float = Field(0.99, ge=0, lt=1)
    bf16: bool = True
    validate_rows: int = Field(512, gt=0)
    width: int = Field(192, gt=0)
    layers: int = Field(2, gt=0)
    heads: int = Field(6, gt=0)
    hidden: int = Field(512, gt=0, description="width of the gated MLP")
    partial: float = Field(
        0.3, ge=0, le=1, description="share of captions that are asked for with some attributes left out"
    )


def build(config: Config) -> nn.Module:
    """Return a Llama with tied embeddings over the grammar's tokenizer."""
    tokenizer = caption_tokenizer()
    # The vocabulary is padded to a multiple of 64, as vLLM pads it.
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=-(-len(tokenizer) // 64) * 64,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            max_position_embeddings=MAX_TOKENS,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=config.width**-0.5,
        )
    )


def examples(seeds: Iterable[int], partial: float) -> tuple[Tensor, Tensor]:
    """Return tokens and labels, int64 [B, T]: prompt and caption; labels are -100 on the prompt and the padding."""
    tokenizer = caption_tokenizer()
    rows = []
    for seed in seeds:
        draw = random.Random(seed_of("captioner", seed))
        attributes = draw_attributes(draw, keep=draw.uniform(0.3, 1.0) if draw.random() < partial else 1.0)
        prompt = tokenizer.apply_chat_template(messages(attributes), return_dict=False)
        completion = tokenizer(write_caption(attributes, seed) + tokenizer.eos_token)["input_ids"]
        rows.append((prompt, completion))
    # Padded on the right to the longest row; the loss counts the caption's tokens alone.
    width = min(max(len(prompt) + len(completion) for prompt, completion in rows), MAX_TOKENS)
    tokens = torch.full((len(rows), width), int(tokenizer.pad_token_id))
    labels = torch.full((len(rows), width), -100)
    for k, (prompt, completion) in enumerate(rows):
        whole = torch.tensor(prompt + completion)[:width]
        tokens[k, : len(whole)] = whole
        labels[k, len(prompt) : len(whole)] = whole[len(prompt) :]
    return tokens, labels


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the mean cross entropy of the captions' tokens; row k of the batch is the caption of seed draw[k]."""
    tokens, labels = examples((int(seed) for seed in batch["draw"]), config.partial)
    device = next(model.parameters()).device
    # Padding stands on the right and causal attention never looks there, so no mask is needed.
    logits = model(input_ids=tokens.to(device)).logits[:, :-1].float()
    value = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten().to(device), ignore_index=-100)
    return value, {"tokens": float((labels != -100).sum())}


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return how often sampled captions state what was asked, how many differ, and the loss on fresh captions."""
    # Of the validation rows only the numbers are used: they seed the attributes.
    seeds = [seed_of("captioner", "validation", int(row)) for batch in rows for row in batch["row"]]
    agreement, losses = Agreement(), []
    for begin in range(0, len(seeds), 64):
        few = seeds[begin : begin + 64]
        losses.append(loss(model, {"draw": np.array(few)}, config, 0)[0].item())
        asked = [draw_attributes(random.Random(seed)) for seed in few]
        texts = write(model, [messages(attributes) for attributes in asked], few[0])
        for attributes, text in zip(asked, texts, strict=True):
            agreement.add(attributes, text)
    summary = agreement.summary()
    return {"score": summary["captions_agree"], "loss": float(np.mean(losses)), **summary}


def write(model: nn.Module, chats: list[list[dict[str, str]]], seed: int, temperature: float = 0.8) -> list[str]:
    """Return one sampled caption per chat, in plain torch; jobs write theirs with vLLM."""
    assert isinstance(model, LlamaForCausalLM)
    tokenizer = caption_tokenizer()
    tokenizer.padding_side = "left"
    prompts = tokenizer.apply_chat_template(chats, padding=True, return_tensors="pt", return_dict=True)
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        out = model.generate(
            **prompts, do_sample=True, temperature=temperature, top_k=0, max_new_tokens=MAX_TOKENS - 18
        )
    return tokenizer.batch_decode(out[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write a Hugging Face folder (float16 safetensors, config, tokenizer with its chat template) and the card."""
    assert isinstance(model, LlamaForCausalLM)
    copy.deepcopy(model).half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors makes files that only their owner reads
    caption_tokenizer().save_pretrained(folder)
    card.model_copy(update={"title": "Captioner", "summary": SUMMARY, "limits": LIMITS}).write(folder)
