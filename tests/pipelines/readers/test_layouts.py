"""The readers of real layouts: what the world wrote comes back within each format's own steps, and bad files are named."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.classes import IGNORE
from models.errors import UserError
from models.landmarks.exports import pts_text
from models.landmarks.standards import contour72, profile43
from models.synthworld.render.capture import annotate, capture
from models.synthworld.sampling.domain import load_domain
from models.temperature import UNITS, from_centikelvin, from_unit, to_centikelvin
from pipelines.config.gather import GatherJob
from pipelines.config.world import WorldJob
from pipelines.pictures.codecs import decode
from pipelines.pictures.open import BadPicture
from pipelines.readers import layout_of, list_files, list_items, read_row
from pipelines.readers.item import Item, Sample
from pipelines.readers.shape import make_row
from pipelines.readers.world_layouts import finish_files, write_files
from pipelines.storage.uri import Storage
from pipelines.world import Renderer

SIZE = 64
DOMAINS = {"facesynthetics": "field", "tfake": "field", "sejong": "lab", "charlotte": "field"}


def world_job(layout: str, domain: str) -> WorldJob:
    return WorldJob(
        domain=domain, split="test", count=4, size=SIZE, views=2, conditions=("warm", "cold"), layout=layout  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture(scope="module")
def block() -> pa.Table:
    """Two views of a person in two conditions, rendered; the first is made a profile, which decides what CHARLOTTE labels."""
    table = Renderer(world_job("record", "field"), [0], threads=1)({"id": np.array([0])})
    poses = [[-60.0, 0.0, 0.0], [-60.0, 0.0, 0.0], [10.0, 0.0, 0.0], [10.0, 0.0, 0.0]]
    return table.set_column(
        table.schema.get_field_index("pose"), table.schema.field("pose"), pa.array(poses, pa.list_(pa.float32(), 3))
    )


@pytest.fixture(scope="module")
def written(block: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The block in every layout."""
    folders = {}
    for layout, domain in DOMAINS.items():
        folders[layout] = tmp_path_factory.mktemp(layout)
        job, storage = world_job(layout, domain), Storage(folders[layout])
        write_files(block, job, storage)
        finish_files(job, storage)
    return folders


@pytest.fixture
def folder(written: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a layout's folder, to be spoilt."""

    def copy(layout: str) -> Path:
        shutil.copytree(written[layout], tmp_path / layout)
        return tmp_path / layout

    return copy


def job(layout: str, images: Path, **values: Any) -> GatherJob:
    return GatherJob(**{"layout": layout, "images": str(images), "size": SIZE} | values)


def read(wanted: GatherJob, out: Storage | None = None) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the rows of a job, and the reasons of those that were refused."""
    found, reasons = list[dict[str, Any]](), dict[str, str]()
    for item in list_items(wanted, list_files(wanted), out):
        try:
            found.append(read_row(item, wanted, out))
        except BadPicture as error:
            reasons[item.name] = str(error)
    return found, reasons


def celsius(block: pa.Table, row: int) -> np.ndarray:
    valid = decode(block.column("valid")[row].as_py()["bytes"]) > 127
    return np.where(valid, from_centikelvin(decode(block.column("thermal")[row].as_py()["bytes"])), np.nan)


def points(block: pa.Table, row: int, standard: int = 70) -> np.ndarray:
    return np.array(block.column(f"landmarks_{standard}")[row].as_py(), np.float32).reshape(standard, 2)


def test_facesynthetics_comes_back(block: pa.Table, written: dict[str, Path]) -> None:
    found, reasons = read(job("facesynthetics", written["facesynthetics"]))
    assert not reasons and [row["name"] for row in found] == ["000000", "000001"]
    for row, number in zip(found, (0, 2), strict=True):
        assert np.array_equal(row["visible"], decode(block.column("visible")[number].as_py()["bytes"]))
        assert np.array_equal(row["classes"], decode(block.column("classes")[number].as_py()["bytes"]))
        np.testing.assert_allclose(row["landmarks_70"], points(block, number), atol=1e-4)
        assert row["thermal"] is None and row["points_given"] == 70 and np.isnan(row["landmarks_478"]).all()
        assert row["valid"].all() and np.isfinite(row["pose"]).all()


def test_t_fake_comes_back_on_its_scale(block: pa.Table, written: dict[str, Path]) -> None:
    found, reasons = read(job("tfake", written["tfake"]))
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


def test_sejong_comes_back_in_grey(block: pa.Table, written: dict[str, Path]) -> None:
    wanted = job("sejong", written["sejong"])
    found, reasons = read(wanted)
    assert not reasons and len(found) == 4
    assert all(row["thermal_kind"] == "minmax" and row["thermal"].dtype == np.uint8 for row in found)
    assert len({row["identity_id"] for row in found}) == 1 and (found[0]["classes"] == IGNORE).all()
    layout, domain = layout_of(wanted), load_domain("lab")
    for item in list_items(wanted, list_files(wanted)):
        sample = layout.read_sample(item, wanted, None)
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


def test_charlotte_comes_back(block: pa.Table, written: dict[str, Path]) -> None:
    """Temperature within half a centikelvin, points within half a pixel; 43 of them for the view that is a profile."""
    wanted = job("charlotte", written["charlotte"])
    layout, domain, found = layout_of(wanted), load_domain("field"), list(list_items(wanted, list_files(wanted)))
    assert [item.name for item in found] == ["10000", "10001", "10002", "10003"]
    for number, item in enumerate(found):
        sample = layout.read_sample(item, wanted, None)
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
    assert all(row["landmarks_72"].shape == (72, 2) and np.isnan(row["landmarks_70"]).all() for row in read(wanted)[0])


@pytest.mark.parametrize("unit", UNITS)
def test_units_mean_what_they_say(unit: Any) -> None:
    scale, offset = UNITS[unit]
    for degrees in (22.0, 34.0):
        stored = np.full((4, 4), (degrees - offset) / scale)
        counts = np.rint(stored).astype(np.uint16)
        np.testing.assert_allclose(from_unit(counts, unit), degrees, atol=scale / 2 + 1e-4)
    assert np.isnan(from_unit(np.zeros((2, 2), np.uint16), unit)).all() == (unit != "celsius")
    assert np.array_equal(from_unit(counts, "centikelvin"), from_centikelvin(counts))


@pytest.mark.parametrize("crop", ["whole", "face"])
@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(60, 200), height=st.integers(60, 200), x=st.floats(0.3, 0.7), y=st.floats(0.3, 0.7),
    size=st.sampled_from([64, 96, 150]),
)  # fmt: skip
def test_points_move_with_the_pixels_under_them(
    crop: Any, width: int, height: int, x: float, y: float, size: int
) -> None:
    """A hot blob in both pictures, the thermal one of half the size: the point that names it stays on it."""
    at = np.array([x * width, y * height])
    grid = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)
    blob = np.exp(-((grid - at) ** 2).sum(-1) / (2 * 4.0**2)).astype(np.float32)
    thermal = cv2.resize(20 + 15 * blob, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    reach = 0.22 * min(width, height)
    named = np.array([at, at - reach, at + reach, at, at], np.float32)
    sample = Sample(
        visible=np.repeat((blob * 255).astype(np.uint8)[..., None], 3, 2), celsius=thermal, points={5: named}
    )
    row = make_row(sample, Item("a"), GatherJob(layout="plain", images="x", size=size, crop=crop))
    place = np.stack(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5), -1)
    for picture, slack in ((row["visible"][..., 0].astype(float), 0.35), (np.nan_to_num(row["thermal"] - 20), 1.0)):
        weight = np.where(picture > 0.5 * picture.max(), picture, 0)
        middle = (place * weight[..., None]).sum((0, 1)) / weight.sum()
        scale = size / (2 * 1.25 * reach * 1.6 if crop == "face" else max(width, height))
        assert np.abs(middle - row["landmarks_5"][0]).max() < slack * max(1.0, scale) + 0.3


SPOILT: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "mask of unknown classes": ("facesynthetics", lambda f: png(f / "000000_seg.png", np.full((SIZE, SIZE), 77, np.uint8)),
                                "mask: class 77 is unknown; there are 0 to 18, and 255"),
    "mask of another size": ("facesynthetics", lambda f: png(f / "000000_seg.png", np.zeros((8, 8), np.uint8)),
                             "mask: 8 x 8 px beside a picture of 64 x 64 px"),
    "mask in colour": ("facesynthetics", lambda f: png(f / "000000_seg.png", np.zeros((SIZE, SIZE, 3), np.uint8)),
                       "mask: it must hold one 8-bit class id a pixel"),
    "picture cut short": ("facesynthetics", lambda f: cut_short(f / "000000.png"), "truncated:"),
    "empty picture": ("facesynthetics", lambda f: (f / "000000.png").write_bytes(b""), "empty: the file has no bytes"),
    "no picture": ("facesynthetics", lambda f: (f / "000000.png").unlink(), "no picture: the other files of 000000"),
    "no mask": ("facesynthetics", lambda f: (f / "000000_seg.png").unlink(), "no mask:"),
    "no landmarks": ("facesynthetics", lambda f: (f / "000000_ldmks.txt").unlink(), "no landmarks:"),
    "69 points": ("facesynthetics", lambda f: lines(f, lambda x: x[1:]), "landmarks: 69 points where 70 are needed"),
    "NaN point": ("facesynthetics", lambda f: lines(f, lambda x: [*x[:3], "nan 3", *x[4:]]), "landmarks: point 3 is not a"),
    "a word": ("facesynthetics", lambda f: lines(f, lambda x: ["left eye", *x[1:]]), "landmarks: 000000_ldmks.txt cannot"),
    "three numbers": ("facesynthetics", lambda f: lines(f, lambda x: [y + " 1" for y in x]), "must hold two numbers a line"),
    "point far outside": ("facesynthetics", lambda f: lines(f, lambda x: [*x[:5], "900 40", *x[6:]]),
                          "landmarks: point 5 at (900, 40) lies far outside the picture of 64 x 64 px"),
    "thermal in centikelvin": ("tfake", lambda f: png(f / "warm/000000_thermal.png", room(29515, 30715)),
                               "not tfake: the median pixel would be 29 degC"),
    "thermal of 8 bit": ("tfake", lambda f: png(f / "warm/000000_thermal.png", np.full((SIZE, SIZE), 90, np.uint8)),
                         "8-bit: grey levels are no temperatures; export 16-bit tfake"),
    "thermal of another size": ("tfake", lambda f: png(f / "warm/000000_thermal.png", room(9000, 50000)[:32]),
                                "mismatched: 64 x 32 px thermal beside 64 x 64 px visible"),
    "thermal cut short": ("tfake", lambda f: cut_short(f / "warm/000000_thermal.png"), "truncated:"),
    "degrees as centikelvin": ("charlotte", lambda f: tiff(f / "S1/R10000.tiff", room(22, 34)),
                               "not centikelvin: the median pixel would be -273 degC (value * 0.01 -273.15), 22 degC as celsius"),
    "kelvin/10 as centikelvin": ("charlotte", lambda f: tiff(f / "S1/R10000.tiff", room(2952, 3072)),
                                 "22 degC as decikelvin"),
    "T-FAKE as centikelvin": ("charlotte", lambda f: tiff(f / "S1/R10000.tiff", room(30000, 48000)),
                              "not centikelvin: a twentieth of the pixels would be hotter than 100 degC"),
    "frame of 8 bit": ("charlotte", lambda f: tiff(f / "S1/R10000.tiff", room(22, 34).astype(np.uint8)), "8-bit:"),
    "frame without reading": ("charlotte", lambda f: tiff(f / "S1/R10000.tiff", room(0, 0)), "no reading:"),
    "frame cut short": ("charlotte", lambda f: cut_short(f / "S1/R10000.tiff"), "not a picture:"),
    "grey view of another size": ("charlotte", lambda f: png(f / "S1/N10000.jpg", np.zeros((9, 9), np.uint8)), "mismatched:"),
    "no frame": ("charlotte", lambda f: (f / "S1/R10000.tiff").unlink(), "no picture: R10000.tiff of S1.csv is not there"),
    "ID twice": ("charlotte", lambda f: table(f, lambda x: [*x, x[1]]), "duplicated: 2 rows of tables have the ID R10000"),
    "no line": ("charlotte", lambda f: table(f, lambda x: [x[0], *x[2:]]), "no landmarks: no table has the ID R10000"),
    "42 points": ("charlotte", lambda f: table(f, lambda x: [x[0], empty(x[1], 42), *x[2:]]),
                  "landmarks: S1.csv: 42 points where 72 or 43 are needed"),
    "a gap": ("charlotte", lambda f: table(f, lambda x: [x[0], moved(x[1], 42, 50), *x[2:]]),
              "landmarks: S1.csv: slot 42 is empty among the first 43"),
    "no thermal partner": ("sejong", lambda f: next(f.glob("*/000000_warm_t.jpg")).unlink(), "no thermal picture:"),
    "no visible partner": ("sejong", lambda f: next(f.glob("*/000000_warm_v.jpg")).unlink(), "no visible picture:"),
    "pair of two shapes": ("sejong", lambda f: png(next(f.glob("*/000000_warm_t.jpg")), np.zeros((30, 64), np.uint8)),
                           "mismatched: 64 x 30 px thermal beside 64 x 64 px visible"),
    "thermal in a palette": ("sejong", lambda f: png(next(f.glob("*/000000_warm_t.jpg")), np.random.default_rng(0).integers(
        0, 255, (SIZE, SIZE, 3), dtype=np.uint8)), "colours: a palette cannot be undone"),
}  # fmt: skip


def png(path: Path, values: np.ndarray) -> None:
    assert path.exists() and cv2.imwrite(str(path), values)


tiff = png


def room(low: int, high: int) -> np.ndarray:
    """A square of a face before a wall, uint16."""
    values = np.full((SIZE, SIZE), low, np.uint16)
    values[20:50, 20:50] = high
    return values


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])


def lines(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = folder / "000000_ldmks.txt"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


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


@pytest.mark.parametrize("name", SPOILT)
def test_one_bad_file_costs_one_row_and_is_named(name: str, folder: Callable[[str], Path]) -> None:
    layout, spoil, words = SPOILT[name]
    where = folder(layout)
    before, reasons = read(job(layout, where))
    assert not reasons
    spoil(where)
    found, reasons = read(job(layout, where))
    assert len(reasons) == 1 and len(found) == len(before) - 1
    (reason,) = reasons.values()
    assert words in reason


def test_t_fakes_pairs_are_found_by_number_and_lone_ones_named(folder: Callable[[str], Path]) -> None:
    where = folder("tfake")
    (where / "warm/000000_thermal.png").rename(where / "warm/0_thermal.png")
    shutil.copy(where / "warm/0_thermal.png", where / "warm/000099_thermal.png")
    shutil.copy(where / "warm/000001_thermal.png", where / "warm/1_thermal.png")
    shutil.copy(where / "000001.png", where / "000002.png")
    shutil.copy(where / "000001_seg.png", where / "000002_seg.png")
    shutil.copy(where / "000001_ldmks.txt", where / "000002_ldmks.txt")
    found, reasons = read(job("tfake", where))
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
        read(job("tfake", where, thermal=str(apart)))
    found, _ = read(job("tfake", where, thermal=str(apart), condition="cold"))
    assert [row["condition"] for row in found] == ["cold", "cold"]


def test_dense_annotations_are_converted_once_and_may_be_missing(folder: Callable[[str], Path], tmp_path: Path) -> None:
    where = folder("tfake")
    with np.load(where / "annotations.npz") as npz:
        dense = {name: np.c_[npz[name], np.zeros(478)].astype(np.float64) for name in npz.files}
    (where / "annotations.npz").unlink()
    lost = dense.pop("000001.png")
    (where / "annotations.pkl").write_bytes(pickle.dumps(dense))
    with pytest.raises(UserError, match=r"annotations\.pkl must be converted once"):
        read(job("tfake", where))
    out = Storage(tmp_path / "out")
    found, reasons = read(job("tfake", where), out)
    assert not reasons and out.exists("_plan/annotations.npz")
    np.testing.assert_allclose(found[0]["landmarks_478"], dense["000000.png"][:, :2] * SIZE, atol=1e-3)
    assert np.isnan(found[2]["landmarks_478"]).all() and np.isfinite(found[2]["landmarks_70"]).all()

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "made",)

    (where / "annotations.pkl").write_bytes(pickle.dumps({"000001.png": lost, "x.png": Evil()}))
    with pytest.raises(UserError, match=r"annotations\.pkl: asks for pathlib\..*nothing was run"):
        read(job("tfake", where), Storage(tmp_path / "other"))
    assert not (tmp_path / "made").exists()
    (where / "annotations.pkl").unlink()
    (where / "annotations.npz").write_bytes(b"PK no archive")
    assert "annotations.npz is no .npz of arrays" in str(read(job("tfake", where), Storage(tmp_path / "third"))[1])


def plain(images: Path, **columns: str) -> GatherJob:
    unit = columns.pop("unit", "centikelvin")
    return job("plain", images, columns=columns, unit=unit)


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
    found, reasons = read(plain(tmp_path, **columns))
    assert [row["name"] for row in found] == ["day1/0", "day1/1"]
    assert reasons["day1/2"].startswith("no reading: every pixel")
    np.testing.assert_allclose(found[0]["thermal"][8:-8], 30, atol=1e-4)  # padded above and below
    assert np.isnan(found[1]["thermal"][:, :15]).all() and np.isfinite(found[1]["thermal"][10:-10, 18:]).all()
    np.testing.assert_allclose(found[0]["landmarks_70"], face + np.array([0, 8]), atol=1e-3)
    (tmp_path / "rgb/day1/1.jpg").unlink()
    assert read(plain(tmp_path, **columns))[1]["day1/1"].startswith("no visible: no file like rgb/NAME.jpg")
    assert set(read(plain(tmp_path, thermal="ir/NAME_t.tiff"))[1]) == {
        "day1/0",
        "day1/1",
        "day1/2",
    }  # degrees, not 0.01 K


def test_a_pattern_without_extension_takes_any_picture_and_the_longer_pattern_wins(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((32, 32, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((32, 32, 3), np.uint8))
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}_seg.png"), np.ones((32, 32), np.uint8))
    found, reasons = read(plain(tmp_path, visible="NAME", mask="NAME_seg.png"))
    assert [row["name"] for row in found] == ["a", "b"] and not reasons and (found[0]["classes"] == 1).all()
    cv2.imwrite(str(tmp_path / "b.jpg"), np.zeros((32, 32, 3), np.uint8))
    assert read(plain(tmp_path, visible="NAME", mask="NAME_seg.png"))[1]["b"].startswith("duplicated: b.png fits")


def test_plain_parquet_is_read_by_columns(block: pa.Table, tmp_path: Path) -> None:
    broken = block.slice(1, 1).set_column(block.schema.get_field_index("visible"), "visible", [[None]])
    pq.write_table(
        pa.concat_tables([block, broken], promote_options="default"), tmp_path / "a.parquet", row_group_size=2
    )
    columns = {"visible": "visible", "thermal": "thermal", "mask": "classes", "landmarks": "landmarks_70"}
    found, reasons = read(plain(tmp_path, **columns))
    assert len(found) == 4 and reasons == {"a.parquet#4": "empty: column visible holds nothing that is encoded"}
    for number, row in enumerate(found):
        raw = from_centikelvin(decode(block.column("thermal")[number].as_py()["bytes"]))
        np.testing.assert_allclose(row["thermal"], raw, atol=1e-4)
        np.testing.assert_allclose(row["landmarks_70"], points(block, number), atol=1e-4)
        assert (row["identity_id"], row["condition"]) == tuple(
            block.column(c)[number].as_py() for c in ("identity_id", "condition")
        )
    with pytest.raises(UserError, match="has no column depth; it has: partition, pair_id"):
        read(plain(tmp_path, thermal="depth"))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no more")
    assert read(plain(tmp_path, **columns))[1]["b.parquet"].startswith("not Parquet:")


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
    rows, refused = read(job("sejong", tmp_path, size=64))
    assert len(rows) == 3 and not refused
    for row in rows:
        np.testing.assert_array_equal(row["visible"][..., 0] > 128, picture > 128)
        np.testing.assert_array_equal(row["thermal"] > 128, picture > 128)


def test_folders_that_are_no_data_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read(job("sejong", tmp_path / "nowhere"))
    with pytest.raises(UserError, match="is empty"):
        read(job("sejong", tmp_path))
    (tmp_path / "notes.txt").write_text("hello")
    for layout, words in (
        ("facesynthetics", "no FaceSynthetics"), ("tfake", "no T-FAKE"), ("sejong", "no SEJONG"),
        ("charlotte", "no CHARLOTTE"), ("plain", "say where pictures are"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            read(job(layout, tmp_path))
    with pytest.raises(UserError, match="holds no file like NAME.png"):
        read(plain(tmp_path, visible="NAME.png"))
    with pytest.raises(UserError, match="lacks the word NAME"):
        read(plain(tmp_path, visible="*.png"))
    for wrong in ({"unit": "grey"}, {"thermal": "x"}, {"columns": {"visible": "NAME.jpg"}}):
        with pytest.raises(ValueError, match="layout"):
            job("sejong", tmp_path, **wrong)


def test_counts_of_an_unknown_unit_become_grey(tmp_path: Path) -> None:
    counts = to_centikelvin(np.linspace(20, 36, 48 * 48).reshape(48, 48)) // 7
    cv2.imwrite(str(tmp_path / "a.png"), counts.astype(np.uint16))
    assert "not centikelvin" in read(plain(tmp_path, thermal="NAME"))[1]["a"]
    (row,), _ = read(plain(tmp_path, thermal="NAME", unit="grey"))
    assert row["thermal"].dtype == np.uint8 and row["visible_kind"] == "thermal"
    assert row["thermal"].min() == 0 and row["thermal"].max() == 255 and row["visible"].shape == (SIZE, SIZE, 3)
