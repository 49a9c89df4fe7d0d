"""The caption as a condition of the thermal latent diffusion: read where the weights learned to, and learned from attributes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from models.attributes import ATTRIBUTES
from models.card import Card
from models.errors import EnvironmentFault
from models.layers import Layer
from models.stages import Files
from models.tasks import thermal_ldm
from models.thermal.latent.captions import load_captions
from models.thermal.latent.network import load_latent
from models.thermal.latent.settings import Options, Settings, columns
from models.thermal.latent.stage import Stage
from models.weights.store import SmallFiles, seal
from tests.models.thermal.latent.test_training import config, rows
from tests.models.thermal.latent.tiny import read_captions, write_part, write_reader

__all__ = ["config"]

LAYERS = (Layer("22"),)
ASKED = Settings(steps=1, layers=LAYERS)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reader(tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory, reader: Path) -> Path:
    folder = write_part(tmp_path_factory.mktemp("part"), 32)
    read_captions(folder, reader)
    return folder


def given(*captions: str) -> dict[str, np.ndarray]:
    count = len(captions)
    return {
        "visible": np.full((count, 32, 32, 3), 90, np.uint8),
        "noise_id": np.array(["one"] * count, object),
        "caption": np.array(captions, object),
    }


def files(part: Path) -> dict[str, Files]:
    seal(part)
    return {"model": SmallFiles(part)}


def test_a_caption_is_read_where_weights_learned_to_and_nobody_says_no(part: Path, tmp_path: Path) -> None:
    assert "caption" in columns(Options(), ASKED, files(part)).reads_if_there
    silent = ASKED.model_copy(update={"captions": False})
    assert "caption" not in columns(Options(), silent, files(part)).reads_if_there
    plain = write_part(tmp_path, 32)
    assert "caption" not in columns(Options(), ASKED, files(plain)).reads_if_there


def test_pictures_follow_the_caption_alone_and_none_is_none(part: Path) -> None:
    stage = Stage({"model": part}, Options())
    made = stage(given("a man with a beard", "a woman with a cap", ""), ASKED, 2)["thermal"]
    assert (made[0] != made[1]).any() and (made[0] != made[2]).any()
    # Nothing said is nothing there, and nothing asked for.
    bare = {name: values for name, values in given("").items() if name != "caption"}
    np.testing.assert_array_equal(stage(bare, ASKED, 2)["thermal"][0], made[2])
    off = stage(given("a man with a beard"), ASKED.model_copy(update={"captions": False}), 2)["thermal"]
    np.testing.assert_array_equal(off[0], made[2])
    # A row is the same alone and beside others.
    np.testing.assert_array_equal(stage(given("a woman with a cap"), ASKED, 2)["thermal"][0], made[1])


def test_a_reader_of_another_width_is_refused(part: Path, tmp_path: Path) -> None:
    whole = tmp_path / "part"
    shutil.copytree(part, whole)
    shutil.rmtree(whole / "text")
    with pytest.raises(EnvironmentFault, match="tokenizer"):
        load_latent({"model": whole})
    with pytest.raises(EnvironmentFault, match="192 wide, and the U-Net attends to 16"):
        load_latent({"model": whole, "text": Path("models/starter/visible").absolute()})


def test_captions_are_learned_from_attributes_and_kept_beside_the_weights(
    config: thermal_ldm.Config, reader: Path, tmp_path: Path
) -> None:
    told = config.model_copy(update={"text": str(reader), "drop_caption": 0.5, "drop_attribute": 0.0, "flip": 0.5})
    assert "attributes" in thermal_ldm.columns(told) and "attributes" not in thermal_ldm.columns(config)
    assert thermal_ldm.weights(told)[-1] == reader
    words = {name: every[1] for name, (_, _, every) in ATTRIBUTES.items()} | {"pose": "turned left"}
    batch = rows() | {"attributes": np.array([json.dumps(words)] * 4, object)}
    # Half are told nothing, and the mirrored picture's pose is the other side's.
    mirrored = np.arange(400) % 2 == 0
    rngs = [np.random.default_rng(k) for k in range(400)]
    said = thermal_ldm.draw_captions(np.array([json.dumps(words)] * 400, object), rngs, mirrored, told)
    assert 150 < sum(text == "" for text in said) < 250
    assert all(("right" in text) == flipped for text, flipped in zip(said, mirrored, strict=True) if text)
    # One step: what reads stays as it is, what attends to it learns.
    torch.manual_seed(0)
    model = thermal_ldm.build(told)
    assert model.unet.config.cross_attention_dim == load_captions(reader).width
    torch.nn.init.normal_(model.unet.conv_out.weight)
    prepared = batch | thermal_ldm.prepare(batch, told)
    thermal_ldm.loss(model, prepared, told, 0)[0].backward()
    keys = [value.grad for name, value in model.named_parameters() if "attn2.to_v" in name]
    assert keys and any(grad is not None and grad.abs().max() > 0 for grad in keys)
    thermal_ldm.export(model, told, tmp_path, Card(title="", task=""))
    loaded = load_latent({"model": tmp_path})
    assert loaded.config.captions and loaded.words is not None and loaded.words.encode([""]).abs().max() == 0
