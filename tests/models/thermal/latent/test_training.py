"""Training of the thermal autoencoder and latent diffusion: what rows become, what is drawn, what learns."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from models.card import Card
from models.classes import BACKGROUND, MIRRORED
from models.diffusion.process import DiscreteProcess
from models.diffusion.schedulers import new_scheduler
from models.errors import UserError
from models.tasks import thermal_ldm, thermal_vae
from models.tasks.distill import thermal as distill
from models.tasks.rooms import draw_room
from models.thermal.latent.autoencoder import AutoencoderConfig, new_autoencoder, save_autoencoder
from models.thermal.latent.network import load_latent
from models.thermal.rooms import Room
from models.visible.autoencoder import new_vae
from models.visible.autoencoder import save_autoencoder as save_vae
from tests.models.thermal.latent.tiny import SHAPE

SIDE = 32


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> thermal_ldm.Config:
    folder = tmp_path_factory.mktemp("autoencoders")
    torch.manual_seed(0)
    save_vae(new_vae(8, (1, 1, 1, 1)), folder / "visible")
    save_autoencoder(new_autoencoder(AutoencoderConfig(width=8)), folder / "thermal")
    return thermal_ldm.Config(
        vae=str(folder / "visible"),
        autoencoder=str(folder / "thermal"),
        size=SIDE,
        shape=SHAPE,
        drop_classes=0,
        parser="",
    )


def rows(count: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    celsius = rng.normal(30, 4, (count, SIDE, SIDE)).astype(np.float32)
    celsius[0, 3, 3] = np.nan
    return {
        "visible": rng.integers(0, 255, (count, SIDE, SIDE, 3), np.uint8),
        "classes": rng.integers(0, 19, (count, SIDE, SIDE)).astype(np.uint8),
        "thermal": celsius,
        "valid": np.isfinite(celsius),
        "condition": np.array(["warm", "cold"] * (count // 2), object),
        "domain": np.array(["portrait"] * (count - 1) + ["rooms"], object),
        "ambient_c": rng.uniform(0, 30, count),
        "sun_wm2": rng.uniform(0, 500, count),
        "wind_ms": rng.uniform(0, 4, count),
        "row": np.arange(count),
        "draw": np.arange(count) + 7,
    }


def mirror(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the rows of the mirrored pictures."""
    classes = np.array([*MIRRORED, *range(19, 256)], np.uint8)[given["classes"][:, :, ::-1]]
    flipped = {name: np.ascontiguousarray(given[name][:, :, ::-1]) for name in ("visible", "thermal", "valid")}
    return given | flipped | {"classes": classes}


def test_a_mirrored_row_is_the_row_of_the_mirrored_picture(config: thermal_ldm.Config) -> None:
    process = DiscreteProcess.of(new_scheduler())
    always, never = (config.model_copy(update={"flip": share}) for share in (1.0, 0.0))
    one = thermal_ldm.draw_rows(thermal_ldm.prepare(rows(), config), always, process, range(4))
    other = thermal_ldm.draw_rows(thermal_ldm.prepare(mirror(rows()), config), never, process, range(4))
    for name in ("latents", "visible", "shares", "weight", "noise", "timesteps"):
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-3), name
    assert one.rooms == other.rooms


def test_a_share_of_the_rows_is_shown_what_a_job_would_know_of_classes(config: thermal_ldm.Config) -> None:
    process = DiscreteProcess.of(new_scheduler())
    with_parser = config.model_copy(update={"parser": "models/starter/parser"})
    true, parsed = (thermal_ldm.prepare(rows(), one)["parsed"] for one in (config, with_parser))
    assert not np.array_equal(true, parsed)
    batch = thermal_ldm.prepare(rows(), with_parser)
    assert np.array_equal(batch["shares"], true)
    assert np.array_equal(batch["weight"], thermal_ldm.prepare(rows(), config)["weight"])
    for share, name in ((0.0, "shares"), (1.0, "parsed")):
        shown = with_parser.model_copy(update={"parsed": share, "flip": 0.0})
        drawn = thermal_ldm.draw_rows(batch, shown, process, range(4))
        assert drawn.shares is not None
        assert np.array_equal(drawn.shares.numpy(), batch[name].astype(np.float32)), name


def test_words_count_only_where_the_domain_means_them(config: thermal_ldm.Config) -> None:
    assert thermal_ldm.prepare(rows(), config)["word"].tolist() == [0, 1, 0, -1]


def test_pixels_without_a_reading_weigh_nothing(config: thermal_ldm.Config) -> None:
    given = rows(2)
    given["classes"][:] = 1
    given["valid"][0, :8, :8] = False
    given["classes"][1, 8:16, :8] = BACKGROUND
    weight = thermal_ldm.prepare(given, config)["weight"]
    assert weight[0, 0, 0] == 0
    assert weight[0, 1, 1] == config.face
    assert weight[1, 1, 0] == pytest.approx(config.background, rel=1e-3)


def test_rooms_are_told_whole_in_part_by_word_or_not_at_all(config: thermal_ldm.Config) -> None:
    numbers = np.array([21.0, 0.0, 1.5], np.float32)
    named, nameless = (
        [draw_room(np.random.default_rng(k), numbers, word, config) for k in range(2000)] for word in ("warm", "")
    )

    def share(rooms: list[Room], air: bool, word: bool) -> float:
        return float(np.mean([(not math.isnan(room.ambient_c), bool(room.word)) == (air, word) for room in rooms]))

    assert share(named, False, True) == pytest.approx(0.5, abs=0.04)
    assert share(named, False, False) == pytest.approx(0.075, abs=0.02)
    assert share(nameless, True, False) == pytest.approx(0.85, abs=0.03)
    told = [room for room in nameless if not math.isnan(room.ambient_c)]
    both = np.mean([not math.isnan(room.sun_wm2) and not math.isnan(room.wind_ms) for room in told])
    assert both == pytest.approx(0.4, abs=0.04)
    assert not any(math.isnan(room.ambient_c) and not math.isnan(room.wind_ms) for room in nameless)
    # A row that knows no air says nothing, whatever else it knows.
    lost = np.array([math.nan, 300.0, 2.0], np.float32)
    drawn = [draw_room(np.random.default_rng(k), lost, "", config) for k in range(50)]
    assert all(math.isnan(room.sun_wm2) and math.isnan(room.wind_ms) for room in drawn)


@pytest.mark.slow
def test_the_loss_falls_and_the_part_loads_again(config: thermal_ldm.Config, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = thermal_ldm.build(config)
    batch = rows() | thermal_ldm.prepare(rows(), config)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    first = thermal_ldm.loss(model, batch, config, 0)[0].item()
    for step in range(25):
        error, metrics = thermal_ldm.loss(model, batch, config, step)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error.item() < 0.8 * first
    assert metrics.keys() <= {"noisy", "clear"}
    with torch.inference_mode():
        assert thermal_ldm.validate(model, [rows()], config)["score"] < 0
    # The exported folder is a part, and a start for another training.
    weights = {name: value.half() for name, value in model.unet.state_dict().items()}
    thermal_ldm.export(model, config, tmp_path, Card(title="", task=""))
    stored = load_latent({"model": tmp_path}).unet.state_dict()
    assert all(torch.equal(value, stored[name].half()) for name, value in weights.items())
    fresh = thermal_ldm.build(config)
    thermal_ldm.begin(fresh, tmp_path)
    assert torch.equal(fresh.unet.conv_out.weight.half(), weights["conv_out.weight"])


def test_the_autoencoder_learns_edges_and_says_what_is_off(tmp_path: Path) -> None:
    config = thermal_vae.Config(crop=16, shape=AutoencoderConfig(width=16, decoder_blocks=1, encoder_blocks=1), lr=3e-3)
    torch.manual_seed(0)
    model = thermal_vae.build(config)
    given = rows()
    given["thermal"] = np.where(np.indices((SIDE, SIDE))[1] % 8 < 3, 24.0, 34.0).astype(np.float32)[None].repeat(4, 0)
    given["valid"] = np.ones((4, SIDE, SIDE), bool)
    with torch.inference_mode():
        before = thermal_vae.validate(model, [given], config)
    optimizer = torch.optim.Adam(model.parameters(), config.lr)
    for step in range(60):
        error, _ = thermal_vae.loss(model, given | {"draw": np.arange(4) + 4 * step}, config, step)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    with torch.inference_mode():
        after = thermal_vae.validate(model, [given], config)
    assert after["p95"] < 0.5 * before["p95"]
    assert {"p95_warm", "p95_cold", "p95_person", "latent_rms"} <= after.keys()
    thermal_vae.export(model, config, tmp_path, Card(title="", task=""))
    assert "4 x 4 pixels with 4 numbers" in (tmp_path / "README.md").read_text()


def test_what_a_training_is_beside_has_to_be_named() -> None:
    with pytest.raises(UserError, match="train thermal_vae, then --set autoencoder=DIR"):
        thermal_ldm.weights(thermal_ldm.Config())
    with pytest.raises(UserError, match="needs a teacher: --set teacher=DIR"):
        distill.weights(distill.Config())


def test_grey_levels_and_rows_without_classes_teach_no_autoencoder_of_temperatures() -> None:
    config = thermal_vae.Config(crop=16, shape=AutoencoderConfig(width=16, decoder_blocks=1, encoder_blocks=1))
    model, given = thermal_vae.build(config), rows() | {"draw": np.arange(4)}
    grey = given | {"thermal": np.zeros((4, SIDE, SIDE), np.uint8)}
    with pytest.raises(UserError, match="8-bit grey, not degrees"):
        thermal_vae.loss(model, grey, config, 0)
    with torch.inference_mode():
        with pytest.raises(UserError, match="8-bit grey, not degrees"):
            thermal_vae.validate(model, [grey], config)
        bare = given | {"classes": np.full_like(given["classes"], 255)}
        with pytest.raises(UserError, match="no face in their classes: gather them with --bundle"):
            thermal_vae.validate(model, [bare], config)
