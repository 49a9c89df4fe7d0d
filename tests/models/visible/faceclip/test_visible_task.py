"""The U-Net that draws from FaceCLIP's embedding: what it is told, what learns, and a part that the stage takes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.card import Card
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


def test_silent_rows_are_told_neither_face_nor_text(config: visible.Config) -> None:
    batch, seeds = visible.prepare(rows(), config), np.arange(6) + 5
    said = visible._draw(batch, seeds, config.model_copy(update={"drop": 0.0, "drop_face": 0.0}))
    assert said.has_face.all() and all(said.texts)
    told = visible._draw(batch, seeds, config.model_copy(update={"drop": 0.5, "drop_face": 0.2}))
    assert not told.has_face[[text == "" for text in told.texts]].any() and "" in told.texts
    with pytest.raises(UserError, match="--set encoder=DIR"):
        visible.build(config.model_copy(update={"encoder": ""}))
