"""FaceCLIP's published files (arXiv 2504.14202) as parts of a bundle: the encoder and the U-Net of SDXL's shape."""

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from models.card import Card
from models.errors import EnvironmentFault, UserError
from models.published.versions import check_finite, new_version
from models.visible.faceclip.encoder import FaceClip, FaceClipConfig
from models.visible.faceclip.files import save_encoder
from models.weights.networks import check_state, read_checkpoint

LICENCE = "cc-by-nc-4.0"
LIMITS = """Weights of the authors of FaceCLIP (arXiv 2504.14202), imported and not trained here: CC BY-NC 4.0, for research
alone. The face ViT is insightface's, the text towers began as MetaCLIP's: their terms hold, too."""
UNET_LIMITS = """Weights of the authors of FaceCLIP (arXiv 2504.14202), imported and not trained here: CC BY-NC 4.0, for research
alone; they began as SDXL base 1.0. It understands the embeddings of the encoder that it was trained with and no others, and
nothing in a file tells such a U-Net from any other of SDXL's shape."""
PREFIX = "model."
"""What the encoder's training put before each name."""
SDXL = {
    "sample_size": 128,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
"""Configuration of SDXL base's U-Net, where it differs from diffusers' defaults."""


def import_encoder(checkpoint: Path, out: Path, config: FaceClipConfig | None = None) -> bool:
    """Write the encoder of `face_clip_encoder.pt` to the folder `out`, sealed; returns whether both face ViTs are equal.

    All entries are kept, in their types, those without influence included. config: shapes, by default the published ones.

    Raises:
        UserError: a file that is no checkpoint of tensors, or of another architecture, with what differs.
    """
    config = config or FaceClipConfig()
    with torch.device("meta"):
        model = FaceClip(config)
    state = _read(checkpoint, model)
    pairs = ((key, key.replace("face_clip_l.", "face_clip_g.", 1)) for key in state if ".face_encoder." in key)
    equal = all(torch.equal(state[own], state[other]) for own, other in pairs)
    with new_version(out) as folder:
        save_encoder(state, config, folder)
        said = "Both branches hold one face ViT, which runs once." if equal else "The branches' face ViTs differ."
        _card("FaceCLIP's encoder", "encoder of faces and texts", LIMITS, checkpoint, said).write(folder)
    return equal


def import_unet(checkpoint: Path, out: Path, config: dict[str, object] | None = None) -> None:
    """Write the U-Net of `unet.pt` to the folder `out` in diffusers' layout, sealed. config: by default SDXL base's.

    Raises:
        UserError: a file that is no checkpoint of tensors, or of another architecture, with what differs.
    """
    with torch.device("meta"):
        unet = UNet2DConditionModel(**(config or SDXL))
    state = _read(checkpoint, unet)
    with new_version(out) as folder:
        unet.save_config(str(folder))
        save_file(state, str(folder / "diffusion_pytorch_model.safetensors"), metadata={"format": "pt"})
        _card("FaceCLIP's U-Net of SDXL", "denoiser", UNET_LIMITS, checkpoint, "").write(folder)


def _read(path: Path, network: torch.nn.Module) -> dict[str, Tensor]:
    """Return the entries of a checkpoint of `network`, contiguous. Raises UserError with what differs."""
    state = {key.removeprefix(PREFIX): value.contiguous() for key, value in read_checkpoint(path).items()}
    try:
        check_state(network, state, path)
    except EnvironmentFault as error:
        raise UserError(str(error)) from None
    check_finite(state, path)
    return state


def _card(title: str, task: str, limits: str, checkpoint: Path, said: str) -> Card:
    return Card(title=title, task=task, licence=LICENCE, limits=limits, data=checkpoint.name, summary=said)
