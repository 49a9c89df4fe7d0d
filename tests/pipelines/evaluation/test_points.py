"""Landmarks of another landmarker, in files, against the rows' true points."""

from pathlib import Path

import numpy as np
import pytest

from models.errors import UserError
from models.faces.align import five_points
from models.landmarks.exports import pts_text
from pipelines.evaluation.points import measure_points
from pipelines.rows.shards import Shards


def write(world: str, folder: Path, shift: float = 0.0, leave_out: int = 0, standard: int = 70) -> np.ndarray:
    """Write the true points, shifted to the right by `shift` px, of all rows but the first so many; return the true ones."""
    shards = Shards(world, ("pair_id", "landmarks_70"), memory=0)
    rows = shards.rows(np.arange(len(shards)))
    folder.mkdir()
    truth = five_points(rows["landmarks_70"]) if standard == 5 else np.asarray(rows["landmarks_70"])[:, :standard]
    for name, points in list(zip(rows["pair_id"], truth, strict=True))[leave_out:]:
        (folder / f"{name}.pts").write_text(pts_text(points + np.array([shift, 0], np.float32)))
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
