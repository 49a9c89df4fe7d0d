"""FaceCLIP's encoder on disk: all published entries in one safetensors file, whose metadata hold the shapes."""

from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.config import parse_json
from models.errors import EnvironmentFault
from models.visible.faceclip.encoder import FaceClip, FaceClipConfig
from models.weights.networks import check_state

FILE = "encoder.safetensors"


def save_encoder(state: dict[str, Tensor], config: FaceClipConfig, folder: Path) -> None:
    """Write the entries of a state dict in the types that they have."""
    folder.mkdir(parents=True, exist_ok=True)
    # Both branches may hold one ViT; the file has it twice, as the published one.
    own = {key: value.contiguous().clone() for key, value in state.items()}
    save_file(own, str(folder / FILE), metadata={"config": config.model_dump_json()})


def load_encoder(folder: Path, dtype: str = "float32") -> FaceClip:
    """Return the frozen encoder of `folder`, its weights in float32; equal face ViTs are held once.

    dtype: "float32", or "bfloat16" for the released path's regions of precision.

    Raises:
        EnvironmentFault: the file is missing, half-written or of another architecture; the message lists what differs.
    """
    path = folder / FILE
    if not path.is_file():
        raise EnvironmentFault(f"{path} is missing: `thermapair import faceclip` or `train faceclip` writes it.")
    try:
        with safe_open(str(path), "pt") as file:
            config = FaceClipConfig(**parse_json((file.metadata() or {}).get("config", "{}")))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, ValidationError) as error:
        raise EnvironmentFault(f"{path} is no encoder of FaceCLIP ({error}). Fetch it again.") from None
    # Without ever drawing weights that are replaced at once.
    with torch.device("meta"):
        model = FaceClip(config)
    check_state(model, state, path)
    model.load_state_dict({key: _widen(value) for key, value in state.items()}, assign=True)
    model.share_face_encoder()
    if dtype != "float32":
        model.precision = "released"
    return model.requires_grad_(False).eval()


def _widen(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
