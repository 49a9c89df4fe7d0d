"""Identity and caption as one sequence of vectors, the way Arc2Face makes it (arXiv 2403.11641).

The prompt is `photo of a id person`, followed by the caption. The vector of the token `id` is replaced by the person's
ArcFace embedding; CLIP's text transformer runs on the result, and every position of its last hidden state conditions
the U-Net. A hidden size of at least 512 takes the embedding L2-normalised and padded with zeros on the right, exactly
as Arc2Face does, so its published encoder runs here. A narrower transformer learns a linear map 512 -> hidden, stored
beside it as `identity.safetensors`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerBase

from models.errors import EnvironmentFault
from models.visible.autoencoder import load_part

EMBEDDING = 512
PROMPT = "photo of a id person"
IDENTITY_WORD = "id"
IDENTITY_FILE = "identity.safetensors"


class IdentityText(nn.Module):
    """CLIP's text transformer with the identity in the place of one token.

    `project` is None where the hidden size leaves room for the whole embedding.
    """

    def __init__(self, text: CLIPTextModel, id_token: int) -> None:
        super().__init__()
        self.text = text
        self.id_token = id_token
        hidden = text.config.hidden_size
        self.project = None if hidden >= EMBEDDING else nn.Linear(EMBEDDING, hidden, bias=False)
        if self.project is not None:
            nn.init.normal_(self.project.weight, std=0.1)  # several times a token's norm, so that training notices it

    def forward(self, ids: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Return the prompt's embeddings, the last hidden state float [B, T, hidden] of token ids int64 [B, T].

        embedding: float [B, 512] of any non-zero norm; rows whose ids hold no identity token ignore theirs.
        """
        # CLIP's own forward takes no vectors in place of ids, so its parts are called one by one.
        text = self.text
        tokens = text.embeddings.token_embedding(ids)
        if embedding is not None:
            tokens = self.insert(tokens, ids, embedding)
        hidden = text.embeddings(inputs_embeds=tokens)
        hidden = text.encoder(inputs_embeds=hidden, attention_mask=_causal(hidden), is_causal=True).last_hidden_state
        prompt_embeds: Tensor = text.final_layer_norm(hidden)
        return prompt_embeds

    def insert(self, tokens: Tensor, ids: Tensor, embedding: Tensor) -> Tensor:
        """Return `tokens` [B, T, hidden] with the identity at each row's first `id` (a caption may say the word again)."""
        found = ids == self.id_token
        first = found & (found.cumsum(dim=1) == 1)
        vector = self.identity(embedding).to(tokens.dtype)
        return torch.where(first[..., None], vector[:, None], tokens)

    def identity(self, embedding: Tensor) -> Tensor:
        """Return the vectors [B, hidden] that stand for people: unit length and zero-padded, or mapped to `hidden`."""
        unit = F.normalize(embedding.float(), dim=-1)
        if self.project is not None:
            vector: Tensor = self.project(unit.to(self.project.weight.dtype))
            return vector
        return F.pad(unit, (0, self.text.config.hidden_size - EMBEDDING))


def _causal(hidden: Tensor) -> Tensor:
    """Return CLIP's additive causal mask [1, 1, T, T]; explicit, so every attention implementation gives the same."""
    length = hidden.shape[1]
    mask = torch.full((length, length), torch.finfo(hidden.dtype).min, dtype=hidden.dtype, device=hidden.device)
    return mask.triu(1)[None, None]


def new_text(
    vocabulary: int, hidden: int, layers: int, heads: int, length: int, special: tuple[int, int]
) -> CLIPTextModel:
    """Return a fresh transformer; special: ids of start and end."""
    # Padding is the end token, as CLIP has it.
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=length,
        hidden_act="quick_gelu",
        bos_token_id=special[0],
        eos_token_id=special[1],
        pad_token_id=special[1],
    )
    return CLIPTextModel(config)


def id_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the token that the embedding replaces."""
    ids: list[int] = tokenizer.encode(IDENTITY_WORD, add_special_tokens=False)
    if len(ids) != 1:
        raise EnvironmentFault(
            f"the tokenizer cuts {IDENTITY_WORD!r} into {len(ids)} tokens: it cannot carry an identity."
        )
    return ids[0]


def prompts(captions: Sequence[str]) -> list[str]:
    """Return the prompts of captions; an empty caption leaves Arc2Face's own prompt."""
    return [f"{PROMPT}. {caption}" if caption else PROMPT for caption in captions]


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Tensor:
    """Return ids int64 [B, tokenizer.model_max_length], padded at the end and cut where a text is too long."""
    batch: Any = tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt")
    ids: Tensor = batch.input_ids
    return ids


def count_cut(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> np.ndarray:
    """Return how many tokens of each text `tokenize` leaves out, int32 [B]."""
    tokens: Any = tokenizer(list(texts), verbose=False)["input_ids"]
    return np.array([max(0, len(ids) - tokenizer.model_max_length) for ids in tokens], np.int32)


def save_text(encoder: IdentityText, folder: Path) -> None:
    """Write the transformer in its own layout, and the map of identities beside it."""
    encoder.text.save_pretrained(str(folder))
    if encoder.project is not None:
        save_file({"weight": encoder.project.weight.detach().contiguous()}, str(folder / IDENTITY_FILE))


def load_text(folder: Path, tokenizer: PreTrainedTokenizerBase, dtype: str = "float32") -> IdentityText:
    """Return the encoder of `folder`: ours, or Arc2Face's published one (`pytorch_model.bin` is read as tensors alone)."""
    encoder = IdentityText(load_part(CLIPTextModel, folder, dtype), id_token(tokenizer))
    if encoder.project is not None:
        path = folder / IDENTITY_FILE
        if not path.is_file():
            raise EnvironmentFault(f"{path} is missing: a transformer this narrow needs it. Fetch the bundle again.")
        encoder.project.load_state_dict(load_file(str(path)))
        encoder.project.to(encoder.text.dtype)
    return encoder.eval()
