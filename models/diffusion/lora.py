"""LoRA (arXiv 2106.09685) files fused into a U-Net: W + scale * alpha / rank * B A, so that sampling costs nothing more.

The arithmetic is done here and not by peft: fused weights need nothing of it, every process that imports diffusers would
import it too, and names that fit no layer would be skipped in silence. Two layouts of names are read:

    kohya            lora_unet_mid_block_attentions_0_proj_in.lora_down.weight (and lora_up, alpha)
    diffusers, peft  unet.mid_block.attentions.0.proj_in.lora_A.weight (and lora_B; older: to_q_lora.down.weight)
"""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from models.config import parse_json
from models.errors import EnvironmentFault, UserError

FILE = "pytorch_lora_weights.safetensors"
"""What diffusers calls the file; any other name is taken where the folder holds one safetensors file."""
TEXT = re.compile(r"(lora_te\d?_|te\d?\.|text_encoder(_\d)?\.|base_model\.model\.text_model\.|text_model\.)")
"""Begins the names of what a LoRA changes in a text encoder."""
PREFIXES = ("base_model.model.", "unet.", "lora_unet_")
ENDS = re.compile(
    r"(?P<dot>[._])(?:lora_(?P<kohya>down|up)|lora_(?P<peft>[AB])(?:\.default)?|lora(?:_linear_layer)?\.(?P<old>down|up))"
    r"\.weight$"
)
"""What follows the layer's name: which of the two factors a tensor is."""
DOWN = {"down": "down", "A": "down", "up": "up", "B": "up"}
SHOWN = 4
"""Names of a list that a message says."""


@dataclass
class Factors:
    """What a file holds of one layer: delta = alpha / rank * up @ down. down: [rank, in, ...], up: [out, rank, ...]."""

    down: Tensor | None = None
    up: Tensor | None = None
    alpha: float | None = None

    def delta(self) -> Tensor:
        """Return what is added to the layer's weight at scale 1, float32 [out, in * height * width]."""
        assert self.down is not None and self.up is not None
        rank = len(self.down)
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return product * (1.0 if self.alpha is None else self.alpha / rank)

    def fits(self, weight: Tensor) -> bool:
        """Whether the factors are of a layer with this weight: the first has its inputs and window, the second its outputs.

        A convolution of single pixels is a linear layer, and its factors may be written as either.
        """
        down, up = self.down, self.up
        if down is None or up is None or min(down.ndim, up.ndim) < 2:
            return False
        window = _without_ones(down.shape[2:]) == _without_ones(weight.shape[2:])
        return window and down.shape[1] == weight.shape[1] and up.flatten(1).shape == (len(weight), len(down))


def _without_ones(window: torch.Size) -> list[int]:
    return [side for side in window if side != 1]


@dataclass
class Lora:
    """A file's factors by the layer's name as it stands there, and the names of tensors that are none of a U-Net's LoRA."""

    path: Path
    layers: dict[str, Factors] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def read_lora(folder: Path, file: str = "") -> Lora:
    """Return the LoRA in a folder. file: its name there, needed where the folder holds several.

    Raises:
        UserError: no or several safetensors files, or no such file.
        EnvironmentFault: the file is damaged.
    """
    path = _find(folder, file)
    try:
        with safe_open(str(path), "pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (not a mapping)
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise EnvironmentFault(f"{path}: not a whole safetensors file ({error}). Fetch it again.") from None
    lora, alphas = Lora(path), dict[str, float]()
    # Each tensor is a factor of a layer, its alpha, the text encoder's, or nothing that is known.
    for key, tensor in tensors.items():
        if TEXT.match(key):
            lora.text.append(key)
        elif found := ENDS.search(key):
            factors = lora.layers.setdefault(_layer(key[: found.start()], found["dot"]), Factors())
            setattr(factors, DOWN[found["kohya"] or found["peft"] or found["old"]], tensor)
        elif key.endswith(".alpha") and tensor.numel() == 1:
            alphas[_layer(key.removesuffix(".alpha"), ".")] = float(tensor)
        else:
            lora.unknown.append(key)
    _set_alphas(lora, alphas, metadata)
    return lora


def _find(folder: Path, file: str) -> Path:
    """Return the file of a LoRA."""
    there = sorted(path.name for path in folder.glob("*.safetensors"))
    chosen = file or (FILE if FILE in there else there[0] if len(there) == 1 else "")
    if not chosen or not (folder / chosen).is_file():
        missing = f"no {file}" if file else f"{len(there)} safetensors files"
        raise UserError(
            f"{folder} holds {missing}, and one LoRA is wanted; it has: {', '.join(there) or 'none'}. Name the file with "
            "the part's option lora_file."
        )
    return folder / chosen


def _layer(name: str, dot: str) -> str:
    """Return the name of a layer without what the layouts put before and into it."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    name = name.replace(".processor.", ".")
    if name.endswith("_lora"):
        name, dot = name.removesuffix("_lora"), "_"
    # `to_out_lora` stands for the first layer of `to_out`.
    return f"{name}.0" if dot == "_" and name.endswith(".to_out") else name


def _set_alphas(lora: Lora, alphas: Mapping[str, float], metadata: Mapping[str, str]) -> None:
    """Give each layer its alpha: of a tensor of its own, else of the configuration that diffusers writes beside them."""
    try:
        config: dict[str, Any] = parse_json(metadata.get("lora_adapter_metadata", "{}"))
        own = {key.removeprefix("unet."): value for key, value in config.items()}
        pattern, common = dict(own.get("alpha_pattern") or {}), own.get("lora_alpha")
        # rsLoRA (arXiv 2312.03732) divides by the rank's square root.
        root = bool(own.get("use_rslora"))
        for name, factors in lora.layers.items():
            stated = next((value for key, value in pattern.items() if _names(str(key), name)), common)
            rank = 1 if factors.down is None else len(factors.down)
            factors.alpha = alphas.get(name, None if stated is None else float(stated) * (rank**0.5 if root else 1))
    except (ValueError, TypeError, AttributeError) as error:
        raise EnvironmentFault(
            f"{lora.path}: its lora_adapter_metadata is damaged ({error}). Fetch it again."
        ) from None
    lora.unknown += [f"{name}.alpha" for name in alphas if name not in lora.layers]


def _names(pattern: str, layer: str) -> bool:
    """Whether a key of an `alpha_pattern` is of a layer: its whole name (diffusers writes `^name`) or the end of it."""
    name = pattern.removeprefix("^")
    return layer == name or (not pattern.startswith("^") and layer.endswith(f".{name}"))


def fuse_lora(unet: nn.Module, lora: Lora, scale: float = 1.0, *, unet_only: bool = False) -> None:
    """Add a LoRA to the weights of `unet`, in place; computed in float32, stored in the weights' dtype.

    The layers that it changes get new parameters, so that a copy that shared the old ones keeps those.
    unet_only: leave out what the file holds for a text encoder, instead of refusing it.

    Raises:
        UserError: a tensor that is no LoRA's, a layer that `unet` does not have or that has another shape, half a layer, a
            text encoder's tensors; all that does not fit is said at once, and `unet` is as it was.
    """
    _check_names(lora, unet_only)
    layers = _layers_of(unet)
    # Everything is checked before anything changes.
    unfit = [
        name for name, factors in lora.layers.items() if name not in layers or not factors.fits(layers[name].weight)
    ]
    if unfit:
        raise UserError(
            f"{lora.path} is a LoRA of another model: of its {len(lora.layers)} layers {len(unfit)} do not fit, as "
            f"{_list([_say_unfit(name, lora.layers[name], layers) for name in unfit])}. Take one that was made for this "
            "U-Net (Arc2Face's is of Stable Diffusion 1.5's shape)."
        )
    deltas = {name: scale * factors.delta() for name, factors in lora.layers.items()}
    if wrong := [name for name, delta in deltas.items() if not delta.isfinite().all()]:
        raise EnvironmentFault(f"{lora.path}: {_list(wrong)} hold values that are not finite. Fetch it again.")
    if scale == 0:
        return
    for name, delta in deltas.items():
        old = layers[name].weight
        fused = (old.detach().float() + delta.view_as(old).to(old.device)).to(old.dtype)
        layers[name].weight = nn.Parameter(fused, requires_grad=old.requires_grad)


def _check_names(lora: Lora, unet_only: bool) -> None:
    """Raise a UserError for a file with tensors that would have no effect, and for one without any that has."""
    if lora.unknown:
        raise UserError(
            f"{lora.path} holds {len(lora.unknown)} tensors that are no plain LoRA's: {_list(lora.unknown)}. DoRA, LoHa, "
            "LoKr and LoRAs with a third factor are not known here: merge such a file into the U-Net with the tool that made it, "
            "and name the result as weights `unet`."
        )
    if lora.text and not unet_only:
        raise UserError(
            f"{lora.path} also changes a text encoder ({len(lora.text)} tensors: {_list(lora.text)}), and the one that "
            "inserts an identity is another. Take a LoRA of the U-Net alone, or leave that half out with the part's option "
            "lora_unet_only: true."
        )
    if not lora.layers:
        raise UserError(f"{lora.path} holds no LoRA of a U-Net.")


def _layers_of(unet: nn.Module) -> dict[str, Any]:
    """Return the layers that a LoRA can change by name, with dots and, as kohya writes them, with underscores."""
    layers = {name: one for name, one in unet.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)}
    return {name.replace(".", "_"): one for name, one in layers.items()} | layers


def _say_unfit(name: str, factors: Factors, layers: Mapping[str, Any]) -> str:
    """Return what is wrong with a layer of a LoRA."""
    if factors.down is None or factors.up is None:
        return f"{name} (half of it is missing)"
    if name not in layers:
        return f"{name} (no such layer)"
    down, up, weight = (list(one.shape) for one in (factors.down, factors.up, layers[name].weight))
    return f"{name} ({up} times {down} for a weight of {weight})"


def _list(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def share_weights(unet: nn.Module) -> Any:
    """Return a copy of `unet` that shares its weights and attention processors: what is fused into the copy, and processors
    that it is given, leave `unet` as it is, and the rest is held once."""
    processors = [module.processor for module in unet.modules() if hasattr(module, "processor")]
    shared: list[Any] = [*unet.parameters(), *unet.buffers(), *processors]
    return copy.deepcopy(unet, {id(one): one for one in shared})
