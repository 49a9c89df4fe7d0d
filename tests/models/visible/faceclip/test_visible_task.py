"""The U-Net that draws from FaceCLIP's embedding: what it is told, what learns, and a part that the stage takes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from models.card import Card
from models.diffusion.unet import predict
from models.errors import UserError
from models.tasks.faceclip import visible
from models.visible.autoencoder import new_vae, save_autoencoder
from models.visible.faceclip import stage as module
from models.visible.faceclip.files import save_encoder
from models.visible.faceclip.settings import Options, Settings

from .small import CONFIG, small_faceclip
from .test_alignment import rows as rows_of_people
from .test_stage import Faces

SHAPE = visible.Shape(widths=(8, 16), heads=(1, 2), blocks=(1, 1), groups=4, time_width=8)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> visible.Config:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    save_encoder(small_faceclip().state_dict(), CONFIG, folder / "encoder")
    save_autoencoder(new_vae(8, (1, 1, 1, 1)), folder / "vae")
    return visible.Config(
        encoder=str(folder / "encoder"), vae=str(folder / "vae"), shape=SHAPE, size=32, batch=6, bf16=False, drop=0.3
    )


def rows() -> dict[str, np.ndarray]:
    return {**rows_of_people(), "classes": np.zeros((6, 32, 32), np.uint8)}


@pytest.mark.slow
def test_it_learns_from_the_face_of_another_view_and_is_drawn_with(
    config: visible.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, given = visible.build(config), rows()
    assert isinstance(model, visible.Trained)
    assert all(name.startswith("unet.") for name in model.state_dict())
    batch = visible.prepare(given, config)
    # People have two views each: the row's face is the other's.
    own = visible.prepare_rows(given)["crop"]
    assert np.array_equal(batch["crop"], own.reshape(3, 2, *own.shape[1:])[:, ::-1].reshape(own.shape))
    value, _ = visible.loss(model.train(), {**batch, "draw": given["draw"]}, config, 0)
    value.backward()
    assert torch.isfinite(value) and model.unet.conv_out.weight.grad.any()
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    with torch.inference_mode():
        found = visible.validate(model.eval(), [given], config)
    assert found["score"] == -found["error"] and found["identity_gain"] != 0 and found["text_gain"] != 0
    # What it writes is a part.
    visible.export(model, config, tmp_path, Card(title="", task="faceclip_visible"))
    monkeypatch.setattr(module, "Pack", Faces)
    stage = module.Stage({"model": tmp_path, "faces": tmp_path}, Options())
    words = {"caption": np.array(["a man"], object), "noise_id": np.array(["one"], object)}
    assert stage(words, Settings(steps=1), 1)["visible"].shape == (1, 32, 32, 3)


@pytest.mark.slow
def test_whom_its_pictures_show_is_learnt_of_rows_that_are_told_a_face(config: visible.Config) -> None:
    """The term is what is added to the error, by its weight, and reaches the U-Net."""
    torch.manual_seed(3)
    model, given = visible.build(config), rows()
    assert isinstance(model, visible.Trained)
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    batch = {**visible.prepare(given, config), "draw": given["draw"]}
    plain, nothing = visible.loss(model, batch, config, 0)
    read = config.model_copy(update={"identity": 2.0, "looked_at": 2, "low_noise": 1.0})
    value, found = visible.loss(model, batch, read, 0)
    assert nothing == {} and value.item() == pytest.approx(plain.item() + 2 * (1 - found["cosine"]), rel=1e-5)
    of_error, of_both = (
        torch.autograd.grad(loss, model.unet.conv_out.weight, retain_graph=True)[0] for loss in (plain, value)
    )
    assert not torch.allclose(of_error, of_both, rtol=1e-3)
    # Nobody is asked for where no face is told, or where all rows are too noisy to be read.
    for unread in ({"drop": 0.0, "drop_face": 0.999}, {"low_noise": 1e-6}):
        assert visible.loss(model, batch, read.model_copy(update=unread), 0)[1] == {}
    assert len(visible.weights(read)) == len(visible.weights(config)) + 1
    with pytest.raises(UserError, match="holds no recogniser"):
        visible.build(read.model_copy(update={"faces": config.vae}))


def test_silent_rows_are_told_neither_face_nor_text(config: visible.Config) -> None:
    batch, seeds = visible.prepare(rows(), config), np.arange(6) + 5
    said = visible._draw(batch, seeds, config.model_copy(update={"drop": 0.0, "drop_face": 0.0}))
    assert said.has_face.all() and all(said.texts)
    told = visible._draw(batch, seeds, config.model_copy(update={"drop": 0.5, "drop_face": 0.2}))
    assert not told.has_face[[text == "" for text in told.texts]].any() and "" in told.texts
    with pytest.raises(UserError, match="--set encoder=DIR"):
        visible.build(config.model_copy(update={"encoder": ""}))


def test_it_begins_with_what_a_visible_model_draws_or_with_a_part_of_its_kind(
    config: visible.Config, tmp_path: Path
) -> None:
    """A visible model of the same widths, which is told in another way and shown a head beside the latents."""
    torch.manual_seed(1)
    model = visible.build(config)
    assert isinstance(model, visible.Trained)
    drawn = UNet2DConditionModel(
        sample_size=4, in_channels=12 + 5, out_channels=12, layers_per_block=1, norm_num_groups=4,
        block_out_channels=SHAPE.widths, attention_head_dim=SHAPE.heads, cross_attention_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        class_embed_type="projection", projection_class_embeddings_input_dim=6,
    )  # fmt: skip
    for block in (drawn.down_blocks[1], drawn.mid_block, drawn.up_blocks[0]):
        for attention in block.attentions:
            for layer in attention.transformer_blocks:
                torch.nn.init.zeros_(layer.attn2.to_v.weight)  # told nothing
    torch.nn.init.zeros_(drawn.class_embedding.linear_2.weight)
    torch.nn.init.zeros_(drawn.class_embedding.linear_2.bias)
    drawn.save_pretrained(str(tmp_path / "drawn" / "unet"))
    visible.begin(model, tmp_path / "drawn")
    noisy, times = torch.randn(2, 12, 4, 4), torch.tensor([300, 700])
    told = model.condition(np.zeros((2, 112, 112, 3), np.uint8), ["a man", "a woman"], np.ones(2, bool), 4)
    with torch.inference_mode():
        wanted = drawn(torch.cat([noisy, torch.zeros(2, 5, 4, 4)], 1), times, torch.randn(2, 77, 8), torch.zeros(2, 6))
        assert torch.allclose(predict(model.unet, noisy, times, told), wanted.sample, atol=1e-5)
    # A part of its own kind is taken whole.
    other = visible.build(config)
    assert isinstance(other, visible.Trained)
    torch.nn.init.normal_(other.unet.conv_out.weight)
    other.unet.save_pretrained(str(tmp_path / "own" / "unet"))
    visible.begin(model, tmp_path / "own")
    assert all(torch.equal(value, other.unet.state_dict()[name]) for name, value in model.unet.state_dict().items())
    narrow = visible.build(
        config.model_copy(update={"shape": SHAPE.model_copy(update={"widths": (8, 12), "heads": (1, 1)})})
    )
    with pytest.raises(UserError, match="a U-Net of another shape"):
        visible.begin(narrow, tmp_path / "own")
