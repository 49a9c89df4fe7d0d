"""Whom pictures show, as a term of a loss: the clean predictions of some rows are decoded, aligned and read by a recogniser."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from models.diffusion.process import DiscreteProcess, levels
from models.errors import UserError
from models.faces.gradient.differentiable import DifferentiableRecogniser, align_pictures
from models.faces.pack import recogniser_file
from models.visible import cache
from models.visible.autoencoder import decode_range


@lru_cache(maxsize=1)
def recogniser_of(folder: str) -> DifferentiableRecogniser:
    """Return the recogniser of an insightface pack. Raises UserError where there is none."""
    path = recogniser_file(cache.from_root(folder))
    if path is None:
        raise UserError(f"{folder} holds no recogniser to keep the identity by: name an insightface pack as faces.")
    return DifferentiableRecogniser(path)


def readable_rows(process: DiscreteProcess, timesteps: Tensor, most_noise: float, count: int) -> Tensor:
    """Return at most `count` rows, int64, those of the most noise that still lets a clean prediction be read.

    With more than the share `most_noise` in [0, 1] the prediction is a mean of pictures; with little, the noisy latents
    themselves show who it is, and nothing is learnt of what the network is told.
    """
    noise = levels(process.scheduler, timesteps, torch.zeros(len(timesteps), 1))[1].flatten()
    order = noise.argsort(descending=True)
    return order[noise[order] <= most_noise][:count]


def decode_clean(latents: Tensor, vae: str) -> Tensor:
    """Return pictures float32 [B, 3, S, S] in [-1, 1] of latents, with their gradient. vae: folder of the autoencoder."""
    return decode_range(cache.autoencoder(vae).to(latents.device), latents)


def cosine_to_truth(
    pictures: Tensor, true: Tensor, matrices: Tensor, recogniser: DifferentiableRecogniser, vae: str
) -> Tensor:
    """Return the cosine of whom pictures show to whom the true ones show, both through the autoencoder, float32 [B].

    pictures: [B, 3, S, S] in [-1, 1]. true: latents [B, C, h, w]. matrices: from a picture to its aligned crop, [B, 2, 3].
    """
    with torch.no_grad():
        decoded = decode_clean(true.to(pictures.device), vae)
    both = (torch.cat([pictures, decoded]) + 1) * 127.5
    found = F.normalize(recogniser(align_pictures(both, matrices.to(both.device).repeat(2, 1, 1))).float(), dim=1)
    ours, theirs = found.chunk(2)
    return (ours * theirs.detach()).sum(dim=1)
