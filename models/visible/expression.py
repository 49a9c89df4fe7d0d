"""Expressions in numbers: SMIRK's parameters of FLAME, and the adapter that lets a U-Net read them (arXiv 2510.04706).

SMIRK (arXiv 2404.04104) reads 55 numbers off a face: 50 of FLAME's expression, 2 of the eyelids, 3 of the jaw. Arc2Face's
expression adapter is an IP-Adapter for them: a small network makes them tokens, and a branch of cross-attention reads these.
The unconditional half of guidance reads the tokens of 55 zeros, as published.
"""

from collections.abc import Mapping
from pathlib import Path

from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import (
    ImageProjection,
    IPAdapterFaceIDImageProjection,
    IPAdapterFullImageProjection,
)
from torch import Tensor, nn

from models.diffusion.cross_attention import Branch, new_branch
from models.errors import EnvironmentFault, UserError
from models.visible.smirk import SMIRK
from models.weights.networks import is_state, load_strictly, read_tensors

FILE = "exp_adapter.bin"
BRANCH = "expression"
"""Name of the adapter's branch of cross-attention."""
PARTS = ("image_proj", "ip_adapter")
"""What an IP-Adapter's file holds: the network that makes tokens, and a branch of cross-attention."""
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "proj.weight": ("IP-Adapter", {"proj.": "image_embeds."}),
    "proj.3.weight": ("IP-Adapter Full", {"proj.0.": "ff.net.0.proj.", "proj.2.": "ff.net.2.", "proj.3.": "norm."}),
    "proj.2.weight": ("IP-Adapter FaceID", {"proj.0.": "ff.net.0.proj.", "proj.2.": "ff.net.2."}),
}
"""By a name that only this form has, looked for in this order: the form, and its names -> diffusers'."""


class ExpressionAdapter(nn.Module):
    """The adapter of one U-Net. project: [B, 55] -> [B, T, hidden]. branch: what reads these."""

    def __init__(self, project: nn.Module, branch: Branch) -> None:
        super().__init__()
        self.project, self.branch = project, branch

    def forward(self, smirk: Tensor) -> Tensor:
        """Return the tokens [B, T, hidden] of SMIRK's numbers [B, 55]."""
        tokens: Tensor = self.project(smirk.to(next(self.project.parameters())))
        return tokens if tokens.ndim == 3 else tokens[:, None]


def load_expression_adapter(folder: Path, unet: UNet2DConditionModel) -> ExpressionAdapter:
    """Return the adapter in `folder`, in the dtype and on the device of `unet`, which it must fit.

    Raises:
        UserError: no file, one that holds more than tensors, or an adapter of another form, U-Net or number of inputs.
    """
    path = folder / FILE
    if not path.is_file():
        raise EnvironmentFault(f"{folder} has no {FILE}. Fetch Arc2Face's exp_adapter, and seal the folder.")
    found = read_tensors(path)
    if not isinstance(found, Mapping) or set(found) != set(PARTS) or not all(is_state(found[part]) for part in PARTS):
        raise UserError(
            f"{path} is no IP-Adapter: it should hold the tensors of {' and '.join(PARTS)}, and nothing else."
        )
    # The form of its first network shows in the names; the branch is numbered as all of them are.
    project, state = _projection(found["image_proj"], path)
    branch = new_branch(unet, unet.config.cross_attention_dim)
    numbered = {
        f"layers.{layer}.to_{one}.weight": f"{2 * layer + 1}.to_{one}_ip.weight"
        for layer in range(len(branch.layers))
        for one in "kv"
    }
    names = {theirs: own for own, theirs in numbered.items()}
    load_strictly(project, state, path)
    load_strictly(branch, {names.get(key, key): value for key, value in found["ip_adapter"].items()}, path)
    adapter = ExpressionAdapter(project, branch).to(unet.device, unet.dtype)
    return adapter.eval().requires_grad_(False)


def _projection(state: Mapping[str, Tensor], path: Path) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a fresh network of the form that `state` has, and its weights by the names of that network."""
    known = next((name for name in KINDS if name in state), None)
    if known is None or ("norm.weight" not in state and known != "proj.3.weight"):
        raise UserError(
            f"{path}: image_proj has the form of no adapter that reads a list of numbers (names: {', '.join(state)}); known: "
            f"{', '.join(kind for kind, _ in KINDS.values())}."
        )
    # It reads as many numbers as SMIRK gives.
    first, (_, renamed) = state["proj.weight" if known == "proj.weight" else "proj.0.weight"], KINDS[known]
    if first.ndim != 2 or first.shape[1] != SMIRK:
        raise UserError(
            f"{path} reads {first.shape[-1]} numbers, and SMIRK gives {SMIRK}: it is another kind's adapter."
        )
    # The network of diffusers that has these weights, of their sizes.
    sizes: dict[str, int] = {"image_embed_dim": SMIRK, "cross_attention_dim": len(state.get("norm.weight", first))}
    if known == "proj.weight":
        network: nn.Module = ImageProjection(num_image_text_embeds=len(first) // sizes["cross_attention_dim"], **sizes)
    elif known == "proj.3.weight":
        network = IPAdapterFullImageProjection(SMIRK, len(state["proj.3.weight"]))
    else:
        tokens = len(state["proj.2.weight"]) // sizes["cross_attention_dim"]
        network = IPAdapterFaceIDImageProjection(mult=len(first) // SMIRK, num_tokens=tokens, **sizes)
    return network, {_rename(key, renamed): value for key, value in state.items()}


def _rename(key: str, renamed: Mapping[str, str]) -> str:
    start = next((one for one in renamed if key.startswith(one)), "")
    return renamed.get(start, "") + key.removeprefix(start)
