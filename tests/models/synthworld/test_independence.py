"""What thermal must not know, what colour must not know, and that the world does not contain the answer."""

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.classes import CLASSES
from models.synthworld.heat import balance
from models.synthworld.render.render import Rendering, render
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.synthworld.sampling.scene import Light, Scene

pytestmark = pytest.mark.slow

WORLD = Path(balance.__file__).parent.parent
SIZE = 48
BARE = [CLASSES.index(name) for name in ("SKIN", "NOSE", "TOP_LIP", "BOTTOM_LIP", "NECK")]
PROBED = [*BARE, CLASSES.index("HAIR"), CLASSES.index("CLOTHING")]

# A clinical prior of region temperatures (degC, warm and cold), for comparison only; the world has none.
PRIOR = {
    "SKIN": (35.0, 33.0),
    "NOSE": (35.0, 31.5),
    "TOP_LIP": (35.0, 32.5),
    "BOTTOM_LIP": (35.0, 32.5),
    "NECK": (35.0, 34.0),
}


def bare(identity: int = 300_001, condition: str = "cold", domain: str = "portrait") -> Scene:
    """A frontal scene without accessories."""
    scene = sample_scene(load_domain(domain), identity, 0, condition)
    view = replace(
        scene.view, yaw=5.0, pitch=0.0, roll=0.0, glasses="none", headwear="none", facewear="none", expression="neutral",
        hair_style="short", beard="none",
    )  # fmt: skip
    return replace(scene, view=view)


def region_means(temperature: torch.Tensor, classes: torch.Tensor, wanted: list[int] = BARE) -> list[float]:
    return [temperature[classes == c].mean().item() if (classes == c).any() else float("nan") for c in wanted]


@pytest.fixture(scope="module")
def people() -> list[tuple[Scene, Rendering]]:
    """Twenty people, one picture each, in the cold."""
    scenes = [bare(300_000 + k) for k in range(20)]
    return [(scene, render([scene], SIZE)) for scene in scenes]


def test_thermal_does_not_see_colours_indoors() -> None:
    scene = bare()
    person = replace(
        scene.person, tone=0.05, undertone=0.9, hair_colour="blond", hair_rgb=(0.5, 0.3, 0.1), iris_colour="blue",
        iris_rgb=(0.1, 0.2, 0.4), lip_rgb=(1.0, 0.2, 0.2), freckles=0.9, brow_density=0.6,
    )  # fmt: skip
    view = replace(
        scene.view, light=Light(azimuth=-70.0, elevation=10.0, strength=0.5, colour=(1.0, 0.8, 0.6)), lighting="from the side",
        pattern="checks", clothing_colour="black", background="outdoor", style="B", style_gap=1.0,
    )  # fmt: skip
    painted = replace(scene, person=person, view=view)
    plain, other = render([scene], SIZE), render([painted], SIZE)
    assert (plain.rgb.int() - other.rgb.int()).abs().float().mean() > 10
    assert torch.equal(plain.classes, other.classes)
    assert torch.equal(plain.kinetic, other.kinetic)
    assert torch.equal(plain.apparent, other.apparent)


def test_sun_is_the_only_way_from_colour_to_heat() -> None:
    scene = bare(condition="warm")
    sunny = replace(scene, environment=replace(scene.environment, sun_wm2=600.0))
    buffer = render([scene], SIZE).gbuffer

    def skin(scene: Scene, tone: float) -> float:
        kinetic, _, _ = balance.temperature(buffer, [replace(scene, person=replace(scene.person, tone=tone))])
        return kinetic[buffer.classes == 1].mean().item()

    assert skin(scene, 0.0) == skin(scene, 1.0)
    assert 0.3 < skin(sunny, 0.0) - skin(sunny, 1.0) < 4.0


def test_colour_does_not_see_the_condition() -> None:
    warm, cold = (render([bare(condition=condition)], SIZE) for condition in ("warm", "cold"))
    assert torch.equal(warm.rgb, cold.rgb)
    assert torch.equal(warm.classes, cold.classes)
    skin = warm.classes == 1
    assert (warm.apparent - cold.apparent)[skin].mean() > 0.5


def test_hidden_state_differs_between_sessions_and_people() -> None:
    scene = bare()
    buffer = render([scene], SIZE).gbuffer
    later = replace(scene, view=replace(scene.view, seed=scene.view.seed + 1))
    other = replace(scene, person=replace(scene.person, identity=scene.person.identity + 1))
    one, two, three = (balance.temperature(buffer, [s])[0][0] for s in (scene, later, other))
    face = (buffer.classes == 1)[0]
    assert (one - two)[face].abs().mean() > 0.05
    assert (one - three)[face].abs().mean() > 0.1
    # What stays over sessions has the person's pattern: offsets move regions, the vascular field does not move.
    assert (one - two)[face].std() < (one - three)[face].std() + 0.3


def test_nose_is_coldest_in_the_cold_and_kinetic_differs_from_apparent(people: list[tuple[Scene, Rendering]]) -> None:
    means = np.nanmean([region_means(r.kinetic[0], r.classes[0]) for _, r in people], 0)
    assert BARE[int(means.argmin())] == CLASSES.index("NOSE")
    seen = torch.cat([(r.kinetic - r.apparent)[r.classes == 1] for _, r in people])
    assert 0.2 < seen.mean() < 1.5
    assert all(r.valid.all() and r.apparent.isfinite().all() for _, r in people)


def test_colder_rooms_make_colder_faces(people: list[tuple[Scene, Rendering]]) -> None:
    scene, rendered = people[0]
    faces = []
    for ambient in (28.0, 20.0, 10.0, 0.0):
        environment = replace(scene.environment, ambient_c=ambient, radiant_c=ambient, sky_c=ambient)
        kinetic, _, _ = balance.temperature(rendered.gbuffer, [replace(scene, environment=environment)])
        faces.append(kinetic[rendered.classes == 1].mean().item())
    assert faces == sorted(faces, reverse=True)
    assert 24.0 < faces[-1] < faces[0] < 36.8


def test_person_spread_is_as_stated(people: list[tuple[Scene, Rendering]]) -> None:
    buffer, scene = people[0][1].gbuffer, people[0][0]
    room = replace(scene.environment, ambient_c=23.0, radiant_c=23.0, sky_c=23.0, minutes=60.0)
    means = []
    for k in range(60):
        stranger = replace(scene.person, identity=400_000 + k)
        scenes = [replace(scene, person=stranger, environment=room, view=replace(scene.view, seed=k))]
        kinetic, _, _ = balance.temperature(buffer, scenes)
        means.append(region_means(kinetic[0], buffer.classes[0], BARE[:2]))
    spread = np.std(means, 0)
    assert 0.5 < spread[0] < 0.9
    assert 1.2 < spread[1] < 2.2


def test_prior_is_useful_and_wrong(people: list[tuple[Scene, Rendering]]) -> None:
    cold = np.nanmean([region_means(r.apparent[0], r.classes[0]) for _, r in people], 0)
    warm = []
    for scene, rendered in people:
        env = sample_scene(load_domain("portrait"), scene.person.identity, 0, "warm").environment
        _, apparent, _ = balance.temperature(rendered.gbuffer, [replace(scene, environment=env)])
        warm.append(region_means(apparent[0], rendered.classes[0]))
    found = np.concatenate([np.nanmean(warm, 0), cold])
    prior = np.concatenate([[PRIOR[CLASSES[c]][k] for c in BARE] for k in (0, 1)])
    away = np.sqrt(np.mean((found - prior) ** 2))
    assert 0.3 < away < 2.0
    shuffled = np.sqrt(np.mean((found - prior[::-1]) ** 2))
    assert away < shuffled


@pytest.fixture(scope="module")
def crowd(people: list[tuple[Scene, Rendering]]) -> tuple[list[Scene], np.ndarray]:
    """Six hundred scenes and the mean apparent temperature of their regions [600, R]; heads are those of `people`."""
    scenes, features = [], []
    for k in range(600):
        head = people[k % len(people)][1]
        scene = bare(310_000 + k)
        _, apparent, _ = balance.temperature(head.gbuffer, [scene])
        scenes.append(scene)
        features.append(region_means(apparent[0], head.classes[0], PROBED))
    table = np.array(features)
    return scenes, np.where(np.isnan(table), np.nanmean(table, 0), table)


@pytest.mark.parametrize("what", ["tone", "hair", "iris", "lips"])
def test_probe_from_thermal_to_colour_is_at_chance(crowd: tuple[list[Scene], np.ndarray], what: str) -> None:
    scenes, features = crowd
    values = {
        "tone": [s.person.tone for s in scenes],
        "hair": [np.log(max(s.person.hair_rgb)) for s in scenes],
        "iris": [s.person.iris_rgb[2] for s in scenes],
        "lips": [s.person.lip_rgb[1] for s in scenes],
    }
    # 600 people: a correlation above 0.126 would be a leak at the 0.1 % level; a guess worse than none is negative.
    assert correlation(features, values[what]) < 0.126


def test_probe_finds_what_is_there(crowd: tuple[list[Scene], np.ndarray]) -> None:
    """The same probe reads the room from the face, hair and clothes: the colours' chance is not the probe's weakness."""
    scenes, features = crowd
    assert correlation(features, [s.environment.ambient_c for s in scenes]) > 0.4


def correlation(features: np.ndarray, values: list[float]) -> float:
    """Correlation of a probe's guesses, on people it was not fitted on, with the truth."""
    target = np.array(values)
    return float(np.corrcoef(ridge_out_of_fold(features, target), target)[0, 1])


def ridge_out_of_fold(features: np.ndarray, target: np.ndarray, folds: int = 6, weight: float = 3.0) -> np.ndarray:
    """Predictions of ridge regression for people that it was not fitted on."""
    x = (features - features.mean(0)) / features.std(0)
    guess = np.empty_like(target, dtype=float)
    for fold in range(folds):
        held = np.arange(len(target)) % folds == fold
        inner = x[~held].T @ x[~held] + weight * np.eye(x.shape[1])
        mean = target[~held].mean()
        guess[held] = mean + x[held] @ np.linalg.solve(inner, x[~held].T @ (target[~held] - mean))
    return guess


def test_lenses_are_opaque_and_cool_in_thermal() -> None:
    scene = bare(condition="warm")
    for kind, code in (("clear", 1), ("opaque", 2)):
        picture = render([replace(scene, view=replace(scene.view, glasses=kind))], SIZE)
        lens = picture.gbuffer.lens == code
        assert lens.sum() > 20
        skin = picture.apparent[picture.classes == 1].mean()
        read = picture.apparent[lens].mean()
        assert scene.environment.radiant_c < read < skin - 3.0
        assert picture.apparent[lens].std() < 1.0


def test_the_world_imports_no_prior() -> None:
    for path in WORLD.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"models.{a.name}" for a in node.names] if node.module == "models" else [node.module or ""]
            for name in names:
                own = name.startswith("models.synthworld") or name in (
                    "models.attributes",
                    "models.classes",
                    "models.errors",
                    "models.seeds",
                )
                assert own or not name.startswith(("models", "pipelines", "serve", "cluster")), f"{path.name}: {name}"
