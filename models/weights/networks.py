"""Networks on disk: one safetensors file whose metadata holds the network's configuration, stored as float16 or float32."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.config import parse_json
from models.errors import EnvironmentFault, UserError

Network = TypeVar("Network", bound=nn.Module)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device_of(network: nn.Module) -> torch.device:
    """Return where the weights of `network` lie, and where its inputs go."""
    return next(network.parameters()).device


def accelerator() -> torch.device:
    """Return where a network that is used, not trained, belongs: the GPU that this process was given, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` with its float32 tensors as float16; what that cannot hold (over 65,504) and counters stay as they are."""
    return {key: _halve(value) if value.dtype == torch.float32 else value for key, value in state.items()}


def _halve(value: Tensor) -> Tensor:
    half = value.half()
    return half if torch.equal(half.isinf(), value.isinf()) else value


def save_network(network: nn.Module, path: Path, *, half: bool = True) -> None:
    """Write `network` (with a pydantic `.config`) to `path`, in float16 or as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    config: Any = network.config
    state = to_half(network.state_dict()) if half else network.state_dict()
    state = {key: value.contiguous() for key, value in state.items()}
    save_file(state, str(path), metadata={"config": config.model_dump_json()})


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


WRAPPERS = ("model_state_dict", "state_dict", "model")
"""Names under which training scripts keep the state dict, beside that of the optimizer."""
PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before each name."""


def read_tensors(path: Path) -> Any:
    """Return what a torch file holds, tensors and plain values in whatever nesting. Never unpickles code.

    Raises:
        UserError: no such file of torch, or one that holds more than that; the message says what.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a foreign file makes the reader raise
        raise UserError(
            f"{path}: not a checkpoint of tensors alone ({_reason(error)}). Save its weights alone, with "
            "torch.save(model.state_dict(), FILE)."
        ) from None


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a torch checkpoint, without wrappers and prefixes. Never unpickles code.

    Raises:
        UserError: no checkpoint, or one that holds more than tensors and plain values; the message says what.
    """
    found = read_tensors(path)
    for _ in WRAPPERS:
        inner = [
            found[name] for name in WRAPPERS if isinstance(found, Mapping) and isinstance(found.get(name), Mapping)
        ]
        found = inner[0] if inner else found
    if not is_state(found):
        raise UserError(f"{path}: holds no state dict of tensors.")
    return strip_prefixes(dict(found))


def _reason(error: Exception) -> str:
    """Return what torch found in a file, without its advice to load such files all the same."""
    if asked := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it asks for {asked[1]}, which is code"
    if type(error).__name__ == "UnpicklingError":
        return "no pickle of tensors"
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}".removesuffix(": ")


def is_state(found: Any) -> bool:
    """Whether something is a state dict: names and plain tensors, at least one."""
    return isinstance(found, Mapping) and bool(found) and all(map(_is_entry, found.items()))


def _is_entry(item: tuple[Any, Any]) -> bool:
    """Whether an item of a state dict is a name and a plain tensor."""
    key, value = item
    plain = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    return isinstance(key, str) and plain and not value.is_quantized


def strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` without the prefixes of wrappers, in whatever order they stand."""
    for _ in PREFIXES:
        for prefix in PREFIXES:
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def load_strictly(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load `state` into `network`; names every missing, unexpected or differently shaped entry instead of skipping it.

    Prefixes left by wrappers (`PREFIXES`) are stripped.
    """
    state = strip_prefixes(state)
    check_state(network, state, path)
    wanted = network.state_dict()
    network.load_state_dict({key: value.to(wanted[key].dtype) for key, value in state.items()})


def check_state(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Raise an EnvironmentFault for a state dict that is not `network`'s, which may lie on the meta device.

    All that differs is named at once: names, then shapes of the names that both have.
    """
    wanted = network.state_dict()
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
