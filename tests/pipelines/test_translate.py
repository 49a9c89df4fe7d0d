"""Translating thermal pictures: units, grey levels, palettes, several translations, Parquet, a run that goes on, refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from models.errors import UserError
from models.radiometry import is_inverted
from models.tasks.hfr import task as hfr
from models.weights.bundle import Bundle, load_bundle
from pipelines.config import translate as config
from pipelines.config.request import load_translate
from pipelines.config.translate import TranslateJob
from pipelines.pictures.codecs import decode, encode_png_rgb
from pipelines.plan.translate import TranslatePlan, read_translate_plan, row_of, write_translate_plan
from pipelines.report.sheet import TILE
from pipelines.report.translations import EDGE, HEAD, LINE
from pipelines.rows.halves import open_pairs
from pipelines.rows.ids import draw_id, page_id
from pipelines.run.driver import end_run
from pipelines.run.photographs import Summary
from pipelines.run.writer import write_partition
from pipelines.storage.uri import Storage
from pipelines.translate import finish
from tests.pipelines import small

SIZE = 32


def face(height: int = 40, width: int = 30) -> np.ndarray:
    """Return degrees Celsius of a warm middle before a cool background, float32."""
    y, x = np.mgrid[:height, :width]
    inside = ((y - height / 2) / height) ** 2 + ((x - width / 2) / width) ** 2 < 0.12
    return np.where(inside, 34.0, 22.0).astype(np.float32) + np.linspace(0, 1, width, dtype=np.float32)


def write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), values)


def grey(celsius: np.ndarray) -> np.ndarray:
    return np.rint((celsius - 20) * 12).clip(0, 255).astype(np.uint8)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "thermal"
    write(folder / "a.png", np.rint((face() + 273.15) * 100).astype(np.uint16))
    write(folder / "b" / "grey.png", grey(face()))
    write(folder / "black-hot.png", 255 - grey(face()))
    write(folder / "colour.png", np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8))
    write(folder / "cold.png", np.full((40, 30), 100, np.uint16))
    np.save(folder / "c.npy", face())
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    path = tmp_path / "bundle.yaml"
    parts = {"translate": {"kind": "null", "batch": 4}, "visible": {"kind": "null"}}
    path.write_text(yaml.safe_dump({"name": "small", "size": SIZE, "parts": parts}))
    return load_bundle(str(path))


@pytest.fixture
def planned(pictures: Path, bundle: Bundle, tmp_path: Path) -> Callable[..., TranslatePlan]:
    def plan(**values: Any) -> TranslatePlan:
        job = TranslateJob(**({"images": str(pictures), "size": SIZE} | values))
        return write_translate_plan(job, bundle, Storage(tmp_path / "out"))

    return plan


def make(plan: TranslatePlan) -> Summary:
    """Run a plan in this process, by the same stages that Ray Data runs."""
    chain = small.chain_of(plan)
    for partition in range(plan.partitions):
        write_partition(chain(plan.partition(partition)), plan, 1)
    return end_run(plan, finish)


def rows(out: Path, folder: str = "data") -> list[dict[str, Any]]:
    return [row for path in sorted((out / folder).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_the_first_translation_has_the_id_of_its_picture() -> None:
    """So one more translation, or one more page, changes nobody's id."""
    sample = {"sample_id": "s", "name": "n", "person": "p"}
    rows = [row_of(sample, page, draw) for page in (0, 2) for draw in (0, 1)]
    assert [row["name"] for row in rows] == ["n", "n", "n-page2", "n-page2"] and [row["draw"] for row in rows] == [
        0,
        1,
        0,
        1,
    ]
    assert [row["sample_id"] for row in rows] == ["s", draw_id("s", 1), page_id("s", 2), draw_id(page_id("s", 2), 1)]
    assert len({row["sample_id"] for row in rows}) == 4 and {row["person"] for row in rows} == {"p"}


def test_a_partition_keeps_to_what_its_columns_may_take(
    planned: Callable[..., TranslatePlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five bytes of a pixel for what is read and what is made, of each translation; at least one picture."""
    monkeypatch.setattr(config, "PARTITION_BYTES", 3 * 2 * 5 * SIZE**2)
    assert planned(samples=2, limit=3).recipe.partition == 3
    job, chain = TranslateJob(images="x", size=SIZE, samples=64), planned(samples=2, limit=3).chain
    assert config.recipe_for(job, chain).partition == 1


def test_grey_levels_are_of_skin_and_room_where_the_translator_does_not_say(
    planned: Callable[..., TranslatePlan],
) -> None:
    """They stand in the recipe, so that a run goes on with what it began."""
    assert planned().recipe.source["grey"] == [20.0, 36.0]


def test_what_is_taken_and_what_is_refused_with_the_way_out(
    planned: Callable[..., TranslatePlan], tmp_path: Path
) -> None:
    plan = planned(unit="centikelvin", samples=2)
    summary = make(plan)
    made = {(row["name"], row["draw"]): row for row in rows(tmp_path / "out")}
    assert set(made) == {("a", 0), ("a", 1), ("b/grey", 0), ("b/grey", 1)}
    assert (summary.pictures, summary.made) == (6, 4)
    # Translations differ, what they are made from does not.
    one, other = made["a", 0], made["a", 1]
    assert one["visible_kind"] == "translated" and one["visible"] != other["visible"]
    assert one["thermal"]["bytes"] == other["thermal"]["bytes"] and one["pair_id"] != other["pair_id"]
    celsius = decode(one["thermal"]["bytes"]).astype(float) / 100 - 273.15
    assert celsius[16, 16] == pytest.approx(34.5, abs=0.3) and one["thermal_kind"] == "measured"
    levels = decode(made["b/grey", 0]["thermal"]["bytes"])
    assert made["b/grey", 0]["thermal_kind"] == "agc" and levels.dtype == np.uint8
    assert abs(int(levels[16, 16]) - int(grey(face())[20, 15])) <= 2
    # Why others are not taken.
    reasons = {row["name"]: row["reject"] for row in rows(tmp_path / "out", "rejects")}
    assert set(reasons) == {"black-hot", "colour", "cold", "c"}
    assert reasons["black-hot"].startswith("inverted:") and "255 - value" in reasons["black-hot"]
    assert reasons["colour"].startswith("colours:") and reasons["cold"].startswith("not centikelvin")
    assert "as celsius" in reasons["c"]
    assert "4 translations of 6 pictures" in str(summary)
    assert "# 4 visible pictures of 6 thermal ones" in (tmp_path / "out" / "README.md").read_text()
    # A line for each picture: thermal and both translations.
    sheet = decode((tmp_path / "out" / "report" / "contact.png").read_bytes())
    assert sheet.shape == (HEAD + 2 * (TILE + LINE + EDGE), max(560, 2 * EDGE + 3 * (TILE + 2)), 3)


def test_degrees_and_warm_rooms_are_taken_where_they_are_named(
    planned: Callable[..., TranslatePlan], tmp_path: Path
) -> None:
    make(planned(unit="celsius", palette="any"))
    assert {row["name"] for row in rows(tmp_path / "out")} == {"c", "b/grey", "black-hot"}


def test_faces_are_cut_out_of_frames(pictures: Path, tmp_path: Path) -> None:
    """Two faces of each frame, two translations of each; a frame that shows none says so."""
    path = tmp_path / "bundle.yaml"
    parts = {stage: {"kind": "null", "batch": 4} for stage in ("translate", "landmarks")}
    path.write_text(yaml.safe_dump({"name": "small", "size": SIZE, "parts": parts}))
    write(pictures / "flat.png", np.full((40, 30), 30_000, np.uint16))
    job = TranslateJob(images=str(pictures), size=SIZE, faces=2, margin=0.0, samples=2)
    plan = write_translate_plan(job, load_bundle(str(path)), Storage(tmp_path / "out"))
    assert plan.recipe.source["faces"] == 2 and plan.recipe.source["found_by"]["kind"] == "null"
    make(plan)
    made = {(row["name"], row["draw"]): row for row in rows(tmp_path / "out")}
    assert set(made) == {(f"{name}-face{face}", draw) for name in ("a", "b/grey") for face in (0, 1) for draw in (0, 1)}
    reasons = {row["name"]: row["reject"] for row in rows(tmp_path / "out", "rejects")}
    assert reasons["flat"].startswith("no face") and reasons["black-hot"].startswith("inverted")
    # Where in the frame it was, and its own degrees.
    one = made["a-face1", 0]
    where = json.loads(one["provenance"])
    left, _, right, _ = where["source_box"]
    assert where["parent_id"] and (left + right) / 2 == pytest.approx(22.5, abs=2)
    celsius = decode(one["thermal"]["bytes"]).astype(float) / 100 - 273.15
    assert 34 < celsius.max() < 36 and len({row["pair_id"] for row in made.values()}) == 8
    with pytest.raises(ValueError, match="several people"):
        TranslateJob(images="x", size=SIZE, faces=2, person="folder:1")


def test_a_run_grows_and_keeps_what_it_has(planned: Callable[..., TranslatePlan], tmp_path: Path) -> None:
    make(planned(partition_samples=1, limit=1))
    before = sorted((tmp_path / "out" / "data").glob("*")) + sorted((tmp_path / "out" / "rejects").glob("*"))
    kept = {path: path.read_bytes() for path in before}
    make(planned(partition_samples=1))
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert read_translate_plan(Storage(tmp_path / "out")).chain.stages == ("translate",)
    with pytest.raises(UserError, match=r"source\.samples: 1 -> 3"):
        planned(partition_samples=1, samples=3)


def test_rows_of_ours_are_translated_by_person(
    planned: Callable[..., TranslatePlan], bundle: Bundle, tmp_path: Path
) -> None:
    make(planned())
    job = TranslateJob(images=str(tmp_path / "out"), size=SIZE)
    plan = write_translate_plan(job, bundle, Storage(tmp_path / "again"))
    make(plan)
    assert plan.recipe.source["person"] == "column:identity_id"
    assert {row["identity_id"] for row in rows(tmp_path / "again")} == {"a.png", "b/grey.png"}
    assert all(plan.find_truth(row) is None for row in plan.sample_table(0).to_pylist())  # what was made is no truth
    # Networks that compare people take the pairs, and look for the faces themselves: no stage has.
    pairs = open_pairs(str(tmp_path / "out"), hfr.COLUMNS, colour=True, translated=True, memory=0)
    assert len(pairs) == 2 and np.isnan(pairs.lists("landmarks_70")).all()


def test_the_visible_picture_beside_a_thermal_one_is_the_truth(bundle: Bundle, tmp_path: Path) -> None:
    thermal = cv2.imencode(".png", np.rint((face() + 273.15) * 100).astype(np.uint16))[1].tobytes()
    visible = np.full((40, 30, 3), 90, np.uint8)
    (tmp_path / "pairs").mkdir()
    table = {"thermal": [{"bytes": thermal}] * 2, "visible": [{"bytes": encode_png_rgb(visible)}, None]}
    pq.write_table(pa.table(table), tmp_path / "pairs" / "a.parquet")
    plan = write_translate_plan(
        TranslateJob(images=str(tmp_path / "pairs"), size=SIZE), bundle, Storage(tmp_path / "out")
    )
    one, other = plan.sample_table(0).to_pylist()
    np.testing.assert_array_equal(plan.find_truth(one), visible)
    assert plan.find_truth(other) is None
    make(plan)
    sheet = decode((tmp_path / "out" / "report" / "contact.png").read_bytes())
    shown = sheet[HEAD + LINE + TILE // 2, EDGE + 2 * (TILE + 2) + TILE // 2]  # the third picture of the first line
    assert tuple(shown) == (90, 90, 90)


def test_a_bundle_that_cannot_translate_and_a_unit_that_nobody_knows(pictures: Path) -> None:
    with pytest.raises(UserError, match="column translated is wanted, and no part of bundle null writes it"):
        load_translate(str(pictures), bundle="null", profile="laptop")
    with pytest.raises(UserError, match="unit"):
        load_translate(str(pictures), bundle="null", profile="laptop", unit="furlong")


def test_a_middle_that_is_darker_than_the_border_is_taken_for_black_hot() -> None:
    assert is_inverted(255 - grey(face())) and not is_inverted(grey(face()))
    assert not is_inverted(np.full((40, 40), 90, np.uint8))
