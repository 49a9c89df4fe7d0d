"""Folders of published sets, from `--data` and `--reader` to tables and weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest

from cluster import cli
from models.evaluation.tfake import landmarks
from models.evaluation.tfake.recipe import Recipe
from models.landmarks.network import LandmarkerConfig, new_landmarker
from pipelines.evaluation.shards import field_rows
from pipelines.gather import gather_set
from pipelines.readers.world_layouts import finish_files, write_files
from pipelines.rows.halves import Halves
from pipelines.rows.shards import Shards
from pipelines.storage.uri import Storage
from tests.pipelines import published, worlds
from tests.pipelines.evaluation.test_evaluate import TINY
from tests.pipelines.published import View
from tests.pipelines.readers import test_sets

SMALLEST = (*TINY, "weights=[0.01]", "gaps=[1]", "steps=1", "landmark_steps=1")
LISTS = ("--reader", "mcxface", "--protocol", "VIS-THERMAL-split1")


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> list[View]:
    return published.render_people(tmp_path_factory)


@pytest.fixture(scope="module")
def tfake(rendered: list[pa.Table], tmp_path_factory: pytest.TempPathFactory) -> str:
    """T-FAKE's layout with four pictures, warm and cold, in degrees."""
    folder = tmp_path_factory.mktemp("tfake")
    job = worlds.JOB.model_copy(update={"count": 8, "layout": "tfake"})
    write_files(rendered[0], job, Storage(folder))
    finish_files(job, Storage(folder))
    return str(folder)


def run(*words: str, sets: tuple[str, ...] = ()) -> int:
    return cli.main([*words, *(word for edit in sets for word in ("--set", edit))])


def tables(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "tables.json").read_text())
    return found


@pytest.mark.slow
def test_a_recogniser_is_adapted_and_measured_by_lists_of_who_enrols_and_asks(
    views: list[View], tmp_path: Path
) -> None:
    data, out = str(published.write_mcxface(tmp_path / "mcx", views)), tmp_path / "run"
    words = ("train", "hfr", "--data", data, *LISTS, "--out", str(out), "--local", "--threads", "1")
    assert run(*words, sets=("steps=2", "batch=4", "lr=0.001")) == 0
    record = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 <= record["validation/auc"] <= 1 and 0 <= record["validation/visible_tar"] <= 1
    assert onnxruntime.InferenceSession(str(out / "export" / "thermal.onnx")).get_inputs()[0].shape[2:] == [112, 112]
    # Dev is tested: two people, by the two pictures each that enrol, for whom all three thermal ones ask.
    given = ("people=[0,2]", "pairs=[0]", "seeds=[0]", "steps=1", "batch=4")
    assert (
        run("evaluate", "hfr", "--data", data, *LISTS, "--out", str(tmp_path / "out"), "--tables", "grid", sets=given)
        == 0
    )
    found = tables(tmp_path / "out")
    assert found["facts"]["tests"] == {"test": {"people": 2, "probes": 6}}
    assert [row["row"] for row in found["tables"]["test"]["grid"]] == ["unadapted", "2 lab people"]
    # No visible picture asks: those that there are enrol.
    assert found["tables"]["test"]["visible"] == []
    rows = Halves(str(tmp_path / "out" / "set"), split="validation")
    assert rows.models is not None and len(rows.models) == 4 and len(rows) == 6


@pytest.mark.slow
def test_a_set_without_splits_is_tested_whole(views: list[View], tmp_path: Path) -> None:
    data, out = str(published.write_tufts(tmp_path / "faces", views)), tmp_path / "out"
    given = ("people=[0]", "pairs=[0]", "seeds=[0]", "steps=1")
    assert (
        run("evaluate", "hfr", "--data", data, "--reader", "tufts", "--out", str(out), "--tables", "grid", sets=given)
        == 0
    )
    found = tables(out)
    assert found["facts"]["tests"]["test"]["people"] == 4 and found["facts"]["tests"]["test"]["probes"] >= 7
    assert [row["row"] for row in found["tables"]["test"]["grid"]] == ["unadapted"]


@pytest.mark.slow
def test_registered_pairs_train_and_are_read_by_their_split(views: list[View], tmp_path: Path) -> None:
    data = str(published.write_speakingfaces(tmp_path / "faces", views))
    words = (
        "train",
        "hfr",
        "--data",
        data,
        "--reader",
        "speakingfaces",
        "--out",
        str(tmp_path / "run"),
        "--local",
        "--threads",
        "1",
        "--threads",
        "1",
    )
    assert run(*words, sets=("steps=1", "batch=4")) == 0
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["split"], facts["validation_split"], facts["data"]) == ("train", "validation", facts["validation"])
    given = ("people=2", "together=2", "draws=1", "translate.settings.steps=1")
    out = tmp_path / "out"
    assert run("evaluate", "translation", "--bundle", "translator", "--data", data, "--reader", "speakingfaces",
               "--out", str(out), sets=given) == 0  # fmt: skip
    assert tables(out)["facts"]["people"] == 2 and tables(out)["facts"]["probes"] == 4


@pytest.mark.slow
def test_points_of_a_set_train_and_test_a_landmarker(views: list[View], tmp_path: Path) -> None:
    data, out = str(published.write_sf_tl54(tmp_path / "faces", views)), tmp_path / "out"
    given = ("frames=[4]", "pairs=[0]", "seeds=[0]", "steps=1", "batch=4", "size=32", "width=0.25")
    assert run("evaluate", "landmarks", "--data", data, "--reader", "sf-tl54", "--out", str(out), sets=given) == 0
    found = tables(out)
    assert found["facts"]["tests"]["test"] == {"pictures": 6, "people": 2}
    assert 0 < found["tables"]["test"]["grid"][0]["nme"]["value"] < 10


@pytest.mark.slow
def test_pairs_of_a_set_are_read_by_judges(views: list[View], tmp_path: Path) -> None:
    data, out = str(published.write_sejong(tmp_path / "faces", views)), tmp_path / "out"
    words = ("evaluate", "lapig", "--data", data, "--reader", "sejong")
    assert run(*words, "--out", str(out), sets=("together=6",)) == 0
    found = tables(out)["tables"]
    # Four people in three views each, all found; their halves agree, for they are of one moment.
    (who,), (halves,) = found["identity"], found["agreement"]
    assert who["face_found"]["value"] == 1 and who["rank1_4"]["value"] >= 0.5
    assert halves["agreement"]["value"] < 0.15 and found["degrees"] == []
    page = (out / "tables.md").read_text()
    assert "The rows say no words, no poses, no degrees with classes" in page and "|  |" not in page
    # Found classes change nothing of that: grey levels are no degrees.
    parsed = (*words, "--parser", "starter", "--condition", "warm", "--out", str(tmp_path / "parsed"))
    assert run(*parsed, sets=("together=6",)) == 0
    assert tables(tmp_path / "parsed")["tables"]["identity"] == found["identity"]
    rows = Shards(str(tmp_path / "parsed" / "set"), ("classes", "condition")).rows(np.arange(12))
    assert rows["classes"].max() < 19 and set(rows["condition"]) == {"warm"}


@pytest.mark.slow
def test_degrees_of_a_set_are_read_by_region(tfake: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("evaluate", "lapig", "--data", tfake, "--reader", "tfake", "--parser", "starter")
    assert run(*words, "--out", str(out), sets=("together=4",)) == 0
    (row,) = tables(out)["tables"]["regions"]
    assert {key.rpartition(", ")[2] for key in row if key != "row"} == {"warm", "cold"}
    assert 25 < row["mean_skin, warm"]["value"] < 40
    assert "The rows say no words: what" in (out / "tables.md").read_text()


@pytest.mark.slow
def test_translators_are_measured_on_cameras_that_stood_apart(views: list[View], tmp_path: Path) -> None:
    given = ("people=4", "together=2", "draws=1", "translate.settings.steps=1")
    # Everybody of Tufts is tested, by pictures of other moments than the one that knows them.
    data = str(published.write_tufts(tmp_path / "faces", views))
    words = ("evaluate", "translation", "--bundle", "translator", "--data", data, "--reader", "tufts")
    assert run(*words, "--out", str(tmp_path / "out"), sets=given) == 0
    found = tables(tmp_path / "out")
    assert found["facts"]["apart"] and found["facts"]["people"] == 4 and found["facts"]["probes"] >= 7
    rows = {row["row"]: row for row in found["tables"]["identity"]}
    assert rows["true visible"]["rank1_probes"]["value"] >= 0.5
    assert found["tables"]["pictures"] == [] and found["tables"]["distribution"] == []
    # Lists say who enrols and who asks: the two people of dev, by all their thermal pictures.
    data = str(published.write_mcxface(tmp_path / "mcx", views))
    words = (
        "evaluate",
        "translation",
        "--bundle",
        "translator",
        "--data",
        data,
        *LISTS,
        "--out",
        str(tmp_path / "lists"),
    )
    assert run(*words, sets=("people=2", "together=2", *given[2:])) == 0
    facts = tables(tmp_path / "lists")["facts"]
    assert (facts["by_lists"], facts["people"], facts["probes"]) == (True, 2, 6) and "true visible" in facts["left_out"]


@pytest.mark.slow
def test_classes_and_a_condition_are_given_to_a_set_that_has_none(
    views: list[View], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(published.write_sejong(tmp_path / "faces", views))
    words = (
        "train",
        "thermalizer",
        "--data",
        data,
        "--reader",
        "sejong",
        "--local",
        "--threads",
        "1",
        "--split",
        "all",
    )
    words += ("--validation-split", "all")
    sets = ("steps=1", "batch=4", "bf16=false", "thermal.conditions=[warm]", "loss.paired_scale=affine", "loss.prior=1")

    def refuse(name: str, *more: str) -> str:
        assert run(*words, *more, "--out", str(tmp_path / name), sets=sets) == 2
        assert not (tmp_path / name / "run.json").exists(), "nothing is claimed"
        return capsys.readouterr().err

    # What is missing is asked for, one after the other, before anything is trained.
    assert "rows of condition ''" in refuse("a") and "--reader NAME --condition warm" in refuse("a")
    assert "--reader NAME --parser starter" in refuse("b", "--condition", "warm")
    given = ("--condition", "warm", "--parser", "starter")
    assert "validate on nothing (--validation none)" in refuse("c", *given)
    assert run(*words, *given, "--validation", "none", "--out", str(tmp_path / "d"), sets=sets) == 0
    assert (tmp_path / "d" / "export" / "thermal.json").is_file()
    rows = Shards(str(tmp_path / "d" / "set"), ("classes", "condition")).rows(np.arange(12))
    assert rows["classes"].max() < 19 and len(np.unique(rows["classes"])) > 3 and set(rows["condition"]) == {"warm"}


@pytest.mark.slow
def test_a_landmarker_sees_predicted_thermal_pictures_of_parsed_ones(views: list[View], tmp_path: Path) -> None:
    data = str(published.write_sf_tl54(tmp_path / "faces", views))
    words = (
        "train",
        "landmarker",
        "--data",
        data,
        "--reader",
        "sf-tl54",
        "--local",
        "--threads",
        "1",
        "--validation",
        "none",
    )
    sets = ("steps=1", "batch=4", "network.size=32", "network.width=0.25", "network.head=32", "thermal=0.5")
    assert run(*words, "--out", str(tmp_path / "a"), sets=sets) == 2
    assert run(*words, "--parser", "starter", "--out", str(tmp_path / "b"), sets=sets) == 0


@pytest.mark.slow
def test_frames_and_pairs_of_a_set_stand_for_field(views: list[View], tfake: str, tmp_path: Path) -> None:
    """Grey frames of SF-TL54 are searched for their 54 points; a thermalizer is read on T-FAKE's pairs in degrees."""
    data, out = str(published.write_sf_tl54(tmp_path / "faces", views)), tmp_path / "frames"
    words = ("evaluate", "tfake", "--data", data, "--reader", "sf-tl54", "--parser", "starter", "--condition", "warm")
    assert run(*words, "--tables", "landmarks", "--out", str(out), sets=SMALLEST) == 0
    lines = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    frames = [line["measures"]["frames"] for line in lines if line["table"] == "landmarks"]
    # Test people alone, three pictures each; all errors are against points of theirs.
    assert frames and all(sorted(set(one["identity"])) == ["102", "103"] for one in frames)
    assert all(len(one["true"]) == 6 and np.isfinite(one["true"]).all() for one in frames)
    assert all("field" not in line["measures"] for line in lines)
    out = tmp_path / "pairs"
    words = ("evaluate", "tfake", "--data", tfake, "--reader", "tfake", "--parser", "starter")
    assert run(*words, "--tables", "baselines", "--out", str(out), sets=SMALLEST) == 0
    lines = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    (line,) = [line for line in lines if line["row"] == "all" and line["gap"] == 1]
    assert all(0 < np.mean(one["mae"]) < 20 for one in line["measures"]["field"].values())


def test_grey_frames_of_a_set_are_searched(tmp_path: Path) -> None:
    """Their levels are no degrees, nor is that found out after everything was trained."""
    uri = gather_set(str(test_sets.sf_tl54(tmp_path / "faces")), "sf-tl54", str(tmp_path / "set"))
    recipe = Recipe(field=uri, frame=32)
    frames = field_rows(uri, recipe, frames=True)
    assert frames["frame"].dtype == np.uint8 and frames["frame"].shape[1:] == (32, 32) and frames["frame"].std() > 10
    network = LandmarkerConfig(size=32, width=0.25, head=32, cells=1, outputs="softplus")
    unlabelled = {"annotated": np.ones(len(frames["frame"]), bool)}  # by 72 points of its own, of which there are none
    found = landmarks.measure(new_landmarker(network).eval(), frames | unlabelled, landmarks.Adapters({}), recipe)
    assert np.isfinite(found["true"]).all() and set(found["identity"]) == {"100", "101"}


def test_a_set_without_points_is_no_field_of_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is rendered or trained before that is said."""
    folder, out = test_sets.speakingfaces(tmp_path / "faces"), tmp_path / "out"
    assert run("evaluate", "tfake", "--data", str(folder), "--reader", "speakingfaces", "--out", str(out)) == 2
    assert "no row gives landmarks_70 or landmarks_72" in capsys.readouterr().err
    assert not (out / "ledger.jsonl").exists() and not (out / "work").exists()
