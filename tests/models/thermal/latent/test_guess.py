"""The first guess of a thermal latent diffusion."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.card import Card
from models.diffusion.process import DiscreteProcess
from models.diffusion.schedulers import new_scheduler
from models.diffusion.shape import widen_input
from models.errors import EnvironmentFault, UserError
from models.layers import Layer
from models.tasks import thermal_ldm
from models.tasks.distill import thermal as distill
from models.thermal.latent.cells import unpatch
from models.thermal.latent.network import LatentConfig, load_latent, new_latent_unet
from models.thermal.latent.settings import Options, Settings
from models.thermal.latent.stage import Stage
from models.thermal.room_unet.network import RoomUNetConfig, load_room_unet, new_room_unet, save_room_unet
from models.thermal.rooms import Room
from models.unet import UNetConfig
from tests.models.diffusion.tiny import wake
from tests.models.thermal.latent.test_training import config as plain
from tests.models.thermal.latent.test_training import mirror, rows
from tests.models.thermal.latent.tiny import SHAPE

__all__ = ["plain"]


def write_regression(folder: Path, seed: int = 0, **values: object) -> Path:
    """Write a thermalizer of rooms with random weights that reacts to what it is shown, and return where."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    save_room_unet(
        new_room_unet(RoomUNetConfig(scale=4000, **values), UNetConfig(width=8, blocks=(1, 1, 1, 1))).eval(), folder
    )
    return folder


@pytest.fixture(scope="module")
def config(plain: thermal_ldm.Config, tmp_path_factory: pytest.TempPathFactory) -> thermal_ldm.Config:
    regression = write_regression(tmp_path_factory.mktemp("guess") / "rooms")
    return plain.model_copy(update={"guess": str(regression)})


@pytest.fixture(scope="module")
def part(config: thermal_ldm.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guess") / "part"
    torch.manual_seed(0)
    model = thermal_ldm.build(config)
    wake(model.unet)
    thermal_ldm.export(model, config, folder, Card(title="", task=""))
    return folder


def draw(part: Path, given: dict[str, np.ndarray], *conditions: str, **weights: Path) -> np.ndarray:
    stage = Stage({"model": part, **weights}, Options())
    thermal: np.ndarray = stage(given, Settings(steps=2, layers=tuple(Layer(k) for k in conditions)), 2)["thermal"]
    return thermal.astype(int)


def shown(count: int = 3, classes: bool = True) -> dict[str, np.ndarray]:
    given = {name: rows()[name][:count] for name in ("visible", "classes")}
    names = {"noise_id": np.array([f"row {k}" for k in range(count)], object)}
    return names | (given if classes else {"visible": given["visible"]})


def test_a_guess_is_what_the_regression_says_of_the_same_picture_classes_and_room(
    part: Path, config: thermal_ldm.Config
) -> None:
    parts, given = load_latent({"model": part}), rows(2)
    rooms = [Room(4.0), Room(word="warm")]
    made = parts.guess(given["visible"], given["classes"], rooms)
    regression = load_room_unet(Path(config.guess))
    with torch.inference_mode():
        unit = torch.from_numpy(given["visible"]).permute(0, 3, 1, 2) / 255
        celsius = regression(unit, torch.from_numpy(given["classes"]), rooms)
        wanted = F.pixel_unshuffle(parts.autoencoder.encode(celsius), 2)
    assert made.shape == (2, 16, 4, 4) and torch.allclose(made, wanted, atol=1e-3)
    # Autocast does not reach it, and classes that nobody knows are no class.
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(parts.guess(given["visible"], given["classes"], rooms), made)
    nothing = np.full_like(given["classes"], 255)
    assert torch.equal(parts.guess(given["visible"], None, rooms), parts.guess(given["visible"], nothing, rooms))


def test_what_is_drawn_follows_the_guess_and_batches_do_not_matter(part: Path, tmp_path: Path) -> None:
    made = draw(part, shown(), "22", "warm")
    other = draw(part, shown(), "22", "warm", guess=write_regression(tmp_path / "other", seed=1))
    assert np.abs(made - other).mean() > 1
    assert np.array_equal(draw(part, shown(1), "22", "warm"), made[:1])
    assert np.abs(draw(part, shown(1, classes=False), "22") - made[:1, :1]).mean() > 1


def test_rows_in_a_mirror_get_the_guess_of_the_mirrored_picture(config: thermal_ldm.Config) -> None:
    process = DiscreteProcess.of(new_scheduler())
    told = config.model_copy(update={"drop_classes": 0.5})
    always, never = (told.model_copy(update={"flip": flip}) for flip in (1.0, 0.0))
    one = thermal_ldm.draw_rows(thermal_ldm.prepare(rows(), told), always, process, range(4))
    other = thermal_ldm.draw_rows(thermal_ldm.prepare(mirror(rows()), told), never, process, range(4))
    assert torch.allclose(one.guess, other.guess, atol=1e-3)
    assert not torch.allclose(one.guess, one.guess.flip(3), atol=0.1)


def test_rows_whose_classes_are_not_shown_are_guessed_without_them(config: thermal_ldm.Config) -> None:
    process = DiscreteProcess.of(new_scheduler())
    blind = config.model_copy(update={"drop_classes": 1.0, "flip": 0.0})
    changed = rows() | {"classes": np.zeros_like(rows()["classes"])}
    one, other = (
        thermal_ldm.draw_rows(thermal_ldm.prepare(k, blind), blind, process, range(4)) for k in (rows(), changed)
    )
    assert torch.equal(one.guess, other.guess)


def test_training_on_begins_with_the_weights_of_a_part_without_a_guess(
    plain: thermal_ldm.Config, config: thermal_ldm.Config, part: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    before = thermal_ldm.build(plain)
    wake(before.unet)
    thermal_ldm.export(before, plain, tmp_path / "before", Card(title="", task=""))
    after = thermal_ldm.build(config)
    thermal_ldm.begin(after, tmp_path / "before")
    kernel, old = after.unet.conv_in.weight, before.unet.conv_in.weight.float()
    assert torch.equal(kernel[:, : old.shape[1]], old) and not kernel[:, old.shape[1] :].any()
    # The other way it would be shown less than it learned from.
    with pytest.raises(UserError, match="classes and a first guess"):
        thermal_ldm.begin(thermal_ldm.build(plain), part)


def test_what_is_made_is_less_the_guess(
    plain: thermal_ldm.Config, config: thermal_ldm.Config, part: Path, tmp_path: Path
) -> None:
    process = DiscreteProcess.of(new_scheduler())
    whole, less = (
        thermal_ldm.draw_rows(thermal_ldm.prepare(rows(), told), told, process, range(4)) for told in (plain, config)
    )
    assert less.guess is not None and torch.allclose(less.latents + less.guess, whole.latents, atol=1e-5)
    # And the stage puts it back: a U-Net that looks at no guess makes the same beside each.
    decoded, guesses = list[torch.Tensor](), list[torch.Tensor]()
    for regression in (Path(config.guess), write_regression(tmp_path / "other", seed=1)):
        stage = Stage({"model": part, "guess": regression}, Options())
        stage.parts.unet.conv_in.weight[:, -16:] = 0
        seen, rooms = stage.see(shown(2), Settings(), 2), [Room(22.0)] * 2
        guesses.append(stage.guess(rooms, seen, 2))
        whole, keep = stage.parts.autoencoder.decode, decoded.append
        stage.parts.autoencoder.decode = lambda latents, keep=keep, whole=whole: keep(latents) or whole(latents)
        stage.draw(rooms, seen, guesses[-1], ["a", "b"], "warm", Settings(steps=2), 2)
    apart = unpatch(guesses[1] - guesses[0], 2)
    assert apart.abs().max() > 0.1 and torch.allclose(decoded[1] - decoded[0], apart, atol=1e-4)


def test_the_guess_is_learned_from(config: thermal_ldm.Config) -> None:
    model = thermal_ldm.build(config)
    wake(model.unet).requires_grad_(True)
    batch = rows() | thermal_ldm.prepare(rows(), config)
    thermal_ldm.loss(model, batch, config, 0)[0].backward()
    gradient = model.unet.conv_in.weight.grad
    assert gradient is not None and gradient[:, -16:].abs().max() > 0
    assert thermal_ldm.weights(config)[-1] == Path(config.guess)


def test_a_guess_that_does_not_know_the_words_is_refused(part: Path, tmp_path: Path) -> None:
    foreign = write_regression(tmp_path / "foreign", conditions=("warm",))
    with pytest.raises(EnvironmentFault, match="knows the words warm, and not cold"):
        load_latent({"model": part, "guess": foreign})
    config = LatentConfig(**{"guess": False})
    (part / "thermal.json").rename(tmp_path / "kept.json")
    try:
        (part / "thermal.json").write_text(config.model_dump_json())
        with pytest.raises(EnvironmentFault, match="the U-Net takes 63 channels"):
            load_latent({"model": part})
    finally:
        (tmp_path / "kept.json").replace(part / "thermal.json")


def test_a_student_is_shown_its_teachers_guess(part: Path, config: thermal_ldm.Config, tmp_path: Path) -> None:
    told = distill.Config(teacher=str(part), size=config.size, sampled=(1,))
    model = distill.build(told)
    batch = rows() | distill.prepare(rows(), told)
    assert np.isfinite(distill.loss(model, batch, told, 0)[0].item())
    distill.export(model, told, tmp_path / "student", Card(title="", task=""))
    assert load_latent({"model": tmp_path / "student"}).guess is not None


def test_all_draws_of_a_room_follow_from_one_guess(part: Path) -> None:
    stage, asked = Stage({"model": part}, Options()), list[int]()
    stage.parts.guess.regression.register_forward_hook(lambda *call: asked.append(len(call[1][0])))
    layers = (*(Layer("22", draw) for draw in range(3)), Layer("warm"))
    stage(shown(), Settings(steps=1, layers=layers), 2)
    assert asked == [2, 2] * 2  # three rows in batches of two, of two rooms


def test_a_room_beyond_those_of_the_guess_is_marked(part: Path, tmp_path: Path) -> None:
    narrow = write_regression(tmp_path / "narrow", ambient_c=(15, 25))
    given, settings = shown(1), Settings(steps=1, layers=(Layer("22"), Layer("-5")))
    for weights, marks in (({}, [False, False]), ({"guess": narrow}, [False, True])):
        made = Stage({"model": part, **weights}, Options())(given, settings, 1)
        assert made["beyond_rooms"].tolist() == [marks]


def test_what_prepares_rows_is_not_moved_to_where_guesses_are_made(config: thermal_ldm.Config) -> None:
    made = thermal_ldm._guesser(config.guess, config.autoencoder, config.latent.conditions)
    assert made.autoencoder is not thermal_ldm._autoencoder(config.autoencoder)


def test_input_is_widened_by_as_many_channels_as_are_told_or_by_none() -> None:
    narrow, wide = (new_latent_unet(SHAPE, 16, visible, 4, LatentConfig()) for visible in (4, 20))
    state = narrow.state_dict()
    kernel = widen_input(state, wide, 16)["conv_in.weight"]
    assert torch.equal(kernel[:, :39], state["conv_in.weight"]) and not kernel[:, 39:].any()
    assert kernel.shape == wide.state_dict()["conv_in.weight"].shape
    # Another number is missing: kernels would land on what they never saw, so nothing is changed and loading refuses it.
    assert torch.equal(widen_input(state, wide, 12)["conv_in.weight"], state["conv_in.weight"])
