"""`thermapair evaluate translation`: a small run on rendered people that goes on, its page, and people of one view."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from models.attributes import ATTRIBUTES
from models.diffusion.schedulers import new_scheduler
from models.diffusion.students import save_student
from models.errors import UserError
from models.evaluation.translation import COLUMNS, split_rows
from models.evaluation.translators import GIVEN, MAMBA, ONE_STEP, TRUE, UNGUIDED, Recipe
from models.faces.metrics import unit_vectors
from models.ssm import kernels
from models.weights.bundle import load_bundle
from models.weights.store import ROOT, seal
from pipelines.evaluation.adapted import adapted_parts, load_recognisers
from pipelines.evaluation.translators import bench
from pipelines.evaluation.translators.people import People
from pipelines.evaluation.translators.rivals import Rivals
from pipelines.pictures.codecs import encode_png
from pipelines.rows.halves import Halves
from pipelines.rows.schema import arrow_schema
from pipelines.rows.shards import Shards
from tests.models.translation.tiny import write_part
from tests.pipelines import small_translator, worlds


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    path = tmp_path / "bundle.yaml"
    path.write_text(yaml.safe_dump({"name": "small", "size": 32, "parts": {"translate": {"kind": "null", "batch": 4}}}))
    return str(path)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the judges: a person is a picture's thumb, its words are always the first."""
    judges = SimpleNamespace(
        judge_attributes=lambda pictures: {
            n: np.eye(len(w))[[0] * len(pictures)] for n, (_, _, w) in ATTRIBUTES.items()
        },
        describe=lambda pictures: pictures[:, ::8, ::8].reshape(len(pictures), -1).astype(np.float32),
    )
    monkeypatch.setattr(bench, "load_judges", lambda folder: judges)

    def embed(own: Any, pictures: np.ndarray, points: np.ndarray) -> np.ndarray:
        return pictures[:, ::4, ::4].reshape(len(pictures), -1) / 255 - 0.5

    monkeypatch.setattr(bench.Bench, "_embed", embed)


def test_a_run_is_measured_once_and_said_on_a_page(
    rendered: list[pa.Table], bundle: str, judged: None, tmp_path: Path
) -> None:
    data, out = worlds.write(tmp_path / "data", rendered), tmp_path / "out"
    found = bench.run(out, data, bundle, ["people=2", "together=1"])
    assert [row["row"] for row in found["identity"]] == ["raw probe", "Self-attn Mamba", "true visible"]
    page = (out / "tables.md").read_text()
    assert "2 people of" in page and "4 probes of views" in page and "| true visible | 1 | " in page
    assert "Not measured (no translator was named, or not yet): regression U-Net" in page
    # More people go on from there.
    lines = (out / "ledger.jsonl").read_text()
    more = bench.run(out, data, bundle, ["people=4", "together=1"])
    assert (out / "ledger.jsonl").read_text().startswith(lines) and len(
        (out / "ledger.jsonl").read_text().splitlines()
    ) == 12
    assert more["pictures"][1]["diversity"]["value"] > 0 and "diversity" not in more["pictures"][0]
    # What was kept of a part and is gone is measured again.
    next((out / "work").glob("*.npz")).unlink()
    assert bench.run(out, data, bundle, ["people=4", "together=1"]) == more


def test_a_translator_that_is_guided_to_somebody_stands_beside_itself_without() -> None:
    bundle = load_bundle("translator")
    own, rivals = bundle.part("translate"), Rivals(Recipe(), bundle)
    (whole,) = rivals.rows[MAMBA]
    assert own.settings["identity_guidance"] and whole is not None and whole.settings == own.settings
    (unguided,) = rivals.rows[UNGUIDED]
    assert unguided is not None and unguided.settings == {
        k: v for k, v in own.settings.items() if k != "identity_guidance"
    }
    assert rivals.digest(UNGUIDED, 0) != rivals.digest(MAMBA, 0)
    settings = {row: rivals.stage(row, 0)[1] for row in (MAMBA, ONE_STEP)}
    assert (
        settings[ONE_STEP].steps == 1 and not settings[ONE_STEP].identity_guidance and settings[MAMBA].identity_guidance
    )


def test_the_adapted_recogniser_stands_beside_translators_in_its_own_space(
    rendered: list[pa.Table], judged: None, tmp_path: Path
) -> None:
    faces = ROOT / "models" / "starter" / "faces"
    part = {"kind": "insightface", "weights": {"model": str(faces), "thermal": str(faces)}, "licence": "apache-2.0"}
    content = {"name": "small", "size": 32, "parts": {"translate": {"kind": "null", "batch": 4}, "faces": part}}
    (tmp_path / "both.yaml").write_text(yaml.safe_dump(content))
    data, out = worlds.write(tmp_path / "data", rendered), tmp_path / "out"
    edits = ["people=2", "together=1", f"hfr=[{faces}]"]
    found = bench.run(out, data, str(tmp_path / "both.yaml"), edits)
    rows = {row["row"]: row for row in found["identity"]}
    assert list(rows)[-2:] == ["adapted recogniser", "true visible"] and rows["adapted recogniser"]["seeds"] == 2
    # It shows nobody a picture; the translator is held against it.
    assert "adapted recogniser" not in {row["row"] for row in found["pictures"] + found["distribution"] + found["seen"]}
    assert [row["row"] for row in found["against"]] == ["Self-attn Mamba over adapted recogniser"]
    page = (out / "tables.md").read_text()
    assert "| adapted recogniser | 2 | " in page and "`adapted recogniser`: no translation" in page
    # Its cosines are those of the starter's recogniser.
    rows_of = Shards(data, COLUMNS, memory=0)
    split = split_rows(rows_of.values("identity_id").astype(str), rows_of.values("view"), 2)
    probe, known = rows_of.rows(split.probes), rows_of.rows(split.gallery)
    own = load_recognisers(load_bundle(str(tmp_path / "both.yaml")).part("faces"), str(tmp_path))
    vectors = unit_vectors(own.embed_probes(probe["thermal"], probe["landmarks_70"]))
    gallery = unit_vectors(own.embed_gallery(known["visible"], known["landmarks_70"]))
    person = [list(known["identity_id"]).index(name) for name in probe["identity_id"]]
    expected = float((vectors * gallery[person]).sum(axis=1).mean())
    assert rows["adapted recogniser"]["cosine"]["value"] == pytest.approx(expected, abs=1e-4)


def test_a_published_set_is_read_by_its_split_and_without_points(
    rendered: list[pa.Table], bundle: str, judged: None, tmp_path: Path
) -> None:
    """People of the world as the rows of a published set: grey levels, no world, no points but those of some rows."""
    grey = {"bytes": encode_png(np.arange(32 * 32, dtype=np.uint32).reshape(32, 32).astype(np.uint8)), "path": "a.png"}
    blocks = []
    for number, block in enumerate(rendered):
        rows = block.to_pylist()
        for place, row in enumerate(rows):
            del row["world_identity"]
            known = np.array(row["landmarks_70"], np.float32)
            # The last row of every block shows nobody whom the landmarker would find.
            row["landmarks_70"] = (known if place < len(rows) - 1 else np.full_like(known, np.nan)).tolist()
            row |= {"attributes": '{"pose": "2", "trial": "1"}', "thermal": grey, "thermal_kind": "minmax"}
            row["split"] = "test" if number else "train"
        names = [name for name in block.column_names if name != "world_identity"]
        blocks.append(pa.Table.from_pylist(rows, schema=arrow_schema(names)))
    data = worlds.write(tmp_path / "data", blocks)
    found = bench.run(tmp_path / "out", data, bundle, ["people=2", "together=2"], reader="speakingfaces")
    page = (tmp_path / "out" / "tables.md").read_text()
    assert [row["row"] for row in found["identity"]] == ["raw probe", "Self-attn Mamba", "true visible"]
    assert "2 people of" in page and "3 probes of views" in page


def test_halves_that_stand_apart_are_read_on_their_own_points(
    rendered: list[pa.Table], bundle: str, judged: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four people in two moments: known by the visible picture of one, asked for by the thermal one of the other."""
    data = worlds.write_apart(tmp_path / "data", rendered)
    people = People(data, Recipe(people=4, together=2), "")
    assert people.apart and (people.count, people.parts, people.left_out) == (
        4,
        2,
        {GIVEN: "the rows say no attribute in our words"},
    )
    assert people.person.tolist() == [0, 1, 2, 3]
    rows, gallery = people.rows(people.split.probes), people.rows(people.split.enrolled)
    assert np.allclose(rows["thermal_landmarks_70"] - rows["landmarks_70"], (1, 0))
    assert (
        list(rows["identity_id"]) == list(gallery["identity_id"]) and not (rows["visible"] == gallery["visible"]).all()
    )
    # Each picture is read where its own half shows the face: pictures of the thermal camera 1 px to the right.
    read = list[np.ndarray]()

    def embed(own: Any, pictures: np.ndarray, points: np.ndarray) -> np.ndarray:
        read.append(
            points.reshape(-1, 70, 2)[0] - people.rows(people.split.probes[[0, 2]])["landmarks_70"][len(read) % 2]
        )
        return pictures[:, ::4, ::4].reshape(len(pictures), -1) / 255 - 0.5

    monkeypatch.setattr(bench.Bench, "_embed", embed)
    found = bench.run(tmp_path / "out", data, bundle, ["people=4", "together=2"])
    assert [row["row"] for row in found["identity"]] == ["raw probe", "Self-attn Mamba", "true visible"]
    assert [float(one[0, 0]) for one in read[:6]] == pytest.approx([1, 1, 1, 1, 0, 0])
    # No pixel is compared, and the page says so.
    assert found["distribution"] == [] and [list(row) for row in found["pictures"]] == [["row", "diversity"]]
    page = (tmp_path / "out" / "tables.md").read_text()
    assert "4 probes of views" in page and "So PSNR, SSIM and FID-world are left out." in page and "dB" not in page
    assert "`given attributes` is left out: the rows say no attribute in our words." in page


def test_lists_say_who_enrols_and_who_asks(rendered: list[pa.Table], bundle: str, judged: None, tmp_path: Path) -> None:
    data = worlds.write_apart(tmp_path / "data", rendered, lists=True)
    people = People(data, Recipe(people=2, together=2), "")
    # Both visible pictures of a person enrol, both thermal ones ask; a person is the mean of what enrols.
    assert people.by_lists and people.person.tolist() == [0, 0, 1, 1] and people.split.owner.tolist() == [0, 0, 1, 1]
    mean = people.embed_gallery(lambda pictures, points: pictures[:, ::8, ::8, 0].reshape(len(pictures), -1))
    shown = Halves(data).seen.rows(np.arange(2))["visible"][:, ::8, ::8, 0].reshape(2, -1)
    assert np.allclose(mean[0], unit_vectors(shown).mean(axis=0))
    found = bench.run(tmp_path / "out", data, bundle, ["people=4", "together=2"])
    assert [row["row"] for row in found["identity"]] == ["raw probe", "Self-attn Mamba"]
    page = (tmp_path / "out" / "tables.md").read_text()
    assert "8 probes: its lists say which pictures enrol" in page
    assert "`true visible` is left out: the lists let no visible picture ask." in page


def test_a_true_visible_picture_is_no_probe_where_the_gallery_has_it(rendered: list[pa.Table], tmp_path: Path) -> None:
    names = sorted({str(name) for block in rendered for name in block.column("identity_id").to_pylist()})
    people = People(worlds.write_apart(tmp_path / "data", rendered, alone=names[1]), Recipe(people=4, together=2), "")
    assert people.left_out[TRUE] == "somebody has a single visible picture, and a gallery knows them by it"
    assert people.count == 4


def test_probes_of_another_space_than_the_gallerys_are_refused_before_all_else(
    rendered: list[pa.Table], tmp_path: Path
) -> None:
    faces, other = ROOT / "models" / "starter" / "faces", tmp_path / "other"
    other.mkdir()
    (other / "space.json").write_text('{"recogniser": "0123456789abcdef"}')
    seal(other)
    part = {"kind": "insightface", "weights": {"model": str(faces), "thermal": str(other)}, "licence": "apache-2.0"}
    content = {"name": "small", "size": 32, "parts": {"translate": {"kind": "null", "batch": 4}, "faces": part}}
    (tmp_path / "both.yaml").write_text(yaml.safe_dump(content))
    data, out = worlds.write(tmp_path / "data", rendered), tmp_path / "out"
    with pytest.raises(UserError, match=r"adapted from recogniser 0123456789abcdef.* two spaces\. Name the recogniser"):
        bench.run(out, data, str(tmp_path / "both.yaml"), ["people=2", "together=1"])
    assert not (out / "ledger.jsonl").exists()


def test_rows_are_told_by_the_kernel_that_scans_and_a_student_has_its_own_steps(tmp_path: Path) -> None:
    teacher = write_part(tmp_path / "teacher")
    file = small_translator.write_bundle(tmp_path / "bundle", teacher, settings={"steps": 8, "guidance": 3.0})
    student = write_part(tmp_path / "student")
    save_student(new_scheduler(), [2, 4], student)
    seal(student)

    def rivals(*edits: str, **recipe: Any) -> Rivals:
        return Rivals(Recipe(**recipe), load_bundle(file, edits))

    found = rivals(student=[str(student)])
    (one,), (few,), (single,) = (found.rows[row] for row in ("Self-attn Mamba", "student", "one step"))
    assert one is not None and few is not None and single is not None
    assert {part.options["kernel"] for part in (one, few)} == {kernels.choose().name}
    assert (
        few.settings == {"steps": 4, "guidance": 1.0} and one.settings["steps"] == 8 and single.settings["steps"] == 1
    )
    other = rivals("translate.options.kernel=mamba_ssm")
    assert other.digest("Self-attn Mamba", 0) != found.digest("Self-attn Mamba", 0)
    # Which steps a student takes is held to.
    with pytest.raises(UserError, match="student of 2, 4 steps, not of 8"):
        rivals(mamba=[str(student)])
    led = {"steps": 4, "scheduler": "euler"}
    wrong = load_bundle(small_translator.write_bundle(tmp_path / "led", student, settings=led))
    with pytest.raises(UserError, match="set scheduler to folder or lcm, not euler"):
        Rivals(Recipe(), wrong)
    with pytest.raises(UserError, match="is no student: name what distill_translator wrote"):
        rivals(student=[str(teacher)])
    own = Rivals(Recipe(), load_bundle(small_translator.write_bundle(tmp_path / "few", student, settings={"steps": 4})))
    assert "one step" not in own.rows and own.stage("Self-attn Mamba", 0)[1].steps == 4


def test_an_adapted_recogniser_needs_the_one_that_it_was_adapted_from(bundle: str) -> None:
    with pytest.raises(UserError, match="bundle small has no faces part"):
        adapted_parts(load_bundle(bundle), ["somewhere"])
    assert adapted_parts(load_bundle(bundle), []) == []


def test_people_need_two_views(rendered: list[pa.Table], bundle: str, tmp_path: Path) -> None:
    place = rendered[0].column_names.index("identity_id")
    alone = [block.set_column(place, "identity_id", block["sample_id"]) for block in rendered]  # everybody has one
    with pytest.raises(UserError, match="two views"):
        bench.run(tmp_path / "out", worlds.write(tmp_path / "data", alone), bundle)
