"""Texts as FaceCLIP's towers read them: open_clip's cleaning and byte-level BPE, padded with 0.

`bpe_simple_vocab_16e6.txt.gz` are the merges of OpenAI's CLIP (MIT licence, Copyright (c) 2021 OpenAI). Tokenizers of Stable
Diffusion know the same words and pad otherwise.
"""

import gzip
import html
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPTokenizer

from models.visible.faceclip.config import LENGTH, VOCABULARY

PREFIX = "Photo of a id person. "
"""What stands before the text of a row with a face; the face's vector takes the place of `id`."""
MERGES = Path(__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
START, END = "<start_of_text>", "<end_of_text>"
START_ID, END_ID, PAD_ID = 49_406, 49_407, 0


def add_prefix(texts: Sequence[str], has_face: Sequence[bool]) -> list[str]:
    """Return the texts, those of rows with a face behind the prefix."""
    return [PREFIX + text if face else text for text, face in zip(texts, has_face, strict=True)]


def clean(text: str) -> str:
    """Return a text as open_clip cleans it: broken encodings and HTML's entities undone, single spaces, lower case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def tokenize(texts: Sequence[str]) -> Tensor:
    """Return ids int64 [B, 77]: start, words, end, zeros; a text too long is cut and ends all the same."""
    ids = torch.full((len(texts), LENGTH), PAD_ID)
    for row, words in enumerate(_words(texts)):
        said = [START_ID, *words[: LENGTH - 2], END_ID]
        ids[row, : len(said)] = torch.tensor(said)
    return ids


def count_cut(texts: Sequence[str]) -> np.ndarray:
    """Return how many tokens of each text `tokenize` leaves out, int32 [B]."""
    return np.array([max(0, len(words) + 2 - LENGTH) for words in _words(texts)], np.int32)


def _words(texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of cleaned texts, without start and end."""
    if not texts:
        return []
    found: Any = _tokenizer()([clean(text) for text in texts], add_special_tokens=False, verbose=False)["input_ids"]
    return list(found)


@lru_cache(maxsize=1)
def _tokenizer() -> CLIPTokenizer:
    """Return CLIP's own tokenizer: 256 bytes, the same at the end of a word, the merges, start and end."""
    lines = gzip.decompress(MERGES.read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 1 + VOCABULARY - 2 * 256 - 2]]
    alphabet = _alphabet()
    tokens = [*alphabet, *(f"{symbol}</w>" for symbol in alphabet), *("".join(pair) for pair in merges), START, END]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    return CLIPTokenizer(vocabulary, merges, unk_token=END, bos_token=START, eos_token=END, pad_token=END)


def _alphabet() -> list[str]:
    """Return the characters that stand for the bytes, in CLIP's order: those that are printed as they are, then the others."""
    return sorted(ByteLevel.alphabet(), key=lambda symbol: (ord(symbol) >= 256, ord(symbol)))
