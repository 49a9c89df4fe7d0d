"""Folders of published sets, from `--data` and `--reader` to tables and weights."""

import json
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from cluster import cli
from pipelines.rows.halves import Halves
from tests.pipelines import published
from tests.pipelines.published import View

LISTS = ("--reader", "mcxface", "--protocol", "VIS-THERMAL-split1")


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> list[View]:
    return published.render_people(tmp_path_factory)


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
    assert run("evaluate", "lapig", "--data", data, "--reader", "sejong", "--out", str(out), sets=("together=6",)) == 0
    found = tables(out)["tables"]
    # Four people in three views each, all found; their halves agree, for they are of one moment.
    (who,), (halves,) = found["identity"], found["agreement"]
    assert who["face_found"]["value"] == 1 and who["rank1_4"]["value"] >= 0.5
    assert halves["agreement"]["value"] < 0.15 and found["degrees"] == []
