"""CHARLOTTE: temperatures and points come back within its own steps, and bad files are named."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from models.landmarks.standards import contour72, profile43
from models.synthworld.render.capture import annotate, capture
from models.synthworld.sampling.domain import load_domain
from models.temperature import from_centikelvin
from pipelines.pictures.codecs import decode
from pipelines.readers import layout_of, list_files, list_items
from tests.pipelines.readers.layouts import SIZE, check_spoilt, cut_short, job, png, points, read_rows, room

SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "degrees as centikelvin": (
        lambda f: png(f / "S1/R10000.tiff", room(22, 34)),
        "not centikelvin: the median pixel would be -273 degC (value * 0.01 -273.15), 22 degC as celsius",
    ),
    "kelvin/10 as centikelvin": (lambda f: png(f / "S1/R10000.tiff", room(2952, 3072)), "22 degC as decikelvin"),
    "T-FAKE as centikelvin": (
        lambda f: png(f / "S1/R10000.tiff", room(30000, 48000)),
        "not centikelvin: a twentieth of the pixels would be hotter than 100 degC",
    ),
    "frame of 8 bit": (lambda f: png(f / "S1/R10000.tiff", room(22, 34).astype(np.uint8)), "8-bit:"),
    "frame without reading": (lambda f: png(f / "S1/R10000.tiff", room(0, 0)), "no reading:"),
    "frame cut short": (lambda f: cut_short(f / "S1/R10000.tiff"), "not a picture:"),
    "grey view of another size": (lambda f: png(f / "S1/N10000.jpg", np.zeros((9, 9), np.uint8)), "mismatched:"),
    "no frame": (lambda f: (f / "S1/R10000.tiff").unlink(), "no picture: R10000.tiff of S1.csv is not there"),
    "ID twice": (lambda f: table(f, lambda x: [*x, x[1]]), "duplicated: 2 rows of tables have the ID R10000"),
    "no line": (lambda f: table(f, lambda x: [x[0], *x[2:]]), "no landmarks: no table has the ID R10000"),
    "42 points": (
        lambda f: table(f, lambda x: [x[0], empty(x[1], 42), *x[2:]]),
        "landmarks: S1.csv: 42 points where 72 or 43 are needed",
    ),
    "a gap": (
        lambda f: table(f, lambda x: [x[0], moved(x[1], 42, 50), *x[2:]]),
        "landmarks: S1.csv: slot 42 is empty among the first 43",
    ),
}


def table(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    (folder / "S1.csv").write_text("\n".join(change((folder / "S1.csv").read_text().splitlines())) + "\n")


def empty(line: str, slot: int) -> str:
    cells = line.split(",")
    cells[6 + slot] = cells[6 + 72 + slot] = "NaN"
    return ",".join(cells)


def moved(line: str, slot: int, other: int) -> str:
    cells = line.split(",")
    for base in (6, 78):
        cells[base + slot], cells[base + other] = cells[base + other], cells[base + slot]
    return ",".join(cells)


def test_charlotte_comes_back(block: pa.Table, written: dict[str, Path]) -> None:
    """Temperature within half a centikelvin, points within half a pixel; 43 of them for the view that is a profile."""
    wanted = job("charlotte", written["charlotte"])
    layout, domain, found = layout_of(wanted), load_domain("field"), list(list_items(wanted, list_files(wanted)))
    assert [item.name for item in found] == ["10000", "10001", "10002", "10003"]
    for number, item in enumerate(found):
        (sample,) = layout.read_samples(item, wanted, None)
        who = [block.column(name)[number].as_py() for name in ("world_identity", "view", "condition")]
        truth = torch.from_numpy(from_centikelvin(decode(block.column("thermal")[number].as_py()["bytes"])))
        box = block.column("bbox")[number].as_py()
        valid = torch.from_numpy(decode(block.column("valid")[number].as_py()["bytes"]) > 127)
        taken = capture(truth, valid, box[3] - box[1], domain, *who)
        assert sample.celsius is not None and sample.visible is not None and sample.visible_kind == "thermal"
        np.testing.assert_allclose(sample.celsius, taken.twin.temperature.numpy(), atol=0.0051)
        seventy = points(block, number)
        named = profile43(seventy, right=False) if number < 2 else contour72(seventy)
        noted = annotate(torch.from_numpy(named), box[3] - box[1], domain, *who).numpy()
        noted = noted * (taken.picture.shape[0] / SIZE) + np.array(taken.shift)
        assert np.isfinite(sample.points[72]).all(axis=1).sum() == len(named) == (43 if number < 2 else 72)
        assert np.abs(sample.points[72][: len(named)] - noted).max() <= 0.5 + 1e-3
        assert json.loads(item.facts)["Condition"] == who[2] and item.identity == "1"
    assert all(
        row["landmarks_72"].shape == (72, 2) and np.isnan(row["landmarks_70"]).all() for row in read_rows(wanted)[0]
    )


@pytest.mark.parametrize("name", SPOILT)
def test_one_bad_file_costs_one_row_and_is_named(name: str, folder: Callable[[str], Path]) -> None:
    check_spoilt("charlotte", folder, *SPOILT[name])
