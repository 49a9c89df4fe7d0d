"""The landmarker keeps T-FAKE's published shape and loss, and refuses checkpoints of another."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from models.errors import EnvironmentFault, UserError
from models.landmarks.loss import nll
from models.landmarks.network import (
    FLOOR,
    Landmarker,
    LandmarkerConfig,
    activate,
    channels,
    fold_batch_norms,
    load_landmarker,
    new_landmarker,
    normalise,
)
from models.weights.networks import save_network

SMALL = LandmarkerConfig(size=64, width=0.25, head=64)


@pytest.mark.parametrize(("standard", "parameters"), [(70, 2_492_882), (478, 4_060_826)])
def test_default_has_the_published_parameters_and_keys(standard: int, parameters: int) -> None:
    state = Landmarker(LandmarkerConfig(standard=standard)).state_dict()
    assert sum(v.numel() for k, v in state.items() if "running" not in k and "tracked" not in k) == parameters
    assert len(state) == 314
    shapes = {
        "feature_network.conv_stem.weight": (32, 3, 3, 3),
        "feature_network.blocks.0.0.conv_pw.weight": (16, 32, 1, 1),
        "feature_network.blocks.1.0.conv_dw.weight": (96, 1, 3, 3),
        "feature_network.blocks.4.0.conv_pwl.weight": (96, 384, 1, 1),
        "feature_network.blocks.5.2.bn2.running_var": (960,),
        "feature_network.blocks.6.0.bn3.weight": (320,),
        "feature_network.conv_head.weight": (1280, 320, 1, 1),
        "feature_network.bn2.bias": (1280,),
        "fc.weight": (3 * standard, 1280),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    strides = [m.stride[0] for m in Landmarker(LandmarkerConfig()).modules() if isinstance(m, nn.Conv2d)]
    assert torch.tensor(strides).prod() == 32


@pytest.mark.parametrize(
    ("base", "width", "expected"),
    [
        (32, 1.0, 32),
        (16, 0.25, 8),
        (24, 0.75, 24),
        (24, 0.8, 24),
        (32, 0.35, 16),
        (96, 0.35, 32),
        (64, 0.3, 24),
        (8, 0.5, 8),
    ],
)
def test_widths_are_multiples_of_eight_and_never_under_nine_tenths(base: int, width: float, expected: int) -> None:
    """11.2 would be rounded to 8, which is 71 % of it."""
    assert channels(base, width) == expected
    assert expected % 8 == 0 and expected >= 0.9 * base * width


def test_head_is_landmark_major_leaky_and_float32_under_autocast() -> None:
    torch.manual_seed(0)
    model = Landmarker(SMALL).eval()
    x = normalise(torch.rand(2, 3, 64, 64))
    with torch.no_grad():
        rows = model.fc(model.feature_network(x).mean(dim=(2, 3)))
        found = model(x)
    torch.testing.assert_close(found[:, 5, 2], nn.functional.leaky_relu(rows[:, 3 * 5 + 2], 0.01))
    with torch.autocast("cpu", torch.bfloat16):
        assert model(x).dtype == torch.float32


def test_checkpoints_of_data_parallel_load_and_others_are_named(tmp_path: Path) -> None:
    model = Landmarker(LandmarkerConfig(standard=478))
    torch.save({f"module.{k}": v for k, v in model.state_dict().items()}, tmp_path / "478.pt")
    found = load_landmarker(tmp_path / "478.pt")
    assert found.config.standard == 478
    torch.testing.assert_close(found.fc.weight, model.fc.weight)
    state = model.state_dict()
    state["extra"] = state.pop("feature_network.bn1.weight")
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(EnvironmentFault, match=r"missing: \['feature_network.bn1.weight'\], unexpected: \['extra'\]"):
        load_landmarker(tmp_path / "other.pt")
    torch.save({"model": model}, tmp_path / "code.pt")
    with pytest.raises(UserError, match="tensors alone"):
        load_landmarker(tmp_path / "code.pt")


def test_small_network_comes_back_from_disk(tmp_path: Path) -> None:
    model = new_landmarker(SMALL.model_copy(update={"cells": 2, "outputs": "softplus"})).eval()
    save_network(model, tmp_path / "70.safetensors")
    found = load_landmarker(tmp_path / "70.safetensors")
    assert found.config == model.config
    x = normalise(torch.rand(2, 3, 64, 64))
    torch.testing.assert_close(found(x), model(x), rtol=1e-2, atol=1e-3)


def test_folding_batch_norm_changes_nothing() -> None:
    torch.manual_seed(1)
    model = Landmarker(SMALL)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    model.eval()
    x = normalise(torch.rand(2, 3, 64, 64))
    fast = fold_batch_norms(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)


def test_loss_and_its_gradient_are_torchs_own() -> None:
    """`GaussianNLLLoss` clamps without autograd's knowledge, as the published loss does."""
    torch.manual_seed(2)
    found = torch.rand(3, 7, 3, dtype=torch.float32) * 0.1 + 1e-3
    truth = torch.rand(3, 7, 2)
    ours, theirs = found.clone().requires_grad_(), found.clone().requires_grad_()
    loss, clipped = nll(ours, truth)
    loss.mean().backward()
    variance = theirs[..., 2:].expand(-1, -1, 2)
    expected = nn.GaussianNLLLoss(eps=FLOOR)(theirs[..., :2], truth, variance)
    expected.backward()
    torch.testing.assert_close(loss.mean(), expected)
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert clipped == 0


def test_negative_variance_is_clamped_counted_and_pushed_up() -> None:
    found = torch.tensor([[[0.5, 0.5, -0.01], [0.5, 0.5, 0.01]]], requires_grad=True)
    loss, clipped = nll(found, torch.tensor([[[0.6, 0.5], [0.6, 0.5]]]))
    loss.sum().backward()
    assert clipped == 0.5 and torch.isfinite(loss).all()
    at_floor = 0.5 * (1 / FLOOR - 0.1**2 / FLOOR**2) / 4 + 0.5 / FLOOR / 4
    assert found.grad is not None
    torch.testing.assert_close(found.grad[0, 0, 2], torch.tensor(at_floor), rtol=1e-3, atol=0)


@pytest.mark.parametrize("outputs", ["leaky", "softplus"])
def test_gradients_of_head_and_loss_against_finite_differences(outputs: Literal["leaky", "softplus"]) -> None:
    torch.manual_seed(3)
    truth = torch.rand(2, 4, 2, dtype=torch.float64)
    raw = torch.rand(2, 4, 3, dtype=torch.float64) + 0.1
    if outputs == "softplus":
        raw -= torch.tensor([0.5, 0.5, 4.0])
    assert torch.autograd.gradcheck(lambda x: nll(activate(x, outputs), truth)[0], raw.requires_grad_())


def test_softplus_stays_above_the_floor_however_low_its_input() -> None:
    raw = torch.tensor([0.0, 0.0, -80.0], requires_grad=True)
    assert activate(raw, "softplus")[2] >= FLOOR > activate(raw, "leaky")[2]
    loss, clipped = nll(activate(raw, "softplus").expand(1, 1, 3), torch.ones(1, 1, 2))
    assert torch.isfinite(loss).all() and clipped == 0
