"""FaceT5-FLUX's encoder (arXiv 2504.14202): T5-v1.1-XXL and a face ViT, fused as FaceCLIP fuses, without an id token.

Names and shapes of weights are the published ones below `encoder_2.`; what FLUX reads beside it is CLIP's pooled vector
(`encoder_1.`, a CLIP text model) and its transformer, diffusers' `FluxTransformer2DModel`.
"""

import math
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from models.visible.faceclip.config import FuserConfig, VitConfig
from models.visible.faceclip.fuser import Fuser
from models.visible.faceclip.vit import FaceVit, resize_faces

BUCKETS, DISTANCE = 32, 128
"""Relative positions that T5 tells apart, and the distance from which on it tells no further."""


class T5Config(BaseModel):
    """T5-v1.1's encoder; the defaults are XXL's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(4096, gt=0, multiple_of=2)
    layers: int = Field(24, gt=0)
    heads: int = Field(64, gt=0)
    head: int = Field(64, gt=0, description="width of a head")
    hidden: int = Field(10_240, gt=0)
    vocabulary: int = Field(32_128, gt=0)
    length: int = Field(512, gt=0)


class FaceT5Config(BaseModel):
    """Shapes of the encoder; the defaults are the published ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vit: VitConfig = VitConfig()
    t5: T5Config = T5Config()
    fuser: FuserConfig = FuserConfig()


class FaceT5(nn.Module):
    """The encoder, in evaluation mode."""

    positional_embedding: Tensor

    def __init__(self, config: FaceT5Config = FaceT5Config()) -> None:  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        width, face = config.t5.width, config.vit.width
        self.register_buffer("positional_embedding", sine_positions(config.t5.length, width))
        self.face_encoder = FaceVit(config.vit)
        self.t5_encoder = T5Encoder(config.t5)
        self.face_patch_proj = nn.Linear(face, width)
        self.face_pos_proj = nn.Linear(face, width)
        self.fuser = Fuser(width, config.fuser, deformable=False)
        self.eval()

    def forward(self, faces: Tensor, ids: Tensor) -> Tensor:
        """Return prompt embeddings [B, T, width] of faces [B, 3, H, W] in [0, 1] and T5's ids int64 [B, T], padding included.

        A row without a face shows zeros; there is nothing else that says so. Raises ValueError for another number of ids than
        the positions are made for.
        """
        if (count := ids.shape[1]) != (length := self.config.t5.length):
            raise ValueError(
                f"{count} ids a text, and the encoder reads {length}: pad (with 0) or cut them to {length}"
            )
        patches = self.face_encoder(resize_faces(faces, self.face_patch_proj.weight.dtype)).patches
        text, face = self.t5_encoder(ids), self.face_patch_proj(patches)
        face_position = self.face_pos_proj(self.face_encoder.pos_embed)
        return self.fuser(text, face, self.positional_embedding, face_position)


def sine_positions(length: int, width: int) -> Tensor:
    """Return positions float32 [1, length, width]: sine in even, cosine in odd channels, of position x 10000^(-2i / width)."""
    angles = torch.arange(length)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[None]


class T5Encoder(nn.Module):
    """T5's encoder in FlashT5's names of weights. No position is masked: padding is content."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.block = nn.ModuleList(_Block(config, first=k == 0) for k in range(config.layers))
        self.final_layer_norm = _RmsNorm(config.width)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the last hidden states [B, T, width] of ids int64 [B, T]."""
        x = self.embed_tokens(ids)
        # The first block's bias is every block's.
        first: Any = self.block[0]
        bias = first.self_attention_layer.self_attention.pe_encoding(ids.shape[1])
        for block in self.block:
            x = block(x, bias)
        return self.final_layer_norm(x)


class _Block(nn.Module):
    def __init__(self, config: T5Config, first: bool) -> None:
        super().__init__()
        self.self_attention_layer = _AttentionLayer(config, first)
        self.ff_layer = _FeedForward(config)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = x + self.self_attention_layer(x, bias)
        return x + self.ff_layer(x)


class _AttentionLayer(nn.Module):
    def __init__(self, config: T5Config, first: bool) -> None:
        super().__init__()
        self.self_attention = _Attention(config, first)
        self.layer_norm = _RmsNorm(config.width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        return self.self_attention(self.layer_norm(x), bias)


class _Attention(nn.Module):
    """Attention without a scale, as T5 has it."""

    def __init__(self, config: T5Config, first: bool) -> None:
        super().__init__()
        self.heads, inner = config.heads, config.heads * config.head
        if first:
            self.pe_encoding = _RelativeBias(config.heads)
        self.Wq, self.Wk, self.Wv = (nn.Linear(config.width, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, config.width, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.Wq, self.Wk, self.Wv))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=1.0)
        return self.o(out.transpose(1, 2).flatten(2))


class _RelativeBias(nn.Module):
    """A bias per head and bucket of distance, half of the buckets for each direction."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.relative_attention_bias = nn.Embedding(BUCKETS, heads)

    def forward(self, length: int) -> Tensor:
        """Return the bias [1, heads, length, length] of queries and keys."""
        places = torch.arange(length, device=self.relative_attention_bias.weight.device)
        buckets = relative_buckets(places[None, :] - places[:, None])
        return self.relative_attention_bias(buckets).permute(2, 0, 1)[None]


def relative_buckets(distance: Tensor) -> Tensor:
    """Return the buckets int64 of distances key - query: each small one its own, then logarithmically up to `DISTANCE`.

    Source: arXiv 1910.10683, section 2.1, in both directions.
    """
    half = BUCKETS // 2
    near = half // 2
    size = distance.abs()
    far = torch.log(size.clamp(min=1).float() / near) / math.log(DISTANCE / near) * (half - near)
    return (distance > 0) * half + torch.where(size < near, size, (near + far.long()).clamp(max=half - 1))


class _FeedForward(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.act = _Gate(config)
        self.layer_norm = _RmsNorm(config.width)
        self.wo = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(self.act(self.layer_norm(x)))


class _Gate(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(config.width, config.hidden, bias=False)
        self.wi_1 = nn.Linear(config.width, config.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x)


class _RmsNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, eps=1e-6).to(x.dtype) * self.weight
