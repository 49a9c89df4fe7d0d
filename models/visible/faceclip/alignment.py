"""FaceCLIP's alignment of faces, texts and pictures (arXiv 2504.14202, section 3): heads on the fused tokens, and the losses.

The paper gives the three terms; weights, batch and targets are not said. Here a pair is positive where person and caption are
the same, and left out where only one of them is.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.visible.faceclip.config import LENGTH
from models.visible.faceclip.encoder import FaceClip
from models.visible.faceclip.text import TextTower

Loss = Literal["sigmoid", "softmax"]
TRAINED = ("proj1", "face_patch_proj", "face_pos_proj", "text_embed_proj", "text_pos_proj", "fuser")
"""Parts of a branch that learn, beside `logit_scale` and `logit_bias`; face ViT and text tower are frozen."""


class Aligned(NamedTuple):
    """What a branch's fused tokens are compared with, vectors of length one [B, ...]."""

    identity: Tensor
    text: Tensor


class Heads(nn.Module):
    """What reads a branch's fused tokens, all 77 laid in a line, and what brings pictures to the texts' vectors."""

    def __init__(self, width: int, identity: int, text: int, image: int) -> None:
        super().__init__()
        self.identity = nn.Linear(LENGTH * width, identity)
        self.text = nn.Linear(LENGTH * width, text)
        self.image = nn.Linear(image, text)

    def forward(self, fused: Tensor) -> Aligned:
        """Return the vectors of fused tokens [B, 77, width]: one for faces, one for texts and pictures."""
        flat = fused.flatten(1)
        return Aligned(F.normalize(self.identity(flat), dim=-1), F.normalize(self.text(flat), dim=-1))

    def project_image(self, features: Tensor) -> Tensor:
        """Return the vectors of a frozen vision tower's features [B, image]."""
        return F.normalize(self.image(features), dim=-1)


def freeze_towers(encoder: FaceClip) -> None:
    """Let the parts of both branches learn that the alignment trains, and nothing else."""
    encoder.requires_grad_(False)
    for branch in (encoder.face_clip_l, encoder.face_clip_g):
        for name in TRAINED:
            getattr(branch, name).requires_grad_(True)
        branch.logit_scale.requires_grad_(True)
        branch.logit_bias.requires_grad_(True)
        branch.fuser.enc_output.requires_grad_(False)
        branch.fuser.enc_output_norm.requires_grad_(False)
        branch.fuser.encoder.layers[-1].requires_grad_(False)


class Pairs(NamedTuple):
    """Which rows belong together, bool [B, B] each."""

    positive: Tensor
    """Same person and same caption; a row and itself always."""
    ignored: Tensor
    """Same person or same caption, not both: neither alike nor unlike."""


def pair_rows(person: Tensor, caption: Tensor) -> Pairs:
    """Return how the rows of a batch belong together. person, caption: int64 [B], equal where the same is meant."""
    same_person, same_caption = person[:, None] == person, caption[:, None] == caption
    return Pairs(same_person & same_caption, same_person ^ same_caption)


def contrast(ours: Tensor, theirs: Tensor, pairs: Pairs, tower: TextTower, kind: Loss) -> Tensor:
    """Return the mean loss of two sets of vectors of length one [B, D], over the rows that are positive with themselves.

    sigmoid: arXiv 2303.15343, equation 1, on exp(logit_scale) cosine + logit_bias. softmax: CLIP's, in both directions (arXiv
    2103.00020), where the positives of a row share the probability.
    """
    # Rows that take no part: what is left is positive on the diagonal, so that no row is without.
    part = pairs.positive.diagonal()
    positive, ignored = (mask[part][:, part] for mask in pairs)
    logits = (ours[part].float() @ theirs[part].float().T) * tower.logit_scale.exp()
    rows = max(1, len(logits))
    if kind == "sigmoid":
        signs = torch.where(positive, 1.0, -1.0)
        return -(F.logsigmoid(signs * (logits + tower.logit_bias)) * ~ignored).sum() / rows
    logits = logits.masked_fill(ignored, -torch.inf)
    found = logits.masked_fill(~positive, -torch.inf)
    sides = [logits.logsumexp(k) - found.logsumexp(k) for k in (0, 1)]
    return torch.stack(sides).sum() / (2 * rows)
