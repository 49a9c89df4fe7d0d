"""Published sets as they lie on disk, read by their own splits."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cluster import cli
from models.errors import UserError
from models.tasks.hfr import task
from pipelines.evaluation.sources import Inputs, Sources, by_published_splits
from pipelines.evaluation.sources import test_split as split_of_tests
from pipelines.gather import gather_set
from pipelines.rows.halves import Halves, match_moments, open_pairs
from pipelines.rows.shards import Shards
from tests.pipelines.readers.test_sets import mcxface, picture, speakingfaces, tufts


def test_a_set_is_gathered_once_and_read_by_its_splits(tmp_path: Path) -> None:
    folder, out = speakingfaces(tmp_path / "faces"), tmp_path / "out" / "set"
    uri = gather_set(str(folder), "speakingfaces", str(out))
    rows = Shards(uri, ("split", "identity_id", "visible", "thermal"), memory=0)
    assert (
        set(rows.values("split")) == {"train", "validation", "test"} and split_of_tests(uri, "speakingfaces") == "test"
    )
    before = {path: path.stat().st_mtime_ns for path in (out / "data").iterdir()}
    assert gather_set(str(folder), "speakingfaces", str(out)) == uri
    assert {path: path.stat().st_mtime_ns for path in (out / "data").iterdir()} == before
    with pytest.raises(UserError, match="holds no SpeakingFaces"):
        gather_set(str(out), "speakingfaces", str(tmp_path / "other"))


def test_whoever_a_set_names_for_tests_is_tested_and_else_everybody(tmp_path: Path) -> None:
    # Tufts publishes no splits: those by which rows are told apart are ours, and nobody reports by them.
    uri = gather_set(str(tufts(tmp_path / "faces")), "tufts", str(tmp_path / "set"))
    assert split_of_tests(uri, "tufts") is None
    inputs = Inputs(data=uri, generated="made")
    assert by_published_splits(inputs, "tufts") == Inputs(test=uri, generated="made")
    assert by_published_splits(inputs._replace(test="others"), "tufts") == inputs._replace(test="others")
    # MCXFace's lists may name no test people: its own figures are of dev.
    folder = mcxface(tmp_path / "mcx")
    shutil.rmtree(folder / "protocols" / "VIS-THERMAL-split1" / "eval")
    uri = gather_set(str(folder), "mcxface", str(tmp_path / "lists"), "VIS-THERMAL-split1")
    assert by_published_splits(Inputs(data=uri), "mcxface") == Inputs(data=uri, tested="validation")
    sources = Sources(Inputs(data=uri, tested="validation"), {"lab": "data"}, task.COLUMNS, 100, "", apart=True)
    assert {name: set(rows.values("identity_id")) for name, rows in (sources.training | sources.tests).items()} == {
        "lab": {"a"}, "test": {"b"},
    }  # fmt: skip
    with pytest.raises(UserError, match="protocols VIS-NIR-split1, VIS-THERMAL-split1: --protocol NAME chooses one"):
        gather_set(str(folder), "mcxface", str(tmp_path / "none"))
    with pytest.raises(UserError, match="protocol is for the layout mcxface"):
        gather_set(str(folder), "tufts", str(tmp_path / "none"), "VIS-THERMAL-split1")


@pytest.mark.parametrize("words", [["evaluate", "hfr"], ["evaluate", "tfake"], ["train", "hfr"]])
def test_a_reader_needs_a_folder(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--reader", "speakingfaces", "--out", str(tmp_path)]) == 2
    assert "--reader says how --data lies on disk" in capsys.readouterr().err
    assert cli.main([*words, "--protocol", "P", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "--protocol is of a published set: name its --reader" in capsys.readouterr().err
    assert cli.main([*words, "--parser", "starter", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "--parser is of a published set: name its --reader" in capsys.readouterr().err
    assert cli.main([*words, "--rows-per-person", "3", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "--rows-per-person is of a published set: name its --reader" in capsys.readouterr().err


def test_halves_that_stand_apart_are_pairs_of_one_person(tmp_path: Path) -> None:
    uri = gather_set(str(tufts(tmp_path / "faces")), "tufts", str(tmp_path / "set"))
    found = open_pairs(uri, task.COLUMNS, colour=True, memory=0)
    assert isinstance(found, Halves)
    # Every thermal picture once: three of person 1, four of person 12, whose visible ones but the first come round again.
    person, view = found.values("identity_id").astype(str), found.values("view")
    assert [(person == name).sum() for name in ("1", "12")] == [3, 4] and view.tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert len({picture.tobytes() for picture in found.rows(np.array([3, 4, 5, 6]))["visible"]}) == 3
    rows = found.rows(np.array([4, 5]))
    assert np.array_equal(rows["visible"][0], rows["visible"][1]) and rows["thermal"].dtype == np.uint8
    assert not np.array_equal(rows["thermal"][0], rows["thermal"][1])
    assert (rows["thermal_grey"][..., 0] == rows["thermal_grey"][..., 1]).all()
    # The first pair of person 12 is of one moment, and no other shows its visible picture.
    names = found.felt.values("name")[found._second]
    assert list(names[3:]) == [f"{name}/thermal" for name in ("E/12/1", "A/12/3", "E/12/2", "E/12/5")]
    # Each half is aligned on its own points.
    rows["landmarks_70"][:], rows["thermal_landmarks_70"][:] = 10.0, 20.0
    prepared = task.prepare(rows, task.Config())
    assert (prepared["points"] == 10).all() and (prepared["thermal_points"] == 20).all()


def test_pictures_of_one_moment_stand_together() -> None:
    # Nobody is asked for by the moment that they are known by, whatever comes first.
    assert match_moments(["b", "c", "d"], ["a", "c", "b"]) == [(0, 2), (1, 0), (1, 1)]
    # Moments that the other camera has not stand beside the rest in turn; without any in common all do.
    assert match_moments(["a", "b", "c"], ["x", "y", "z", "w"]) == [(0, 0), (1, 1), (2, 2), (1, 3)]
    assert match_moments(["x", "b"], ["a", "b", "c"]) == [(1, 1), (0, 0), (0, 2)]
    # One visible picture alone stands beside all.
    assert match_moments(["a"], ["b", "a"]) == [(0, 1), (0, 0)]


def test_pairs_are_read_as_they_are_and_no_halves_named_as_pairs(tiny_world: str, tmp_path: Path) -> None:
    assert not isinstance(open_pairs(tiny_world, task.COLUMNS, colour=True, memory=0), Halves)
    folder = tmp_path / "faces"
    picture(folder / "TD_IR_E_Set1" / "1" / "TD_IR_E_1.jpg", colour=False)
    picture(folder / "TD_RGB_E_Set1" / "2" / "TD_RGB_E_1.jpg")
    uri = gather_set(str(folder), "tufts", str(tmp_path / "set"))
    with pytest.raises(UserError, match="nobody has a visible and a thermal picture"):
        open_pairs(uri, task.COLUMNS, colour=True, memory=0)


@pytest.mark.slow
def test_half_a_set_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Noise shows nobody: the run says so and trains on nothing."""
    folder = speakingfaces(tmp_path / "faces")
    words = ["evaluate", "hfr", "--data", str(folder), "--reader", "speakingfaces", "--out", str(tmp_path / "out")]
    assert (
        cli.main([*words, "--set", "people=[1]", "--set", "pairs=[0]", "--set", "seeds=[0]", "--tables", "grid"]) != 0
    )
    error = capsys.readouterr().err
    assert "no face was found" in error or "a gallery needs two people at least" in error
