"""How words reach a U-Net whose own encoder knows one prompt alone: a branch of cross-attention on a CLIP text model.

Arc2Face's encoder was trained with `photo of a id person` and ignores other words; LaPIG (arXiv 2503.16376) reads captions
by LongCLIP, 248 tokens of them, beside the identity. The folder:

    branch.safetensors    `to_k` and `to_v` of every cross-attention; its metadata hold `TextBranchConfig`
    encoder/  tokenizer/  the CLIP text model that reads captions, in transformers' layout; absent where it is the visible
                          model's own
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerBase

from models.config import parse_json
from models.diffusion.cross_attention import Branch, attach, new_branch
from models.errors import EnvironmentFault
from models.visible.autoencoder import load_part
from models.visible.tokenizer import load_tokenizer
from models.weights.networks import load_network, save_network

NAME = "text_branch"
"""Of the weights in a bundle, and of the contexts that the U-Net is given."""
FILE = "branch.safetensors"


class TextBranchConfig(BaseModel):
    """What a branch reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: Literal["own", "visible"] = "visible"
    """Whose text encoder: one in the branch's folder, or that of the visible model."""
    width: int = Field(gt=0)
    """Of the encoder's last hidden state."""
    windows: int = Field(default=1, gt=0)
    """How many times the encoder's length of a caption is read, window by window, laid behind each other."""


@dataclass(frozen=True)
class TextBranch:
    """A branch and what reads for it."""

    branch: Branch
    config: TextBranchConfig
    text: CLIPTextModel
    tokenizer: PreTrainedTokenizerBase

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Tensor:
        """Return the contexts of captions, float [B, windows * T, width]; every caption has all windows, empty ones too."""
        ids, _ = self._split(captions)
        hidden: Tensor = self.text(input_ids=ids.flatten(0, 1).to(self.text.device)).last_hidden_state
        return hidden.reshape(len(captions), -1, self.config.width)

    def count_cut(self, captions: Sequence[str]) -> np.ndarray:
        """Return how many tokens of each caption lie behind the last window, int32 [B]."""
        return self._split(captions)[1]

    def _split(self, captions: Sequence[str]) -> tuple[Tensor, np.ndarray]:
        return split_windows(self.tokenizer, captions, self.text.config.max_position_embeddings, self.config.windows)


Encoder = tuple[CLIPTextModel, PreTrainedTokenizerBase]
"""What reads a caption: last hidden states [B, T, width] of the tokenizer's ids."""


def split_windows(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int, windows: int
) -> tuple[Tensor, np.ndarray]:
    """Return ids int64 [B, windows, length] and how many tokens of each text are left, int32 [B].

    Each window begins with the start and closes with the end, which also pads it, as CLIP has it; those behind a text's
    last token are empty.
    """
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    room = length - 2
    ids = torch.full((len(texts), windows, length), end if pad is None else pad)
    ids[..., 0] = start
    cut = np.zeros(len(texts), np.int32)
    tokens: Any = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    for row, said in enumerate(tokens):
        cut[row] = max(0, len(said) - windows * room)
        for window in range(windows):
            part = said[window * room : (window + 1) * room]
            ids[row, window, 1 : len(part) + 2] = torch.tensor([*part, end])
    return ids, cut


def new_text_branch(
    unet: UNet2DConditionModel, visible: Encoder, folder: Path | None = None, windows: int = 1, dtype: str = "float32"
) -> TextBranch:
    """Return a fresh branch, attached to `unet`. folder: of an encoder of its own; without one, the `visible` model's reads."""
    text, tokenizer = _load_encoder(folder, dtype) if folder else visible
    config = TextBranchConfig(encoder="own" if folder else "visible", width=text.config.hidden_size, windows=windows)
    branch = new_branch(unet, config.width)
    attach(unet, NAME, branch)
    return TextBranch(branch, config, text, tokenizer)


def load_text_branch(folder: Path, unet: UNet2DConditionModel, visible: Encoder, dtype: str = "float32") -> TextBranch:
    """Return the branch of `folder`, frozen and attached to `unet`.

    Raises:
        EnvironmentFault: a file is missing, the branch is of another U-Net, or the text encoder of another width.
    """
    config = read_config(folder)
    text, tokenizer = _load_encoder(folder, dtype) if config.encoder == "own" else visible
    if text.config.hidden_size != config.width:
        whose = "its own" if config.encoder == "own" else "the visible model's"
        raise EnvironmentFault(
            f"{folder}: the branch reads {config.width} numbers a token, and {whose} encoder writes "
            f"{text.config.hidden_size}. Take the encoder that it was trained with."
        )
    branch = load_network(folder / FILE, lambda _: new_branch(unet, config.width), dtype).requires_grad_(False)
    attach(unet, NAME, branch)
    return TextBranch(branch, config, text, tokenizer)


def read_config(folder: Path) -> TextBranchConfig:
    """Return what the branch of `folder` reads. Raises EnvironmentFault where there is no branch."""
    path = folder / FILE
    try:
        with safe_open(str(path), "pt") as file:
            return TextBranchConfig(**parse_json((file.metadata() or {}).get("config", "{}")))
    except FileNotFoundError:
        raise EnvironmentFault(f"{path} is missing: `thermapair train text_branch` writes it.") from None
    except (SafetensorError, ValidationError) as error:
        found = error.errors()[0] if isinstance(error, ValidationError) else None
        what = f"{'.'.join(map(str, found['loc']))}: {found['msg']}" if found else str(error)
        raise EnvironmentFault(f"{path} is no branch of text: {what}. Fetch or train it again.") from None


def save_text_branch(words: TextBranch, folder: Path, encoder: Path | None = None) -> None:
    """Write the branch in float16. encoder: the folder that its own encoder comes from, copied beside it."""
    words.branch.config = words.config  # type: ignore[assignment]  # `save_network` writes it beside the weights
    save_network(words.branch, folder / FILE)
    for name in ("encoder", "tokenizer") if encoder else ():
        shutil.copytree(encoder / name, folder / name, dirs_exist_ok=True)  # type: ignore[operator]


def _load_encoder(folder: Path, dtype: str) -> Encoder:
    """Return the frozen encoder of `folder`. Raises EnvironmentFault for a tokenizer that is not the encoder's."""
    text, tokenizer = load_part(CLIPTextModel, folder / "encoder", dtype), load_tokenizer(folder / "tokenizer")
    check_tokenizer(tokenizer, text, folder)
    return text.requires_grad_(False), tokenizer


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, text: CLIPTextModel, folder: Path) -> None:
    """Raise EnvironmentFault for a tokenizer that knows more tokens than the encoder."""
    if len(tokenizer) > text.config.vocab_size:
        raise EnvironmentFault(
            f"{folder}: the tokenizer knows {len(tokenizer)} tokens, and the encoder {text.config.vocab_size}."
        )
