"""Further branches of a U-Net's cross-attention, beside the prompt's (IP-Adapter's form, arXiv 2308.06721, equation 5).

At every cross-attention (diffusers' `attn2`), before its output projection:

    attention(q, to_k(prompt), to_v(prompt)) + sum over branches of scale * attention(q, to_k'(context), to_v'(context))

A branch belongs to itself, not to the U-Net: the U-Net's state dict, dtype and gradients are as without it.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn

from models.errors import EnvironmentFault
from models.ssm.block import SelfMixer


class Projections(nn.Module):
    """`to_k` and `to_v` of one layer: context [B, T, width] -> [B, T, inner]."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.to_k = nn.Linear(width, inner, bias=False)
        self.to_v = nn.Linear(width, inner, bias=False)
        nn.init.zeros_(self.to_v.weight)  # a fresh branch adds zero, and learns all the same


class Branch(nn.Module):
    """A branch of all cross-attentions, in the U-Net's order: layer k is IP-Adapter's number 2 k + 1.

    scale: what its output is multiplied with; at 0 nothing of it is computed.
    """

    def __init__(self, width: int, inner: list[int], scale: float = 1.0) -> None:
        super().__init__()
        self.width, self.inner, self.scale = width, inner, scale
        self.layers = nn.ModuleList([Projections(width, size) for size in inner])


class BranchedAttention:
    """A processor of diffusers that adds the branches whose context it is given; `AttnProcessor2_0` where none acts."""

    def __init__(self) -> None:
        self.plain = AttnProcessor2_0()
        self.branches: dict[str, tuple[Branch, int]] = {}
        """Name -> the branch, and which of its layers is this one's."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_hidden_states: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return [B, N, C] of hidden states [B, N, C] and the prompt [B, T, hidden].

        ip_hidden_states: contexts [B, T', width] by the branch's name (a name that self-attention ignores in silence).
        """
        contexts = ip_hidden_states or {}
        acting = [(*self.branches[name], context) for name, context in contexts.items() if self.branches[name][0].scale]
        if not acting or encoder_hidden_states is None:
            plain: Tensor = self.plain(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return plain
        # The prompt's own attention, as `AttnProcessor2_0` computes it.
        rows, tokens, _ = encoder_hidden_states.shape
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, tokens, rows)
            attention_mask = attention_mask.view(rows, attn.heads, -1, attention_mask.shape[-1])
        if attn.norm_cross:
            encoder_hidden_states = attn.norm_encoder_hidden_states(encoder_hidden_states)
        query = attn.to_q(hidden_states)
        found = _attend(query, attn, attn, encoder_hidden_states, attention_mask)
        # The branches ask the same query.
        for branch, layer, context in acting:
            found = found + branch.scale * _attend(query, attn, branch.layers[layer], context)
        for module in attn.to_out:  # projection and dropout
            found = module(found)
        return found


def _attend(
    query: Tensor, attn: Attention, projections: nn.Module, context: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Return what the heads of `attn` read in `context` [B, T, width], [B, N, inner], by `to_k` and `to_v` of `projections`."""

    def split(values: Tensor) -> Tensor:
        return values.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

    key, value = projections.to_k(context), projections.to_v(context)  # type: ignore[operator]
    found = F.scaled_dot_product_attention(split(query), split(key), split(value), attn_mask=mask)
    return found.transpose(1, 2).flatten(2)


def cross_attentions(unet: UNet2DConditionModel) -> list[Attention]:
    """Return the cross-attentions of `unet` in its own order. Raises EnvironmentFault for a U-Net with none, or others."""
    layers = {name: module for name, module in unet.named_modules() if name.endswith("attn2")}
    known = (AttnProcessor, AttnProcessor2_0, BranchedAttention)
    strange = [
        name
        for name, attn in layers.items()
        if not isinstance(attn.processor, known) or attn.norm_q is not None or attn.group_norm is not None
    ]
    if strange or not layers:
        what = f"cross-attention of another form at {', '.join(strange)}" if strange else "no cross-attention"
        raise EnvironmentFault(f"the U-Net has {what}: it takes no branch of Stable Diffusion's shape.")
    return list(layers.values())


def new_branch(unet: UNet2DConditionModel, width: int) -> Branch:
    """Return a branch for `unet` that reads contexts of `width`; it adds zero until it has learnt."""
    return Branch(width, [attn.to_q.out_features for attn in cross_attentions(unet)])


def attach(unet: UNet2DConditionModel, name: str, branch: Branch) -> None:
    """Let the cross-attentions of `unet` ask `branch` wherever they are given a context of `name`."""
    for layer, attn in enumerate(cross_attentions(unet)):
        if not isinstance(attn.processor, BranchedAttention):
            attn.set_processor(BranchedAttention())
        attn.processor.branches[name] = (branch, layer)


def check_contexts(unet: UNet2DConditionModel, contexts: Mapping[str, Tensor]) -> None:
    """Raise ValueError for a context that nothing in `unet` reads: diffusers' own processors would ignore it in silence."""
    if not contexts:
        return
    processors = [attn.processor for attn in cross_attentions(unet)]
    known = set().union(*(getattr(processor, "branches", {}) for processor in processors))
    known |= {name for module in unet.modules() if isinstance(module, SelfMixer) for name in module.reads}
    if unknown := sorted(contexts.keys() - known):
        raise ValueError(f"the U-Net has no branch {', '.join(unknown)}; it has {', '.join(sorted(known)) or 'none'}")
