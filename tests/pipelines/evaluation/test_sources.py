"""Published sets as they lie on disk, read by their own splits."""

from pathlib import Path

import pytest

from cluster import cli
from models.errors import UserError
from pipelines.evaluation.sources import test_split as split_of_tests
from pipelines.gather import gather_set
from pipelines.rows.shards import Shards
from tests.pipelines.readers.test_sets import speakingfaces


def test_a_set_is_gathered_once_and_read_by_its_splits(tmp_path: Path) -> None:
    folder, out = speakingfaces(tmp_path / "faces"), tmp_path / "out" / "set"
    uri = gather_set(str(folder), "speakingfaces", str(out))
    rows = Shards(uri, ("split", "identity_id", "visible", "thermal"), memory=0)
    assert set(rows.values("split")) == {"train", "validation", "test"} and split_of_tests(uri) == "test"
    before = {path: path.stat().st_mtime_ns for path in (out / "data").iterdir()}
    assert gather_set(str(folder), "speakingfaces", str(out)) == uri
    assert {path: path.stat().st_mtime_ns for path in (out / "data").iterdir()} == before
    with pytest.raises(UserError, match="holds no SpeakingFaces"):
        gather_set(str(out), "speakingfaces", str(tmp_path / "other"))


def test_rows_without_a_published_split_are_all_read(tiny_world: str) -> None:
    assert split_of_tests(tiny_world) is None


@pytest.mark.parametrize("words", [["evaluate", "hfr"], ["evaluate", "tfake"], ["train", "hfr"]])
def test_a_reader_needs_a_folder(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--reader", "speakingfaces", "--out", str(tmp_path)]) == 2
    assert "--reader says how --data lies on disk" in capsys.readouterr().err


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
