"""The loss of PACT (SynThermFace, arXiv 2609.10303): two cameras' pairs come together, the visible one stays where it was."""

import torch
import torch.nn.functional as F
from torch import Tensor


def multi_positive_loss(anchors: Tensor, others: Tensor, same: Tensor, temperature: float) -> Tensor:
    """Return the multi-positive InfoNCE of unit vectors `anchors` [A, D] to `others` [B, D]: the mean over anchors of the mean of
    -log softmax(similarity / temperature) over the others of the same person.

    same: bool [A, B]. Anchors without one of their person count for nothing.
    """
    logits = anchors.float() @ others.float().T / temperature
    shares = F.log_softmax(logits, dim=1)
    count = same.sum(dim=1)
    per_anchor = -(shares * same).sum(dim=1) / count.clamp(min=1)
    return per_anchor.sum() / (count > 0).sum().clamp(min=1)


def symmetric_loss(visible: Tensor, thermal: Tensor, person: Tensor, temperature: float) -> Tensor:
    """Return the mean of `multi_positive_loss` from visible to thermal and back; person: int [B], of both."""
    same = person[:, None] == person[None]
    return 0.5 * (
        multi_positive_loss(visible, thermal, same, temperature)
        + multi_positive_loss(thermal, visible, same, temperature)
    )


def drift(embeddings: Tensor, original: Tensor) -> Tensor:
    """Return the mean of 1 - cosine of embeddings [B, D] to what the frozen original gives of the same pictures."""
    return (1 - F.cosine_similarity(embeddings.float(), original.float(), dim=1)).mean()


def unit(embeddings: Tensor) -> Tensor:
    """Return embeddings [B, D] of length one."""
    return F.normalize(embeddings.float(), dim=1)


def numbers_of(names: list[str]) -> Tensor:
    """Return the number of each name, int64 [B]; equal names have equal numbers."""
    known = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([known[name] for name in names])
