"""FaceSynthetics: what the world wrote comes back, and bad files are named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.pictures.codecs import decode
from tests.pipelines.readers.layouts import SIZE, check_spoilt, cut_short, job, png, points, read_rows

SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "mask of unknown classes": (
        lambda f: png(f / "000000_seg.png", np.full((SIZE, SIZE), 77, np.uint8)),
        "mask: class 77 is unknown; there are 0 to 18, and 255",
    ),
    "mask of another size": (
        lambda f: png(f / "000000_seg.png", np.zeros((8, 8), np.uint8)),
        "mask: 8 x 8 px beside a picture of 64 x 64 px",
    ),
    "mask in colour": (
        lambda f: png(f / "000000_seg.png", np.zeros((SIZE, SIZE, 3), np.uint8)),
        "mask: it must hold one 8-bit class id a pixel",
    ),
    "picture cut short": (lambda f: cut_short(f / "000000.png"), "truncated:"),
    "empty picture": (lambda f: (f / "000000.png").write_bytes(b""), "empty: the file has no bytes"),
    "no picture": (lambda f: (f / "000000.png").unlink(), "no picture: the other files of 000000"),
    "no mask": (lambda f: (f / "000000_seg.png").unlink(), "no mask:"),
    "no landmarks": (lambda f: (f / "000000_ldmks.txt").unlink(), "no landmarks:"),
    "69 points": (lambda f: lines(f, lambda x: x[1:]), "landmarks: 69 points where 70 are needed"),
    "NaN point": (lambda f: lines(f, lambda x: [*x[:3], "nan 3", *x[4:]]), "landmarks: point 3 is not a"),
    "a word": (lambda f: lines(f, lambda x: ["left eye", *x[1:]]), "landmarks: 000000_ldmks.txt cannot"),
    "three numbers": (lambda f: lines(f, lambda x: [y + " 1" for y in x]), "must hold two numbers a line"),
    "point far outside": (
        lambda f: lines(f, lambda x: [*x[:5], "900 40", *x[6:]]),
        "landmarks: point 5 at (900, 40) lies far outside the picture of 64 x 64 px",
    ),
}


def lines(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = folder / "000000_ldmks.txt"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def test_facesynthetics_comes_back(block: pa.Table, written: dict[str, Path]) -> None:
    found, reasons = read_rows(job("facesynthetics", written["facesynthetics"]))
    assert not reasons and [row["name"] for row in found] == ["000000", "000001"]
    for row, number in zip(found, (0, 2), strict=True):
        assert np.array_equal(row["visible"], decode(block.column("visible")[number].as_py()["bytes"]))
        assert np.array_equal(row["classes"], decode(block.column("classes")[number].as_py()["bytes"]))
        np.testing.assert_allclose(row["landmarks_70"], points(block, number), atol=1e-4)
        assert row["thermal"] is None and row["points_given"] == 70 and np.isnan(row["landmarks_478"]).all()
        assert row["valid"].all() and np.isfinite(row["pose"]).all()


@pytest.mark.parametrize("name", SPOILT)
def test_one_bad_file_costs_one_row_and_is_named(name: str, folder: Callable[[str], Path]) -> None:
    check_spoilt("facesynthetics", folder, *SPOILT[name])
