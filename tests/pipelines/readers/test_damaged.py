"""Readers of files that others wrote: whatever the bytes are, the answer is rows, a reason, or one message of ours."""

import contextlib
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.attributes import ATTRIBUTES
from models.errors import UserError
from models.landmarks.exports import pts_text
from pipelines.config.thermalize import ThermalizeJob
from pipelines.pictures.arrays import ArrayArchive, read_array
from pipelines.pictures.open import BadPicture, open_any, open_classes, open_pages
from pipelines.plan.people.given import GivenPeople
from pipelines.plan.photos import list_photos
from pipelines.readers.points import read_points
from pipelines.readers.sets.unpickle import npz_of
from pipelines.storage import tables
from pipelines.storage.tables import require_groups
from tests.damaged import damaged
from tests.pipelines.readers.layouts import plain, read_rows

FEW = settings(
    max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def table() -> pa.Table:
    """Return three people with a picture of each."""
    picture = bytes(cv2.imencode(".png", np.full((32, 32, 3), 90, np.uint8))[1])
    vectors = pa.array(np.random.default_rng(0).normal(size=(3, 512)).tolist(), pa.list_(pa.float32()))
    return pa.table({"identity_id": ["a", "b", "c"], "embedding": vectors, "visible": [picture] * 3})


def parquet(rows: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, **options)
    return sink.getvalue()


def read_people(folder: Path) -> list[Any]:
    people = GivenPeople(str(folder / "a.parquet"))
    return [person.id for block in people.blocks(0, len(people)) for person in block]


def read_photos(folder: Path) -> list[Any]:
    return [row["picture"] for row in list_photos(ThermalizeJob(images=str(folder), size=32)).rows]


def gather(folder: Path) -> list[Any]:
    found, reasons = read_rows(plain(folder, visible="visible"))
    return [row["name"] for row in found] + list(reasons.values())


READERS = {"people": read_people, "photos": read_photos, "gather": gather}
TABLE = parquet(table())


@pytest.mark.parametrize("reader", READERS)
@FEW
@given(content=damaged(TABLE, tail=600))
def test_damaged_parquet_is_rows_a_reason_or_one_message(reader: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    said = "rows"
    try:
        READERS[reader](tmp_path)
    except UserError as error:
        said = str(error)
    assert said and len(said) < 700


@pytest.mark.parametrize("reader", READERS)
def test_what_is_wrong_with_parquet_is_told(reader: str, tmp_path: Path) -> None:
    def read(content: bytes) -> str:
        (tmp_path / "a.parquet").write_bytes(content)
        try:
            return " ".join(READERS[reader](tmp_path))
        except UserError as error:
            return str(error)

    assert len(read(TABLE).split()) == 3
    twice = table()
    for name in ("visible", "identity_id"):
        twice = twice.append_column(name, twice[name])
    assert " 2 times" in read(parquet(twice))
    assert read(parquet(table()[:0])).partition("hold")[2]
    assert "is no readable Parquet file" in read(TABLE[:-30] + b"\x07" * 22 + TABLE[-8:])
    assert "encrypted" in read(TABLE[:-4] + b"PARE")
    assert "is no readable Parquet file" in read(b"PAR1")


def test_rows_that_hold_nothing_are_refused_from_the_footer(tmp_path: Path) -> None:
    """1e8 empty rows fit into half a megabyte, and would fill memory as a list."""
    bare = pa.table({name: pa.nulls(2_000_000, pa.binary()) for name in ("identity_id", "visible")})
    (tmp_path / "a.parquet").write_bytes(parquet(bare, row_group_size=2_000_000))
    for reader in (read_photos, gather):
        try:
            said = " ".join(reader(tmp_path))
        except UserError as error:
            said = str(error)
        assert "says that it has 2000000 rows" in said and len(said) < 400
    people = pa.table({"identity_id": ["a"] * len(bare), "embedding": pa.nulls(len(bare), pa.list_(pa.float32()))})
    (tmp_path / "a.parquet").write_bytes(parquet(people))
    with pytest.raises(UserError, match="embedding has 0 values"):
        read_people(tmp_path)


def test_a_row_group_that_cannot_be_held_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    file = pq.ParquetFile(io.BytesIO(TABLE))
    require_groups(file, ["visible"], "a.parquet")
    monkeypatch.setattr(tables, "MAX_GROUP", 100)
    with pytest.raises(UserError, match="row_group_size=1000"):
        require_groups(file, ["visible"], "a.parquet")


def test_one_damaged_table_costs_its_own_rows(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(TABLE)
    (tmp_path / "b.parquet").write_bytes(TABLE[:-40])
    found, reasons = read_rows(plain(tmp_path, visible="visible"))
    assert len(found) == 3 and list(reasons) == ["b.parquet"]


ARCHIVE = npz_of({"a": np.arange(12, dtype=np.float32).reshape(6, 2), "b": np.ones((3, 3))})


@FEW
@given(content=damaged(ARCHIVE, tail=300))
def test_damaged_npz_is_an_array_or_a_reason(content: bytes) -> None:
    with contextlib.suppress(UserError, BadPicture):
        archive = ArrayArchive(io.BytesIO(content), "points.npz")
        for name in ("a", "b"):
            if name in archive:
                assert archive[name].size < 100


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        ((10**9, 10**9), "<f4", "says shape"),
        ((-1, 2), "<f4", "says shape"),
        ((2**63, 4), "<f4", "says shape"),
        ((5, 2), "<f4", "says shape"),
        ((6, 2), "|O", "not numbers"),
        ((6, 2), "<U1", "not numbers"),
    ],
)
def test_arrays_of_impossible_shapes_are_named(shape: tuple[int, ...], kind: str, words: str) -> None:
    sink = io.BytesIO()
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(sink, header)
    content = sink.getvalue() + b"\0" * 48
    with pytest.raises(BadPicture, match=words):
        read_array(io.BytesIO(content), len(content), "a.npy")


def test_arrays_come_out_as_numpy_has_them() -> None:
    for wanted in (
        np.arange(12, dtype=np.float32).reshape(6, 2),
        np.asfortranarray(np.eye(3, dtype=">f8")),
        np.array(3),
    ):
        sink = io.BytesIO()
        np.save(sink, wanted)
        found = read_array(io.BytesIO(sink.getvalue()), len(sink.getvalue()), "a.npy")
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        np.testing.assert_array_equal(found, wanted)


PICTURE = bytes(cv2.imencode(".png", np.full((24, 32, 3), 90, np.uint8))[1])
DEEP = bytes(cv2.imencode(".tiff", np.full((24, 32), 9000, np.uint16))[1])
PHOTO = bytes(cv2.imencode(".jpg", np.full((24, 32, 3), 90, np.uint8))[1])


@pytest.mark.filterwarnings("ignore")  # Pillow's, of what it skips
@pytest.mark.parametrize("picture", [PICTURE, DEEP, PHOTO], ids=["png", "tiff", "jpeg"])
@FEW
@given(data=st.data())
def test_damaged_pictures_are_pixels_or_a_reason(picture: bytes, data: st.DataObject) -> None:
    content = data.draw(damaged(picture))
    for opener in (open_any, open_pages, lambda file: open_classes(file, (24, 32))):
        with contextlib.suppress(BadPicture):
            opener(content)


@FEW
@given(content=damaged(pts_text(np.arange(136, dtype=np.float32).reshape(68, 2)).encode()) | st.binary(max_size=80),
       name=st.sampled_from(["a.pts", "a.txt", "a.json"]))  # fmt: skip
def test_damaged_landmark_files_are_points_or_a_reason(content: bytes, name: str) -> None:
    with contextlib.suppress(BadPicture):
        assert np.isfinite(read_points(content, name, 68)).all()


@pytest.mark.parametrize("words", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, "[1]", '{"sex": ["man"]}'])
def test_words_of_people_that_are_no_words_are_one_message(words: str, tmp_path: Path) -> None:
    assert "sex" in ATTRIBUTES
    rows = table().append_column("attributes", pa.array([words, None, None]))
    (tmp_path / "a.parquet").write_bytes(parquet(rows))
    with pytest.raises(UserError, match="identity 'a'"):
        read_people(tmp_path)
