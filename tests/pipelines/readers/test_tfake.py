"""T-FAKE: temperatures come back on its scale, pairs are found by number, dense points are converted once."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from models.errors import UserError
from models.temperature import from_centikelvin
from pipelines.pictures.codecs import decode
from pipelines.storage.uri import Storage
from tests.pipelines.readers.layouts import SIZE, check_spoilt, cut_short, job, png, points, read_rows, room


def celsius(block: pa.Table, row: int) -> np.ndarray:
    valid = decode(block.column("valid")[row].as_py()["bytes"]) > 127
    return np.where(valid, from_centikelvin(decode(block.column("thermal")[row].as_py()["bytes"])), np.nan)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "thermal in centikelvin": (
        lambda f: png(f / "warm/000000_thermal.png", room(29515, 30715)),
        "not tfake: the median pixel would be 29 degC",
    ),
    "thermal of 8 bit": (
        lambda f: png(f / "warm/000000_thermal.png", np.full((SIZE, SIZE), 90, np.uint8)),
        "8-bit: grey levels are no temperatures; export 16-bit tfake",
    ),
    "thermal of another size": (
        lambda f: png(f / "warm/000000_thermal.png", room(9000, 50000)[:32]),
        "mismatched: 64 x 32 px thermal beside 64 x 64 px visible",
    ),
    "thermal cut short": (lambda f: cut_short(f / "warm/000000_thermal.png"), "truncated:"),
}


def test_t_fake_comes_back_on_its_scale(block: pa.Table, written: dict[str, Path]) -> None:
    found, reasons = read_rows(job("tfake", written["tfake"]))
    assert not reasons
    assert [(row["name"], row["condition"]) for row in found] == [
        ("000000", "warm"), ("000000", "cold"), ("000001", "warm"), ("000001", "cold"),
    ]  # fmt: skip
    for number, row in enumerate(found):
        truth = celsius(block, number)
        inside = (truth > 20.001) & (truth < 39.999)
        assert np.array_equal(np.isfinite(row["thermal"]), inside)
        np.testing.assert_allclose(row["thermal"][inside], truth[inside], atol=0.5 * 20 / 65535 + 1e-5)
        np.testing.assert_allclose(row["landmarks_478"], points(block, number, 478), atol=1e-3)
        assert row["thermal_kind"] == "measured" and row["points_given"] == 478


@pytest.mark.parametrize("name", SPOILT)
def test_one_bad_file_costs_one_row_and_is_named(name: str, folder: Callable[[str], Path]) -> None:
    check_spoilt("tfake", folder, *SPOILT[name])


def test_t_fakes_pairs_are_found_by_number_and_lone_ones_named(folder: Callable[[str], Path]) -> None:
    where = folder("tfake")
    (where / "warm/000000_thermal.png").rename(where / "warm/0_thermal.png")
    shutil.copy(where / "warm/0_thermal.png", where / "warm/000099_thermal.png")
    shutil.copy(where / "warm/000001_thermal.png", where / "warm/1_thermal.png")
    shutil.copy(where / "000001.png", where / "000002.png")
    shutil.copy(where / "000001_seg.png", where / "000002_seg.png")
    shutil.copy(where / "000001_ldmks.txt", where / "000002_ldmks.txt")
    found, reasons = read_rows(job("tfake", where))
    assert [(row["name"], row["condition"]) for row in found] == [
        ("000000", "warm"), ("000000", "cold"), ("000001", "warm"), ("000001", "cold"),
    ]  # fmt: skip
    assert reasons["000002"].startswith("no thermal picture: none is called 000002_thermal.png")
    assert reasons["warm/000099"].startswith("no picture: FaceSynthetics' one is not there")
    assert reasons["warm/1"].startswith("duplicated:")


def test_t_fakes_condition_must_be_said_once(folder: Callable[[str], Path]) -> None:
    where = folder("tfake")
    apart = where.parent / "apart"
    shutil.move(where / "cold", apart)
    shutil.rmtree(where / "warm")
    with pytest.raises(UserError, match="no folder of its path says warm or cold"):
        read_rows(job("tfake", where, thermal=str(apart)))
    found, _ = read_rows(job("tfake", where, thermal=str(apart), condition="cold"))
    assert [row["condition"] for row in found] == ["cold", "cold"]


def test_dense_annotations_are_converted_once_and_may_be_missing(folder: Callable[[str], Path], tmp_path: Path) -> None:
    where = folder("tfake")
    with np.load(where / "annotations.npz") as npz:
        dense = {name: np.c_[npz[name], np.zeros(478)].astype(np.float64) for name in npz.files}
    (where / "annotations.npz").unlink()
    lost = dense.pop("000001.png")
    (where / "annotations.pkl").write_bytes(pickle.dumps(dense))
    with pytest.raises(UserError, match=r"annotations\.pkl must be converted once"):
        read_rows(job("tfake", where))
    out = Storage(tmp_path / "out")
    found, reasons = read_rows(job("tfake", where), out)
    assert not reasons and out.exists("_plan/annotations.npz")
    np.testing.assert_allclose(found[0]["landmarks_478"], dense["000000.png"][:, :2] * SIZE, atol=1e-3)
    assert np.isnan(found[2]["landmarks_478"]).all() and np.isfinite(found[2]["landmarks_70"]).all()

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "made",)

    (where / "annotations.pkl").write_bytes(pickle.dumps({"000001.png": lost, "x.png": Evil()}))
    with pytest.raises(UserError, match=r"annotations\.pkl: asks for pathlib\..*nothing was run"):
        read_rows(job("tfake", where), Storage(tmp_path / "other"))
    assert not (tmp_path / "made").exists()
    (where / "annotations.pkl").unlink()
    (where / "annotations.npz").write_bytes(b"PK no archive")
    assert "annotations.npz is no .npz of arrays" in str(read_rows(job("tfake", where), Storage(tmp_path / "third"))[1])
