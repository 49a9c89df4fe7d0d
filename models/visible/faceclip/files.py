"""FaceCLIP's networks on disk: safetensors files whose metadata hold the shapes; the encoder's has all published entries."""

from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.config import parse_json
from models.errors import EnvironmentFault
from models.visible.faceclip.clip import Clip, ClipConfig
from models.visible.faceclip.config import VitConfig
from models.visible.faceclip.encoder import FaceClip, FaceClipConfig
from models.visible.faceclip.vit import FaceVit
from models.weights.networks import check_state, to_half

FILE, VIT, CLIP, HEADS = "encoder.safetensors", "face_vit.safetensors", "clip.safetensors", "heads.safetensors"
Config = TypeVar("Config", bound=BaseModel)
Network = TypeVar("Network", bound=nn.Module)


def save_encoder(state: dict[str, Tensor], config: FaceClipConfig, folder: Path) -> None:
    """Write the entries of a state dict in the types that they have."""
    # Both branches may hold one ViT; the file has it twice, as the published one.
    _save({key: value.clone() for key, value in state.items()}, config, folder / FILE)


def load_encoder(folder: Path, dtype: str = "float32") -> FaceClip:
    """Return the frozen encoder of `folder`, its weights in float32; equal face ViTs are held once.

    dtype: "float32", or "bfloat16" for the released path's regions of precision.

    Raises:
        EnvironmentFault: the file is missing, half-written or of another architecture; the message lists what differs.
    """
    config, state = _read(folder / FILE, FaceClipConfig)
    # Without ever drawing weights that are replaced at once.
    with torch.device("meta"):
        model = FaceClip(config)
    _fill(model, state, folder / FILE)
    model.share_face_encoder()
    if dtype != "float32":
        model.precision = "released"
    return model


def save_vit(vit: FaceVit, config: VitConfig, folder: Path) -> None:
    """Write a face ViT in float16."""
    _save(to_half(vit.state_dict()), config, folder / VIT)


def load_vit(folder: Path) -> tuple[VitConfig, dict[str, Tensor]]:
    """Return shape and weights of a face ViT. Raises EnvironmentFault where there is none."""
    return _read(folder / VIT, VitConfig)


def save_clip(clip: Clip, folder: Path) -> None:
    """Write the towers in float16."""
    _save(to_half(clip.state_dict()), clip.config, folder / CLIP)


def load_clip(folder: Path) -> Clip:
    """Return the frozen towers of `folder`. Raises EnvironmentFault where there are none."""
    config, state = _read(folder / CLIP, ClipConfig)
    with torch.device("meta"):
        clip = Clip(config)
    return _fill(clip, state, folder / CLIP)


def _save(state: dict[str, Tensor], config: BaseModel, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in state.items()}
    save_file(state, str(path), metadata={"config": config.model_dump_json()})


def _read(path: Path, kind: type[Config]) -> tuple[Config, dict[str, Tensor]]:
    """Return shapes and entries of a file, in float32."""
    if not path.is_file():
        raise EnvironmentFault(f"{path} is missing: `thermapair import faceclip` or a training of faceclip writes it.")
    try:
        with safe_open(str(path), "pt") as file:
            config = kind(**parse_json((file.metadata() or {}).get("config", "{}")))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, ValidationError) as error:
        raise EnvironmentFault(f"{path} is none of FaceCLIP's files ({error}). Fetch it again.") from None
    return config, {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def _fill(network: Network, state: dict[str, Tensor], path: Path) -> Network:
    """Return a network of the meta device with the entries of a file, frozen."""
    check_state(network, state, path)
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()
