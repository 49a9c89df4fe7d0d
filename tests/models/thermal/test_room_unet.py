"""The U-Net that is told of rooms: what it takes, what it reacts to, how it learns, what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.card import Card
from models.classes import CLASSES, MIRRORED
from models.errors import EnvironmentFault, UserError
from models.layers import Layer
from models.parser.stage import Stage as Parser
from models.stages import NoOptions
from models.tasks.rooms import unet as task
from models.thermal.room_unet.network import load_room_unet, new_room_unet, save_room_unet
from models.thermal.room_unet.settings import Settings, columns
from models.thermal.room_unet.stage import Stage
from models.thermal.rooms import Room
from models.unet import UNetConfig
from models.weights.store import ROOT, verify
from tests.models.thermal.latent.test_training import SIDE, mirror, rows

SHAPE = UNetConfig(width=8, blocks=(1, 1, 1, 1))
CONFIG = task.Config(unet=SHAPE, bf16=False, parser="")


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("room-unet")
    torch.manual_seed(0)
    save_room_unet(new_room_unet(CONFIG.thermal, SHAPE), folder)
    return folder


def prepare(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return task.prepare(given, CONFIG)


def run(part: Path, given: dict[str, np.ndarray], *conditions: str, **more: float) -> dict[str, np.ndarray]:
    settings = Settings(layers=tuple(Layer(one) for one in conditions), **more)
    return Stage({"model": part}, NoOptions())(given, settings, 4)


def test_it_reacts_to_all_that_it_is_told(part: Path) -> None:
    given = rows(1)
    made = run(part, given, "22.5", "23", "warm", "cold", "any")["thermal"][0]
    sunny, windy = (run(part, given, "22.5", **more)["thermal"][0, 0] for more in ({"sun": 500.0}, {"wind": 3.0}))
    assert len({picture.tobytes() for picture in (*made, sunny, windy)}) == 7
    for name in ("visible", "classes"):
        other = run(part, given | {name: np.roll(given[name], 5, axis=1)}, "22.5")["thermal"][0, 0]
        assert not np.array_equal(other, made[0]), name
    # A mask that says nothing is no mask.
    unmasked = run(part, given | {"classes": np.full_like(given["classes"], 255)}, "22.5")["thermal"]
    assert np.array_equal(unmasked, run(part, {"visible": given["visible"]}, "22.5")["thermal"])


def test_rows_do_not_depend_on_their_neighbours_and_rooms_beyond_training_are_marked(part: Path) -> None:
    whole = run(part, rows(4), "12", "41")
    alone = run(part, {name: values[2:3] for name, values in rows(4).items()}, "12", "41")
    assert np.array_equal(whole["thermal"][2], alone["thermal"][0])
    assert whole["beyond_rooms"].tolist() == [[False, True]] * 4
    assert whole["thermal_clipped"].shape == (4, 2)


def test_a_mirrored_visit_shows_the_mirrored_picture() -> None:
    still = {"rotation": 0.0, "scale": (1.0, 1.0), "shift": 0.0}
    plain = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "grey": 0.0, "blur": 0.0, "noise": 0.0}
    always, never = (
        CONFIG.model_copy(
            update={
                "geometry": CONFIG.geometry.model_copy(update={**still, "flip": share}),
                "photometry": CONFIG.photometry.model_copy(update=plain),
                "drop_classes": 0.0,
            }
        )
        for share in (1.0, 0.0)
    )
    one, other = task.draw_rows(prepare(rows()), always), task.draw_rows(prepare(mirror(rows())), never)
    for name in ("pictures", "classes", "target", "weight"):
        assert torch.allclose(getattr(one, name).float(), getattr(other, name).float(), atol=1e-5), name
    assert one.rooms == other.rooms
    assert MIRRORED != tuple(range(len(MIRRORED)))


def test_a_share_of_the_rows_is_shown_what_a_job_would_know_of_classes() -> None:
    config = CONFIG.model_copy(update={"parser": "models/starter/parser", "parsed": 0.5, "drop_classes": 0.0})
    still = {"rotation": 0.0, "scale": (1.0, 1.0), "shift": 0.0, "flip": 0.0}
    config = config.model_copy(update={"geometry": config.geometry.model_copy(update=still)})
    given = task.prepare(rows(16) | {"draw": np.arange(16)}, config)
    seen = Parser({"model": ROOT / config.parser}, NoOptions())(given, NoOptions(), 16)["classes"]
    assert np.array_equal(given["parsed"], seen)
    drawn = task.draw_rows(given, config)
    shown = [drawn.classes.numpy() == given[name] for name in ("parsed", "classes")]
    parsed, true = (same.all(axis=(1, 2)) for same in shown)
    assert (parsed ^ true).all()
    assert 4 <= parsed.sum() <= 12
    # Weights and targets follow the true classes.
    other = task.draw_rows(given | {"parsed": np.zeros_like(seen)}, config)
    assert torch.equal(drawn.weight, other.weight)


@pytest.mark.slow
def test_it_learns_the_room_and_its_part_begins_another(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = task.build(CONFIG)
    # The air alone says how warm the picture is.
    given = rows(8) | {"domain": np.array(["rooms"] * 8, object)}
    given["thermal"] = (20 + given["ambient_c"][:, None, None] * np.ones((1, SIDE, SIDE)) / 3).astype(np.float32)
    config = CONFIG.model_copy(update={"tell_nothing": 0.0})
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    errors = list[float]()
    for step in range(40):
        error, metrics = task.loss(model, prepare(given) | {"draw": np.arange(8) + 8 * step}, config, step)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(metrics["mae_kelvin"])
    assert np.mean(errors[-5:]) < 0.4 * errors[0]
    model.eval()
    with torch.inference_mode():
        cold, warm = (
            model(torch.rand(1, 3, SIDE, SIDE), torch.full((1, SIDE, SIDE), 1, dtype=torch.uint8), [Room(air)]).mean()
            for air in (2.0, 28.0)
        )
        assert warm - cold > 2
        assert task.validate(model, [given], config)["score"] < 0
    task.export(model, config, tmp_path, Card(title="", task=""))
    fresh = task.build(CONFIG)
    task.begin(fresh, tmp_path)
    assert torch.equal(fresh.unet.encoder.conv1.weight, load_room_unet(tmp_path).unet.encoder.conv1.weight)
    other = task.build(CONFIG.model_copy(update={"thermal": CONFIG.thermal.model_copy(update={"scale": 10.0})}))
    with pytest.raises(UserError, match="set thermal.centre=28 thermal.scale=8"):
        task.begin(other, tmp_path)


def test_what_it_cannot_make_is_refused(part: Path, tmp_path: Path) -> None:
    class Files:
        def __contains__(self, name: str) -> bool:
            return False

        def json(self, name: str) -> dict:
            return {"conditions": ["warm", "cold"]}

    def ask(*layers: Layer) -> tuple[str, ...]:
        return columns(NoOptions(), Settings(layers=layers), {"model": Files()}).writes

    assert "beyond_rooms" in ask(Layer("any"), Layer("warm"), Layer("-12.5"))
    with pytest.raises(UserError, match="no condition 'humid'; it has: warm, cold, any, and rooms in degrees"):
        ask(Layer("humid"))
    with pytest.raises(UserError, match="always the same: samples has to be 1"):
        ask(Layer("22.5", 1))
    (tmp_path / "unet.safetensors").write_bytes((part / "unet.safetensors").read_bytes())
    (tmp_path / "thermal.json").write_text('{"classes": false}')
    with pytest.raises(EnvironmentFault, match=r"takes 32 channels, thermal\.json describes 13"):
        load_room_unet(tmp_path)


def test_the_one_that_comes_with_the_starter_makes_cold_rooms_cold() -> None:
    folder = ROOT / "models" / "starter-rooms"
    verify(folder)
    face = rows(1) | {"classes": np.full((1, SIDE, SIDE), CLASSES.index("SKIN"), np.uint8)}
    cold, mild, hot = run(folder, face, "-5", "20", "38")["thermal"][0].astype(float).mean(axis=(1, 2)) / 100
    assert cold + 3 < mild < hot - 1
