"""The U-Net keeps T-FAKE's published shape, and refuses checkpoints of another."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.errors import EnvironmentFault
from models.unet import UNet, UNetConfig, build_unet
from models.weights.networks import load_network, load_strictly, save_network

SMALL = UNetConfig(width=8, blocks=(1, 1, 1, 1))


def test_default_has_the_published_parameters_and_keys() -> None:
    network = UNet(UNetConfig())
    state = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == 24_436_369
    assert len(state) == 278
    assert state["encoder.layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert state["decoder.blocks.0.conv1.0.weight"].shape == (256, 768, 3, 3)
    assert state["segmentation_head.0.weight"].shape == (1, 16, 3, 3)


def test_output_is_float32_in_unit_range_even_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        out = UNet(SMALL)(torch.rand(2, 3, 64, 96))
    assert out.dtype == torch.float32 and out.shape == (2, 1, 64, 96)
    assert 0 <= out.min() and out.max() <= 1


def test_sides_must_be_multiples_of_32() -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        UNet(SMALL)(torch.rand(1, 3, 60, 64))


def test_weights_come_back_as_stored_in_half_precision(tmp_path: Path) -> None:
    network = UNet(SMALL).eval()
    save_network(network, tmp_path / "net.safetensors")
    found = load_network(tmp_path / "net.safetensors", build_unet)
    assert found.config == SMALL
    for key, value in network.state_dict().items():
        torch.testing.assert_close(found.state_dict()[key].float(), value.float(), rtol=1e-3, atol=1e-4)


def test_what_half_precision_cannot_hold_stays_as_it_is(tmp_path: Path) -> None:
    network = UNet(SMALL)
    network.encoder.bn1.running_var.fill_(1e5)
    save_network(network, tmp_path / "net.safetensors")
    assert (load_network(tmp_path / "net.safetensors", build_unet).encoder.bn1.running_var == 1e5).all()
    save_network(network, tmp_path / "whole.safetensors", half=False)
    found = load_network(tmp_path / "whole.safetensors", build_unet).state_dict()
    assert all(torch.equal(found[key], value) for key, value in network.state_dict().items())


def test_a_checkpoint_of_data_parallel_loads_and_another_architecture_is_named(tmp_path: Path) -> None:
    network = UNet(SMALL)
    load_strictly(network, {f"module.{k}": v for k, v in network.state_dict().items()}, tmp_path)
    state = network.state_dict()
    state["extra"] = state.pop("encoder.conv1.weight")
    with pytest.raises(EnvironmentFault, match=r"missing: \['encoder.conv1.weight'\], unexpected: \['extra'\]"):
        load_strictly(network, state, tmp_path)


def test_missing_and_half_written_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    with pytest.raises(EnvironmentFault, match="missing"):
        load_network(path, build_unet)
    save_file({"a": torch.zeros(1000)}, str(path))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EnvironmentFault, match="not a whole safetensors"):
        load_network(path, build_unet)
