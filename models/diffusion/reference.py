"""Reference attention: a picture is looked at by the self-attentions of the U-Net that draws (arXiv 2510.04706; Arc2Face).

A U-Net, the writer, runs once at time 0 on the reference's latents. What its self-attentions get there (normed, after their
first layer norm) is kept: the bank. The U-Net that denoises, the reader, attends to its own tokens and the bank's together, in
the conditional rows alone; without guidance those are all rows. The reader is the writer with a LoRA fused into it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from models.diffusion.conditions import Conditions
from models.diffusion.unet import predict

SELF_ATTENTION = ".attn1"
"""Ends the name of a transformer block's self-attention."""
ORDER = ("down_blocks", "mid_block", "up_blocks")
"""In which a U-Net runs its blocks."""


class Bank:
    """What the self-attentions of one U-Net keep or are shown, by name: normed tokens [B, T, width]."""

    def __init__(self) -> None:
        self.tokens: dict[str, Tensor] = {}
        self.writing = False


class BankAttention(AttnProcessor2_0):
    """A self-attention that writes its input into a bank, or attends to what the bank holds under its name.

    The rows that the bank holds are the first of the batch; the others, and all where it holds nothing, attend as usual.
    """

    def __init__(self, bank: Bank, name: str) -> None:
        super().__init__()
        self.bank, self.name = bank, name

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Return the attention's output [B, T, width]. A block whose first attention reads the prompt is left alone."""
        plain = super().__call__
        if encoder_hidden_states is not None:
            return plain(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        if self.bank.writing:
            self.bank.tokens[self.name] = hidden_states
        seen = self.bank.tokens.get(self.name)
        if self.bank.writing or seen is None:
            return plain(attn, hidden_states, None, attention_mask, temb)
        # The rows with a reference attend to its tokens, too.
        own, others = hidden_states[: len(seen)], hidden_states[len(seen) :]
        both = torch.cat([own, seen.to(own.dtype)], dim=1)
        guided = plain(attn, own, both, attention_mask, temb)
        if not len(others):
            return guided
        return torch.cat([guided, plain(attn, others, None, attention_mask, temb)])


def self_attentions(unet: UNet2DConditionModel) -> dict[str, Attention]:
    """Return the self-attentions of the transformer blocks by name, in the order in which they run."""
    found = {name: one for name, one in unet.named_modules() if name.endswith(SELF_ATTENTION)}
    return {name: found[name] for place in ORDER for name in found if name.startswith(place)}


def open_bank(unet: UNet2DConditionModel) -> Bank:
    """Return the bank that the self-attentions of `unet` share from now on; empty it changes nothing."""
    bank = Bank()
    for name, attention in self_attentions(unet).items():
        attention.set_processor(BankAttention(bank, name))
    return bank


class ReferenceReader:
    """A writer and a reader of the same layout. Both predict as before outside of `show`."""

    def __init__(self, writer: UNet2DConditionModel, reader: UNet2DConditionModel) -> None:
        self.writer, self.reader = writer, reader
        self._written, self._shown = open_bank(writer), open_bank(reader)

    @contextmanager
    def show(self, latents: Tensor, conditions: Conditions) -> Iterator[UNet2DConditionModel]:
        """Let the reader see references, and give it; nothing of them is kept afterwards.

        latents: scaled latents [B, C, h, w] of the references of the first B rows of each batch that the reader gets.
        conditions: of those rows, B, as the reader gets them.
        """
        try:
            self._shown.tokens = self._write(latents, conditions)
            yield self.reader
        finally:
            self._shown.tokens = {}

    def _write(self, latents: Tensor, conditions: Conditions) -> dict[str, Tensor]:
        """Return what the writer's self-attentions get of the references at time 0."""
        writer, bank = self.writer, self._written
        bank.writing = True
        try:
            clear = torch.zeros(len(latents), dtype=torch.int64, device=writer.device)
            there = (writer.device, writer.dtype)
            predict(writer, latents.to(*there), clear, conditions.to(*there))
            return bank.tokens
        finally:
            bank.writing, bank.tokens = False, {}
