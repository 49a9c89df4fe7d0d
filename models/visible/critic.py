"""What sharpens a decoder beside regression: a patch discriminator, and features that a parser has learned.

Regression alone gives the mean of the details that could be, which is a smear. The discriminator (PatchGAN, arXiv 1611.07004;
hinge loss and weights as in DiffTV, `disc_weight` 0.6) asks of every patch whether it looks like one of a true picture. The
features stand where others take a downloaded network's (arXiv 1801.03924).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm

from models.unet import UNet

LEVELS = 3
"""Levels of the parser's encoder that are compared: strides 2, 4 and 8."""


class Critic(nn.Module):
    """Score patches: pictures [B, 3, S, S] in [-1, 1] -> [B, 1, S / 8 - 1, S / 8 - 1], larger where they look true.

    Spectral norms (arXiv 1802.05957) keep its slope bounded, so that it needs no gradient penalty.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inside = 3
        for out in (width, 2 * width, 4 * width):
            layers += [spectral_norm(nn.Conv2d(inside, out, 4, 2, 1)), nn.LeakyReLU(0.2)]
            inside = out
        layers += [spectral_norm(nn.Conv2d(inside, 1, 4, 1, 1))]
        self.layers = nn.Sequential(*layers)

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.layers(pictures)
        return scores


def adversarial_losses(critic: Critic, made: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Return (what the maker of `made` minimises, what the critic minimises): the hinge loss of both sides, in one pass each.

    Neither's gradient reaches the other, so their sum trains both.
    """
    frozen = {name: values.detach() for name, values in critic.named_parameters()}
    frozen |= {name: values.clone() for name, values in critic.named_buffers()}  # power iteration writes into them
    maker = -functional_call(critic, frozen, (made,)).mean()
    judged = F.relu(1 - critic(true)).mean() + F.relu(1 + critic(made.detach())).mean()
    return maker, 0.5 * judged


def feature_loss(parser: UNet, made: Tensor, true: Tensor) -> Tensor:
    """Return the mean squared distance of the parser's features, each of unit length over its channels (arXiv 1801.03924,
    equation 1, without learned weights). made, true: [B, 3, S, S] in [-1, 1]; S a multiple of 32."""
    with torch.no_grad():
        aims = parser.encoder(true)[:LEVELS]
    pairs = zip(parser.encoder(made)[:LEVELS], aims, strict=True)
    distances = [(F.normalize(one, dim=1) - F.normalize(aim, dim=1)).square().sum(dim=1).mean() for one, aim in pairs]
    return torch.stack(distances).sum()
