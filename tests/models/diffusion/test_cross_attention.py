"""A branch of cross-attention: diffusers' IP-Adapter at equal weights, the plain U-Net where it does not act, gradients."""

import copy
from collections.abc import Mapping

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, IPAdapterAttnProcessor2_0
from torch import Tensor

from models.diffusion.conditions import Conditions
from models.diffusion.cross_attention import Branch, attach, check_contexts, cross_attentions, new_branch
from models.diffusion.guidance import Guidance, denoiser
from models.diffusion.sample import Step
from models.diffusion.unet import Control, predict
from models.errors import EnvironmentFault
from tests.models.diffusion import tiny

WIDTH = 10


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


LATENTS, PROMPTS = draw(2, 4, 4, 4), 3 * draw(2, 7, tiny.HIDDEN, seed=1)
WORDS = 3 * draw(2, 5, WIDTH, seed=2)
TIME = torch.tensor(400)


@pytest.fixture
def unet() -> UNet2DConditionModel:
    return tiny.new_unet()


def branched(unet: UNet2DConditionModel, name: str = "text", width: int = WIDTH) -> Branch:
    branch = new_branch(unet, width)
    tiny.wake(branch)
    attach(unet, name, branch)
    return branch


def ask(unet: UNet2DConditionModel, extra: Mapping[str, Tensor], rows: slice = slice(None), **more: object) -> Tensor:
    conditions = Conditions(PROMPTS[rows], extra={name: values[rows] for name, values in extra.items()}, **more)
    return predict(unet, LATENTS[rows], TIME, conditions)


@torch.inference_mode()
def test_where_no_branch_acts_the_unet_is_the_plain_one_to_the_bit(unet: UNet2DConditionModel) -> None:
    plain = ask(unet, {})
    keys = set(unet.state_dict())
    fresh = new_branch(unet, WIDTH)
    attach(unet, "text", fresh)
    assert torch.equal(ask(unet, {"text": WORDS}), plain)  # zero at the start
    branch = branched(unet)
    assert torch.equal(ask(unet, {}), plain)
    assert (ask(unet, {"text": WORDS}) - plain).abs().max() > 0.05
    branch.scale = 0.0
    for projections in branch.layers:
        projections.forward = projections.to_k.forward = projections.to_v.forward = None  # nothing is computed
    assert torch.equal(ask(unet, {"text": WORDS}), plain)
    assert set(unet.state_dict()) == keys


@pytest.mark.parametrize("scale", [1.0, 0.6])
@torch.inference_mode()
def test_it_equals_diffusers_ip_adapter_at_equal_weights(unet: UNet2DConditionModel, scale: float) -> None:
    """Two branches, as two IP-Adapters: their weights go in by the number of the cross-attention."""
    other = copy.deepcopy(unet)
    context = {"face": 3 * draw(2, 4, tiny.HIDDEN, seed=3), "style": 3 * draw(2, 6, tiny.HIDDEN, seed=4)}
    one, two = branched(unet, "face", tiny.HIDDEN), branched(unet, "style", tiny.HIDDEN)
    one.scale, two.scale = scale, 2 * scale
    two.layers[0].to_k.weight.data *= -1
    found = ask(unet, context)
    processors = dict(other.attn_processors)
    # diffusers numbers all attentions, self-attention included.
    for number, name in enumerate(processors):
        if name.endswith("attn2.processor"):
            layers = [branch.layers[number // 2] for branch in (one, two)]
            size = layers[0].to_k.out_features
            theirs = IPAdapterAttnProcessor2_0(size, tiny.HIDDEN, num_tokens=(4, 6), scale=[scale, 2 * scale])
            for index, layer in enumerate(layers):
                theirs.to_k_ip[index].weight.data = layer.to_k.weight
                theirs.to_v_ip[index].weight.data = layer.to_v.weight
            processors[name] = theirs
    other.set_attn_processor(processors)
    hidden = (PROMPTS, [context["face"], context["style"]])
    other.process_encoder_hidden_states = lambda encoder_hidden_states, added_cond_kwargs: encoder_hidden_states
    wanted = other(LATENTS, TIME, hidden)[0]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert (found - ask(unet, {})).abs().max() > 0.05


def test_one_layer_written_out(unet: UNet2DConditionModel) -> None:
    """softmax(q k^T / sqrt(d)) v, head by head in float64, prompt and branch, against the processor; also under a mask."""
    branch = branched(unet).double()
    branch.scale = 0.7
    attn = cross_attentions(unet)[1].double()
    hidden, prompt, words = draw(2, 3, attn.to_q.in_features, seed=5).double(), PROMPTS.double(), WORDS.double()
    hide = torch.zeros(2, 1, 7, dtype=torch.float64)
    hide[1, :, 4:] = -1e9

    def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | float = 0.0) -> Tensor:
        size = query.shape[-1] // attn.heads
        heads = [slice(head * size, (head + 1) * size) for head in range(attn.heads)]
        scores = [query[..., part] @ key[..., part].mT / size**0.5 + bias for part in heads]
        return torch.cat([scores[k].softmax(-1) @ value[..., part] for k, part in enumerate(heads)], dim=-1)

    def by(weight: Tensor, values: Tensor) -> Tensor:
        return values @ weight.T

    query, own = by(attn.to_q.weight, hidden), branch.layers[1]
    for mask, bias in ((None, 0.0), (hide, hide)):
        found = attn(hidden, prompt, attention_mask=mask, ip_hidden_states={"text": words})
        said = attention(query, by(attn.to_k.weight, prompt), by(attn.to_v.weight, prompt), bias)
        said = said + 0.7 * attention(query, by(own.to_k.weight, words), by(own.to_v.weight, words))
        wanted = by(attn.to_out[0].weight, said) + attn.to_out[0].bias
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)


@torch.inference_mode()
def test_a_row_is_the_same_alone_and_knows_its_own_words_alone(unet: UNet2DConditionModel) -> None:
    branched(unet)
    whole = ask(unet, {"text": WORDS})
    torch.testing.assert_close(ask(unet, {"text": WORDS}, slice(1, 2)), whole[1:], atol=1e-5, rtol=1e-5)
    changed = WORDS.clone()
    changed[0] += 1
    found = ask(unet, {"text": changed})
    assert torch.equal(found[1], whole[1]) and not torch.equal(found[0], whole[0])


@torch.inference_mode()
def test_each_half_of_guidance_reads_its_own_words(unet: UNet2DConditionModel) -> None:
    branched(unet)
    empty = Conditions(PROMPTS.roll(1, 0), extra={"text": -WORDS})
    step = Step(0, 1, TIME)
    found = denoiser(unet, Conditions(PROMPTS, extra={"text": WORDS}), empty, Guidance(3.0))(LATENTS, step)
    cond, uncond = ask(unet, {"text": WORDS}), predict(unet, LATENTS, TIME, empty)
    torch.testing.assert_close(found, uncond + 3.0 * (cond - uncond), atol=2e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="same inputs"):
        denoiser(unet, Conditions(PROMPTS, extra={"text": WORDS}), Conditions(PROMPTS), Guidance(3.0))
    with pytest.raises(ValueError, match="no branch pose; it has text"):
        denoiser(unet, Conditions(PROMPTS, extra={"pose": WORDS}), empty, Guidance(1.0))
    with pytest.raises(ValueError, match="it has none"):
        check_contexts(tiny.new_unet(), {"text": WORDS})


@torch.inference_mode()
def test_a_controlnet_steers_a_branched_unet_and_reads_no_branch(unet: UNet2DConditionModel) -> None:
    bare = copy.deepcopy(unet)
    branched(unet)
    control = Control(tiny.new_controlnet(bare), 0.8)
    picture = draw(2, 3, 16, 16, seed=6).sigmoid()

    def steered(unet: UNet2DConditionModel, extra: Mapping[str, Tensor]) -> Tensor:
        return predict(unet, LATENTS, TIME, Conditions(PROMPTS, control=picture, extra=extra), control=control)

    plain = steered(bare, {})
    assert torch.equal(steered(unet, {}), plain)
    found = steered(unet, {"text": WORDS})
    assert (found - plain).abs().max() > 0.05 and (found - ask(unet, {"text": WORDS})).abs().max() > 0.05


def test_gradients_reach_the_branch_alone_and_are_those_of_finite_differences(unet: UNet2DConditionModel) -> None:
    branch = branched(unet.double()).double().requires_grad_(True)
    conditions = Conditions(PROMPTS, extra={"text": WORDS}).to("cpu", torch.float64)
    aim = draw(2, 4, 4, 4, seed=7).double()

    def value() -> Tensor:
        return (predict(unet, LATENTS.double(), TIME, conditions) * aim).sum()

    value().backward()
    assert all(parameter.grad is None for parameter in unet.parameters())
    for layer in branch.layers:
        for weight in (layer.to_k.weight, layer.to_v.weight):
            place = int(weight.grad.abs().argmax())
            found = float(weight.grad.flatten()[place])
            with torch.no_grad():
                ends = []
                for move in (1e-5, -2e-5):
                    weight.view(-1)[place] += move
                    ends.append(float(value()))
                weight.view(-1)[place] += 1e-5
            assert found == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5) and abs(found) > 1e-3


@torch.inference_mode()
def test_half_precision_and_a_unet_that_takes_no_branch(unet: UNet2DConditionModel) -> None:
    branch = branched(unet.bfloat16()).bfloat16()
    conditions = Conditions(PROMPTS, extra={"text": WORDS}).to("cpu", torch.bfloat16)
    assert predict(unet, LATENTS.bfloat16(), TIME, conditions).dtype == torch.bfloat16
    assert branch.layers[0].to_k.weight.dtype == torch.bfloat16
    unet.set_attn_processor(AttnProcessor())
    attach(unet, "text", branch)
    assert len(branch.layers) == len(cross_attentions(unet)) == 4
    unet.set_attn_processor(IPAdapterAttnProcessor2_0(16, WIDTH))
    with pytest.raises(EnvironmentFault, match=r"another form at down_blocks\.0\.attentions\.0.*takes no branch"):
        attach(unet, "text", branch)
