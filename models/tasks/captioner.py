"""Train the starter's caption model: a small Llama that describes attributes, invents some, and reads them in free prompts.

It describes as the grammar writes. Attribute sets, captions and free prompts are drawn as they are needed, so the task reads
no column of any data set.
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
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from models.attributes import ATTRIBUTES
from models.captions.answers import CAPTION, CLOSE, OPEN, READABLE, REST, member_tokens, write_answer
from models.captions.free_prompts import FreePrompt, draw_prompt
from models.captions.grammar import write_caption
from models.captions.measure import Agreement
from models.captions.prompt import invent_messages, messages, read_messages
from models.captions.sampling import draw_attributes
from models.captions.tokenizer import ANSWER, INVENT, READ, caption_tokenizer
from models.card import Card
from models.columns import Columns
from models.errors import UserError
from models.seeds import seed_of
from models.stages import CAPTIONS
from models.tasks import TrainConfig

COLUMNS: tuple[str, ...] = ()
SUMMARY = (
    "A small Llama that turns a list of attributes into a varied English caption that states them, and where a JSON schema "
    "holds its answer chooses attributes, too. It is a Hugging Face folder: transformers and vLLM load it, and its chat template "
    "reads the same messages as any chat model's."
)
LIMITS = (
    "It knows the words of the synthetic world and nothing else: it was trained on sentences of a grammar, so it cannot "
    "follow other instructions or describe other attributes. Captions are checked by a reader before they are used. How well it "
    "reads free prompts `prompts_read` says; one that does not is not asked (options: {read: false})."
)
STAGE = CAPTIONS
HALF = 0.5
"""Share of the end mark's embedding that the mark which closes an answer begins with: it comes out where a schema allows no
end mark, and else does not."""
GROUP = 8
"""Rows that are padded together."""
MAX_TOKENS = 256
"""Positions of the model: an answer of 15 attributes and about 90 tokens of caption, or a free prompt and its reading."""


class Config(TrainConfig):
    steps: int = Field(4500, gt=0)
    batch: int = Field(32, gt=0)
    lr: float = Field(2e-3, gt=0)
    ema: float = Field(0.99, ge=0, lt=1)
    validate_rows: int = Field(128, gt=0)
    width: int = Field(192, gt=0)
    layers: int = Field(3, gt=0)
    heads: int = Field(6, gt=0)
    hidden: int = Field(512, gt=0, description="width of the gated MLP")
    describe: float = Field(0.4, ge=0, le=1, description="share of rows that describe attributes")
    invent: float = Field(0.25, ge=0, le=1, description="share of rows that invent some; the others read free prompts")
    answers_only: bool = Field(
        False, description="train the embeddings of answers' tokens alone: what was learned before stays as it is"
    )
    partial: float = Field(
        0.3, ge=0, le=1, description="share of captions that are asked for with some attributes left out"
    )


def build(config: Config) -> nn.Module:
    """Return a Llama with tied embeddings over the grammar's tokenizer."""
    tokenizer = caption_tokenizer()
    # The vocabulary is padded to a multiple of 64, as vLLM pads it.
    model = LlamaForCausalLM(
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
    # Of a model that describes already the answers' tokens alone may learn.
    if config.answers_only:
        model.requires_grad_(False)
        model.model.embed_tokens.weight.requires_grad_(True).register_hook(_keep_answers)
    return model


def _keep_answers(gradient: Tensor) -> Tensor:
    """Return a gradient of the embeddings that is 0 but for the tokens of answers."""
    tokenizer = caption_tokenizer()
    members = [token for token in member_tokens() if token != CLOSE]  # nothing here tells it from the end mark
    rows = tokenizer.convert_tokens_to_ids([*members, '"'])
    kept = torch.zeros_like(gradient)
    kept[rows] = gradient[rows]
    return kept


def begin(model: nn.Module, folder: Path) -> None:
    """Fill a fresh model from another captioner in `folder`, of as many layers or fewer and any tokenizer.

    A token that both have keeps its embedding; that of an answer begins as its prompt's; a new word begins as the mean of the
    old tokens that spell it; marks begin as nothing. Layers that the other does not have begin as ones that change nothing. So
    the new one describes as the old one did, and where a schema holds its answer it invents, before any training.

    Raises:
        UserError: the other is of another width.
    """
    assert isinstance(model, LlamaForCausalLM)
    old, spelling = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)
    mine, theirs = model.config, old.config
    shape = ("hidden_size", "intermediate_size", "num_attention_heads")
    if any(getattr(mine, name) != getattr(theirs, name) for name in shape):
        raise UserError(f"init: the captioner in {folder} is of another width.")
    # Layers by name; those that the other lacks add nothing.
    with torch.no_grad():
        state = {
            name: value for name, value in old.state_dict().items() if "embed" not in name and "lm_head" not in name
        }
        model.load_state_dict(state, strict=False)
        for layer in model.model.layers[theirs.num_hidden_layers :]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        # Embeddings by the text of their token.
        rows, known, like = old.model.embed_tokens.weight, spelling.get_vocab(), member_tokens()
        trained = known if INVENT in known else ()
        for token, row in caption_tokenizer().get_vocab().items():
            name = token if token in known else like.get(token, "")
            text = caption_tokenizer().convert_tokens_to_string([token])
            spelt = [known[name]] if name in known else spelling(text, add_special_tokens=False)["input_ids"]
            if token in (INVENT, READ, ANSWER, OPEN) and token not in trained:
                model.model.embed_tokens.weight[row] = 0.0
            elif spelt:
                share = HALF if token == CLOSE and token not in known else 1.0
                model.model.embed_tokens.weight[row] = rows[spelt].mean(dim=0) * share


def examples(seeds: Iterable[int], config: Config) -> list[tuple[Tensor, Tensor]]:
    """Return tokens and labels, int64 [B, T]: prompt and answer; labels are -100 on the prompt and the padding.

    They come in groups of `GROUP` rows of about the same length, so that little is padded.
    """
    tokenizer = caption_tokenizer()
    rows = []
    for seed in seeds:
        chat, answer = _example(random.Random(seed_of("captioner", seed)), seed, config)
        prompt = tokenizer.apply_chat_template(chat, return_dict=False)
        rows.append((prompt, tokenizer(answer + tokenizer.eos_token)["input_ids"]))
    rows.sort(key=lambda row: len(row[0]) + len(row[1]))
    return [_pad(rows[start : start + GROUP], int(tokenizer.pad_token_id)) for start in range(0, len(rows), GROUP)]


def _pad(rows: list[tuple[list[int], list[int]]], padding: int) -> tuple[Tensor, Tensor]:
    """Return tokens and labels of (prompt, answer) rows, padded on the right to the longest."""
    width = min(max(len(prompt) + len(completion) for prompt, completion in rows), MAX_TOKENS)
    tokens = torch.full((len(rows), width), padding)
    labels = torch.full((len(rows), width), -100)
    for k, (prompt, completion) in enumerate(rows):
        whole = torch.tensor(prompt + completion)[:width]
        tokens[k, : len(whole)] = whole
        labels[k, len(prompt) : len(whole)] = whole[len(prompt) :]
    return tokens, labels


def _example(draw: random.Random, seed: int, config: Config) -> tuple[list[dict[str, str]], str]:
    """Return one chat and its answer: to describe, to invent or to read."""
    kind = draw.random()
    if kind < config.describe:
        attributes = draw_attributes(draw, keep=draw.uniform(0.3, 1.0) if draw.random() < config.partial else 1.0)
        return messages(attributes), write_caption(attributes, seed)
    if kind < config.describe + config.invent:
        chosen = {name: draw.choice(words) for name, (_, _, words) in ATTRIBUTES.items()}
        # Some words are given; the sex always, as a job deals it.
        given = draw.choice((0.0, 0.3, 1.0))
        known = {name: [word] for name, word in chosen.items() if name == "sex" or draw.random() < given}
        return invent_messages(known), write_answer(chosen, CAPTION, write_caption(chosen, seed))
    wish = draw_prompt(draw)
    return read_messages(wish.text, READABLE, ()), _reading(wish)


def _reading(wish: FreePrompt) -> str:
    """Return the answer to a free prompt."""
    rest = f" {wish.rest}" if wish.rest else ""
    return write_answer(wish.attributes, REST, rest, wish.conditions)


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return the mean cross entropy of the answers' tokens; row k of the batch is the answer of seed draw[k]."""
    groups = examples((int(seed) for seed in batch["draw"]), config)
    device = next(model.parameters()).device
    total = torch.zeros((), device=device)
    for tokens, labels in groups:
        # Padding stands on the right and causal attention never looks there, so no mask is needed.
        logits = model(input_ids=tokens.to(device)).logits[:, :-1].float()
        wanted = labels[:, 1:].flatten().to(device)
        total = total + cross_entropy(logits.flatten(0, 1), wanted, ignore_index=-100, reduction="sum")
    count = sum(int((labels != -100).sum()) for _, labels in groups)
    return total / count, {"tokens": float(count)}


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return how often captions state what was asked, how many differ, how often prompts are read aright, and the loss."""
    # Of the validation rows only the numbers are used: they seed the attributes.
    seeds = [seed_of("captioner", "validation", int(row)) for batch in rows for row in batch["row"]]
    agreement, losses, right = Agreement(), [], 0
    for begin in range(0, len(seeds), 64):
        few = seeds[begin : begin + 64]
        losses.append(loss(model, {"draw": np.array(few)}, config, 0)[0].item())
        asked = [draw_attributes(random.Random(seed)) for seed in few]
        texts = write(model, [messages(attributes) for attributes in asked], few[0])
        for attributes, text in zip(asked, texts, strict=True):
            agreement.add(attributes, text)
        # Free prompts of the grammar, read without a schema.
        wishes = [draw_prompt(random.Random(seed)) for seed in few]
        answers = write(model, [read_messages(wish.text, READABLE, ()) for wish in wishes], few[0], 0.01)
        right += sum(answer == _reading(wish) for answer, wish in zip(answers, wishes, strict=True))
    summary = agreement.summary()
    read = right / max(1, len(seeds))
    return {"score": summary["captions_agree"], "loss": float(np.mean(losses)), "prompts_read": read, **summary}


def write(model: nn.Module, chats: list[list[dict[str, str]]], seed: int, temperature: float = 0.8) -> list[str]:
    """Return one sampled answer per chat, in plain torch; jobs get theirs from vLLM."""
    assert isinstance(model, LlamaForCausalLM)
    tokenizer = caption_tokenizer()
    tokenizer.padding_side = "left"
    prompts = tokenizer.apply_chat_template(chats, padding=True, return_tensors="pt", return_dict=True)
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        out = model.generate(**prompts, do_sample=True, temperature=temperature, top_k=0, max_new_tokens=110)
    return tokenizer.batch_decode(out[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write a Hugging Face folder (float16 safetensors, config, tokenizer with its chat template) and the card."""
    assert isinstance(model, LlamaForCausalLM)
    copy.deepcopy(model).half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors makes files that only their owner reads
    caption_tokenizer().save_pretrained(folder)
    card.model_copy(update={"title": "Captioner", "summary": SUMMARY, "limits": LIMITS}).write(folder)
