"""Landmarks of another landmarker, in files, against the rows' true points."""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.errors import UserError
from models.evaluation.tfake.points import Figures
from models.evaluation.tfake.recipe import Recipe
from models.faces.align import five_points
from models.landmarks import adapt
from models.landmarks.adapt import AdapterConfig, leave_subject_out
from models.landmarks.exports import pts_text, yolo_face
from models.landmarks.metrics import nme
from models.landmarks.standards import contour72
from pipelines.evaluation import points
from pipelines.evaluation.points import measure_points, render_figures
from pipelines.rows.encode import encode_parquet
from pipelines.rows.schema import GATHERED, arrow_schema
from pipelines.rows.shards import Shards
from pipelines.storage.commits import Commit, commit, write_shard
from pipelines.storage.uri import Storage


def write(world: str, folder: Path, shift: float = 0.0, leave_out: int = 0, standard: int = 70) -> np.ndarray:
    """Write the true points, shifted to the right by `shift` px, of all rows but the first so many; return the true ones."""
    shards = Shards(world, ("pair_id", "landmarks_70"), memory=0)
    rows = shards.rows(np.arange(len(shards)))
    folder.mkdir()
    truth = five_points(rows["landmarks_70"]) if standard == 5 else np.asarray(rows["landmarks_70"])[:, :standard]
    for name, own in list(zip(rows["pair_id"], truth, strict=True))[leave_out:]:
        (folder / f"{name}.pts").write_text(pts_text(own + np.array([shift, 0], np.float32)))
    return truth


def value(found: Figures, name: str, subset: str = "Full") -> float:
    return found.estimates[name][subset].value


def test_true_points_are_right_and_shifted_ones_are_off_by_their_shift(tiny_world: str, tmp_path: Path) -> None:
    write(tiny_world, tmp_path / "right")
    right = measure_points(tiny_world, str(tmp_path / "right"), 70)
    assert value(right, "nme") < 1e-4 and value(right, "auc") == pytest.approx(1, abs=2e-3)
    assert value(right, "missed") == value(right, "failed") == 0
    for standard in (68, 5):
        truth = write(tiny_world, tmp_path / f"{standard}", shift=1.0, standard=standard)
        found = measure_points(tiny_world, str(tmp_path / f"{standard}"), standard)
        widths = truth[..., 0].max(axis=1) - truth[..., 0].min(axis=1)
        assert value(found, "nme") == value(found, "nme_missed_1") == pytest.approx((1 / widths).mean(), rel=0.02)
        assert ("nme_eyes" in found.estimates) == (standard == 68)
        assert found.counts["faces"]["Full"] == len(truth) and found.counts["people"]["Full"] == 4


def test_a_face_without_a_file_is_missed_and_failed(tiny_world: str, tmp_path: Path) -> None:
    count = len(write(tiny_world, tmp_path / "some", leave_out=1))
    (tmp_path / "some" / "skipped.json").write_text("{}")  # as `landmarks find` names what it could not take
    found = measure_points(tiny_world, str(tmp_path / "some"), 70)
    for name in ("missed", "failed", "nme_missed_1"):
        assert value(found, name) == pytest.approx(1 / count, abs=1e-4)
        low, high = found.estimates[name]["Full"][1:]
        assert low == pytest.approx(0, abs=1e-4) and high > 1 / count  # one of four people
    assert value(found, "auc") == pytest.approx(1 - 1 / count, abs=2e-3) and value(found, "nme") < 1e-4


def test_subsets_are_of_the_rows_heights_and_poses(tiny_world: str, tmp_path: Path) -> None:
    """Tall faces are off by 2 px and turned ones by 1 px more: each subset has the mean that follows, by person."""
    shards = Shards(tiny_world, ("pair_id", "landmarks_70", "bbox", "pose", "identity_id"), memory=0)
    rows = shards.rows(np.arange(len(shards)))
    height, yaw = rows["bbox"][:, 3] - rows["bbox"][:, 1], np.abs(rows["pose"][:, 0])
    limits = {"high_px": float(np.median(height)), "side_deg": float(np.median(yaw))}
    high, side = height >= limits["high_px"], yaw >= limits["side_deg"]
    shift = 2.0 * high + side
    (tmp_path / "moved").mkdir()
    for name, own, off in zip(rows["pair_id"], rows["landmarks_70"], shift, strict=True):
        (tmp_path / "moved" / f"{name}.pts").write_text(pts_text(own + np.float32([off, 0])))
    found = measure_points(tiny_world, str(tmp_path / "moved"), 70, **limits)
    error = shift / np.ptp(rows["landmarks_70"][..., 0], axis=1)
    subsets = {"High": high, "Low": ~high, "Side": side, "Front": ~side, "Full": high | ~high}
    for name, chosen in subsets.items():
        people = [error[chosen & (rows["identity_id"] == who)] for who in np.unique(rows["identity_id"])]
        wanted = np.mean([own.mean() for own in people if len(own)])
        assert value(found, "nme", name) == pytest.approx(wanted, abs=1e-4), name
        assert found.counts["faces"][name] == chosen.sum() > 0
    # Without limits they are the recipe's: nobody is 40 px tall in pictures of 32.
    found = measure_points(tiny_world, str(tmp_path / "moved"), 70)
    assert found.counts["faces"]["High"] == 0 and found.counts["faces"]["Side"] == (yaw >= Recipe().side_deg).sum()
    assert "High" not in render_figures(found).splitlines()[0]


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
    rows |= {"landmarks_72": np.full((2, 72, 2), np.nan), "size": np.full(2, 128), "face_height": np.full(2, 90.0)}
    monkeypatch.setattr(points, "_read_rows", lambda *_: rows)
    for name, own in zip(names, truth, strict=True):
        (file := tmp_path / "named" / f"{name}.pts").parent.mkdir(parents=True)
        file.write_text(pts_text(own))
    found = measure_points("rows", str(tmp_path / "named"), 70)
    assert value(found, "nme") < 1e-4
    # Nobody says who is shown, nor how they are turned: a table without intervals, and without sides.
    assert "[" not in render_figures(found) and "Side" not in render_figures(found)


def write_labelled(
    folder: Path, blocks: list[pa.Table], *, true: bool, profiles: bool = False, one: bool = False
) -> str:
    """Write rendered rows as `gather` writes those with 72 labels, 2 px too low and, of `profiles`, the first 43 points alone
    in odd rows. true: with their 70 points, too. one: all of one person."""
    storage, rows = Storage(folder), []
    for block in blocks:
        for k, row in enumerate(block.to_pylist()):
            labels = contour72(np.array(row["landmarks_70"], np.float32).reshape(70, 2)) + np.float32([0, 2])
            labels[43 if profiles and k % 2 else 72 :] = np.nan
            own = row | {"landmarks_72": labels.ravel(), "points_given": int(np.isfinite(labels[:, 0]).sum())}
            own |= {"name": f"{row['pair_id']}-name", "face_height": 41.0 if k % 4 else 39.0, "pose": [np.nan] * 3}
            own |= {} if true else {"landmarks_70": [np.nan] * 140}
            own |= {"identity_id": "1"} if one else {}
            rows.append({name: cell for name, cell in own.items() if name in GATHERED})
    content = encode_parquet(pa.Table.from_pylist(rows, schema=arrow_schema(GATHERED)))
    name, digest = write_shard(storage, "data", 0, content)
    commit(storage, 0, Commit(name, len(rows), digest))
    return storage.uri


@pytest.mark.parametrize("standard", [5, 68, 70])
def test_noisy_labels_are_read_through_an_adapter_of_the_others(
    standard: int, tiny_world: str, rendered: list[pa.Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the true points where there are such; the same as by an adapter that is fitted here, fronts and profiles apart."""
    monkeypatch.setattr(adapt, "leave_subject_out", partial(leave_subject_out, steps=30))
    given = write(tiny_world, tmp_path / "points", standard=standard)
    uri = write_labelled(tmp_path / "rows", rendered, true=True, profiles=True)
    found = measure_points(uri, str(tmp_path / "points"), standard)
    assert value(found, "nme") < 1e-4
    shards = Shards(uri, ("pair_id", "landmarks_72", "identity_id", "face_height"), memory=0)
    rows = shards.rows(np.arange(len(shards)))
    profile, error = np.isnan(rows["landmarks_72"][:, -1, 0]), np.zeros(len(given))
    for chosen in (profile, ~profile):
        own, labels, people = (values[chosen] for values in (given, rows["landmarks_72"], rows["identity_id"]))
        converted = leave_subject_out(AdapterConfig(source=standard, target=72), own, labels, people, steps=30)
        error[chosen] = nme(converted, labels)
    tall, who = rows["face_height"] > 40, rows["identity_id"]
    subsets = {"Side": profile, "Front": ~profile, "High": tall, "Low": ~tall, "Full": tall | ~tall}
    for name, chosen in subsets.items():
        wanted = np.mean([error[chosen & (who == one)].mean() for one in np.unique(who)])
        assert value(found, "labels_nme", name) == pytest.approx(wanted, rel=1e-2), name
        assert found.counts["labels_faces"][name] == chosen.sum() > 0
    assert np.isfinite(found.estimates["labels_failed"]["Full"]).all()


def test_labels_alone_are_enough_and_one_person_is_not(
    tiny_world: str, rendered: list[pa.Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt, "leave_subject_out", partial(leave_subject_out, steps=5))
    write(tiny_world, tmp_path / "points", leave_out=1)
    found = measure_points(write_labelled(tmp_path / "rows", rendered, true=False), str(tmp_path / "points"), 70)
    assert all(name.startswith("labels_") for name in (*found.counts, *found.estimates))
    assert value(found, "labels_missed") == pytest.approx(1 / found.counts["labels_faces"]["Full"])
    alone = write_labelled(tmp_path / "alone", rendered, true=False, one=True)
    with pytest.raises(
        UserError, match=r"gives 72 labels alone.*must be of two people at least \(column identity_id\)"
    ):
        measure_points(alone, str(tmp_path / "points"), 70)
    # With true points it is one person without an interval, and labels that are not compared.
    both = measure_points(
        write_labelled(tmp_path / "both", rendered, true=True, one=True), str(tmp_path / "points"), 70
    )
    assert np.isnan(both.estimates["missed"]["Full"].low) and "labels_nme" not in both.estimates
    assert "[" not in render_figures(both) and " 0.0" in render_figures(both)


def test_points_of_72_are_compared_with_whole_faces_and_profiles_through_an_adapter(
    rendered: list[pa.Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt, "leave_subject_out", partial(leave_subject_out, steps=5))
    uri = write_labelled(tmp_path / "rows", rendered, true=False, profiles=True)
    shards = Shards(uri, ("pair_id", "name", "landmarks_72"), memory=0)
    rows = shards.rows(np.arange(len(shards)))
    (tmp_path / "points").mkdir()
    for name, labels in zip(rows["name"], rows["landmarks_72"], strict=True):
        own = np.where(np.isfinite(labels), labels, 16.0) + np.float32([1, 0])
        (tmp_path / "points" / f"{name}.txt").write_text(yolo_face(own, 32, 32))
    found = measure_points(uri, str(tmp_path / "points"), 72)
    whole = np.isfinite(rows["landmarks_72"]).all(axis=(1, 2))
    assert found.counts["faces"]["Full"] == whole.sum() < found.counts["labels_faces"]["Full"] == len(whole)
    widths = np.ptp(rows["landmarks_72"][whole][..., 0], axis=1)
    assert value(found, "nme") == pytest.approx((1 / widths).mean(), rel=0.05)


def test_points_and_standards_that_are_not_there_are_named(tiny_world: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="98 points are no standard that is known: give files of 5, 68, 70, 72, 478"):
        measure_points(tiny_world, str(tmp_path), 98)
    truth = write(tiny_world, tmp_path / "some")
    file = sorted((tmp_path / "some").glob("*.pts"))[0]
    file.unlink()
    seen = np.arange(70) != 3
    file.with_suffix(".txt").write_text(yolo_face(truth[0], 32, 32, seen).replace(" 1 ", " 0 "))
    with pytest.raises(UserError, match=rf"{file.stem}\.txt: point 3 is not given, and the row is compared by it"):
        measure_points(tiny_world, str(tmp_path / "some"), 70)
    with pytest.raises(UserError, match="has no points to compare with: no row gives landmarks_72"):
        measure_points(tiny_world, str(tmp_path / "some"), 72)
