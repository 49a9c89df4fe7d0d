"""FaceCLIP's checkpoints become parts that compute what they computed, entry by entry the same."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from cluster.cli import main
from models.errors import EnvironmentFault, UserError
from models.published import faceclip
from models.visible.faceclip.files import FILE, load_encoder
from models.weights.store import verify
from tests.models.visible.faceclip.small import CONFIG, small_faceclip, small_inputs

UNET = {
    "sample_size": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "attention_head_dim": (1, 2),
    "cross_attention_dim": 40,
}


def checkpoint(same: bool = True) -> dict[str, Tensor]:
    """The published form: bfloat16, prefixed, with the face ViT in both branches."""
    model = small_faceclip()
    if same:
        model.face_clip_g.face_encoder.load_state_dict(model.face_clip_l.face_encoder.state_dict())
    return {f"model.{key}": _brief(value) for key, value in model.state_dict().items()}


def _brief(value: Tensor) -> Tensor:
    return value.bfloat16() if value.is_floating_point() else value


@pytest.mark.parametrize("same", [True, False])
@torch.no_grad()
def test_the_encoder_keeps_every_entry(tmp_path: Path, same: bool) -> None:
    state, inputs = checkpoint(same), small_inputs()
    torch.save(state, tmp_path / "face_clip_encoder.pt")
    assert faceclip.import_encoder(tmp_path / "face_clip_encoder.pt", tmp_path / "encoder", CONFIG) == same
    verify(tmp_path / "encoder")
    model = load_encoder(tmp_path / "encoder")
    assert model.shares_face_encoder == same
    # Entry by entry the file's, in bfloat16 there and widened here.
    found = model.state_dict()
    assert {f"model.{key}" for key in found} == set(state)
    assert all(torch.equal(_brief(value), state[f"model.{key}"]) for key, value in found.items())
    wanted = small_faceclip()
    wanted.load_state_dict({key.removeprefix("model."): value for key, value in state.items()})
    for one, other in zip(model(*inputs), wanted(*inputs), strict=True):
        assert torch.equal(one, other)


def test_another_checkpoint_is_refused_with_what_differs(tmp_path: Path) -> None:
    state, file = checkpoint(), tmp_path / "face_clip_encoder.pt"
    state["model.face_clip_l.extra"] = state.pop("model.face_clip_l.proj1.bias")
    state["model.face_clip_g.logit_bias"] = torch.zeros(2)
    torch.save(state, file)
    with pytest.raises(UserError, match=r"missing: \['face_clip_l.proj1.bias'\].*l.extra.*logit_bias: \(2,\) instead"):
        faceclip.import_encoder(file, tmp_path / "encoder", CONFIG)
    state = checkpoint()
    state["model.face_clip_l.proj1.bias"][0] = torch.nan
    torch.save(state, file)
    with pytest.raises(UserError, match="face_clip_l.proj1.bias holds NaN"):
        faceclip.import_encoder(file, tmp_path / "encoder", CONFIG)
    torch.save({"state": Path("code")}, file)
    with pytest.raises(UserError, match="not a checkpoint of tensors alone"):
        faceclip.import_encoder(file, tmp_path / "encoder", CONFIG)
    assert not (tmp_path / "encoder").exists()
    with pytest.raises(EnvironmentFault, match=f"{FILE} is missing"):
        load_encoder(tmp_path / "encoder")


def test_the_unet_comes_in_diffusers_layout(tmp_path: Path) -> None:
    unet = UNet2DConditionModel(**UNET).bfloat16()
    torch.save(unet.state_dict(), tmp_path / "unet.pt")
    faceclip.import_unet(tmp_path / "unet.pt", tmp_path / "unet", UNET)
    verify(tmp_path / "unet")
    found = UNet2DConditionModel.from_pretrained(str(tmp_path / "unet"), torch_dtype=torch.bfloat16)
    assert all(torch.equal(value, unet.state_dict()[key]) for key, value in found.state_dict().items())


def test_the_published_unet_is_sdxls() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**faceclip.SDXL)
    assert sum(each.numel() for each in unet.parameters()) == 2_567_463_684
    assert len(unet.state_dict()) == 1_680


def test_the_command_wants_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "faceclip", "--out", str(tmp_path / "part")]) == 2
    assert "--encoder or --unet" in capsys.readouterr().err
    torch.save(UNet2DConditionModel(**UNET).state_dict(), tmp_path / "unet.pt")
    assert main(["import", "faceclip", "--unet", str(tmp_path / "unet.pt"), "--out", str(tmp_path / "part")]) == 2
    assert "of another architecture" in capsys.readouterr().err
