"""The thermal latent diffusion: its autoencoder, what it is told, and the stage."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import EnvironmentFault, UserError
from models.layers import Layer
from models.thermal.latent.autoencoder import AutoencoderConfig, load_autoencoder, new_autoencoder, save_autoencoder
from models.thermal.latent.cells import class_shares, patch, unpatch
from models.thermal.latent.network import LatentConfig
from models.thermal.latent.settings import Options, Settings, columns
from models.thermal.latent.stage import Stage
from models.thermal.rooms import Room, room_vectors
from models.visible.autoencoder import encode, latent_space
from models.visible.autoencoder import load_autoencoder as load_vae
from tests.models.thermal.latent.tiny import write_part

SIDE = 32


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small part with random weights."""
    return write_part(tmp_path_factory.mktemp("part"), SIDE)


def rows(count: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "visible": rng.integers(0, 255, (count, SIDE, SIDE, 3), np.uint8),
        "classes": rng.integers(0, 19, (count, SIDE, SIDE)).astype(np.uint8),
        "noise_id": np.array([f"row {k}" for k in range(count)], object),
    }


def run(
    part: Path, given: dict[str, np.ndarray], *conditions: str, batch: int = 2, draws: int = 1, **values: object
) -> dict:
    layers = tuple(Layer(name, k) for name in conditions for k in range(draws))
    return Stage({"model": part}, Options())(given, Settings(layers=layers, steps=2, **values), batch)


def test_a_fresh_autoencoder_keeps_a_cells_lowest_cosines_and_every_level(tmp_path: Path) -> None:
    model = new_autoencoder(AutoencoderConfig(factor=4, channels=4))
    levels = torch.tensor([-40.0, 20.0, 34.56, 34.57, 60.0])[:, None, None].expand(5, 16, 16)
    y = torch.arange(16.0)[:, None].expand(16, 16)
    pictures = torch.cat([levels, (30 + torch.cos(torch.pi * (y % 4 + 0.5) / 4))[None]])
    assert torch.allclose(model(pictures), pictures, atol=1e-4)
    # What a cell's fourth cosine down holds is not kept by the linear maps.
    sharp = (30 + torch.cos(3 * torch.pi * (y % 4 + 0.5) / 4))[None]
    assert torch.allclose(model(sharp), torch.full_like(sharp, 30.0), atol=1e-4)
    # On disk and back, to the bit.
    save_autoencoder(model, tmp_path)
    stored = load_autoencoder(tmp_path).state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


def test_latents_are_of_mean_square_one_once_their_scale_is_known() -> None:
    from models.tasks.thermal_vae import _follow

    model = new_autoencoder(AutoencoderConfig(factor=4, channels=4))
    celsius = 25 + 8 * torch.randn(8, 32, 32, generator=torch.Generator().manual_seed(0))
    latents = model.encode_raw(celsius).detach()
    for _ in range(400):
        _follow(model, latents)
    assert model.encode(celsius).square().mean().item() == pytest.approx(1, abs=0.03)
    assert torch.allclose(model.decode(model.encode(celsius)), model(celsius), atol=1e-3)


def test_cells_are_patched_and_unpatched() -> None:
    latents = torch.arange(4 * 8 * 8.0).view(1, 4, 8, 8)
    assert patch(latents, 2).shape == (1, 16, 4, 4)
    assert torch.equal(unpatch(patch(latents, 2), 2), latents)


def test_class_shares_are_those_of_the_pixels_and_zero_without_a_mask() -> None:
    classes = np.random.default_rng(1).integers(0, 19, (2, 32, 32)).astype(np.uint8)
    classes[1] = 255
    shares = class_shares(classes, 4)
    assert shares[0, 7, 1, 2] == pytest.approx((classes[0, 8:16, 16:24] == 7).mean())
    assert np.allclose(shares[0].sum(axis=0), 1)
    assert not shares[1].any()


def test_rooms_are_told_by_flags_and_numbers() -> None:
    told = room_vectors([Room(), Room(35.0, 0.0, 4.0), Room(word="cold"), Room(20.0)], ("warm", "cold"))
    assert told.tolist() == [
        [0] * 10,
        [1, 1, 1, 1, 0, 1, 2, 2, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_a_row_is_the_same_alone_in_a_batch_and_beside_others(part: Path) -> None:
    given = rows(3)
    whole = run(part, given, "warm", "22.5", draws=2)["thermal"]
    assert whole.shape == (3, 4, SIDE, SIDE) and whole.dtype == np.uint16
    alone = run(part, {name: values[2:] for name, values in given.items()}, "warm", "22.5", draws=2)["thermal"]
    assert np.array_equal(whole[2:], alone)


def test_pictures_react_to_room_word_draw_classes_picture_and_name(part: Path) -> None:
    given = rows(1)
    made = run(part, given, "warm", "cold", "any", "22.5", "-5")["thermal"][0]
    assert len({layer.tobytes() for layer in made}) == 5
    draws = run(part, given, "22.5", draws=2)["thermal"][0]
    assert np.array_equal(draws[0], made[3]) and not np.array_equal(draws[1], made[3])
    windy = run(part, given, "22.5", wind=6.0)["thermal"][0, 0]
    sunny = run(part, given, "22.5", sun=600.0)["thermal"][0, 0]
    for change in ({"classes": given["classes"][:, ::-1]}, {"visible": given["visible"][:, ::-1]},
                   {"noise_id": np.array(["other"], object)}):  # fmt: skip
        assert not np.array_equal(run(part, given | change, "22.5")["thermal"][0, 0], made[3])
    assert len({made[3].tobytes(), windy.tobytes(), sunny.tobytes()}) == 3
    # Without a mask the classes count for nothing, whether the column is there or says so.
    unmasked = run(part, given | {"classes": np.full_like(given["classes"], 255)}, "22.5")["thermal"]
    assert np.array_equal(unmasked, run(part, {k: v for k, v in given.items() if k != "classes"}, "22.5")["thermal"])


def test_latents_that_came_take_the_place_of_the_picture(part: Path) -> None:
    given = rows(2)
    latents = encode(load_vae(part / "vae"), torch.from_numpy(given["visible"])).detach().numpy()
    space = np.array([latent_space(part / "vae")] * 2, object)
    came = {**given, "visible": np.zeros_like(given["visible"]), "latents": latents, "latent_space": space}
    plain, chained = run(part, given, "warm")["thermal"], run(part, came, "warm")["thermal"]
    assert np.abs(plain.astype(int) - chained.astype(int)).max() <= 1
    with pytest.raises(UserError, match=r"of autoencoder ffff.*options\.latents to false"):
        run(part, came | {"latent_space": np.array([space[0], "f" * 64], object)}, "warm")


def test_rooms_beyond_training_are_made_and_marked(part: Path) -> None:
    made = run(part, rows(1), "40", "41", "any", "warm")
    assert made["beyond_rooms"].tolist() == [[False, True, False, False]]
    assert run(part, rows(1), "20", wind=9.0)["beyond_rooms"].all()


def test_what_it_does_not_know_is_refused_before_it_runs(part: Path) -> None:
    class Files:
        def __contains__(self, name: str) -> bool:
            return False

        def json(self, name: str) -> dict:
            return LatentConfig().model_dump(mode="json")

    def ask(*layers: Layer) -> tuple[str, ...]:
        return columns(Options(), Settings(layers=layers), {"model": Files()}).writes

    assert "beyond_rooms" in ask(Layer("any"), Layer("warm", 3), Layer("-12.5"))
    with pytest.raises(UserError, match="no condition 'humid'; it has: warm, cold, any, and rooms in degrees"):
        ask(Layer("humid"))


def test_parts_of_different_trainings_are_refused(part: Path, tmp_path: Path) -> None:
    save_autoencoder(new_autoencoder(AutoencoderConfig(factor=8, channels=4, width=8)), tmp_path)
    with pytest.raises(
        EnvironmentFault, match="takes 47 channels and gives 16, the autoencoders, classes and guess make 35 and 4"
    ):
        Stage({"model": part, "autoencoder": tmp_path}, Options())
    (tmp_path / "thermal.json").write_text('{"low": 20}')
    with pytest.raises(EnvironmentFault, match="no thermal latent diffusion"):
        Stage({"model": tmp_path}, Options())
