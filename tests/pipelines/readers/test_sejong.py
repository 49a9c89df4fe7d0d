"""SEJONG: pairs come back in grey, upright, and bad ones are named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from models.classes import IGNORE
from models.synthworld.render.capture import capture
from models.synthworld.sampling.domain import load_domain
from models.temperature import from_centikelvin
from pipelines.pictures.codecs import decode
from pipelines.readers import layout_of, list_files, list_items
from tests.pipelines.readers.layouts import SIZE, check_spoilt, job, png, read_rows

SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no thermal partner": (lambda f: next(f.glob("*/000000_warm_t.jpg")).unlink(), "no thermal picture:"),
    "no visible partner": (lambda f: next(f.glob("*/000000_warm_v.jpg")).unlink(), "no visible picture:"),
    "pair of two shapes": (
        lambda f: png(next(f.glob("*/000000_warm_t.jpg")), np.zeros((30, 64), np.uint8)),
        "mismatched: 64 x 30 px thermal beside 64 x 64 px visible",
    ),
    "thermal in a palette": (
        lambda f: png(
            next(f.glob("*/000000_warm_t.jpg")),
            np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8),
        ),
        "colours: a palette cannot be undone",
    ),
}


def test_sejong_comes_back_in_grey(block: pa.Table, written: dict[str, Path]) -> None:
    wanted = job("sejong", written["sejong"])
    found, reasons = read_rows(wanted)
    assert not reasons and len(found) == 4
    assert all(row["thermal_kind"] == "minmax" and row["thermal"].dtype == np.uint8 for row in found)
    assert len({row["identity_id"] for row in found}) == 1 and (found[0]["classes"] == IGNORE).all()
    layout, domain = layout_of(wanted), load_domain("lab")
    for item in list_items(wanted, list_files(wanted)):
        (sample,) = layout.read_samples(item, wanted, None)
        number = 2 * int(Path(item.name).name[:6]) + item.name.endswith("cold")
        who = [block.column(name)[number].as_py() for name in ("world_identity", "view", "condition")]
        truth = torch.from_numpy(from_centikelvin(decode(block.column("thermal")[number].as_py()["bytes"])))
        face = block.column("bbox")[number].as_py()
        taken = capture(
            truth, torch.ones_like(truth, dtype=torch.bool), face[3] - face[1], domain, *who
        ).picture.numpy()
        assert sample.grey is not None and sample.visible is not None and sample.grey.shape == taken.shape
        assert np.abs(sample.grey.astype(int) - taken).mean() < 1.5  # a second JPEG
        close = np.abs(sample.visible.astype(int) - decode(block.column("visible")[number].as_py()["bytes"]))
        assert close.mean() < 6


@pytest.mark.parametrize("name", SPOILT)
def test_one_bad_file_costs_one_row_and_is_named(name: str, folder: Callable[[str], Path]) -> None:
    check_spoilt("sejong", folder, *SPOILT[name])


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_pair_is_turned_upright_together(tmp_path: Path, orientation: int) -> None:
    """Both pictures of a pair show the same field at the same place, whichever of them is stored turned."""
    picture, exif = np.full((64, 64), 40, np.uint8), Image.Exif()
    picture[8:24, 32:56] = 220
    exif[274] = orientation
    back = np.rot90(picture, {3: 2, 6: 1}[orientation])
    (tmp_path / "s1").mkdir()
    for name, turned in (("a", ("v", "t")), ("b", ("v",)), ("c", ("t",))):
        for end in ("v", "t"):
            values, tag = (back, exif) if end in turned else (picture, Image.Exif())
            shown = np.repeat(values[..., None], 3, axis=2) if end == "v" else values
            Image.fromarray(shown).save(tmp_path / "s1" / f"{name}_{end}.jpg", exif=tag)
    rows, refused = read_rows(job("sejong", tmp_path, size=64))
    assert len(rows) == 3 and not refused
    for row in rows:
        np.testing.assert_array_equal(row["visible"][..., 0] > 128, picture > 128)
        np.testing.assert_array_equal(row["thermal"] > 128, picture > 128)
