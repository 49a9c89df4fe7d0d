"""What a run needs to go on: weights, averaged weights and moments as safetensors, position and config as JSON."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.errors import UserError
from models.tasks import TrainConfig

STATE = "state.json"
"""Where a checkpoint's position and config are."""


class Checkpoint:
    """The state of a run in memory. The average covers parameters; buffers are the model's own."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer):
        self.model, self.optimizer = model, optimizer
        self.average = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.step, self.seconds, self.gradient_norm = 0, 0.0, 0.0
        self.metrics: dict[str, float] = {}

    def update_average(self, decay: float) -> None:
        """average = decay * average + (1 - decay) * weights."""
        with torch.no_grad():
            weights = [p.detach() for p in self.model.parameters()]
            torch._foreach_lerp_(list(self.average.values()), weights, 1 - decay)

    def use_average(self) -> None:
        """Put the averaged weights into the model for good."""
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                p.copy_(self.average[name])

    @contextlib.contextmanager
    def average_in_use(self) -> Iterator[None]:
        """Put the averaged weights into the model for a while."""
        own = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.use_average()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, p in self.model.named_parameters():
                    p.copy_(own[name])


def digest(config: TrainConfig) -> str:
    """Return the digest of a config (16 hex digits): every value that may change a weight."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save_checkpoint(scratch: Path, state: Checkpoint, config: TrainConfig) -> Path:
    """Write `scratch/step-XXXXXXX` and return it; an older copy of the same step is replaced."""
    folder = scratch / f"step-{state.step:07d}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Weights, their average, and AdamW's moments under `INDEX.NAME`.
    save_file(_flat(state.model.state_dict()), folder / "model.safetensors")
    save_file(_flat(state.average), folder / "average.safetensors")
    moments = state.optimizer.state_dict()["state"]
    flat = {f"{index}.{name}": value for index, entry in moments.items() for name, value in entry.items()}
    save_file(_flat(flat), folder / "moments.safetensors")
    # Position and config, to be resumed and refused by.
    facts = {
        "step": state.step,
        "seconds": round(state.seconds, 1),
        "metrics": state.metrics,
        "config_digest": digest(config),
        "config": config.model_dump(mode="json"),
    }
    (folder / STATE).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return folder


def load_checkpoint(folder: Path, state: Checkpoint, config: TrainConfig) -> None:
    """Fill `state` from a checkpoint of the same config. Raises `UserError` when it belongs to another."""
    # Another config's moments and position would mean nothing.
    facts = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if facts["config_digest"] != digest(config):
        changed = [k for k, v in config.model_dump(mode="json").items() if facts["config"].get(k, v) != v]
        raise UserError(
            f"{folder} was made with another config (different: {', '.join(changed) or 'keys'}): "
            "take another --out, or --fresh to start over"
        )
    # Weights and their average.
    load_weights(state.model, folder / "model.safetensors")
    average = load_file(folder / "average.safetensors")
    for name, value in state.average.items():
        value.copy_(average[name])
    # AdamW's moments, saved as `INDEX.NAME`.
    optimizer = state.optimizer.state_dict()
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    entries: dict[int, dict[str, Tensor]] = {}
    for name, value in load_file(folder / "moments.safetensors").items():
        index, field = name.split(".", 1)
        like = parameters[int(index)]
        # The fused optimizer walks raw memory: a moment must lie in the same order (channels last) as its parameter.
        ordered = torch.empty_like(like, dtype=value.dtype).copy_(value) if value.shape == like.shape else value
        entries.setdefault(int(index), {})[field] = ordered
    optimizer["state"] = entries
    state.optimizer.load_state_dict(optimizer)
    state.step, state.seconds, state.metrics = facts["step"], facts["seconds"], facts["metrics"]


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a safetensors file, or the averaged weights of a checkpoint folder; every name and shape must match.

    Raises `UserError` that lists what does not.
    """
    try:
        # A folder's average covers parameters alone; the buffers (batch statistics) are the model's own.
        files = [path / "model.safetensors", path / "average.safetensors"] if path.is_dir() else [path]
        weights = {name: value for file in files for name, value in load_file(file).items()}
        model.load_state_dict(weights)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}") from None
    except RuntimeError as error:
        part = (path.parent / STATE).is_file()
        whole = f" It is part of a checkpoint: name the folder, {path.parent}." if part else ""
        raise UserError(f"{path} does not fit the model.{whole} {str(error)[:2000]}") from None


def _flat(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Own, contiguous copies: safetensors refuses tensors that share memory (tied embeddings, channels-last views)."""
    return {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
