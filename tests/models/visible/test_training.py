"""The two training tasks learn, and what they export is what they trained."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, save_model

from models.attributes import ATTRIBUTES, mirror_words
from models.card import Card
from models.classes import CLASSES
from models.seeds import seed_of
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.tasks import vae, visible
from models.visible.autoencoder import detail_loss, latent_space, load_autoencoder, new_vae, save_autoencoder
from models.visible.cache import embeddings_of_others, face_weight
from models.visible.head import HeadReader
from models.visible.model import VisibleConfig
from models.visible.sd.settings import Options, Settings
from models.visible.sd.stage import Stage
from tests.models.elsewhere import elsewhere

SIZE = 32


def world(count: int) -> dict[str, np.ndarray]:
    """Return rows of smooth coloured pictures, two of each person."""
    draw = np.random.default_rng(0)
    small = torch.from_numpy(draw.random((count, 3, 4, 4), np.float32))
    pictures = torch.nn.functional.interpolate(small, size=SIZE, mode="bilinear").permute(0, 2, 3, 1)
    said = {name: words[0] for name, (_, _, words) in ATTRIBUTES.items()}
    return {
        "world_identity": np.arange(count) // 2,
        "view": np.arange(count) % 2,
        "domain": np.array(["portrait"] * count, object),
        "gap": np.ones(count, np.float32),
        "visible": (pictures.numpy() * 255).astype(np.uint8),
        "classes": draw.integers(0, 19, (count, SIZE, SIZE)).astype(np.uint8),
        "landmarks_70": draw.uniform(5, 25, (count, 70, 2)).astype(np.float32),
        "attributes": np.array([json.dumps(said)] * count, object),
        "row": np.arange(count),
        "draw": np.array([seed_of("draw", k) for k in range(count)]),
    }


@pytest.fixture(scope="module")
def trained_vae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    config = vae.Config(steps=30, batch=8, size=SIZE, crop=16, width=8, blocks=(1, 1, 1, 1))
    torch.manual_seed(0)
    model = vae.build(config)
    optimizer = torch.optim.AdamW(model.parameters(), config.lr)
    rows, values = world(8), []
    for step in range(config.steps):
        value, _ = vae.loss(model.train(), rows, config, step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    model.eval()
    with torch.inference_mode():
        metrics = vae.validate(model, [rows], config)
    vae.export(model, config, folder, Card(title="Autoencoder", task="vae"))
    return folder, values, metrics


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A recogniser's shape: [B, 3, 112, 112] -> [B, 512] by pooling and one random matrix."""
    weight = np.random.default_rng(0).standard_normal((3, 512)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "recogniser",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 512])],
        [helper.make_tensor("weight", TensorProto.FLOAT, weight.shape, weight.ravel())],
    )
    folder = tmp_path_factory.mktemp("faces")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    save_model(model, str(folder / "recogniser.onnx"))
    measures = np.random.default_rng(1).normal(0, 3, (58, 512)).astype(np.float32)
    HeadReader(measures, np.zeros(58, np.float32)).save(folder / "reference.safetensors")
    return folder


def test_where_no_mask_says_the_class_all_pixels_weigh_alike():
    classes = np.full((1, SIZE, SIZE), 255, np.uint8)
    weight = vae._inputs({"visible": np.zeros((1, SIZE, SIZE, 3), np.uint8), "classes": classes})[1]
    assert (weight == 1).all()


def test_the_autoencoder_learns_and_keeps_its_scale(trained_vae):
    folder, values, metrics = trained_vae
    assert np.mean(values[-5:]) < 0.8 * np.mean(values[:5])
    assert metrics["score"] == metrics["psnr_face"] > 5
    fresh, loaded = new_vae(8, (1, 1, 1, 1)), load_autoencoder(folder)
    assert loaded.config.scaling_factor == fresh.config.scaling_factor
    for name, value in fresh.encoder.state_dict().items():  # the encoder is set, not learned
        torch.testing.assert_close(loaded.encoder.state_dict()[name], value.half().float())
    assert Card.read(folder).task == "vae"


def test_detail_loss_sees_edges_and_not_brightness():
    picture, weight = torch.rand(1, 3, 16, 16), torch.ones(1, 1, 16, 16)
    assert detail_loss(picture + 0.3, picture, weight) < 1e-6
    assert detail_loss(picture.flip(-1), picture, weight) > 0.1


def test_an_identity_comes_from_the_other_pictures():
    embedding = np.eye(5, 512, dtype=np.float32)
    mean, one = embeddings_of_others(embedding, np.array([7, 7, 7, 8, 7]), np.array([0, 1, 2, 0, 0]))
    np.testing.assert_allclose(mean[0], (embedding[1] + embedding[2]) / np.sqrt(2))
    assert all(embedding[0] @ found == embedding[4] @ found == 0 for found in (mean[0], one[0], mean[4], one[4]))
    assert np.array_equal(mean[3], embedding[3])


def test_the_face_weighs_more_than_what_is_around_it():
    classes = np.zeros((1, 16, 16), np.uint8)
    classes[0, :8, :12] = CLASSES.index("SKIN")
    classes[0, 8:, 8:] = CLASSES.index("CLOTHING")
    assert face_weight(classes, 2, 5.0).tolist() == [[[5.0, 3.0], [1.0, 1.0]]]


def test_a_mirrored_picture_turns_the_other_way():
    said = mirror_words({"pose": "turned slightly left", "sex": "woman"})
    assert said == {"pose": "turned slightly right", "sex": "woman"}
    assert said["pose"] in ATTRIBUTES["pose"][2]
    sided = {name for name, (_, _, words) in ATTRIBUTES.items() if any("left" in w or "right" in w for w in words)}
    assert sided == {"pose"}


@pytest.mark.slow
def test_visible_rows_meet_the_model_where_it_is(trained_vae, faces):
    shape = VisibleConfig(widths=(16, 32), heads=(1, 2), groups=8, hidden=32, text_layers=1, text_heads=2)
    config = visible.Config(vae=str(trained_vae[0]), faces=str(faces), shape=shape, vocabulary=700, size=SIZE)
    raw = world(4)
    rows = {**visible.prepare(raw, config), "draw": raw["draw"]}
    model = visible.build(config).to("meta")
    with elsewhere():
        value, metrics = visible.loss(model, rows, config, 0)
    assert value.is_meta and metrics


@pytest.mark.slow
def test_the_visible_task_learns_and_exports_a_stage(trained_vae, faces, tmp_path: Path):
    shape = VisibleConfig(widths=(16, 32), heads=(1, 2), groups=8, hidden=32, text_layers=1, text_heads=2)
    config = visible.Config(
        vae=str(trained_vae[0]), faces=str(faces), shape=shape, vocabulary=700, steps=20, batch=8, lr=3e-3, size=SIZE
    )
    torch.manual_seed(0)
    model = visible.build(config)
    raw = world(8)
    rows = {**visible.prepare(raw, config), "draw": raw["draw"]}
    assert rows["latents"].shape == (8, 12, 4, 4) and rows["latents"].dtype == np.float16
    assert rows["heads"].shape == (8, 16, 16, 6) and rows["heads"].dtype == np.int8
    assert rows["mean"].shape == (8, 512) and rows["weight"].shape == (8, 4, 4)
    optimizer = torch.optim.AdamW(model.parameters(), config.lr)
    values = []
    for step in range(config.steps):
        value, _ = visible.loss(model.train(), rows, config, step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    again, _ = visible.loss(model, rows, config, 0)
    assert again.item() == visible.loss(model, rows, config, 0)[0].item()  # draws alone decide
    assert values[-1] < 0.9 * values[0]
    model.eval()
    with torch.inference_mode():
        assert set(visible.validate(model, [raw], config)) >= {"score", "identity_gain"}
        assert visible.pictures(model, raw, config).shape == (2 * SIZE, 8 * SIZE, 3)
    visible.export(model, config, tmp_path, Card(title="Visible", task="visible"))
    stage = Stage({"model": tmp_path}, Options(), dtype="float32", threads=1)
    batch = {"caption": np.array(["A man."]), "embedding": raw["row"][None, :1].repeat(512, 1) + 1.0}
    made = stage({**batch, "noise_id": np.array(["a"])}, Settings(steps=2), 2)["visible"]
    assert made.shape == (1, SIZE, SIZE, 3)
    other = visible.build(config)
    visible.begin(other, tmp_path)  # what was written is what a further run begins with
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name].float())


def test_heads_are_those_of_the_rows_own_gap(faces, monkeypatch: pytest.MonkeyPatch):
    """Rendered half way between the common reference and the domain, people turn otherwise than in the domain itself."""
    seen = []
    monkeypatch.setattr(visible, "draw_heads", lambda shapes, views, side: seen.append(views))
    rows = world(4) | {"domain": np.array(["field"] * 4, object)}
    for gap in (0.5, 1.0):
        visible._draw_heads(rows | {"gap": np.full(4, gap, np.float32)}, np.zeros((4, 58)), 16)
    wanted = [sample_scene(load_domain("field", 0.5), k // 2, k % 2, "warm").view for k in range(4)]
    assert seen[0] == wanted and seen[1] != wanted


@pytest.mark.slow
def test_a_model_without_heads_begins_one_that_is_shown_them(trained_vae, faces, tmp_path: Path):
    shape = {"widths": (16, 32), "heads": (1, 2), "groups": 8, "hidden": 32, "text_layers": 1, "text_heads": 2}
    values = {"vae": str(trained_vae[0]), "faces": str(faces), "vocabulary": 700, "size": SIZE}
    plain = visible.Config(shape=VisibleConfig(**shape, head=False), **values)
    torch.manual_seed(0)
    model = visible.build(plain)
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.2)
    visible.export(model, plain, tmp_path, Card(title="Visible", task="visible"))
    shown = visible.Config(shape=VisibleConfig(**shape), **values)
    other = visible.build(shown)
    visible.begin(other, tmp_path)
    raw = world(4)
    batch = {**visible.prepare(raw, shown), "draw": raw["draw"]}
    blind = {name: values for name, values in batch.items() if name != "heads"}
    before, _ = visible.loss(model.float().eval(), blind, plain, 0)
    after, _ = visible.loss(other.eval(), batch, shown, 0)
    assert before.item() == pytest.approx(after.item(), rel=1e-3)


def test_the_space_of_latents_is_the_encoders_and_their_scales_alone(tmp_path: Path) -> None:
    def space(name: str, change) -> str:
        torch.manual_seed(0)
        vae = new_vae(8, (1, 1, 1, 1))
        with torch.no_grad():
            change(vae)
        save_autoencoder(vae, tmp_path / name)
        return latent_space(tmp_path / name)

    own = space("own", lambda vae: None)
    assert space("decoder", lambda vae: vae.decoder.layers[0].weight.mul_(2)) == own
    assert space("encoder", lambda vae: vae.encoder.layers[0].weight.mul_(2)) != own
    assert space("scale", lambda vae: vae.register_to_config(scaling_factor=3.0)) != own
