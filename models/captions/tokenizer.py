"""The starter captioner's tokenizer: byte-level BPE over the grammar's captions, one token per attribute value."""

import random
from collections.abc import Iterator
from functools import lru_cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from models.captions.grammar import write_caption
from models.captions.prompt import COMPACT_TEMPLATE, attribute_tokens
from models.captions.sampling import draw_attributes
from models.seeds import seed_of

PAD, END, CAPTION = "<pad>", "<end>", "<caption>"
VOCABULARY = 1280
"""Tokens in all: enough for every word of the grammar to be one token."""


@lru_cache(maxsize=1)
def caption_tokenizer(captions: int = 12_000) -> PreTrainedTokenizerFast:
    """Train the tokenizer on `captions` captions of the grammar (seconds; the same result every time)."""
    # Bytes as the alphabet: any text can be written.
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # The prompt's tokens are special, so that each is one.
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, CAPTION, *attribute_tokens()],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(captions), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[CAPTION, *attribute_tokens()],
        chat_template=COMPACT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def _corpus(captions: int) -> Iterator[str]:
    """Yield captions of the grammar, the same every time."""
    for k in range(captions):
        seed = seed_of("tokenizer", k)
        yield write_caption(draw_attributes(random.Random(seed)), seed)
