"""The mixers against transformers' with the same weights, over pictures, and as they are initialised."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Mamba2Config as TheirMamba2Config
from transformers import MambaConfig as TheirMambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer as TheirMambaMixer
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer as TheirMamba2Mixer

from models.ssm.config import Directions
from models.ssm.mixers import Directional, Mamba1Config, Mamba1Mixer, Mamba2Config, Mamba2Mixer
from models.ssm.orders import inverse_orders, scan_orders, side_of
from models.tasks import TrainConfig
from models.training.loop import _optimizer


def compare(ours: nn.Module, theirs: nn.Module) -> None:
    """Assert that our mixer takes their weights by name and returns what theirs does, with the same gradient."""
    ours.load_state_dict(theirs.state_dict(), strict=True)
    tokens = torch.randn(2, 37, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found, wanted = ours.eval()(tokens), theirs.eval()(tokens)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    one, other = (torch.autograd.grad(y.square().sum(), tokens)[0] for y in (found, wanted))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_mamba1_equals_transformers() -> None:
    torch.manual_seed(1)
    theirs = TheirMambaMixer(TheirMambaConfig(hidden_size=32, state_size=8, time_step_rank=2, num_hidden_layers=1), 0)
    compare(Mamba1Mixer(Mamba1Config(width=32, state=8, chunk=16)), theirs)


@pytest.mark.parametrize("groups", [1, 2])
def test_mamba2_equals_transformers(groups: int) -> None:
    torch.manual_seed(2)
    shape = {"hidden_size": 32, "state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": groups, "chunk_size": 16}
    theirs = TheirMamba2Mixer(TheirMamba2Config(**shape, num_hidden_layers=1), 0)
    compare(Mamba2Mixer(Mamba2Config(width=32, state=8, head=16, groups=groups, chunk=16)), theirs)


@pytest.mark.parametrize("directions", [1, 2, 4])
def test_orders_visit_every_cell_once_and_are_put_back(directions: Directions) -> None:
    orders, inverse = scan_orders(3, 5, directions), inverse_orders(3, 5, directions)
    assert orders.shape == (directions, 15)
    assert all(torch.equal(one[back], torch.arange(15)) for one, back in zip(orders, inverse, strict=True))
    if directions == 4:
        assert orders[2, :4].tolist() == [0, 5, 10, 1] and orders[3, 0] == 14


@pytest.mark.parametrize("directions", [2, 4])
def test_directions_are_mixers_of_their_own_over_reordered_tokens(directions: Directions) -> None:
    """Each direction alone, as a one-direction mixer with its weights, gives its share of the sum before the norm."""
    torch.manual_seed(3)
    config = Mamba2Config(width=16, expand=1, state=4, head=8, directions=directions)
    whole = Mamba2Mixer(config)
    tokens, orders, inverse = torch.randn(2, 12, 16), scan_orders(3, 4, directions), inverse_orders(3, 4, directions)
    total = sum_of_directions(whole, tokens, orders, inverse)
    gate = whole.in_proj(tokens)[..., :16]
    torch.testing.assert_close(whole(tokens, orders, inverse), whole.out_proj(whole.norm(total, gate)))


def sum_of_directions(whole: Mamba2Mixer, tokens: Tensor, orders: Tensor, inverse: Tensor) -> Tensor:
    """Return the sum over directions of scans by one-direction mixers, [B, L, inner]."""
    count, inner, state, heads = len(orders), 16, 4, 2
    projected = whole.in_proj.weight
    total = torch.zeros(2, 12, inner)
    for k in range(count):
        one = Mamba2Mixer(Mamba2Config(width=16, expand=1, state=state, head=8))
        B, C, steps = (
            2 * inner + k * state,
            2 * inner + (count + k) * state,
            2 * inner + 2 * count * state + k * heads,
        )
        rows = [*range(2 * inner), *range(B, B + state), *range(C, C + state), *range(steps, steps + heads)]
        channels = [
            *range(k * inner, (k + 1) * inner),
            *range(count * inner + k * state, count * inner + (k + 1) * state),
            *range(count * (inner + state) + k * state, count * (inner + state) + (k + 1) * state),
        ]
        one.in_proj.weight.data = projected[rows]
        one.conv1d.weight.data, one.conv1d.bias.data = whole.conv1d.weight[channels], whole.conv1d.bias[channels]  # type: ignore[union-attr,index]
        for name in ("dt_bias", "A_log", "D"):
            getattr(one, name).data = getattr(whole, name)[k * heads : (k + 1) * heads]
        scanned: list[Tensor] = []
        one.norm.register_forward_pre_hook(lambda module, args, kept=scanned: kept.append(args[0]))
        one(tokens[:, orders[k]])
        total = total + scanned[0][:, inverse[k]]
    return total


def test_mamba1_over_a_picture_sees_both_ways() -> None:
    torch.manual_seed(4)
    mixer = Directional([Mamba1Mixer(Mamba1Config(width=16, state=4)) for _ in range(2)])
    tokens = torch.randn(1, 12, 16, requires_grad=True)
    mixer(tokens, 3, 4)[0, 5].sum().backward()
    assert tokens.grad is not None and (tokens.grad.abs().sum(-1) > 0).all()


def test_a_wrong_number_of_orders_is_refused() -> None:
    mixer = Mamba2Mixer(Mamba2Config(width=16, expand=1, state=4, head=8, directions=2))
    with pytest.raises(ValueError, match="2 directions"):
        mixer(torch.zeros(1, 4, 16))


def test_initialisation_is_the_published_one() -> None:
    torch.manual_seed(5)
    one, two = Mamba1Mixer(Mamba1Config(width=256)), Mamba2Mixer(Mamba2Config(width=256, head=4))
    assert torch.equal(one.A_log[7], torch.arange(1.0, 17).log()) and one.dt_proj.weight.abs().max() <= 16**-0.5
    assert one.D.eq(1).all() and two.D.eq(1).all()
    assert two.A_log.exp().min() >= 1 and two.A_log.exp().max() <= 16
    for bias in (one.dt_proj.bias, two.dt_bias):
        steps = F.softplus(bias)
        assert steps.min() >= 0.001 - 1e-6 and steps.max() <= 0.1 + 1e-6
        assert abs(steps.log().mean() - torch.tensor([0.001, 0.1]).log().mean()) < 0.4  # even in the logarithm


def test_bfloat16_mixers_stay_close() -> None:
    """Stated bound: 3 % of the largest output, for weights and activations in bfloat16 around a float32 scan."""
    torch.manual_seed(6)
    tokens = torch.randn(2, 70, 32)
    for mixer in (Mamba1Mixer(Mamba1Config(width=32)), Mamba2Mixer(Mamba2Config(width=32, state=16, head=16))):
        with torch.no_grad():
            wanted = mixer(tokens)
            found = mixer.bfloat16()(tokens.bfloat16()).float()
        assert (found - wanted).abs().max() < 0.03 * wanted.abs().max()


def test_sides_of_squares() -> None:
    assert side_of(64) == 8
    with pytest.raises(ValueError, match="60 tokens"):
        side_of(60)


def test_decays_are_not_decayed() -> None:
    mixer = Mamba1Mixer(Mamba1Config(width=8, state=4))
    decayed, others = _optimizer(mixer, TrainConfig()).param_groups
    assert not any(p is mixer.A_log for p in decayed["params"]) and any(p is mixer.A_log for p in others["params"])
