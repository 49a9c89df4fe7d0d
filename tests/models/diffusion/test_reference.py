"""Reference attention against transformer blocks written by hand, alone and in a batch, with and without guidance."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from models.diffusion.conditions import Conditions
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.lora import share_weights
from models.diffusion.reference import ReferenceReader, self_attentions
from models.diffusion.sample import Step
from tests.models.diffusion import tiny

STEP = Step(0, 2, torch.tensor(500))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


PROMPTS, LATENTS, SHOWN = 3 * draw(3, 7, tiny.HIDDEN), draw(2, 4, 4, 4, seed=1), draw(2, 4, 4, 4, seed=2)
COND, UNCOND = Conditions(PROMPTS[:2]), Conditions(PROMPTS[2:].expand(2, -1, -1))


@pytest.fixture(scope="module")
def writer() -> UNet2DConditionModel:
    return tiny.new_unet()


@pytest.fixture(scope="module")
def reader(writer: UNet2DConditionModel) -> UNet2DConditionModel:
    """The writer with other self-attentions, as a LoRA makes them."""
    other = share_weights(writer)
    for seed, attention in enumerate(self_attentions(other).values()):
        for part in (attention.to_q, attention.to_k, attention.to_v):
            part.weight = torch.nn.Parameter(part.weight + 0.3 * draw(*part.weight.shape, seed=seed), False)
    return other


@pytest.fixture(scope="module")
def pair(writer: UNet2DConditionModel, reader: UNet2DConditionModel) -> ReferenceReader:
    return ReferenceReader(writer, reader)


def rows(conditions: Conditions, wanted: slice) -> Conditions:
    return Conditions(conditions.prompt_embeds[wanted])


def ours(pair: ReferenceReader, guidance: float, wanted: slice = slice(0, 2)) -> Tensor:
    cond, uncond = rows(COND, wanted), rows(UNCOND, wanted)
    with pair.show(SHOWN[wanted], cond) as unet:
        return denoiser(unet, cond, uncond, Guidance(guidance))(LATENTS[wanted], STEP)


def attend(attention: torch.nn.Module, queries: Tensor, keys: Tensor) -> Tensor:
    """Softmax attention by its definition."""
    heads = attention.heads
    query, key, value = (
        layer(one).unflatten(2, (heads, -1)).transpose(1, 2)
        for layer, one in ((attention.to_q, queries), (attention.to_k, keys), (attention.to_v, keys))
    )
    weights = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(dim=-1)
    return attention.to_out[0]((weights @ value).transpose(1, 2).flatten(2))


def by_hand(
    unet: UNet2DConditionModel, latents: Tensor, time: int, prompts: Tensor, bank: list[Tensor]
) -> list[Tensor]:
    """Run `unet` with blocks written by hand, [prediction, input of each self-attention]; the bank's rows are the first."""
    seen: list[Tensor] = []

    def block(self: BasicTransformerBlock, hidden: Tensor, encoder_hidden_states: Tensor, **_: object) -> Tensor:
        normed = self.norm1(hidden)
        rows_ = range(len(normed))
        keys = [
            torch.cat([normed[k], *(one[k] for one in bank[len(seen) : len(seen) + 1] if k < len(one))]) for k in rows_
        ]
        seen.append(normed)
        hidden = hidden + torch.cat([attend(self.attn1, normed[k][None], keys[k][None]) for k in rows_])
        hidden = hidden + attend(self.attn2, self.norm2(hidden), encoder_hidden_states)
        return hidden + self.ff(self.norm3(hidden))

    blocks = [one for one in unet.modules() if isinstance(one, BasicTransformerBlock)]
    for one in blocks:
        one.forward = block.__get__(one)
    try:
        return [unet(latents, time, prompts).sample, *seen]
    finally:
        for one in blocks:
            del one.forward


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@torch.inference_mode()
def test_it_is_the_blocks_written_by_hand(pair: ReferenceReader, guidance: float) -> None:
    _, *bank = by_hand(pair.writer, SHOWN, 0, PROMPTS[:2], [])
    assert len(bank) == len(self_attentions(pair.writer)) == 4
    cond, uncond = by_hand(pair.reader, LATENTS.repeat(2, 1, 1, 1), 500, COND.join(UNCOND).prompt_embeds, bank)[
        0
    ].chunk(2)
    wanted = cond if guidance <= 1 else uncond + guidance * (cond - uncond)
    found = ours(pair, guidance)
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()
    # The unconditional half sees no reference, and the reference matters.
    plain = by_hand(pair.reader, LATENTS.repeat(2, 1, 1, 1), 500, COND.join(UNCOND).prompt_embeds, [])[0].chunk(2)
    assert torch.equal(uncond, plain[1]) and (cond - plain[0]).abs().max() > 0.05


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@torch.inference_mode()
def test_a_row_is_the_same_alone_and_in_a_batch(pair: ReferenceReader, guidance: float) -> None:
    whole = ours(pair, guidance)
    for row in range(2):
        assert torch.allclose(ours(pair, guidance, slice(row, row + 1))[0], whole[row], atol=1e-4)


@torch.inference_mode()
def test_nothing_is_kept_after_the_call(pair: ReferenceReader) -> None:
    """Outside of `show`, and after one that failed, both networks are what they were, to the bit."""
    plain = [share_weights(one) for one in (pair.writer, pair.reader)]
    for unet in plain:
        unet.set_attn_processor(AttnProcessor2_0())
    ours(pair, 4.0)
    with pytest.raises(RuntimeError), pair.show(SHOWN, COND):
        raise RuntimeError
    with pytest.raises(RuntimeError), pair.show(SHOWN[:, :3], COND):  # latents that the writer does not take
        pass
    for unet, as_before in zip((pair.writer, pair.reader), plain):
        assert torch.equal(unet(LATENTS, 500, PROMPTS[:2]).sample, as_before(LATENTS, 500, PROMPTS[:2]).sample)
    assert not pair._written.tokens and not pair._shown.tokens and not pair._written.writing


@torch.inference_mode()
def test_self_attentions_come_in_the_order_in_which_they_run(pair: ReferenceReader) -> None:
    with pair.show(SHOWN, COND):
        assert list(pair._shown.tokens) == list(self_attentions(pair.reader))
    assert [name.split("_")[0] for name in self_attentions(pair.reader)] == ["down", "mid", "up", "up"]
