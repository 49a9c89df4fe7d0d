"""How a U-Net of one shape is told face and text: FaceCLIP, an adapter in its place, and FaceCLIP with a thing taken away."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.visible.faceclip.encoder import FaceClip
from models.visible.faceclip.faces import to_faces
from models.visible.faceclip.tokenizer import add_prefix, tokenize

Way = Literal["FaceCLIP", "adapter", "text alone", "no fuser", "no id token", "L alone"]
WAYS: tuple[Way, ...] = ("FaceCLIP", "adapter", "text alone", "no fuser", "no id token", "L alone")
WHY = {
    "FaceCLIP": "the fused embedding of face and text",
    "adapter": "plain text tokens, and the face's vector by a cross-attention of its own (IP-Adapter-FaceID's form)",
    "text alone": "plain text tokens, and no face",
    "no fuser": "text tokens with the face's vector in place of `id`, not fused with the face's patches",
    "no id token": "fused with the face's patches; the word `id` stays a word",
    "L alone": "the fused embedding of branch L; zeros in place of G's tokens and of the pooled vector",
}
"""Way -> what it tells the U-Net."""
PLAIN = ("adapter", "text alone")
"""Ways whose text tokens know of no face: their texts have no prefix."""
ADAPTER = "identity"
"""Name of the adapter's branch of cross-attention."""
TOKENS = 4
"""Of the adapter, as IP-Adapter-FaceID has them."""


class Told(NamedTuple):
    """What a U-Net is told of rows."""

    embeds: Tensor
    """float32 [B, 77, l + g]."""
    pooled: Tensor
    """float32 [B, g]."""
    identity: Tensor
    """The face's vector of length one, zeros where there is none: float32 [B, out]."""


@torch.no_grad()
def tell(way: Way, encoder: FaceClip, crops: np.ndarray, texts: list[str], has_face: np.ndarray) -> Told:
    """Return what a way tells of rows. crops: uint8 [B, H, W, 3], zeros without a face (has_face bool [B]); texts: without
    prefix."""
    # The texts, with the prefix that speaks of a face where the way knows one.
    branches = encoder.face_clip_l, encoder.face_clip_g
    device = encoder.face_clip_l.proj1.weight.device
    prefixed = has_face & (way not in PLAIN)
    ids = tokenize(add_prefix(texts, prefixed.tolist())).to(device)
    there = torch.from_numpy(has_face).to(device)
    # The face, and in which ways its vector stands in the place of the word `id`.
    faces = encoder.encode_faces(to_faces(crops, device))
    identity = F.normalize(faces[0].vector.float(), dim=-1) * there[:, None]
    named = there if way in ("FaceCLIP", "no fuser", "L alone") else torch.zeros_like(there)
    # Text alone, or fused with the patches of the face.
    if way in (*PLAIN, "no fuser"):
        read = [branch.read_text(ids, face.vector, named) for branch, face in zip(branches, faces, strict=True)]
    else:
        read = [branch(face, ids, named) for branch, face in zip(branches, faces, strict=True)]
    (own, _), (other, pooled) = read
    # The ablation that leaves out the larger branch keeps its shape.
    if way == "L alone":
        other, pooled = torch.zeros_like(other), torch.zeros_like(pooled)
    return Told(torch.cat([own, other], -1), pooled, identity)


class Projection(nn.Module):
    """The face's vector as the tokens of an adapter (IP-Adapter-FaceID's `MLPProjModel`): [B, out] -> [B, 4, width]."""

    def __init__(self, identity: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.proj = nn.Sequential(nn.Linear(identity, 2 * identity), nn.GELU(), nn.Linear(2 * identity, TOKENS * width))
        self.norm = nn.LayerNorm(width)

    def forward(self, vectors: Tensor) -> Tensor:
        tokens: Tensor = self.norm(self.proj(vectors).unflatten(-1, (TOKENS, self.width)))
        return tokens
