"""Networks on disk: one safetensors file whose metadata holds the network's configuration, stored as float16."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.config import parse_json
from models.errors import EnvironmentFault

Network = TypeVar("Network", bound=nn.Module)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device_of(network: nn.Module) -> torch.device:
    """Return where the weights of `network` lie, and where its inputs go."""
    return next(network.parameters()).device


def accelerator() -> torch.device:
    """Return where a network that is used, not trained, belongs: the GPU that this process was given, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` with its float32 tensors as contiguous float16 (batch-norm counters are kept as they are)."""
    return {key: (value.half() if value.dtype == torch.float32 else value).contiguous() for key, value in state.items()}


def save_network(network: nn.Module, path: Path) -> None:
    """Write `network` (with a pydantic `.config`) to `path` in float16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    config: Any = network.config
    save_file(to_half(network.state_dict()), str(path), metadata={"config": config.model_dump_json()})


def load_network(path: Path, build: Callable[[dict[str, Any]], Network], dtype: str = "float32") -> Network:
    """Read the network that `build` makes of the stored configuration, in evaluation mode and `channels_last`.

    Raises:
        EnvironmentFault: the file is missing, half-written or of another architecture; the message lists what differs.
    """
    if not path.is_file():
        raise EnvironmentFault(
            f"{path}: weights are missing. Train them or point the bundle at a folder that has them."
        )
    # The file's own configuration says which network it is of.
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise EnvironmentFault(f"{path}: not a whole safetensors file ({error}). Fetch or train it again.") from error
    try:
        network = build(parse_json(metadata.get("config", "{}")))
    except (ValueError, TypeError) as error:  # pydantic's ValidationError is a ValueError
        raise EnvironmentFault(f"{path}: its configuration is of no such network ({error}). Fetch it again.") from None
    load_strictly(network, state, path)
    return network.to(dtype=DTYPES[dtype], memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a torch checkpoint. Never unpickles code: raises EnvironmentFault for more than tensors."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a foreign file makes the reader raise
        raise EnvironmentFault(f"{path}: not a checkpoint of tensors alone ({error}).") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise EnvironmentFault(f"{path}: holds no state dict of tensors.")
    return state


def load_strictly(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load `state` into `network`; names every missing, unexpected or differently shaped entry instead of skipping it.

    A `module.` prefix left by DataParallel is stripped.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    wanted = network.state_dict()
    # All that differs is named at once: names, then shapes of the names that both have.
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shapes = [
        f"{key}: {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & state.keys())
        if state[key].shape != wanted[key].shape
    ]
    if missing or unexpected or shapes:
        raise EnvironmentFault(
            f"{path}: a checkpoint of another architecture. missing: {missing[:8]}, unexpected: {unexpected[:8]}, "
            f"shapes: {shapes[:8]} ({len(missing)}, {len(unexpected)} and {len(shapes)} in all)."
        )
    network.load_state_dict({key: value.to(wanted[key].dtype) for key, value in state.items()})
