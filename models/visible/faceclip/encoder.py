"""FaceCLIP's encoder (arXiv 2504.14202): a face and a text that says `id` in its place, as one embedding for SDXL's U-Net.

Two branches, each with a face ViT, a CLIP text tower (ViT-L/14 and ViT-bigG/14) and a fuser. Names and shapes of weights are the
published ones, those without influence on the result (`text_projection`, `fuser.enc_output`, the last face layer ...) included.
"""

import contextlib
import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.visible.faceclip.config import (
    ID_TOKEN,
    PREFIX_LENGTH,
    FaceClipConfig,
    FuserConfig,
    TextConfig,
    VitConfig,
)
from models.visible.faceclip.fuser import Fuser
from models.visible.faceclip.precision import in_float, released, widen
from models.visible.faceclip.text import TextTower
from models.visible.faceclip.vit import FaceTokens, FaceVit, resize_faces

__all__ = ["FaceClip", "FaceClipConfig", "FuserConfig", "TextConfig", "VitConfig"]


class FaceClip(nn.Module):
    """Both branches. Fresh ones are in evaluation mode, as they are used; in training the frozen towers stay in it.

    precision: "float32", in truth the weights' own type, or "released": with the regions in bfloat16, float16 and float32
    of the released path (`precision.py`), whose prompt embeddings are float32 and whose pooled vectors bfloat16; its
    weights are in float32.
    """

    precision: Literal["float32", "released"] = "float32"

    def __init__(self, config: FaceClipConfig = FaceClipConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        self.face_clip_l = Branch(config.l, config)
        self.face_clip_g = Branch(config.g, config)
        self.eval()

    def forward(self, faces: Tensor, ids: Tensor, has_face: Tensor) -> tuple[Tensor, Tensor]:
        """Return prompt embeddings [B, 77, l + g] and pooled vectors [B, g] of `g`'s tower, before its projection.

        faces: RGB [B, 3, H, W] in [0, 1], without normalisation, of any size; zeros where there is none.
        ids: int64 [B, 77], of texts that begin with the prefix where there is a face.
        has_face: bool [B]; a face that it denies still passes ViT and fuser, and no word stands for it.
        """
        with released(faces) if self.precision == "released" else contextlib.nullcontext():
            own, other = self.encode_faces(faces)
            fused_l, _ = self.face_clip_l(own, ids, has_face)
            fused_g, pooled = self.face_clip_g(other, ids, has_face)
        return torch.cat([fused_l, fused_g], -1), pooled

    def encode_faces(self, faces: Tensor) -> tuple[FaceTokens, FaceTokens]:
        """Return what the ViTs of both branches make of `faces`; a ViT that they share runs once."""
        # To the type of the arithmetic before the resize, as published.
        small = resize_faces(
            faces, torch.bfloat16 if self.precision == "released" else self.face_clip_l.proj1.weight.dtype
        )
        own = self.face_clip_l.face_encoder(small)
        return own, own if self.shares_face_encoder else self.face_clip_g.face_encoder(small)

    @property
    def shares_face_encoder(self) -> bool:
        """Whether both branches hold one and the same ViT."""
        return self.face_clip_l.face_encoder is self.face_clip_g.face_encoder

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load as torch does. A ViT that both branches hold stays one if those that come are equal, else it becomes two."""
        shared = self.shares_face_encoder
        if shared:
            self.face_clip_g.face_encoder = copy.deepcopy(self.face_clip_l.face_encoder)
        found = super().load_state_dict(state_dict, strict, assign)
        if shared:
            self.share_face_encoder()
        return found

    def share_face_encoder(self) -> bool:
        """Let both branches hold one ViT if all weights of the two are equal; returns whether they are.

        The state dict has the entries of both all the same.
        """
        own, other = (branch.face_encoder.state_dict() for branch in (self.face_clip_l, self.face_clip_g))
        if equal := all(torch.equal(own[key], other[key]) for key in own):
            self.face_clip_g.face_encoder = self.face_clip_l.face_encoder
        return equal


class Branch(TextTower):
    """A text tower in which the face's vector stands for the word `id`, and the fuser of what it says with the face's patches."""

    def __init__(self, text: TextConfig, config: FaceClipConfig) -> None:
        super().__init__(text)
        width, face = text.width, config.vit.width
        self.face_encoder = FaceVit(config.vit)
        self.proj1 = nn.Linear(config.vit.out, width)
        self.face_patch_proj = nn.Linear(face, width)
        self.face_pos_proj = nn.Linear(face, width)
        self.text_embed_proj = nn.Linear(width, width)
        self.text_pos_proj = nn.Linear(width, width)
        self.fuser = Fuser(width, config.fuser)

    def train(self, mode: bool = True) -> "Branch":
        """Set the mode of what learns; ViT and text tower are frozen and stay in evaluation mode."""
        super().train(mode)
        for frozen in (self.face_encoder, self.transformer):
            frozen.eval()
        return self

    def forward(self, face: FaceTokens, ids: Tensor, has_face: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fused text [B, 77, width] and the pooled one [B, width]."""
        read, pooled = self.read_text(ids, face.vector, has_face)
        text, face_patches = self.text_embed_proj(read), self.face_patch_proj(face.patches)
        # The positions of both sides, the same for all rows.
        text_position = self.text_pos_proj(self.positional_embedding)[None]
        face_position = self.face_pos_proj(self.face_encoder.pos_embed)
        sides = [widen(each) for each in (text, face_patches, text_position, face_position)]
        with in_float(text):
            fused = self.fuser(*sides)
        return fused, pooled

    def read_text(self, ids: Tensor, vector: Tensor, has_face: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last hidden states [B, 77, width] and those of the end [B, width], before any projection.

        vector: of the faces, float [B, out].
        """
        # The face, of length one, in place of the prefix's `id`.
        words = self.embed(ids)
        identity = self.proj1(vector / torch.linalg.vector_norm(widen(vector), dim=-1, keepdim=True))
        places = id_places(ids, has_face)[..., None]
        return self.read(torch.where(places, identity[:, None].to(words.dtype), words), ids)


def id_places(ids: Tensor, has_face: Tensor) -> Tensor:
    """Return where the face's vector goes, bool [B, 77]: at `id` within the prefix, in rows that have a face."""
    within = torch.arange(ids.shape[1], device=ids.device) < PREFIX_LENGTH
    return (ids == ID_TOKEN) & within & has_face[:, None]
