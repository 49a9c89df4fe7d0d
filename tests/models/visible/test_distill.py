"""Distillation of a visible model: the student begins as its teacher, learns from it, and says what it may be asked."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from models.captions.sampling import draw_attributes
from models.card import Card
from models.errors import UserError
from models.tasks.distill import visible as distill
from models.visible.autoencoder import new_vae, save_autoencoder
from models.visible.model import VisibleConfig, new_visible, save_visible
from models.visible.sd.settings import Options, Settings, columns
from models.visible.sd.stage import Stage
from models.visible.tokenizer import corpus, new_tokenizer
from models.weights.store import ROOT, SmallFiles, seal
from tests.models.diffusion.tiny import wake

SIDE = 32


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> distill.Config:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("teacher")
    save_autoencoder(new_vae(8, (1, 1, 1, 1)), folder / "trained")
    shape = VisibleConfig(widths=(16, 32), heads=(1, 2), groups=8, hidden=32, text_layers=1, text_heads=2, head=False)
    model = new_visible(
        shape, new_tokenizer(corpus(60, seed=1), vocabulary=700, length=77), channels=12, side=SIDE // 8
    )
    wake(model.unet)
    save_visible(model, folder / "trained", folder, None)
    return distill.Config(teacher=str(folder), size=SIDE, sampled=(1, 4), identity_rows=2)


def rows(count: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    points = rng.uniform(8, 24, (count, 70, 2)).astype(np.float32)
    points[:, 36:42] = (12, 12)  # eyes, nose and mouth where a face has them, so that the crop is one
    points[:, 42:48], points[:, 30] = (20, 12), (16, 17)
    points[:, 48], points[:, 54] = (13, 21), (19, 21)
    points[..., 0] += 2  # not in the middle
    attributes = [json.dumps(draw_attributes(random.Random(k))) for k in range(count)]
    return {
        "visible": rng.integers(0, 255, (count, SIDE, SIDE, 3), np.uint8),
        "classes": rng.integers(0, 19, (count, SIDE, SIDE)).astype(np.uint8),
        "landmarks_70": points,
        "attributes": np.array(attributes, object),
        "world_identity": np.arange(count) // 2,
        "view": np.arange(count) % 2,
        "row": np.arange(count),
        "draw": np.arange(count) + 3,
    }


@pytest.fixture(scope="module")
def batch(config: distill.Config) -> dict[str, np.ndarray]:
    return rows() | distill.prepare(rows(), config)


@pytest.mark.slow
def test_the_student_learns_of_its_teacher_and_the_teacher_of_nobody(
    config: distill.Config, batch: dict[str, np.ndarray], tmp_path: Path
) -> None:
    model = distill.build(config)
    teacher = model.frozen()[0]
    before = {name: value.clone() for name, value in teacher.unet.state_dict().items()}
    assert all(torch.equal(value, before[name]) for name, value in model.unet.state_dict().items())
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    first, metrics = distill.loss(model, batch, config, 0)
    assert metrics.keys() == {"consistency", "cosine"}
    for step in range(12):
        error, _ = distill.loss(model, batch, config, step)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error.item() < 0.9 * first.item()
    assert all(torch.equal(value, before[name]) for name, value in teacher.unet.state_dict().items())
    assert len(list(model.parameters())) == len(list(teacher.unet.parameters()))
    with torch.inference_mode():
        found = distill.validate(model, [rows()], config)
    assert {"off_1", "off_4", "cosine_4", "teacher_cosine"} <= found.keys()
    # The part draws at its own scheduler, in the steps that it names, and in no others.
    distill.export(model, config, tmp_path, Card(title="", task=""))
    given = {
        "caption": np.array(["A man."], object),
        "embedding": np.ones((1, 512), np.float32),
        "noise_id": np.array(["a"]),
    }
    stage = Stage({"model": tmp_path}, Options())
    assert stage(given, Settings(steps=4, guidance=1), 1)["visible"].shape == (1, SIDE, SIDE, 3)
    assert type(stage.schedulers["folder"]).__name__ == "LCMScheduler"
    seal(tmp_path)
    files = {"model": SmallFiles(tmp_path)}
    columns(Options(), Settings(steps=4, guidance=1), files)
    with pytest.raises(UserError, match="student of 1, 4 steps, not of 8: set steps"):
        columns(Options(), Settings(steps=8, guidance=1), files)
    with pytest.raises(UserError, match="set guidance to 1, not 2"):
        columns(Options(), Settings(steps=4, guidance=2), files)


def test_the_identity_term_asks_for_the_person(config: distill.Config, batch: dict[str, np.ndarray]) -> None:
    model = distill.build(config)
    assert isinstance(model, distill.IdentityStudent)
    teacher, process = model.frozen()
    drawn = distill.visible.draw_rows(batch, config, process)
    chosen = torch.tensor([0, 2])
    latents = torch.from_numpy(drawn.batch["latents"][[0, 2]]).float().requires_grad_()
    cosine = distill._cosine(teacher, model.recogniser, latents, drawn, chosen)
    cosine.sum().backward()
    assert latents.grad is not None
    # Along its gradient, the decoded picture becomes more like the person.
    with torch.no_grad():
        nearer = distill._cosine(
            teacher, model.recogniser, latents + 0.05 * latents.grad / latents.grad.std(), drawn, chosen
        )
    assert (nearer > cosine).all()


def test_a_mirrored_row_is_aligned_by_its_mirrored_points(config: distill.Config) -> None:
    given = rows()
    flipped = given | {"visible": np.ascontiguousarray(given["visible"][:, :, ::-1])}
    points = given["landmarks_70"].copy()
    points[..., 0] = SIDE - points[..., 0]
    points[:, 36:42], points[:, 42:48] = points[:, 42:48].copy(), points[:, 36:42].copy()
    points[:, [48, 54]] = points[:, [54, 48]]
    one, other = (
        distill.prepare(given, config)["align"],
        distill.prepare(flipped | {"landmarks_70": points}, config)["align"],
    )
    assert np.allclose(one[:, 1], other[:, 0], atol=1e-4) and not np.allclose(one[:, 0], one[:, 1])


def test_the_recogniser_is_told_by_its_shape_and_a_pack_without_one_is_named(
    config: distill.Config, tmp_path: Path
) -> None:
    """insightface's packs hold further networks, whose names come before and after the recogniser's."""
    faces = ROOT / "models" / "starter" / "faces"
    shutil.copyfile(faces / "scrfd_starter.onnx", tmp_path / "0_first.onnx")
    with pytest.raises(UserError, match="holds no recogniser to keep the identity by"):
        distill.build(config.model_copy(update={"faces": str(tmp_path)}))
    shutil.copyfile(faces / "arcface_starter.onnx", tmp_path / "w600k.onnx")
    student = distill.build(config.model_copy(update={"faces": str(tmp_path)}))
    assert isinstance(student, distill.IdentityStudent)
    assert student.recogniser(torch.zeros(1, 3, 112, 112)).shape == (1, 512)
