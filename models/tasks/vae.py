"""Train the picture autoencoder of the visible model: its decoder by regression, then, with `adversarial`, against a critic.

python -m cluster train vae --data URI --validation URI --out DIR [--set adversarial=0.6 --set perceptual=1 --set init=PART]
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.augment.batch import to_unit_tensor
from models.card import Card
from models.classes import CLASSES, IGNORE
from models.columns import Columns
from models.tasks import Place, TrainConfig
from models.unet import STRIDE, UNet, build_unet
from models.visible import cache
from models.visible.autoencoder import (
    SHRINK,
    Autoencoder,
    detail_loss,
    load_autoencoder,
    new_vae,
    save_autoencoder,
    to_pictures,
)
from models.visible.critic import Critic, adversarial_losses, feature_loss
from models.weights.networks import device_of, load_network, load_strictly

COLUMNS = ("visible", "classes")
SUMMARY = """Autoencoder of the visible model's latents: the encoder is the block cosine transform of JPEG, 12 of 192 numbers of
every 8 x 8 pixels, set into the convolutions of a diffusers AutoencoderTiny; the decoder is trained."""
LIMITS = """Learnt from rendered people at 128 px. What 12 numbers do not hold (lashes, fine hair) is invented."""

EMPHASIS = {"BACKGROUND": 0.5, "CLOTHING": 0.5, "NOSE": 2.0, "RIGHT_EYE": 4.0, "LEFT_EYE": 4.0, "RIGHT_BROW": 2.5,
            "LEFT_BROW": 2.5, "MOUTH_INTERIOR": 2.0, "TOP_LIP": 2.5, "BOTTOM_LIP": 2.5, "GLASSES": 2.0}  # fmt: skip
"""Weight of a pixel by its class, 1 where not named: who someone is lies in few pixels."""


class Config(TrainConfig):
    steps: int = Field(2400, gt=0)
    batch: int = Field(16, gt=0)
    lr: float = Field(1.5e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    ema: float = Field(0.99, ge=0, lt=1)
    bf16: bool = True
    validate_rows: int = Field(256, gt=0)
    size: int = Field(128, gt=0, description="side of the pictures in pixels")
    crop: int = Field(64, gt=0, multiple_of=SHRINK, description="side of the training crops")
    width: int = Field(32, gt=0, description="channels of the decoder")
    blocks: tuple[int, int, int, int] = Field(
        (4, 4, 3, 1), description="residual blocks of the decoder, coarse to fine"
    )
    detail: float = Field(2.0, ge=0, description="weight of the gradient term")
    chroma: float = Field(3.0, gt=0, description="gain of the colour differences; they vary less than lightness does")
    adversarial: float = Field(0.0, ge=0, description="weight of the critic's say (DiffTV's disc_weight: 0.6)")
    adversarial_from: int = Field(1, ge=0, description="step from which on the critic has its say (disc_start)")
    critic: int = Field(32, gt=0, description="channels of the critic's first layer")
    perceptual: float = Field(0.0, ge=0, description="weight of the distance in the parser's features")
    parser: Place = Field("models/starter/parser", description="folder of the parser that gives these features")

    @model_validator(mode="after")
    def _parser_takes_crops(self) -> "Config":
        if self.perceptual and self.crop % STRIDE:
            raise ValueError(
                f"crop {self.crop}: with perceptual it must be a multiple of {STRIDE}, as the parser takes"
            )
        return self


class Trainee(Autoencoder):
    """An autoencoder in training, and the critic that it is trained against."""

    def __init__(self, config: Config) -> None:
        super().__init__(new_vae(config.width, config.blocks))
        self.critic = Critic(config.critic) if config.adversarial else None


@lru_cache(maxsize=1)
def _parser(folder: str) -> UNet:
    network = load_network(cache.from_root(folder) / "parser.safetensors", build_unet)
    assert isinstance(network, UNet)
    return network.requires_grad_(False)


def weights(config: Config) -> list[Path]:
    """Return the folders that training reads beside `init`."""
    return [cache.from_root(config.parser)] if config.perceptual else []


def build(config: Config) -> nn.Module:
    """Return the autoencoder, whose decoder alone learns."""
    return Trainee(config)


def begin(model: nn.Module, folder: Path) -> None:
    """Fill `model` from the folder of an autoencoder of the same shape; the critic begins anew."""
    assert isinstance(model, Trainee)
    load_strictly(model.vae, load_autoencoder(folder).state_dict(), folder)


def loss(model: nn.Module, batch: Columns, config: Config, step: int) -> tuple[Tensor, dict[str, float]]:
    """Return weighted L1 + `detail` x gradient loss of a crop of every row, in lightness and amplified colour differences, and
    what the critic and the parser's features say beside.

    In plain RGB lightness dominates, and a short training ends before it has learned colour.
    """
    assert isinstance(model, Trainee)
    crops = _crops(*_inputs(batch), batch["draw"], config.crop)
    pictures, weight = (values.to(device_of(model)) for values in crops)
    made = model(pictures).float()
    # Regression.
    prediction, truth = (opponent(x, config.chroma) for x in (made, pictures))
    absolute = ((prediction - truth).abs() * weight).mean()
    detail = detail_loss(prediction, truth, weight)
    total, metrics = absolute + config.detail * detail, {"l1": absolute.item(), "detail": detail.item()}
    # Features.
    if config.perceptual:
        distance = feature_loss(_parser(config.parser).to(made.device), made, pictures)
        total, metrics = total + config.perceptual * distance, metrics | {"features": distance.item()}
    # The critic learns from the first step on, and is listened to from `adversarial_from`.
    if model.critic is not None:
        maker, judged = adversarial_losses(model.critic, made, pictures)
        listened = config.adversarial * (step >= config.adversarial_from)
        total, metrics = total + listened * maker + judged, metrics | {"critic": judged.item()}
    return total, metrics


def _inputs(batch: Columns) -> tuple[Tensor, Tensor]:
    """Return pictures [B, 3, S, S] in [-1, 1] and pixel weights [B, 1, S, S] of mean about one."""
    # What no mask says (IGNORE) weighs as most classes do.
    table = torch.ones(IGNORE + 1)
    table[: len(CLASSES)] = torch.tensor([EMPHASIS.get(name, 1.0) for name in CLASSES])
    weight = table[torch.from_numpy(np.ascontiguousarray(batch["classes"])).long()][:, None]
    return to_unit_tensor(batch["visible"]) * 2 - 1, weight


def opponent(pictures: Tensor, chroma: float) -> Tensor:
    """Return RGB [B, 3, S, S] as lightness, `chroma` x (red - green) / 2 and `chroma` x (blue - (red + green) / 2) / 2."""
    red, green, blue = pictures.unbind(dim=1)
    yellow = (red + green) / 2
    return torch.stack([(red + green + blue) / 3, chroma * (red - green) / 2, chroma * (blue - yellow) / 2], dim=1)


def _crops(pictures: Tensor, weight: Tensor, draw: np.ndarray, side: int) -> tuple[Tensor, Tensor]:
    """Return a seeded crop of `side` pixels of every row."""
    room = pictures.shape[-1] - side + 1
    corners = [np.random.default_rng(int(seed)).integers(0, room, 2) for seed in draw]
    cuts = [(row, slice(y, y + side), slice(x, x + side)) for row, (y, x) in enumerate(corners)]
    return tuple(torch.stack([layer[row, :, y, x] for row, y, x in cuts]) for layer in (pictures, weight))  # type: ignore[return-value]


def validate(model: nn.Module, rows: Iterable[Columns], config: Config) -> dict[str, float]:
    """Return PSNR in dB of the 8-bit reconstructions, of all pixels (`psnr`) and of the face's alone (`psnr_face`, the score).

    `scaled_latent_rms` should be about one: diffusion expects latents of that size. A critic costs PSNR: what it is there for is
    measured by `tests.benchmarks.visible_limits`.
    """
    assert isinstance(model, Autoencoder)
    # Squared errors and pixels, of all and of the face.
    outside = torch.tensor([CLASSES.index(name) for name in ("BACKGROUND", "CLOTHING", "HAIR", "HEADWEAR", "NECK")])
    error, count, latent = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64), []
    for batch in rows:
        pictures = to_unit_tensor(batch["visible"]).to(device_of(model)) * 2 - 1
        latents = model.vae.encode(pictures).latents
        reconstruction = to_pictures(model.vae.decode(latents).sample).cpu().double()
        square = (reconstruction - torch.from_numpy(batch["visible"]).double()).square().mean(-1)
        face = ~torch.isin(torch.from_numpy(np.ascontiguousarray(batch["classes"])), outside)
        error += torch.stack([square.sum(), (square * face).sum()])
        count += torch.tensor([square.numel(), int(face.sum())])
        latent.append(latents.square().mean().item())
    # PSNR = 10 log10(255^2 / MSE)
    psnr = 10 * torch.log10(255**2 / (error / count.clamp_min(1)).clamp_min(1e-9))
    spread = float(np.mean(latent)) ** 0.5 * float(model.vae.config.scaling_factor)
    return {"score": psnr[1].item(), "psnr": psnr[0].item(), "psnr_face": psnr[1].item(), "scaled_latent_rms": spread}


def pictures(model: nn.Module, rows: Columns, config: Config) -> np.ndarray:
    """Return a sheet uint8 of pictures over their reconstructions."""
    assert isinstance(model, Autoencoder)
    truth = rows["visible"][:8]
    reconstruction = model(to_unit_tensor(truth).to(device_of(model)) * 2 - 1).cpu()
    return np.concatenate([np.concatenate(list(line), 1) for line in (truth, to_pictures(reconstruction).numpy())])


def export(model: nn.Module, config: Config, folder: Path, card: Card) -> None:
    """Write a diffusers `AutoencoderTiny` folder in float16, and the card."""
    assert isinstance(model, Autoencoder)
    save_autoencoder(model.vae.half(), folder)
    facts = {"title": "Autoencoder of visible faces", "summary": SUMMARY, "limits": LIMITS}
    card.model_copy(update=facts).write(folder)
