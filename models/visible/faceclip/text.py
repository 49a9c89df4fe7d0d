"""CLIP's text tower in open_clip's names of weights: causal, norms before each layer, the last layer read."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.visible.faceclip.config import LENGTH, VOCABULARY, TextConfig
from models.visible.faceclip.precision import cast_type

MLP_RATIO = 4
LOGIT_SCALE, LOGIT_BIAS = 2.659260036932778, -10.0
"""ln(1 / 0.07) and the bias of the sigmoid loss, where a training begins."""


class TextTower(nn.Module):
    """The tower with its tables, its projection, and what a contrastive loss scales and shifts similarities by."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width = config.width
        self.positional_embedding = nn.Parameter(torch.empty(LENGTH, width))
        self.text_projection = nn.Parameter(torch.empty(width, width))
        self.logit_scale = nn.Parameter(torch.tensor(LOGIT_SCALE))
        self.logit_bias = nn.Parameter(torch.tensor(LOGIT_BIAS))
        self.transformer = Transformer(config)
        self.token_embedding = nn.Embedding(VOCABULARY, width)
        self.ln_final = LayerNorm(width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    def embed(self, ids: Tensor) -> Tensor:
        """Return the words of ids int64 [B, 77] without their positions, float [B, 77, width]."""
        table = self.token_embedding.weight
        return F.embedding(ids, table).to(cast_type(table))

    def read(self, words: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last hidden states [B, 77, width] of `words` and those of the end [B, width], before any projection."""
        read = self.ln_final(self.transformer(words + self.positional_embedding.to(words.dtype)))
        # The end has the largest id; the first of several is meant.
        return read, read[torch.arange(len(ids), device=ids.device), ids.argmax(-1)]

    def features(self, ids: Tensor) -> Tensor:
        """Return what CLIP compares with pictures, float [B, width], not of length one."""
        return self.read(self.embed(ids), ids)[1] @ self.text_projection


class LayerNorm(nn.LayerNorm):
    """A norm with statistics in float32, whose result has the type of what came in."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class Transformer(nn.Module):
    """The blocks of a tower: float [B, T, width] to the same. Padding is content: the mask is the causal one alone."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(config) for _ in range(config.layers))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x)
        return x


class _Block(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.width)
        self.attn = Attention(config.width, config.heads)
        self.ln_2 = LayerNorm(config.width)
        self.mlp = _Mlp(config)

    def forward(self, x: Tensor) -> Tensor:
        read = self.ln_1(x)
        x = x + self.attn(read, read, causal=True)
        return x + self.mlp(self.ln_2(x))


class Attention(nn.Module):
    """Multi-head self-attention with the names of torch's own: query and key of one input, the value of another or the same."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, value: Tensor, causal: bool = False) -> Tensor:
        """Return what the queries [B, T, width], which are the keys, too, read of the values [B, T, width]."""
        width = value.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        q, k = F.linear(query, weight[: 2 * width], bias[: 2 * width]).chunk(2, -1)
        v = F.linear(value, weight[2 * width :], bias[2 * width :])
        q, k, v = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (q, k, v))
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.width, MLP_RATIO * config.width)
        self.c_proj = nn.Linear(MLP_RATIO * config.width, config.width)
        self.quick_gelu = config.quick_gelu

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.c_fc(x)
        hidden = hidden * torch.sigmoid(1.702 * hidden) if self.quick_gelu else F.gelu(hidden)
        return self.c_proj(hidden)
