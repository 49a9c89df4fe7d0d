"""Any other data set: folders by patterns of names, Parquet files by columns."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.config import check
from models.errors import UserError
from models.landmarks.exports import pts_text
from models.temperature import from_centikelvin, to_centikelvin
from pipelines.config.gather import GatherJob
from pipelines.pictures.codecs import decode
from tests.models.scenes import portrait
from tests.pipelines.pictures.thermal_files import tiff
from tests.pipelines.readers.layouts import SIZE, plain, points, read_rows


def test_plain_folders_are_read_by_patterns(tmp_path: Path) -> None:
    (tmp_path / "rgb" / "day1").mkdir(parents=True)
    (tmp_path / "ir" / "day1").mkdir(parents=True)
    face = np.full((70, 2), 20.0) + np.arange(70)[:, None] * 0.3
    for k in range(3):
        cv2.imwrite(str(tmp_path / f"rgb/day1/{k}.jpg"), np.full((48, 64, 3), 40 * k, np.uint8))
        cv2.imwrite(str(tmp_path / f"ir/day1/{k}_t.tiff"), np.full((24, 32), 30.0 + k, np.float32))
        (tmp_path / f"rgb/day1/{k}.pts").write_text(pts_text(face))
    values = np.full((24, 32), 31.0, np.float32)
    values[:, :8] = np.nan
    cv2.imwrite(str(tmp_path / "ir/day1/1_t.tiff"), values)
    cv2.imwrite(str(tmp_path / "ir/day1/2_t.tiff"), np.full((24, 32), np.nan, np.float32))
    columns = {"visible": "rgb/NAME.jpg", "thermal": "ir/NAME_t.tiff", "landmarks": "rgb/NAME.pts", "unit": "celsius"}
    found, reasons = read_rows(plain(tmp_path, **columns))
    assert [row["name"] for row in found] == ["day1/0", "day1/1"]
    assert reasons["day1/2"].startswith("no reading: every pixel")
    np.testing.assert_allclose(found[0]["thermal"][8:-8], 30, atol=1e-4)  # padded above and below
    assert np.isnan(found[1]["thermal"][:, :15]).all() and np.isfinite(found[1]["thermal"][10:-10, 18:]).all()
    np.testing.assert_allclose(found[0]["landmarks_70"], face + np.array([0, 8]), atol=1e-3)
    (tmp_path / "rgb/day1/1.jpg").unlink()
    assert read_rows(plain(tmp_path, **columns))[1]["day1/1"].startswith("no visible: no file like rgb/NAME.jpg")
    assert set(read_rows(plain(tmp_path, thermal="ir/NAME_t.tiff"))[1]) == {
        "day1/0",
        "day1/1",
        "day1/2",
    }  # degrees, not 0.01 K


def test_a_pattern_without_extension_takes_any_picture_and_the_longer_pattern_wins(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((32, 32, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((32, 32, 3), np.uint8))
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}_seg.png"), np.ones((32, 32), np.uint8))
    found, reasons = read_rows(plain(tmp_path, visible="NAME", mask="NAME_seg.png"))
    assert [row["name"] for row in found] == ["a", "b"] and not reasons and (found[0]["classes"] == 1).all()
    cv2.imwrite(str(tmp_path / "b.jpg"), np.zeros((32, 32, 3), np.uint8))
    assert read_rows(plain(tmp_path, visible="NAME", mask="NAME_seg.png"))[1]["b"].startswith("duplicated: b.png fits")


def test_plain_parquet_is_read_by_columns(block: pa.Table, tmp_path: Path) -> None:
    broken = block.slice(1, 1).set_column(block.schema.get_field_index("visible"), "visible", [[None]])
    pq.write_table(
        pa.concat_tables([block, broken], promote_options="default"), tmp_path / "a.parquet", row_group_size=2
    )
    columns = {"visible": "visible", "thermal": "thermal", "mask": "classes", "landmarks": "landmarks_70"}
    found, reasons = read_rows(plain(tmp_path, **columns))
    assert len(found) == 4 and reasons == {"a.parquet#4": "empty: column visible holds nothing that is encoded"}
    for number, row in enumerate(found):
        raw = from_centikelvin(decode(block.column("thermal")[number].as_py()["bytes"]))
        np.testing.assert_allclose(row["thermal"], raw, atol=1e-4)
        np.testing.assert_allclose(row["landmarks_70"], points(block, number), atol=1e-4)
        assert (row["identity_id"], row["condition"]) == tuple(
            block.column(c)[number].as_py() for c in ("identity_id", "condition")
        )
    with pytest.raises(UserError, match="has no column depth; it has: partition, pair_id"):
        read_rows(plain(tmp_path, thermal="depth"))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no more")
    assert read_rows(plain(tmp_path, **columns))[1]["b.parquet"].startswith("not Parquet:")


def test_counts_of_an_unknown_unit_become_grey(tmp_path: Path) -> None:
    counts = to_centikelvin(np.linspace(20, 36, 48 * 48).reshape(48, 48)) // 7
    cv2.imwrite(str(tmp_path / "a.png"), counts.astype(np.uint16))
    assert "not centikelvin" in read_rows(plain(tmp_path, thermal="NAME"))[1]["a"]
    (row,), _ = read_rows(plain(tmp_path, thermal="NAME", unit="grey"))
    assert row["thermal"].dtype == np.uint8 and row["visible_kind"] == "thermal"
    assert row["thermal"].min() == 0 and row["thermal"].max() == 255 and row["visible"].shape == (SIZE, SIZE, 3)


def test_every_page_is_a_row_of_the_same_person(tmp_path: Path) -> None:
    celsius = np.stack([portrait(room) for room in (18.0, 21.0, 24.0)])
    (tmp_path / "clip.tiff").write_bytes(tiff(to_centikelvin(celsius)))
    np.save(tmp_path / "stack.npy", celsius)
    found, reasons = read_rows(plain(tmp_path, thermal="NAME"))
    assert [row["name"] for row in found] == ["clip", "clip#1", "clip#2"] and list(reasons) == ["stack"]
    assert {row["identity_id"] for row in found} == {"clip"}
    assert [round(float(np.nanmedian(row["thermal"]))) for row in found] == [18, 21, 24]
    pages = [np.full((120, 160, 3), level, np.uint8) for level in (40, 80)]
    cv2.imwritemulti(str(tmp_path / "clip_v.tiff"), pages)
    columns = {"thermal": "NAME.tiff", "visible": "NAME_v.tiff"}
    assert read_rows(plain(tmp_path, **columns))[1]["clip"] == "mismatched: 3 thermal pages beside 2 visible ones"
    cv2.imwritemulti(str(tmp_path / "clip_v.tiff"), [*pages, pages[0]])
    assert [row["visible"][32, 32, 0] for row in read_rows(plain(tmp_path, **columns))[0]] == [40, 80, 40]
    cv2.imwrite(str(tmp_path / "clip_seg.png"), np.ones((120, 160), np.uint8))
    reasons = read_rows(plain(tmp_path, thermal="NAME.tiff", mask="NAME_seg.png"))[1]
    assert reasons["clip"].startswith("too many pages: 3 beside one mask")


def test_units_of_gathered_rows_may_be_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.tiff").write_bytes(tiff(np.rint(portrait() * 10).astype(np.int16)[None]))
    wanted = GatherJob.model_validate(
        {
            "layout": "plain",
            "images": str(tmp_path),
            "columns": {"thermal": "NAME"},
            "unit": {"scale": 0.1, "offset": 0},
        }
    )
    (row,), _ = read_rows(wanted)
    assert np.nanmedian(row["thermal"]) == pytest.approx(21.5, abs=0.1)
    with pytest.raises(UserError, match="unit"):
        check(GatherJob, {"layout": "plain", "images": "x", "unit": "kelvins"}, "gather")
