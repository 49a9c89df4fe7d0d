"""The landmarker's training task: what it sees, what it learns, what it leaves."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.augment.faceless import augment_negative
from models.augment.landmarks import Augmentation
from models.card import Card
from models.classes import IGNORE
from models.errors import UserError
from models.landmarks.calibration import read_calibration, write_calibration
from models.landmarks.detect import DetectorSettings, read_detection, write_detection
from models.landmarks.loss import nll
from models.landmarks.metrics import errors, nme
from models.landmarks.network import LandmarkerConfig, load_landmarker
from models.tasks import landmarker, landmarker_bound
from models.tasks.landmarker import Config
from models.thermal.unet.network import ThermalConfig, new_thermalizer, save_thermalizer
from models.unet import UNetConfig

SIZE = 32


@pytest.fixture
def config(tmp_path: Path) -> Config:
    torch.manual_seed(0)
    unet = UNetConfig(width=8, blocks=(1, 1, 1, 1))
    save_thermalizer(new_thermalizer(ThermalConfig(low=0, high=45), unet), tmp_path / "thermal")
    network = LandmarkerConfig(size=SIZE, width=0.25, head=32, cells=1, outputs="softplus")
    return Config(network=network, batch=16, thermalizer=str(tmp_path / "thermal"))


def rows(count: int = 8, seed: int = 0) -> landmarker.Columns:
    """A bright disc somewhere on a dark ground; all landmarks lie on circles about its middle."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    middles = rng.uniform(11, 21, (count, 2))
    angle = np.linspace(0, 2 * np.pi, 70, endpoint=False)
    discs = np.stack([(x - m[0]) ** 2 + (y - m[1]) ** 2 < 64 for m in middles])
    points = middles[:, None] + 6 * np.stack([np.cos(angle), np.sin(angle)], -1)
    seen = np.ones((count, 70), bool)
    return {
        "visible": (40 + 160 * discs[..., None] * np.ones(3)).astype(np.uint8),
        "classes": discs.astype(np.uint8),
        "landmarks_70": points.astype(np.float32),
        "landmarks_478": np.zeros((count, 478, 2), np.float32),
        "thermal": np.where(discs, 34.0, 22.0).astype(np.float32),
        "seen_70_visible": seen,
        "seen_70_thermal": seen,
        "row": np.arange(count),
        "draw": np.arange(count) + 100 * seed,
    }


def test_thermal_rows_are_the_thermalizers_and_the_bounds_are_the_worlds(config: Config) -> None:
    ready = landmarker.prepare(rows(), config)
    assert ready["thermal_pictures"].shape == (8, 2, SIZE, SIZE) and ready["thermal_pictures"].dtype == np.uint8
    bound = landmarker_bound.prepare(rows(), config)
    np.testing.assert_array_equal(bound["thermal_pictures"][:, 0] > 127, rows()["classes"] == 1)
    assert "thermal" not in landmarker.COLUMNS and "thermal" in landmarker_bound.COLUMNS


def test_an_example_depends_on_its_draw_alone_and_shares_are_kept(config: Config) -> None:
    ready = {**landmarker.prepare(rows(), config), "draw": np.arange(8)}
    one = [landmarker.example({k: ready[k][j] for k in ready}, config) for j in (3, 3)]
    np.testing.assert_array_equal(one[0][0].picture, one[1][0].picture)
    row = {k: ready[k][0] for k in ready}
    made = [landmarker.example({**row, "draw": np.int64(k)}, config) for k in range(300)]
    faces = np.mean([face for _, face in made])
    assert abs(faces - (1 - config.negatives)) < 0.08


@pytest.mark.slow
def test_training_lowers_the_error_and_tells_faces_from_the_rest(config: Config) -> None:
    easy = Augmentation(rotation=5, shear=0, area=(0.8, 1.2), thermal_blur=0.5, inversion=0)
    config = config.model_copy(update={"augmentation": easy})
    ready = landmarker_bound.prepare(rows(64), config)  # an untrained thermalizer shows nothing to learn from
    torch.manual_seed(0)
    model = landmarker.build(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    history = []
    for step in range(40):
        pick = np.random.default_rng(step).integers(0, 64, 24)
        batch = {**{k: v[pick] for k, v in ready.items()}, "draw": pick + 1000 * step, "row": pick}
        value, metrics = landmarker.loss(model.train(), batch, config, step)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append({"loss": value.item(), **metrics})
    first, last = ({key: np.mean([h[key] for h in part]) for key in history[0]} for part in (history[:8], history[-8:]))
    assert last["loss"] < first["loss"] - 0.3 and last["error"] < 0.75 * first["error"]
    assert last["variance_face"] < last["variance_other"]
    assert last["clipped"] == 0


def test_validation_and_what_is_exported(config: Config, tmp_path: Path) -> None:
    model = landmarker.build(config).eval()
    metrics = landmarker.validate(model, [rows(), rows(seed=1)], config)
    assert metrics["score"] == pytest.approx(-(metrics["nme_rgb"] + metrics["nme_thermal"]) / 2)
    assert {"nme_true", "nme_true_seen", "threshold", "false_faces"} <= metrics.keys()
    card = Card(title="", task="landmarker", metrics={"validation": metrics})
    landmarker.export(model, config, tmp_path, card)
    found = load_landmarker(tmp_path / "70" / "landmarker.safetensors")
    assert found.config == config.network and Card.read(tmp_path / "70").task == "landmarker"
    stored = json.loads((tmp_path / "70" / "detection.json").read_text())
    assert stored["threshold"] == pytest.approx(metrics["threshold"])
    sheet = landmarker.pictures(model, rows(), config)
    assert sheet.shape == (3 * 256, 8 * 256, 3)


def test_pupils_that_are_not_given_count_nothing(config: Config) -> None:
    ready = {**landmarker.prepare(rows(4), config), "draw": np.arange(4), "row": np.arange(4)}
    ready["points"][0, 68:] = np.nan  # iBUG's 68
    ready["points"][1, 20:] = np.nan  # too few
    ready["points"][2] = np.nan
    sure = config.model_copy(update={"negatives": 0.0})
    shows = [landmarker.example({k: ready[k][j] for k in ready}, sure)[1] for j in range(4)]
    assert shows == [True, False, False, True]
    model = landmarker.build(config)
    value, metrics = landmarker.loss(model, ready, sure, 0)
    value.backward()
    assert value.isfinite() and np.isfinite(metrics["error"]) and metrics["unannotated"] == 0.5
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    found, truth = torch.rand(2, 70, 3) + 0.1, torch.rand(2, 70, 2)
    part = truth.clone()
    part[:, 68:] = torch.nan
    torch.testing.assert_close(nll(found, part)[0], nll(found[:, :68], truth[:, :68])[0])


def test_own_pictures_without_temperature_validate_what_they_show(config: Config) -> None:
    own = {name: values for name, values in rows().items() if name != "thermal"}
    own["classes"] = np.full_like(own["classes"], IGNORE)
    with pytest.raises(UserError, match="a row has none: set thermal=0, or gather with --bundle"):
        landmarker.prepare(own, config)
    own["landmarks_70"][0, 68:] = np.nan
    own["landmarks_70"][1] = np.nan
    plain = config.model_copy(update={"thermal": 0.0})
    model = landmarker.build(plain).eval()
    metrics = landmarker.validate(model, [own], plain)
    assert metrics["score"] == -metrics["nme_rgb"] and np.isfinite([*metrics.values()]).all()
    assert "nme_thermal" not in metrics and landmarker.pictures(model, own, plain).shape == (256, 8 * 256, 3)
    own["landmarks_70"][:] = np.nan
    with pytest.raises(UserError, match="no validation row has its 70 landmarks"):
        landmarker.validate(model, [own], plain)


def test_a_part_that_training_began_with_hands_on_threshold_margin_and_calibration(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, old = landmarker.build(config), tmp_path / "old" / "70"
    landmarker.export(model, config, tmp_path / "old", Card(title="", task="landmarker"))
    write_detection(old, threshold=0.00149, margin=1.75)
    write_calibration(old, {"visible": 0.8})
    monkeypatch.chdir(tmp_path)
    tuned = Config(network=config.network, init="old/70/landmarker.safetensors")
    assert tuned.init == str(old / "landmarker.safetensors")  # workers run elsewhere
    landmarker.export(model, tuned, tmp_path / "same", Card(title="", task="landmarker"))
    measured = Card(title="", task="landmarker", metrics={"validation": {"threshold": 0.002}})
    landmarker.export(model, tuned, tmp_path / "new", measured)
    assert read_detection(tmp_path / "same" / "70") == DetectorSettings(threshold=0.00149, margin=1.75)
    assert read_detection(tmp_path / "new" / "70") == DetectorSettings(threshold=0.002, margin=1.75)
    assert read_calibration(tmp_path / "same" / "70") == {"visible": 0.8}


def test_a_face_that_no_mask_shows_is_never_shown_as_none() -> None:
    picture = np.full((SIZE, SIZE, 3), (250, 0, 250), np.uint8)
    bare = np.full((SIZE, SIZE), IGNORE, np.uint8)
    plain = Augmentation(colour=0, hue=0, rgb_noise=(0, 0, 0), equalize=0, grey=0, rgb_blur=(0, 0), autocontrast=0)

    def own(classes: np.ndarray) -> bool:  # whether any negative is the row's own picture
        made = [augment_negative(picture, classes, SIZE, np.random.default_rng(k), plain) for k in range(60)]
        return any((np.abs(each.astype(int) - picture[0, 0]).max(axis=2) < 3).mean() > 0.2 for each in made)

    assert not own(bare) and own(np.zeros_like(bare))


def test_dense_points_are_never_mirrored() -> None:
    dense = Config(network=LandmarkerConfig(standard=478, size=SIZE))
    assert dense.augmentation.flip == 0 and Config().augmentation.flip > 0


def test_errors_by_every_normaliser() -> None:
    truth = np.zeros((1, 70, 2))
    truth[0, 36], truth[0, 45], truth[0, 8] = (10, 10), (50, 10), (30, 90)
    truth[0, :36] = truth[0, 8]
    truth[0, 37:45] = truth[0, 46:] = (30, 10)
    found = truth + np.array([4.0, 8.0])
    assert errors(found, truth)[0, 0] == pytest.approx(np.hypot(4 / 40, 8 / 80))
    assert errors(found, truth, "box-size")[0, 0] == pytest.approx(np.hypot(4, 8) / np.sqrt(40 * 80))
    assert errors(found, truth, "inter-ocular")[0, 0] == pytest.approx(np.hypot(4, 8) / 40)
    assert errors(found, truth, "image", (30, 40))[0, 0] == pytest.approx(np.hypot(4, 8) / 50)
    counted = np.zeros((1, 70), bool)
    counted[0, 3] = True
    found[0, 3] = truth[0, 3]
    assert nme(found, truth, counted)[0] == 0 < nme(found, truth)[0]
