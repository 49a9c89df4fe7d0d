"""What is loaded onto a U-Net: LoRAs that are fused, a reference adapter, an expression adapter.

weights: `lora`, `lora_2` and so on, one LoRA each; `reference`, Arc2Face's `ref_adapter`; `expression`, its `exp_adapter`.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from models.attributes import EXPRESSIONS
from models.columns import Columns
from models.diffusion.conditions import Conditions
from models.diffusion.cross_attention import attach
from models.diffusion.lora import fuse_lora, read_lora, share_weights
from models.diffusion.reference import ReferenceReader
from models.errors import UserError
from models.visible.expression import BRANCH, ExpressionAdapter, load_expression_adapter
from models.visible.head import views_of
from models.visible.sd.settings import EXPRESSION, REFERENCE, SMIRK, Options, lora_names
from models.visible.smirk import MAP, ExpressionMap, check_smirk
from models.visible.smirk import SMIRK as NUMBERS

log = logging.getLogger(__name__)

NEUTRAL = "neutral"


@dataclass(frozen=True)
class Shown:
    """What the adapters are given of one compute batch, for all of its rows or for none."""

    reference: Tensor | None = None
    """uint8 [B, S, S, 3]: a picture of each person."""
    smirk: Tensor | None = None
    """float32 [B, 55]: the expression."""


@dataclass(frozen=True)
class Adapted:
    """A U-Net with its adapters. Networks share the weights that their adapters do not change."""

    unet: UNet2DConditionModel
    """The one that denoises: with the LoRAs, without a reference."""
    reference: ReferenceReader | None = None
    expression: ExpressionAdapter | None = None
    map: ExpressionMap | None = None
    """From words to SMIRK's numbers, where one lies beside the expression adapter."""

    def groups(self, rows: Columns) -> list[tuple[np.ndarray, Columns]]:
        """Return the numbers of rows that are computed alike (with and without a reference, with and without an expression),
        and what the adapters read of all rows: `reference` and `smirk`, where there is either.

        A picture of zeros is none, and so are numbers that are all NaN; others come from the map of words, where there is one.
        """
        count = len(rows["noise_id"])
        read, kind = Columns(), np.zeros(count, int)
        if self.reference is not None and REFERENCE in rows:
            read[REFERENCE] = rows[REFERENCE]
            kind += rows[REFERENCE].reshape(count, -1).any(axis=1)
        if self.expression is not None and (SMIRK in rows or self.map is not None):
            read[SMIRK] = self._numbers(rows)
            kind += 2 * np.isfinite(read[SMIRK]).all(axis=1)
        return [(np.flatnonzero(kind == one), read) for one in np.unique(kind)]

    def _numbers(self, rows: Columns) -> np.ndarray:
        """Return SMIRK's numbers float32 [N, 55]: those that were given, else those of the caption's words, else NaN."""
        count = len(rows["noise_id"])
        given = rows.get(SMIRK, np.full((count, NUMBERS), np.nan, np.float32))
        asked = ~np.isnan(given).all(axis=1)
        names = [str(name) for name in rows["noise_id"]]
        numbers = np.full((count, NUMBERS), np.nan, np.float32)
        for row in np.flatnonzero(asked):
            numbers[row] = check_smirk(given[row], f"row {names[row]}")
        # The words are as strong as the head that is drawn of them.
        if self.map is not None:
            views = views_of([str(caption) for caption in rows["caption"]], names)
            strengths = [{} if view.expression == NEUTRAL else {view.expression: view.strength} for view in views]
            numbers[~asked] = self.map(strengths)[~asked]
        return numbers

    @contextmanager
    def show(self, latents: Tensor | None, cond: Conditions) -> Iterator[UNet2DConditionModel]:
        """Give the U-Net to denoise with; latents: of the references of all conditional rows, None for no references."""
        if latents is None or self.reference is None:
            yield self.unet
            return
        # The reference is read by the U-Net without an expression: it shows its own.
        others = {name: values for name, values in cond.extra.items() if name != BRANCH}
        with self.reference.show(latents, replace(cond, extra=others)) as reader:
            yield reader

    def express(self, smirk: Tensor | None, scale: float, cond: Conditions, uncond: Conditions) -> list[Conditions]:
        """Return both conditions with the expression of SMIRK's numbers [B, 55], the unconditional one with that of zeros;
        without numbers as they are."""
        if smirk is None or self.expression is None or scale == 0:
            return [cond, uncond]
        self.expression.branch.scale = scale
        halves = ((cond, smirk), (uncond, torch.zeros_like(smirk)))
        return [replace(one, extra={**one.extra, BRANCH: self.expression(numbers)}) for one, numbers in halves]


def shown(read: Columns, rows: Sequence[int]) -> Shown:
    """Return what the adapters are given of `rows`, which are computed alike; read: as `Adapted.groups` gives it."""
    first, chosen = rows[0], list(rows)
    reference = REFERENCE in read and bool(read[REFERENCE][first].any())
    smirk = SMIRK in read and bool(np.isfinite(read[SMIRK][first]).all())
    return Shown(
        torch.from_numpy(read[REFERENCE][chosen]) if reference else None,
        torch.from_numpy(read[SMIRK][chosen]) if smirk else None,
    )


def adapt(unet: UNet2DConditionModel, weights: Mapping[str, Path], options: Options) -> Adapted:
    """Return `unet`, on its device, with the adapters among `weights`; its own weights stay as they are.

    Raises:
        UserError, EnvironmentFault: an adapter that does not fit, or cannot be read; the message names it.
    """
    loras = [name for name in lora_names(weights) if options.scale_of(name) != 0]
    adapted = share_weights(unet) if loras else unet
    for name in loras:
        lora = read_lora(weights[name], options.file_of(name))
        fuse_lora(adapted, lora, options.scale_of(name), unet_only=options.lora_unet_only)
    # The reference is written by the U-Net without any LoRA, and read by one with all of them and its own.
    pair = None
    if REFERENCE in weights and options.reference_scale:
        reader = share_weights(adapted)
        fuse_lora(reader, read_lora(weights[REFERENCE], options.file_of(REFERENCE)), options.reference_scale)
        pair = ReferenceReader(share_weights(unet), reader)
    if EXPRESSION not in weights:
        return Adapted(adapted, pair)
    # Both U-Nets that denoise ask one expression adapter.
    expression = load_expression_adapter(weights[EXPRESSION], adapted)
    for one in (adapted, *([pair.reader] if pair else [])):
        attach(one, BRANCH, expression.branch)
    return Adapted(adapted, pair, expression, _load_map(weights[EXPRESSION]))


def _load_map(folder: Path) -> ExpressionMap | None:
    """Return the map from words to SMIRK's numbers, None where there is none, which is said."""
    if not (folder / MAP).is_file():
        log.warning("%s has no %s: words do not move the expression adapter, only the column smirk does.", folder, MAP)
        return None
    found = ExpressionMap.load(folder / MAP)
    if lacking := sorted(set(EXPRESSIONS) - {NEUTRAL, *found.names}):
        raise UserError(f"{folder / MAP} does not know {', '.join(lacking)}: fit it with pairs of every expression.")
    return found
