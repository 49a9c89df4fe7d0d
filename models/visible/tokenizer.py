"""A small CLIP tokenizer: byte-level BPE learned from the captions' own language."""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, trainers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer, PreTrainedTokenizerBase

from models.attributes import ATTRIBUTES
from models.captions.grammar import write_caption
from models.errors import EnvironmentFault
from models.visible.text import PROMPT, prompts

START, END = "<|startoftext|>", "<|endoftext|>"


def corpus(count: int, seed: int) -> list[str]:
    """Return prompts whose captions state attributes drawn evenly from the world's vocabularies."""
    draw = random.Random(seed)
    texts = []
    for number in range(count):
        asked = {name: draw.choice(words) for name, (_, _, words) in ATTRIBUTES.items()}
        texts.append(write_caption(asked, seed=number))
    return [PROMPT, *prompts(texts)]


def new_tokenizer(texts: list[str], vocabulary: int, length: int) -> CLIPTokenizer:
    """Return a tokenizer of at most `vocabulary` entries, learned from `texts`; any other text still has tokens (bytes).

    length: tokens of a prompt with start and end; longer ones are cut, shorter ones padded with the end, as CLIP does.
    The same texts give the same tokenizer: a resumed training depends on it.
    """
    blank = CLIPTokenizer()  # its normalizer and pre-tokenizer are CLIP's
    learner = Tokenizer(BPE(end_of_word_suffix="</w>", unk_token=END))
    learner.normalizer = blank.backend_tokenizer.normalizer
    learner.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        # Every byte may end a word. The learner would number the ones it sees in the order of a hash table, and decide
        # ties by those numbers: another tokenizer each time.
        special_tokens=[START, END, *(f"{symbol}</w>" for symbol in _alphabet())],
        end_of_word_suffix="</w>",
        initial_alphabet=_alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    # CLIP's own class around what was learned.
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    return CLIPTokenizer(vocab=dict(learned["vocab"]), merges=merges, model_max_length=length)


def _alphabet() -> list[str]:
    """Return the characters that stand for the 256 bytes."""
    return sorted(ByteLevel.alphabet())


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the CLIP tokenizer of `folder` (`vocab.json` and `merges.txt`, or `tokenizer.json`)."""
    if not (folder / "tokenizer_config.json").is_file():
        raise EnvironmentFault(f"{folder} has no tokenizer_config.json: no tokenizer there. Fetch the bundle again.")
    return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
