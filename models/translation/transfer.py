"""A translator that begins with what a visible model has learnt of drawing faces."""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from models.diffusion.shape import INPUT
from models.errors import EnvironmentFault
from models.ssm.block import SelfMixer

UNET = Path("unet") / "diffusion_pytorch_model.safetensors"


def begin_with_visible(unet: UNet2DConditionModel, folder: Path) -> int:
    """Fill the layers of `unet` whose names and shapes agree with those of the visible model in `folder`; return how many.

    Attention in windows takes the weights of the self-attention whose place it has, and scans beside it begin by adding
    nothing; the first convolution takes the kernels of the visible latents. Both must be of one visible autoencoder. Raises
    EnvironmentFault where no weights are there, or none fit.
    """
    path = folder / UNET
    try:
        theirs = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise EnvironmentFault(f"{path}: no U-Net of a visible model ({error}).") from error
    own = unet.state_dict()
    # What both read beside the latents differs, so of the first convolution the latents' kernels alone are taken.
    latents, first = unet.config.out_channels, torch.zeros_like(own[INPUT])
    if INPUT in theirs and theirs[INPUT].shape[0] == len(first):
        first[:, :latents] = theirs[INPUT][:, :latents]
        theirs[INPUT] = first
    # Self-attention goes on in the windows that stand in its place.
    for place, module in unet.named_modules():
        if isinstance(module, SelfMixer) and module.window is not None and f"{place}.to_q.weight" in theirs:
            theirs[f"{place}.window.to_qkv.weight"] = torch.cat([theirs[f"{place}.to_{x}.weight"] for x in "qkv"])
            for kind in ("weight", "bias"):
                theirs[f"{place}.window.to_out.{kind}"] = theirs[f"{place}.to_out.0.{kind}"]
            if module.scan is not None:
                nn.init.zeros_(module.scan.out_proj.weight)
    fitting = {name: value for name, value in theirs.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise EnvironmentFault(f"{path}: no layer has the shape of the translator's: give both the same widths.")
    unet.load_state_dict({**unet.state_dict(), **{name: value.float() for name, value in fitting.items()}})
    return len(fitting)
