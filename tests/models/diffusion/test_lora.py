"""A LoRA fused into a U-Net is W + scale * alpha / rank * B A, in every layout of names; what does not fit is refused."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from models.diffusion.lora import FILE, fuse_lora, read_lora, share_weights
from models.errors import EnvironmentFault, UserError
from tests.models.diffusion import tiny

QUERY = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"
CONV = "down_blocks.0.resnets.0.conv1"
PROJ = "mid_block.attentions.0.proj_in"
RANK = 3


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    return tiny.new_unet()


def weight_of(unet: UNet2DConditionModel, layer: str) -> Tensor:
    return unet.get_submodule(layer).weight


def factors_of(unet: UNet2DConditionModel, layer: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A rank-3 pair for a layer: [3, in, ...] and [out, 3, 1, ...]."""
    weight, draw = weight_of(unet, layer), torch.Generator().manual_seed(seed)
    ones = [1] * (weight.ndim - 2)
    down = torch.randn((RANK, *weight.shape[1:]), generator=draw)
    return down, torch.randn((len(weight), RANK, *ones), generator=draw)


LAYOUTS = {
    "kohya": lambda layer: [f"lora_unet_{layer.replace('.', '_')}.lora_{end}.weight" for end in ("down", "up")],
    "diffusers": lambda layer: [f"unet.{layer}.lora_{end}.weight" for end in "AB"],
    "peft": lambda layer: [f"base_model.model.{layer}.lora_{end}.default.weight" for end in "AB"],
    "old": lambda layer: [f"unet.{layer}.lora.{end}.weight" for end in ("down", "up")],
}


def write(folder: Path, tensors: dict[str, Tensor], name: str = FILE, **metadata: str) -> Path:
    save_file({key: value.contiguous() for key, value in tensors.items()}, str(folder / name), metadata or None)
    return folder


def product(down: Tensor, up: Tensor) -> Tensor:
    """B A by its definition, for a convolution at each place of the window."""
    return torch.einsum("or,ri...->oi...", up.reshape(len(up), RANK), down)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fused_weights_are_the_definition(unet: UNet2DConditionModel, tmp_path: Path, layout: str) -> None:
    tensors, pairs = {}, {layer: factors_of(unet, layer) for layer in (QUERY, OUT, CONV, PROJ)}
    for layer, pair in pairs.items():
        names = LAYOUTS[layout](layer)
        tensors |= dict(zip(names, pair))
        if layout == "kohya" and layer != CONV:  # without an alpha it is the rank
            tensors[names[0].replace("lora_down.weight", "alpha")] = torch.tensor(6.0)
    fused = share_weights(unet)
    before = {layer: weight_of(unet, layer).clone() for layer in pairs}
    fuse_lora(fused, read_lora(write(tmp_path, tensors)), 0.5)
    for layer, pair in pairs.items():
        alpha = 6.0 / RANK if layout == "kohya" and layer != CONV else 1.0
        wanted = weight_of(unet, layer) + 0.5 * alpha * product(*pair)
        assert torch.allclose(weight_of(fused, layer), wanted, atol=1e-5)
    # Nothing else has changed, least of all the U-Net whose weights the copy shares.
    changed = {f"{layer}.weight" for layer in pairs}
    assert all(torch.equal(weight_of(unet, layer), before[layer]) for layer in pairs)
    mine = dict(unet.named_parameters())
    assert {name for name, one in fused.named_parameters() if one is not mine[name]} == changed


def test_names_and_alphas_of_older_and_newer_diffusers(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    down, up = factors_of(unet, OUT)
    stem = f"unet.{OUT.removesuffix('.0').replace('attn1.', 'attn1.processor.')}_lora"
    old = read_lora(write(tmp_path, {f"{stem}.down.weight": down, f"{stem}.up.weight": up}))
    assert list(old.layers) == [OUT] and old.layers[OUT].alpha is None
    tensors = dict(zip(LAYOUTS["diffusers"](OUT), (down, up)))
    for said, alpha in (
        ({"unet.lora_alpha": 8}, 8.0),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {f"^{OUT}": 2, "to_out.0": 5}}, 2.0),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"to_out.0": 5}}, 5.0),
        ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 8 * RANK**0.5),
    ):
        write(tmp_path, tensors, lora_adapter_metadata=json.dumps(said))
        assert read_lora(tmp_path).layers[OUT].alpha == pytest.approx(alpha)


def test_a_scale_of_zero_and_half_precision(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    down, up = factors_of(unet, QUERY)
    lora = read_lora(write(tmp_path, dict(zip(LAYOUTS["diffusers"](QUERY), (down, up)))))
    same, half = share_weights(unet), share_weights(unet).half()
    fuse_lora(same, lora, 0.0)
    assert weight_of(same, QUERY) is weight_of(unet, QUERY)
    # Added in float32 and rounded once.
    wanted = (weight_of(half, QUERY).float() + product(down, up)).half()
    fuse_lora(half, lora)
    assert torch.equal(weight_of(half, QUERY), wanted)


def refused(unet: UNet2DConditionModel, folder: Path, tensors: dict[str, Tensor], **how: bool) -> str:
    """What is said of a file; the U-Net is as it was."""
    before = weight_of(unet, QUERY)
    with pytest.raises(UserError) as told:
        fuse_lora(unet, read_lora(write(folder, tensors)), **how)
    assert weight_of(unet, QUERY) is before
    return str(told.value)


def test_what_does_not_fit_is_named(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    query, text = dict(zip(LAYOUTS["diffusers"](QUERY), factors_of(unet, QUERY))), torch.zeros(2, 2)
    # Another model's layer, another width, a window in a linear layer, half a layer.
    other = dict(zip(LAYOUTS["kohya"]("input_blocks.4.1.proj_in"), factors_of(unet, QUERY)))
    wide = dict(zip(LAYOUTS["diffusers"](QUERY), (torch.zeros(RANK, 99), torch.zeros(32, RANK))))
    said = refused(unet, tmp_path, query | other)
    assert "of its 2 layers 1 do not fit" in said and "input_blocks_4_1_proj_in (no such layer)" in said
    assert f"{QUERY} ([32, 3] times [3, 99] for a weight of [32, 32])" in refused(unet, tmp_path, wide)
    window = dict(zip(LAYOUTS["diffusers"](CONV), (torch.zeros(RANK, 16, 1, 1), torch.zeros(16, RANK, 1, 1))))
    assert "do not fit" in refused(unet, tmp_path, window)
    assert "half of it is missing" in refused(unet, tmp_path, dict([*query.items()][:1]))
    # Tensors that would have no effect.
    assert "DoRA" in refused(unet, tmp_path, query | {f"unet.{QUERY}.dora_scale": text})
    assert f"{CONV}.alpha" in refused(unet, tmp_path, query | {f"unet.{CONV}.alpha": torch.tensor(1.0)})
    for name in ("lora_te_text_model_x.lora_down.weight", "text_encoder.text_model.x.lora_A.weight"):
        assert "lora_unet_only: true" in refused(unet, tmp_path, query | {name: text})
    assert "no LoRA of a U-Net" in refused(unet, tmp_path, {name: text}, unet_only=True)
    assert "not finite" in refused(unet, tmp_path, {key: value / 0 for key, value in query.items()})


def test_the_half_of_a_text_encoder_is_left_out_where_that_is_asked_for(
    unet: UNet2DConditionModel, tmp_path: Path
) -> None:
    tensors = dict(zip(LAYOUTS["kohya"](QUERY), factors_of(unet, QUERY)))
    fused = share_weights(unet)
    fuse_lora(fused, read_lora(write(tmp_path, tensors | {"lora_te1_x.alpha": torch.tensor(1.0)})), unet_only=True)
    assert not torch.equal(weight_of(fused, QUERY), weight_of(unet, QUERY))


def test_which_file_of_a_folder(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    tensors = dict(zip(LAYOUTS["kohya"](QUERY), factors_of(unet, QUERY)))
    with pytest.raises(UserError, match="holds 0 safetensors files"):
        read_lora(tmp_path)
    write(tmp_path, tensors, "Hyper-SD15-4steps-lora.safetensors")
    assert read_lora(tmp_path).path.name == "Hyper-SD15-4steps-lora.safetensors"
    write(tmp_path, tensors, "Hyper-SD15-8steps-lora.safetensors")
    with pytest.raises(UserError, match="lora_file"):
        read_lora(tmp_path)
    assert read_lora(tmp_path, "Hyper-SD15-8steps-lora.safetensors").layers
    with pytest.raises(UserError, match=r"holds no other\.safetensors"):
        read_lora(tmp_path, "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\0\0")
    with pytest.raises(EnvironmentFault, match="not a whole"):
        read_lora(tmp_path, "broken.safetensors")
