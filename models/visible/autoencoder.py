"""The picture autoencoder: 3 x S x S in [-1, 1] <-> C x S/8 x S/8 latents.

The starter's is diffusers' `AutoencoderTiny` with an encoder that is not learned: its convolutions are set to the first
cosines of every 8 x 8 block in lightness and two colour differences, as JPEG keeps them. Latents are then fixed before
anything is trained, colour cannot get lost, and the decoder learns by plain regression.
Published models bring diffusers' `AutoencoderKL`; `load_autoencoder`, `encode` and `decode` take both.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny, ConfigMixin
from safetensors import safe_open
from torch import Tensor, nn
from transformers.utils.logging import disable_progress_bar

from models.config import parse_json
from models.errors import EnvironmentFault, UserError
from models.weights.networks import DTYPES, read_checkpoint

SHRINK = 8
"""Side of the picture over side of its latents."""

LIGHTNESS = ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (0, 3), (3, 0))
"""Cosines (down, across) of lightness that latents hold; of each colour difference they hold the mean."""
COLOURS = ((0.299, 0.587, 0.114), (0.5, -0.4187, -0.0813), (-0.1687, -0.3313, 0.5))
"""Lightness and the red and blue differences of JPEG (ITU-R BT.601), over RGB."""
SPREAD = (0.16, 0.036, 0.036, 0.016, 0.017, 0.018, 0.011, 0.010, 0.010, 0.011, 0.047, 0.046)
MEAN = (0.50, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.02, -0.015)
"""Standard deviation and mean of each cosine over pictures in [0, 1]: the world's, rounded."""

Vae = Any
"""diffusers' `AutoencoderKL` or `AutoencoderTiny`; the library has no types."""


def new_vae(width: int, blocks: tuple[int, int, int, int]) -> AutoencoderTiny:
    """Return an autoencoder of 12 latent channels whose encoder is set and whose decoder is fresh."""
    # An encoder without blocks is linear: two levels that only unfold 2 x 2 pixels, and one that weighs them.
    inner = 3 * 16
    vae = AutoencoderTiny(
        encoder_block_out_channels=(inner,) * 4,
        decoder_block_out_channels=(width,) * 4,
        num_encoder_blocks=(0, 0, 0, 0),
        num_decoder_blocks=blocks,
        latent_channels=len(SPREAD),
        scaling_factor=(sum(SPREAD) / len(SPREAD)) ** -0.5,  # gives latents a mean square of one
    )
    with torch.no_grad():
        _set_cosines([layer for layer in vae.encoder.layers if isinstance(layer, nn.Conv2d)])
    vae.encoder.requires_grad_(False)
    return vae


def _set_cosines(layers: list[nn.Conv2d]) -> None:
    """Set the five convolutions of an encoder without blocks: copy, unfold, unfold, unfold and weigh, copy and centre."""
    for layer in layers:
        layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.zero_()
    first, second, third, fourth, last = layers
    assert last.bias is not None
    # Copy the colours, then unfold 2 x 2 pixels into channels twice: 48 channels hold every pixel of 4 x 4.
    for channel in range(3):
        first.weight[channel, channel, 1, 1] = 1.0
    for layer, channels in ((second, 3), (third, 12)):
        for channel in range(channels):
            for down, across in _corners():
                layer.weight[channel * 4 + down * 2 + across, channel, 1 + down, 1 + across] = 1.0
    # The third unfolding is weighed at once: each latent channel is one cosine of one colour over 8 x 8 pixels.
    for index, (colour, wave) in enumerate(_latent_channels()):
        block = torch.tensor(COLOURS[colour])[:, None, None] * _cosine(*wave)
        # Square root: without it lightness would drown the rest in the noise of diffusion, with all of it rarely seen
        # detail would weigh like lightness.
        block = block / math.sqrt(SPREAD[index])
        for channel in range(48):
            rgb, (y1, x1), (y2, x2) = channel // 16, divmod(channel % 16 // 4, 2), divmod(channel % 4, 2)
            for down, across in _corners():
                fourth.weight[index, channel, 1 + down, 1 + across] = block[
                    rgb, 4 * down + 2 * y2 + y1, 4 * across + 2 * x2 + x1
                ]
        last.weight[index, index, 1, 1] = 1.0
        last.bias[index] = -MEAN[index] / math.sqrt(SPREAD[index])


def _corners() -> list[tuple[int, int]]:
    """Return (down, across) of each pixel of a 2 x 2 block."""
    return [(0, 0), (0, 1), (1, 0), (1, 1)]


def _latent_channels() -> list[tuple[int, tuple[int, int]]]:
    """Return (colour, cosine) of each latent channel."""
    return [(0, wave) for wave in LIGHTNESS] + [(1, (0, 0)), (2, (0, 0))]


def _cosine(down: int, across: int) -> Tensor:
    """Return a cosine over a block, float32 [8, 8], that gives the mean for (0, 0)."""
    place = (torch.arange(8) + 0.5) * math.pi / 8
    gain = (1 if down == 0 else math.sqrt(2)) * (1 if across == 0 else math.sqrt(2)) / 64
    return gain * torch.outer((place * down).cos(), (place * across).cos())


class Autoencoder(nn.Module):
    """An autoencoder in training: its decoder alone learns."""

    def __init__(self, vae: AutoencoderTiny) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the reconstruction [B, 3, S, S] of pictures in [-1, 1]; latents are computed in float32."""
        with torch.autocast(pictures.device.type, enabled=False):
            latents = self.vae.encode(pictures.float()).latents
        return self.vae.decode(latents).sample


def detail_loss(prediction: Tensor, truth: Tensor, weight: Tensor, scales: int = 4) -> Tensor:
    """Return the mean absolute difference of image gradients over an averaging pyramid; all [B, C, S, S], weight [B, 1, S, S].

    It stands where a downloaded perceptual network would: edges of eyes and lips count more than flat skin.
    """
    total = prediction.new_zeros(())
    for scale in range(scales):
        if scale:
            prediction, truth, weight = (F.avg_pool2d(x, 2) for x in (prediction, truth, weight))
        difference = prediction - truth
        across = (difference[..., 1:] - difference[..., :-1]).abs() * weight[..., 1:]
        down = (difference[..., 1:, :] - difference[..., :-1, :]).abs() * weight[..., 1:, :]
        total = total + across.mean() + down.mean()
    return total / scales


def to_network(pictures: Tensor) -> Tensor:
    """Return uint8 [B, S, S, 3] as float32 [B, 3, S, S] in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(values: Tensor) -> Tensor:
    """Return [B, 3, S, S] in [-1, 1] as uint8 [B, S, S, 3]."""
    return ((values.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def encode(vae: Vae, pictures: Tensor, noise: Sequence[torch.Generator] = ()) -> Tensor:
    """Return scaled latents float32 [B, C, S/8, S/8] of uint8 [B, S, S, 3].

    noise: a CPU generator for each row, by which a KL autoencoder's posterior is sampled; without them they are its mode.
    """
    encoded = vae.encode(to_network(pictures).to(vae.dtype))
    latents = encoded.latents if isinstance(vae, AutoencoderTiny) else encoded.latent_dist.mode()
    scaled: Tensor = latents.float() * vae.config.scaling_factor
    if noise and not isinstance(vae, AutoencoderTiny):
        drawn = torch.stack([torch.randn(latents.shape[1:], generator=row) for row in noise]).to(latents.device)
        scaled += drawn * encoded.latent_dist.std.float() * vae.config.scaling_factor
    return scaled


def decode(vae: Vae, latents: Tensor) -> Tensor:
    """Return pictures uint8 [B, S, S, 3] of scaled latents [B, C, S/8, S/8]."""
    return to_pictures(decode_range(vae, latents))


def decode_range(vae: Vae, latents: Tensor) -> Tensor:
    """Return pictures float32 [B, 3, S, S] in [-1, 1] of scaled latents [B, C, S/8, S/8], with their gradient."""
    decoded: Tensor = vae.decode((latents / vae.config.scaling_factor).to(vae.dtype)).sample
    return decoded.float().clamp(-1, 1)


def load_autoencoder(folder: Path, dtype: str = "float32") -> Vae:
    """Return the autoencoder of `folder`, of the class that its config.json names. Raises as `load_part` does."""
    path = folder / "config.json"
    try:
        tiny = path.is_file() and parse_json(path.read_text())["_class_name"] == AutoencoderTiny.__name__
    except (ValueError, KeyError, TypeError) as error:
        raise EnvironmentFault(f"{path} is damaged: {error!r}. Fetch the bundle again.") from error
    loaded: Vae = load_part(AutoencoderTiny if tiny else AutoencoderKL, folder, dtype)
    return loaded


def latent_space(folder: Path) -> str:
    """Return what tells the latents of this autoencoder from another's: the digest of its encoder and of its latents' scale.

    A decoder that was trained on reads the same latents. Of a pickle the whole file counts.
    """
    config = parse_json((folder / "config.json").read_text())
    scale = [config.get(name) for name in ("scaling_factor", "shift_factor", "latents_mean", "latents_std")]
    sums = hashlib.sha256(json.dumps(scale).encode())
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as tensors:
            for name in sorted(tensors.keys()):
                if name.startswith(("encoder.", "quant_conv.")):
                    sums.update(name.encode() + tensors.get_tensor(name).view(torch.uint8).numpy().tobytes())
    for path in sorted(folder.glob("*.bin")):
        sums.update(path.read_bytes())
    return sums.hexdigest()


def save_autoencoder(vae: AutoencoderTiny, folder: Path) -> None:
    """Write `folder` as diffusers does, less a value that diffusers saves and then warns of when it loads it."""
    vae.save_pretrained(str(folder))
    path = folder / "config.json"
    config = parse_json(path.read_text())
    config.pop("block_out_channels", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def load_part(kind: Any, folder: Path, dtype: str = "float32") -> Any:
    """Return `kind.from_pretrained(folder)` in evaluation mode; never looks at a hub.

    Raises:
        EnvironmentFault: the folder is missing, half-written or not of this kind.
        UserError: a pickle of weights that holds more than tensors, or others (`read_checkpoint`).
    """
    # The libraries would speak of a hub here, which is never asked.
    if not (folder / "config.json").is_file():
        raise EnvironmentFault(
            f"{folder} has no config.json: not a {kind.__name__}. Train it, or fetch the bundle again."
        )
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(folder), "local_files_only": True}
    fault: type[UserError] = EnvironmentFault
    # A pickle is read here: the libraries would advise to trust one that holds more than tensors.
    pickles = [] if any(folder.glob("*.safetensors")) else sorted(folder.glob("*pytorch_model.bin"))
    if pickles:
        state, fault = read_checkpoint(pickles[0]), UserError
        if configuration := getattr(
            kind, "config_class", None
        ):  # transformers takes tensors, diffusers the folder alone
            config = configuration.from_pretrained(str(folder), local_files_only=True)
            where = {"pretrained_model_name_or_path": None, "config": config, "state_dict": state}
    disable_progress_bar()  # of transformers: loading takes a moment, and a run shows its own progress
    try:
        network, report = kind.from_pretrained(**where, torch_dtype=DTYPES[dtype], output_loading_info=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise fault(f"{folder} does not load as {kind.__name__}: {error}. Fetch the bundle again.") from error
    if report["missing_keys"]:  # both libraries fill what is missing with random numbers, and only warn
        missing = ", ".join(sorted(report["missing_keys"])[:5])
        raise fault(f"{folder} lacks {len(report['missing_keys'])} weights ({missing}). Fetch the bundle again.")
    if isinstance(network, ConfigMixin):
        network.register_to_config(
            _name_or_path=""
        )  # it is where the weights lay, and would be saved with what they become
    return network.eval()
