"""Landmarks of another landmarker, in files, against the rows' true points."""

from pathlib import Path

import numpy as np
import pytest

from models.errors import UserError
from models.faces.align import five_points
from models.landmarks.exports import pts_text
from pipelines.evaluation import points
from pipelines.evaluation.points import measure_points
from pipelines.rows.shards import Shards


def write(world: str, folder: Path, shift: float = 0.0, leave_out: int = 0, standard: int = 70) -> np.ndarray:
    """Write the true points, shifted to the right by `shift` px, of all rows but the first so many; return the true ones."""
    shards = Shards(world, ("pair_id", "landmarks_70"), memory=0)
    rows = shards.rows(np.arange(len(shards)))
    folder.mkdir()
    truth = five_points(rows["landmarks_70"]) if standard == 5 else np.asarray(rows["landmarks_70"])[:, :standard]
    for name, own in list(zip(rows["pair_id"], truth, strict=True))[leave_out:]:
        (folder / f"{name}.pts").write_text(pts_text(own + np.array([shift, 0], np.float32)))
    return truth


def test_true_points_are_right_and_shifted_ones_are_off_by_their_shift(tiny_world: str, tmp_path: Path) -> None:
    right = (
        measure_points(tiny_world, str(tmp_path / "right"), 70) if write(tiny_world, tmp_path / "right").size else {}
    )
    assert (
        right["nme"] < 1e-4 and right["auc"] == pytest.approx(1, abs=2e-3) and right["missed"] == right["failed"] == 0
    )
    for standard in (68, 5):
        truth = write(tiny_world, tmp_path / f"{standard}", shift=1.0, standard=standard)
        found = measure_points(tiny_world, str(tmp_path / f"{standard}"), standard)
        widths = truth[..., 0].max(axis=1) - truth[..., 0].min(axis=1)
        assert found["nme"] == pytest.approx((1 / widths).mean(), rel=0.02)
        assert ("nme_eyes" in found) == (standard == 68)
        assert found["faces"] == len(truth)


def test_a_face_without_a_file_is_missed_and_failed(tiny_world: str, tmp_path: Path) -> None:
    count = len(write(tiny_world, tmp_path / "some", leave_out=1))
    found = measure_points(tiny_world, str(tmp_path / "some"), 70)
    assert found["missed"] == found["failed"] == pytest.approx(1 / count)
    assert found["auc"] == pytest.approx(1 - 1 / count, abs=2e-3) and found["nme"] < 1e-4


def test_files_that_do_not_fit_are_named(tiny_world: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no file of landmarks"):
        measure_points(tiny_world, str(tmp_path / "none"), 70)
    write(tiny_world, tmp_path / "five", standard=5)
    with pytest.raises(UserError, match=r"\.pts: landmarks: 5 points where 70 are needed"):
        measure_points(tiny_world, str(tmp_path / "five"), 70)
    write(tiny_world, tmp_path / "more")
    (tmp_path / "more" / "stranger.pts").write_text("version: 1")
    with pytest.raises(
        UserError, match=r"1 files are of no row .* the first stranger\.pts: name them by the rows' pair_id"
    ):
        measure_points(tiny_world, str(tmp_path / "more"), 70)


def test_two_files_of_one_row_are_named_and_folders_of_names_tell_them_apart(
    tiny_world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run, shift in (("one", 0.0), ("two", 5.0)):
        write(tiny_world, tmp_path / run, shift=shift)
    with pytest.raises(UserError, match=r"one/.*\.pts and two/.*\.pts are both of row .*: leave one"):
        measure_points(tiny_world, str(tmp_path), 70)
    # Rows whose names have folders: each is measured by the file in its own.
    truth = (np.random.default_rng(0).random((2, 70, 2)) * 100 + 10).astype(np.float32)
    names = np.array(["one/a", "two/a"], object)
    rows = {"pair_id": np.array(["x", "y"], object), "name": names, "landmarks_70": truth}
    monkeypatch.setattr(points, "_rows", lambda *_: iter([rows | {"visible": np.zeros((2, 128, 128, 3), np.uint8)}]))
    for name, own in zip(names, truth, strict=True):
        (file := tmp_path / "named" / f"{name}.pts").parent.mkdir(parents=True)
        file.write_text(pts_text(own))
    assert measure_points("rows", str(tmp_path / "named"), 70)["nme"] < 1e-4
