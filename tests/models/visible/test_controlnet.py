"""The pose ControlNet: it learns to steer a U-Net that stays as it is, and the stage shows it the head."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel

from models.card import Card
from models.errors import EnvironmentFault, UserError
from models.tasks import controlnet
from models.visible import cache
from models.visible.autoencoder import new_vae, save_autoencoder
from models.visible.model import VisibleConfig, load_visible, new_visible, save_visible
from models.visible.sd.settings import Options, Settings, columns
from models.visible.sd.stage import Stage
from models.visible.tokenizer import corpus, new_tokenizer
from tests.models.diffusion.tiny import wake

SIZE = 32
SHAPE = VisibleConfig(widths=(16, 32), heads=(1, 2), groups=8, hidden=32, text_layers=1, text_heads=2, head=False)
SOME_FACE = np.stack([np.linspace(8, 24, 70), 16 + 6 * np.sin(np.arange(70.0))], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A visible model that is shown no heads."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    save_autoencoder(new_vae(8, (1, 1, 1, 1)), folder / "trained")
    made = new_visible(SHAPE, new_tokenizer(corpus(60, seed=1), 700, 77), channels=12, side=4)
    wake(made.unet)
    save_visible(made, folder / "trained", folder, None)
    return folder


def config_of(model: Path, faces: Path, **values: object) -> controlnet.Config:
    return controlnet.Config(model=str(model), faces=str(faces), embedding_widths=(8, 8, 8, 16), **values)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Smooth pictures, two of each of two people; who they are is drawn, as no recogniser is needed to steer a pose."""
    draw = np.random.default_rng(0)
    known = draw.standard_normal((4, 512)).astype(np.float32)
    monkeypatch.setattr(cache, "embed_pictures", lambda pictures, points, faces: known[: len(pictures)])
    said = [{"pose": "turned left", "expression": "smile"}, {"pose": "frontal"}] * 2
    return {
        "world_identity": np.arange(4) // 2,
        "view": np.arange(4) % 2,
        "visible": draw.integers(0, 256, (4, SIZE, SIZE, 3)).astype(np.uint8),
        "landmarks_70": np.stack([SOME_FACE + draw.normal(0, 0.5, 2) for _ in range(4)]).astype(np.float32),
        "attributes": np.array([json.dumps(words) for words in said], object),
        "row": np.arange(4),
        "draw": np.arange(4) + 11,
    }


@pytest.mark.slow
def test_a_fresh_one_changes_nothing_and_training_moves_it_alone(
    model: Path, rows: dict[str, np.ndarray], tmp_path: Path
) -> None:
    config = config_of(model, tmp_path, batch=4)
    torch.manual_seed(0)
    steering = controlnet.build(config)
    batch = {**controlnet.prepare(rows, config), "draw": rows["draw"]}
    assert batch["normals"].shape == (4, SIZE, SIZE, 3) and (batch["normals"] != 127).any(axis=(1, 2, 3)).all()
    parts = steering._frozen[0]
    before = {name: value.clone() for name, value in parts.unet.state_dict().items()}
    first, _ = controlnet.loss(steering.train(), batch, config, 0)
    again, _ = controlnet.loss(steering, {**batch, "normals": 255 - batch["normals"]}, config, 0)
    assert first.item() == again.item()  # zero at the start
    # Two layers that begin at zero lie between the normals and the U-Net: what they do is the product of both.
    optimizer = torch.optim.AdamW(steering.parameters(), 2e-2)
    for step in range(12):
        value, _ = controlnet.loss(steering, batch, config, step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert value.item() < first.item()
    assert all(torch.equal(value, parts.unet.state_dict()[name]) for name, value in before.items())
    other, _ = controlnet.loss(steering, {**batch, "normals": 255 - batch["normals"]}, config, 5)
    assert other.item() != controlnet.loss(steering, batch, config, 5)[0].item()
    with torch.inference_mode():
        assert set(controlnet.validate(steering.eval(), [rows], config)) == {"score", "error", "pose_gain"}

    # What is written is what the stage shows its heads to, framed as they were in training.
    controlnet.export(steering, config, tmp_path / "out", Card(title="", task="controlnet"))
    loaded = load_visible({"model": model, "controlnet": tmp_path / "out"})
    assert loaded.framing == "view" and loaded.controlnet is not None
    trained = steering.controlnet.state_dict()
    assert all(torch.equal(value, trained[name].float()) for name, value in loaded.controlnet.state_dict().items())


@pytest.mark.slow
def test_mirrored_rows_have_mirrored_heads_and_words(model: Path, rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    config = config_of(model, tmp_path, flip=1.0, drop=0.0)
    steering, batch = controlnet.build(config), {**controlnet.prepare(rows, config), "draw": rows["draw"]}
    seen: dict[str, object] = {}

    def note(noisy, timesteps, texts, embedding, normals):  # type: ignore[no-untyped-def]
        seen.update(texts=texts, normals=normals)
        return noisy

    steering.forward = note  # type: ignore[method-assign]
    controlnet.loss(steering, batch, config, 0)
    assert "right" in seen["texts"][0] and "left" not in seen["texts"][0]  # type: ignore[index]
    plain, mirrored = batch["normals"][0], seen["normals"][0].permute(1, 2, 0) * 255  # type: ignore[index]
    np.testing.assert_allclose(mirrored.numpy()[:, ::-1, 1], plain[..., 1], atol=1e-3)
    np.testing.assert_allclose(254 - mirrored.numpy()[:, ::-1, 0], np.minimum(plain[..., 0], 254), atol=1e-3)


@pytest.fixture(scope="module")
def steered(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ControlNet that steers strongly, whatever for."""
    folder = tmp_path_factory.mktemp("controlnet")
    unet = load_visible({"model": model}).unet
    network = wake(ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 8, 16)))
    network.save_pretrained(str(folder))
    return folder


BATCH = {
    "caption": np.array(["A man, frontal.", "A woman in left profile."], object),
    "embedding": np.random.default_rng(0).standard_normal((2, 512)).astype(np.float32),
    "noise_id": np.array(["a", "b"]),
}


@pytest.mark.slow
def test_the_stage_shows_it_the_head_that_the_caption_says(model: Path, steered: Path) -> None:
    stage = Stage({"model": model, "controlnet": steered}, Options(captions=False), threads=1)
    settings = Settings(steps=2, guidance=2.0)
    assert "caption" in columns(Options(captions=False), settings, {"model": {}, "controlnet": {}}).reads
    both = stage(BATCH, settings, 2)["visible"]
    # A row alone in a padded batch is the same; another pose in its caption is another picture, though no prompt says so.
    alone = {name: values[1:] for name, values in BATCH.items()}
    assert np.array_equal(stage(alone, settings, 2)["visible"][0], both[1])
    turned = stage({**BATCH, "caption": BATCH["caption"][::-1]}, settings, 2)["visible"]
    assert not np.array_equal(turned[0], both[0])
    # Without strength it is the model alone, whatever the pose.
    plain = Stage({"model": model}, Options(captions=False), threads=1)(BATCH, settings, 2)["visible"]
    off = stage(BATCH, Settings(steps=2, guidance=2.0, control_strength=0.0), 2)["visible"]
    assert np.array_equal(off, plain) and not np.array_equal(off, both)


def test_one_of_another_unet_is_refused_by_all_that_differs(model: Path, steered: Path, tmp_path: Path) -> None:
    shutil.copytree(steered, tmp_path / "controlnet")
    path = tmp_path / "controlnet" / "config.json"
    config = json.loads(path.read_text())
    other = config | {"cross_attention_dim": 48, "conditioning_embedding_out_channels": [8, 8]}
    ControlNetModel.from_config(other).save_pretrained(str(tmp_path / "controlnet"))
    with pytest.raises(EnvironmentFault, match=r"cross_attention_dim 48 instead of 32; a picture .* 2 times .* of 8"):
        load_visible({"model": model, "controlnet": tmp_path / "controlnet"})


def test_what_cannot_be_steered_is_said(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="which visible model"):
        controlnet.build(controlnet.Config())
    with pytest.raises(UserError, match="names 2 widths; this autoencoder of 4 levels"):
        controlnet.build(controlnet.Config(model=str(model), embedding_widths=(8, 8)))
