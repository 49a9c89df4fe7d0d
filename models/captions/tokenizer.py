"""The starter captioner's tokenizer: byte-level BPE over the grammar's captions and free prompts, one token per attribute value.

A value is one token in a prompt (`<sex=woman>`) and one in an answer (`"sex": "woman", `).
"""

import random
from collections.abc import Iterator
from functools import lru_cache

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from models.captions import synonyms
from models.captions.answers import member_tokens
from models.captions.free_prompts import draw_prompt
from models.captions.grammar import write_caption
from models.captions.prompt import COMPACT_TEMPLATE, attribute_tokens
from models.captions.sampling import draw_attributes
from models.seeds import seed_of

PAD, END, CAPTION = "<pad>", "<end>", "<caption>"
INVENT, READ, ANSWER = "<invent>", "<read>", "<answer>"
MARKS = (CAPTION, INVENT, READ, ANSWER)
VOCABULARY = 2048
"""Tokens at most, without those of answers: enough for every word of the grammar to be one token."""


@lru_cache(maxsize=1)
def caption_tokenizer(captions: int = 6_000) -> PreTrainedTokenizerFast:
    """Train the tokenizer on `captions` captions of the grammar and some free prompts (seconds; the same result every time)."""
    # Bytes as the alphabet: any text can be written.
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # The prompt's tokens are special, so that each is one.
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, *MARKS, *attribute_tokens()],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(captions), trainer)
    tokenizer.add_tokens([AddedToken(member, normalized=False) for member in member_tokens()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[*MARKS, *attribute_tokens()],
        chat_template=COMPACT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def _corpus(captions: int) -> Iterator[str]:
    """Yield captions of the grammar, free prompts and every synonym by itself, the same every time."""
    for k in range(captions):
        seed = seed_of("tokenizer", k)
        yield write_caption(draw_attributes(random.Random(seed)), seed)
    for k in range(captions // 6):
        yield f" {draw_prompt(random.Random(seed_of('tokenizer', k))).text}"
    for form in synonyms.every_form():
        yield from (f" {form}",) * 4
