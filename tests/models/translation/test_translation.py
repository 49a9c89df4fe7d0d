"""The translator as a stage: what it is told, where that comes from, and which networks it takes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.columns import Columns
from models.errors import EnvironmentFault, UserError
from models.faces.align import align
from models.faces.metrics import unit_vectors
from models.faces.pack import embed, open_sessions
from models.landmarks.intensity import show_thermal
from models.ssm import kernels
from models.ssm.block import SelfMixer, scans_of
from models.ssm.config import BlockConfig, Directions, Mixing
from models.ssm.mixers import Mamba2Mixer
from models.synthworld.render.render import render
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.temperature import fill, to_centikelvin
from models.translation.attributes import (
    AttributeClassifier,
    ClassifierConfig,
    encode_words,
    load_classifier,
    save_classifier,
)
from models.translation.identity import embed_thermal
from models.translation.network import Guide, Translator, TranslatorConfig, load_translator
from models.translation.settings import Options, Settings, columns, open_scans
from models.translation.stage import Stage
from models.weights.store import SmallFiles, seal
from tests.models.rows_of import check_columns
from tests.models.ssm import installed
from tests.models.translation.tiny import SHAPE, write_part

SIDE = 32


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_part(tmp_path_factory.mktemp("part"))


def rows(count: int = 3, offset: float = 0.0) -> Columns:
    rng = np.random.default_rng(0)
    celsius = rng.normal(30 + offset, 4, (count, 1, SIDE, SIDE)).astype(np.float32)
    celsius[0, 0, 3, 3] = np.nan
    return {"thermal": to_centikelvin(celsius), "noise_id": np.array([f"row {k}" for k in range(count)], object)}


@pytest.fixture(scope="module")
def stage(part: Path) -> Stage:
    return Stage({"model": part}, Options())


def run(stage: Stage, given: Columns, batch: int = 2, **values: object) -> Columns:
    return stage(given, Settings(steps=2, **values), batch)  # type: ignore[arg-type]


def test_pictures_and_words_in_the_vocabularys_form(stage: Stage) -> None:
    found = run(stage, rows())
    check_columns(found, ("translated", "attributes", "attributes_source"), 3, 1, SIDE)
    assert json.loads(found["attributes"][0]).keys() == SHAPE.words.keys()
    assert found["translated"].std() > 0


def test_a_row_is_the_same_alone_and_again(stage: Stage) -> None:
    """What batch normalisation of neighbours or a shared generator would break."""
    given = rows()
    whole, alone = run(stage, given), run(stage, {name: values[2:] for name, values in given.items()})
    assert np.array_equal(whole["translated"][2:], alone["translated"])
    assert whole["attributes"][2] == alone["attributes"][0]
    other = run(stage, {**given, "noise_id": np.array(["a", "b", "c"], object)})
    assert not np.array_equal(whole["translated"], other["translated"])


def test_what_thermal_cannot_show_does_not_follow_from_the_picture(part: Path) -> None:
    """The leak test: other pictures under the same name are told the same skin, hair and iris, and these at the population's
    shares; what is seen in the picture does change."""
    count = 200
    names = np.array([f"row {k}" for k in range(count)], object)
    one, other = ({"thermal": rows(1, offset)["thermal"].repeat(count, 0), "noise_id": names} for offset in (0, 40))
    told = [words_of(part, given) for given in (one, other)]
    for first, second in zip(*told, strict=True):
        assert {n: first[n] for n in ("skin_tone", "hair_colour", "iris")} == {
            n: second[n] for n in ("skin_tone", "hair_colour", "iris")
        }
    assert told[0] != told[1]
    tones = [row["skin_tone"] for row in told[0]]
    assert {*tones} == {"olive", "light"} and abs(tones.count("light") / count - 0.75) < 0.1


def words_of(part: Path, given: Columns) -> list[dict[str, str]]:
    """Return the words that rows are told, without drawing their pictures."""
    from models.temperature import fill, from_centikelvin
    from models.translation.attributes import draw_words

    celsius = torch.from_numpy(np.stack([fill(from_centikelvin(one[0])) for one in given["thermal"]]))
    with torch.inference_mode():
        drawn = draw_words(load_classifier(part / "attributes"), celsius, [str(n) for n in given["noise_id"]], {})
    return [{name: word for name, (word, _) in row.items()} for row in drawn]


def test_words_of_the_caller_are_told_and_change_the_picture(stage: Stage) -> None:
    plain, given = run(stage, rows()), run(stage, rows(), attributes={"skin_tone": "dark"})
    assert {json.loads(text)["skin_tone"] for text in given["attributes"]} == {"dark"}
    sources = [json.loads(text) for text in given["attributes_source"]]
    assert {(row["skin_tone"], row["iris"], row["glasses"]) for row in sources} == {("given", "asked", "estimated")}
    assert not np.array_equal(plain["translated"], given["translated"])


def test_guidance_changes_pictures(stage: Stage) -> None:
    assert not np.array_equal(run(stage, rows())["translated"], run(stage, rows(), guidance=4.0)["translated"])


@pytest.mark.parametrize(
    "changes",
    [
        {"block": BlockConfig(mixing="attention"), "guide": "beside"},
        {"block": BlockConfig(mixing="scan", window=0, head=8, state=4), "guide": "none"},
        {"block": BlockConfig(mixing="interleaved", window=2, head=8, state=4), "multi_scale": True, "layers": 2},
        {"block": BlockConfig(mixing="none", window=2), "guide": "none", "control": True},
        {"multi_scale": True, "control": True, "widths": (16, 16, 32), "heads": (1, 1, 2), "attend": (0, 1, 0)},
    ],
    ids=["attention, beside", "scan alone, untold", "interleaved, multi-scale", "windows, control", "all scales"],
)
def test_every_switch_makes_a_part_that_loads_and_draws(changes: dict[str, object], tmp_path: Path) -> None:
    shape = TranslatorConfig.model_validate(SHAPE.model_dump() | changes)
    stage = Stage({"model": write_part(tmp_path, shape)}, Options())
    mixers = [module for module in stage.parts.translator.unet.modules() if isinstance(module, SelfMixer)]
    assert bool(mixers) == (shape.block.mixing != "attention")

    def draw(offset: float, **given: str) -> np.ndarray:
        return stage(rows(1, offset), Settings(steps=1, attributes=given), 1)["translated"]

    assert not np.array_equal(draw(0), draw(6))
    # Who is told nothing draws the same whatever is said.
    same = np.array_equal(draw(0), draw(0, hair_colour="red", beard="full"))
    assert same == (shape.guide == "none" and not shape.control)


def test_an_untold_attribute_has_a_token_of_its_own() -> None:
    guide = Guide(SHAPE, 16)
    none, red = (
        guide(encode_words([row], SHAPE.words), torch.zeros(1, 16, 4, 4)).prompt_embeds[0]
        for row in ({}, {"hair_colour": "red"})
    )
    place = list(SHAPE.words).index("hair_colour")
    assert torch.equal(none, guide.untold)
    start = sum(len(words) for name, words in list(SHAPE.words.items())[:place])
    assert torch.equal(red[place], guide.words[start + SHAPE.words["hair_colour"].index("red")])
    assert torch.equal(red[:place], none[:place])


def test_attributes_that_do_not_exist_are_refused(part: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no attribute 'hair'"):
        Settings(attributes={"hair": "red"})
    with pytest.raises(ValueError, match="hair_colour takes"):
        Settings(attributes={"hair_colour": "pink"})
    whole = json.loads((part / "translation.json").read_text())
    files, few = (
        {"model": small_files(tmp_path / name, config)}
        for name, config in (("whole", whole), ("few", whole | {"words": {"glasses": ["none"]}}))
    )
    assert "translated" in columns(Options(), Settings(attributes={"beard": "full"}), files).writes
    with pytest.raises(UserError, match="beard: this translator is told glasses"):
        columns(Options(), Settings(attributes={"beard": "full"}), few)


def test_a_classifier_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder = write_part(tmp_path)
    save_classifier(AttributeClassifier(ClassifierConfig(side=32, widths=(8,))), tmp_path / "visible_one")
    with pytest.raises(EnvironmentFault, match="a classifier of visible pictures"):
        load_translator({"model": folder, "attributes": tmp_path / "visible_one"})
    with pytest.raises(ValueError, match="glasses has the words"):
        ClassifierConfig(words={"glasses": ("none", "round")})


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = write_part(tmp_path)
    text = (folder / "translation.json").read_text()
    (folder / "translation.json").write_text(text.replace('"state": 4', '"state": 8'))
    with pytest.raises(EnvironmentFault, match="another architecture"):
        load_translator({"model": folder})
    (folder / "translation.json").write_text("{}x")
    with pytest.raises(EnvironmentFault, match="of no translator"):
        load_translator({"model": folder})


def test_a_kernel_that_is_not_there_is_told_of_before_the_first_picture(part: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"mamba_ssm failed.*options\.kernel=torch"):
        Stage({"model": part}, Options(kernel="mamba_ssm"))


def test_a_kernel_that_fails_among_pictures_rejects_none(
    part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no row's fault: bisecting around rows would reject all of them, one by one."""
    home = installed.write_mamba_ssm(tmp_path, installed.RIGHT)
    installed.install(tmp_path, monkeypatch)
    stage = Stage({"model": part}, Options(kernel="mamba_ssm"))
    assert np.array_equal(
        run(stage, rows())["translated"], run(Stage({"model": part}, Options(kernel="torch")), rows())["translated"]
    )
    (home / "worn").touch()
    with pytest.raises(EnvironmentFault, match="scan kernel mamba_ssm failed"):
        run(stage, rows())


def test_the_kernel_that_a_stage_chooses_makes_the_same_pictures(part: Path, stage: Stage) -> None:
    if not kernels.is_installed("vllm"):
        pytest.skip("vLLM is not installed")
    mixers = [module for module in stage.parts.unet.modules() if isinstance(module, Mamba2Mixer)]
    assert {module.kernel for module in mixers} == {"vllm"}
    plain = run(Stage({"model": part}, Options(kernel="torch")), rows())["translated"]
    assert np.abs(run(stage, rows())["translated"].astype(int) - plain).max() <= 1


@pytest.mark.parametrize(
    ("attend", "mixing", "directions", "head"),
    [
        ((False, True), "scan", 2, 8),
        ((True, True), "interleaved", 4, 64),
        ((True, False), "scan", 1, 8),
        ((False, False), "scan", 2, 8),
        ((True, True), "none", 2, 8),
        ((True, True), "attention", 2, 8),
    ],
)
def test_the_scans_of_a_part_are_known_without_its_weights(
    attend: tuple[bool, bool], mixing: Mixing, directions: Directions, head: int, tmp_path: Path
) -> None:
    block = BlockConfig(mixing=mixing, directions=directions, head=head, window=2, state=4)
    shape = SHAPE.model_copy(update={"attend": attend, "block": block})
    files = {"model": small_files(tmp_path / "part", shape.model_dump(mode="json"))}
    assert set(open_scans(Options(), files)) == set(scans_of(Translator(shape, 12, 16)))
    assert open_scans(Options(kernel="vllm"), files) == ()


FACE = 128


@pytest.mark.slow
def test_the_face_in_the_picture_says_who_is_drawn(tmp_path: Path) -> None:
    """A picture with a face is drawn as its embedding says; one without is told nothing, and both are the same in any company."""
    shape = SHAPE.model_copy(update={"identity": 512})
    home = Path("models/starter")
    part = write_part(tmp_path, shape, recogniser=home / "faces", **{"landmarks/70": home / "landmarks" / "70"})
    person = render([sample_scene(load_domain("portrait"), 3, 0, "warm")], FACE).apparent.numpy()
    empty = np.full((1, FACE, FACE), 22.0, np.float32)
    stage = Stage({"model": part}, Options())
    assert stage.parts.people is not None
    who, points = embed_thermal(stage.parts.people, fill_all(np.concatenate([person, empty])), 2)
    assert np.linalg.norm(who, axis=1) == pytest.approx([1, 0], abs=1e-4)
    assert np.isfinite(points[0]).all() and np.isnan(points[1]).all()
    # Of the aligned crop and its mirror image.
    crop = align(np.stack([show_thermal(fill_all(person)[0])]), points[:1])
    session = open_sessions(home / "faces", threads=1)[1]
    one, other = (unit_vectors(embed(session, np.ascontiguousarray(turned), 1)) for turned in (crop, crop[:, :, ::-1]))
    assert (unit_vectors(one + other) @ who[0])[0] > 0.99 > (one @ who[0])[0]

    @torch.no_grad()
    def translate(told: np.ndarray) -> torch.Tensor:
        names, celsius = ["row"], torch.from_numpy(fill_all(person))
        return stage._draw(celsius, names, [{}], torch.from_numpy(told), None, Settings(steps=2))

    own, unknown = translate(who[:1]), translate(who[1:])
    assert not torch.equal(own, unknown)
    with torch.no_grad():
        drawn = stage.translate(torch.from_numpy(fill_all(person)), ["row"], Settings(steps=2), 1, [{}])[0]
    assert torch.equal(drawn, own)
    # Guided by a recogniser, which leaves alone what shows nobody.
    guided = Stage({"model": part, "faces": home / "faces"}, Options())
    given, settings = columns_of(np.concatenate([person, empty])), Settings(steps=4, identity_guidance=0.1)
    plain = guided(given, Settings(steps=4), 2, [{}, {}])["translated"]
    towards = guided(given, settings, 2, [{}, {}])["translated"]
    alone = guided({name: values[:1] for name, values in given.items()}, settings, 2, [{}])["translated"]
    assert np.array_equal(plain[1], towards[1]) and np.array_equal(towards[:1], alone)
    seen = [unit_vectors(embed(session, align(made[:1], points[:1]), 1)) @ who[0] for made in (plain, towards)]
    assert seen[1] > seen[0] + 0.1


def test_guidance_to_a_person_needs_somebody_and_a_recogniser(tmp_path: Path) -> None:
    files = {"model": small_files(tmp_path / "untold", SHAPE.model_dump(mode="json"))}
    with pytest.raises(
        UserError, match=r"identity_guidance: this translator is not told who is shown.*shape\.identity"
    ):
        columns(Options(), Settings(identity_guidance=0.03), files)
    told = {"model": small_files(tmp_path / "told", SHAPE.model_copy(update={"identity": 512}).model_dump(mode="json"))}
    with pytest.raises(UserError, match=r"identity_guidance: the part names no recogniser.*weights\.faces"):
        columns(Options(), Settings(identity_guidance=0.03), told)
    columns(Options(), Settings(identity_guidance=0.03), told | {"faces": told["model"]})
    columns(Options(), Settings(), files)


def columns_of(celsius: np.ndarray) -> Columns:
    return {"thermal": to_centikelvin(celsius)[:, None], "noise_id": np.array(["row", "other"], object)}


def fill_all(celsius: np.ndarray) -> np.ndarray:
    return np.stack([fill(one) for one in celsius])


def small_files(folder: Path, config: dict[str, object]) -> SmallFiles:
    """Return the small files of a sealed part that has nothing but what it is told."""
    folder.mkdir()
    (folder / "translation.json").write_text(json.dumps(config))
    seal(folder)
    return SmallFiles(folder)
