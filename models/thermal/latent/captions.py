"""What reads captions for the thermal latent diffusion: a frozen CLIP text encoder and its tokenizer, as visible models have.

    encoder/  tokenizer/     transformers; `models/starter/visible` is such a folder

The picture shows most of what a caption says; whether the words add anything is a question that a training with them answers.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from models.visible.text import IdentityText, load_text, tokenize
from models.visible.tokenizer import load_tokenizer

FOLDERS = ("encoder", "tokenizer")


@dataclass(frozen=True)
class CaptionReader:
    """A text encoder, frozen, and its tokenizer."""

    text: IdentityText
    tokenizer: PreTrainedTokenizerBase

    @property
    def width(self) -> int:
        """Return the width of what cross-attention reads."""
        return int(self.text.text.config.hidden_size)

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Tensor:
        """Return last hidden states float32 [B, T, width] on the CPU, zeros for an empty caption: nothing is said."""
        ids = tokenize(self.tokenizer, captions).to(next(self.text.parameters()).device)
        said = torch.tensor([bool(caption) for caption in captions])
        return self.text(ids).float().cpu() * said[:, None, None]


def load_captions(folder: Path) -> CaptionReader:
    """Return the reader of `folder`. Raises EnvironmentFault where one of its two folders is missing or damaged."""
    tokenizer = load_tokenizer(folder / "tokenizer")
    return CaptionReader(load_text(folder / "encoder", tokenizer).eval().requires_grad_(False), tokenizer)


def copy_captions(source: Path, folder: Path) -> None:
    """Copy the reader's two folders."""
    for name in FOLDERS:
        shutil.copytree(source / name, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("files.json"))
