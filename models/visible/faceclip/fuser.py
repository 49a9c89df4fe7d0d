"""The fuser: GroundingDINO's feature enhancer (arXiv 2303.05499, figure 3), in which text reads the face patches and they it.

Nothing is masked: all 77 positions of a text attend and are attended, padding included.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.visible.faceclip.config import FuserConfig
from models.visible.faceclip.deformable import DeformableAttention
from models.visible.faceclip.text import Attention

GAMMA = 1e-4
"""What each side takes of the other at initialisation."""
CLAMP = 50_000.0


class Fuser(nn.Module):
    """Text [B, T, width] and face patches [B, 144, width] to text [B, T, width].

    enc_output and enc_output_norm belong to the published weights and are not computed.
    """

    def __init__(self, width: int, config: FuserConfig, deformable: bool = True) -> None:
        super().__init__()
        self.encoder = _Layers(width, config, deformable)
        self.enc_output = nn.Linear(width, width)
        self.enc_output_norm = nn.LayerNorm(width)

    def forward(self, text: Tensor, face: Tensor, text_position: Tensor, face_position: Tensor) -> Tensor:
        """Return the text that has read the face. Positions: [1, T, width] and [1, 144, width]."""
        return self.encoder(text, face, text_position, face_position)


class _Layers(nn.Module):
    """Each layer in the order fusion, text, face."""

    def __init__(self, width: int, config: FuserConfig, deformable: bool) -> None:
        super().__init__()
        count = range(config.layers)
        self.layers = nn.ModuleList(FaceLayer(width, config, deformable) for _ in count)
        self.text_layers = nn.ModuleList(TextLayer(width, config) for _ in count)
        self.fusion_layers = nn.ModuleList(FusionLayer(width, config) for _ in count)

    def forward(self, text: Tensor, face: Tensor, text_position: Tensor, face_position: Tensor) -> Tensor:
        last = len(self.layers) - 1
        for k, (face_layer, text_layer, fuse) in enumerate(zip(self.layers, self.text_layers, self.fusion_layers)):
            # Nothing reads the last face, so it is not computed.
            face, text = fuse(face, text, both=k < last)
            text = text_layer(text, text_position)
            if k < last:
                face = face_layer(face, face_position)
        return text


class FusionLayer(nn.Module):
    """Text and face read each other by one matrix of scores. The residual is the *normalised* input, as in GroundingDINO."""

    def __init__(self, width: int, config: FuserConfig) -> None:
        super().__init__()
        self.gamma_v = nn.Parameter(torch.full((width,), GAMMA))
        self.gamma_l = nn.Parameter(torch.full((width,), GAMMA))
        self.layer_norm_v = nn.LayerNorm(width)
        self.layer_norm_l = nn.LayerNorm(width)
        self.attn = BiAttention(width, config)

    def forward(self, face: Tensor, text: Tensor, both: bool = True) -> tuple[Tensor, Tensor]:
        """Return face and text; the face as it came if not `both` are asked for."""
        v, l = self.layer_norm_v(face), self.layer_norm_l(text)  # noqa: E741 (vision and language, as published)
        from_text, from_face = self.attn(v, l, both)
        return face if from_text is None else v + self.gamma_v * from_text, l + self.gamma_l * from_face


class BiAttention(nn.Module):
    """Cross-attention in both directions: softmax of one matrix over the text for the face, over the face for the text."""

    def __init__(self, width: int, config: FuserConfig) -> None:
        super().__init__()
        inner = config.dim_feedforward // 2
        self.heads, self.dropout = config.nhead // 2, config.dropout
        self.scale = (inner // self.heads) ** -0.5
        self.v_proj = _linear(width, inner)
        self.l_proj = _linear(width, inner)
        self.values_v_proj = _linear(width, inner)
        self.values_l_proj = _linear(width, inner)
        self.out_v_proj = _linear(inner, width)
        self.out_l_proj = _linear(inner, width)

    def forward(self, v: Tensor, l: Tensor, both: bool = True) -> tuple[Tensor | None, Tensor]:  # noqa: E741
        """Return what the face reads of the text [B, P, width], None if not `both`, and the text of the face [B, T, width]."""
        scores = self._split(self.v_proj(v) * self.scale) @ self._split(self.l_proj(l)).transpose(-1, -2)
        # Published is the maximum over all rows of the batch. That of the row itself gives the same weights unless scores
        # lie more than the clamp apart, and rows stay without influence on each other.
        scores = (scores - scores.amax((1, 2, 3), keepdim=True)).clamp(-CLAMP, CLAMP)
        by_face = scores.transpose(-1, -2)
        by_face = (by_face - by_face.amax(-1, keepdim=True)).clamp(-CLAMP, CLAMP)
        from_face = self.out_l_proj(self._read(by_face, self.values_v_proj(v)))
        if not both:
            return None, from_face
        return self.out_v_proj(self._read(scores, self.values_l_proj(l))), from_face

    def _read(self, scores: Tensor, values: Tensor) -> Tensor:
        weights = F.dropout(scores.softmax(-1), self.dropout, self.training)
        return (weights @ self._split(values)).transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        """Return [B, heads, N, head] of [B, N, inner]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class TextLayer(nn.Module):
    """Self-attention of the text and an MLP, each before its norm."""

    def __init__(self, width: int, config: FuserConfig) -> None:
        super().__init__()
        hidden = config.dim_feedforward // 2
        self.dropout = config.dropout
        self.self_attn = Attention(width, config.nhead // 2, config.dropout)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, text: Tensor, position: Tensor) -> Tensor:
        text = self.norm1(text + self._drop(self.self_attn(text + position, text)))
        hidden = self._drop(F.relu(self.linear1(text)))
        return self.norm2(text + self._drop(self.linear2(hidden)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class FaceLayer(nn.Module):
    """Self-attention of the patches, deformable or (FaceT5) plain, and an MLP, each before its norm."""

    def __init__(self, width: int, config: FuserConfig, deformable: bool) -> None:
        super().__init__()
        self.self_attn = (
            DeformableAttention(width, config.nhead, config.points) if deformable else Attention(width, config.nhead)
        )
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, config.dim_feedforward)
        self.linear2 = nn.Linear(config.dim_feedforward, width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, face: Tensor, position: Tensor) -> Tensor:
        face = self.norm1(face + self.self_attn(face + position, face))
        return self.norm2(face + self.linear2(F.relu(self.linear1(face))))


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
