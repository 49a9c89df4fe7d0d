"""What an SCRFD learns from: which anchors answer for which face, and the three losses."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.faces.scrfd import SCRFD, SIZES, anchors

SAME_SIZE = 0.6
"""An anchor answers for faces within this many octaves of its size: half an octave and some overlap."""
NEAR_SIZE = 1.1
"""Up to here it is neither asked for the face nor punished for finding it."""

BOX_WEIGHT, POINTS_WEIGHT = 2.0, 40.0
"""Points weigh most: an eye that is off by a tenth of the eyes' distance costs the recogniser a quarter of its accepts."""


def assign(boxes: Tensor, present: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return for each anchor the index of its face or -1, int64 [B, N], and whether it is left out, bool [B, N].

    boxes: float [B, M, 4] px; present: bool [B, M]. An anchor answers for a face of about its size whose centre is
    near: within a fifth of the face, or 0.7 of the stride. Of two such faces, the nearer.
    """
    # How far each anchor lies from the middle of each face, in shares of what is near enough.
    centres, strides, sizes = anchors(height, width)
    middle, extent = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]).clamp(min=1)
    reach = torch.maximum(0.2 * extent[:, None], 0.7 * strides[None, :, None, None])
    offset = ((centres[None, :, None] - middle[:, None]).abs() / reach).amax(dim=-1)
    # How many octaves its size is off; faces beyond all anchors belong to the outermost ones.
    smallest, largest = SIZES[0][0], SIZES[-1][-1]
    side = extent.prod(dim=-1).sqrt().clamp(smallest, largest)
    octaves = (torch.log2(side)[:, None] - torch.log2(sizes)[None, :, None]).abs()
    # Of the faces that an anchor answers for, the nearest; what is nearly right is left out of the loss.
    near = (offset <= 1.5) & present[:, None]
    mine = (offset <= 1.0) & (octaves <= SAME_SIZE) & present[:, None]
    best = torch.where(mine, offset, torch.inf).min(dim=-1)
    face = torch.where(mine.any(dim=-1), best.indices, -1)
    left_out = (near & (octaves <= NEAR_SIZE)).any(dim=-1) & (face < 0)
    return face, left_out


def giou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and generalized IoU (arXiv 1902.09630) of boxes x0, y0, x1, y1 [K, 4] and [K, 4]."""
    inter = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    areas = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(dim=1) + (b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1)
    union = (areas - inter).clamp(min=1e-6)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    hull = hull.clamp(min=1e-6)
    return inter / union, inter / union - (hull - union) / hull


def quality_focal(logits: Tensor, quality: Tensor) -> Tensor:
    """Return quality focal loss (arXiv 2006.04388, eq. 2, beta = 2) of each logit against a quality in [0, 1]."""
    return F.binary_cross_entropy_with_logits(logits, quality, reduction="none") * (logits.sigmoid() - quality) ** 2


def detection_loss(
    network: SCRFD, pictures: Tensor, boxes: Tensor, points: Tensor, present: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss and its parts for input [B, 3, H, W], boxes [B, M, 4] px, points [B, M, 5, 2] px, present [B, M].

    The score's target is the box's IoU (at least 0.5, so that a threshold of 0.5 means a face). Box: GIoU. Points:
    smooth L1 of the error as a share of the face's size.
    """
    scores, distances, offsets = (torch.cat([part.float() for part in parts], 1) for parts in network.logits(pictures))
    with torch.autocast(pictures.device.type, enabled=False):
        # Which anchors answer for a face, and for which.
        height, width = pictures.shape[-2:]
        centres, strides, _ = (value.to(pictures.device) for value in anchors(height, width))
        face, left_out = assign(boxes, present, height, width)
        row, anchor = (face >= 0).nonzero(as_tuple=True)
        chosen = face[row, anchor]
        count = max(len(row), 1)
        centre, stride = centres[anchor], strides[anchor, None]
        # Boxes: found against true ones.
        reach = distances[row, anchor] * stride
        found = torch.cat([centre - reach[:, :2], centre + reach[:, 2:]], dim=1)
        truth = boxes[row, chosen]
        overlap, generalized = giou(found, truth)
        # Scores: of all anchors, against the overlap.
        quality = torch.zeros(scores.shape[:2], device=scores.device)
        quality[row, anchor] = overlap.detach().clamp(min=0.5)
        classification = (quality_focal(scores[..., 0], quality) * ~left_out).sum() / count
        # Points: error as a share of the face.
        side = (truth[:, 2:] - truth[:, :2]).prod(dim=1).sqrt().clamp(min=1)[:, None, None]
        located = offsets[row, anchor].view(-1, 5, 2) * stride[:, None] + centre[:, None]
        error = (located - points[row, chosen]) / side
        place = F.smooth_l1_loss(error, torch.zeros_like(error), beta=0.02, reduction="sum") / (10 * count)
        box = (1 - generalized).sum() / count
        total = classification + BOX_WEIGHT * box + POINTS_WEIGHT * place
    parts = {
        "score": float(classification.detach()),
        "iou": float(overlap.detach().mean()) if len(row) else 0.0,
        "points": float(error.detach().abs().mean()) if len(row) else 0.0,
    }
    return total, parts
