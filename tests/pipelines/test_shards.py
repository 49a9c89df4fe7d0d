"""Reading shards: what a row holds, what a damaged shard costs, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import UserError
from models.temperature import from_centikelvin, to_centikelvin
from pipelines.commits import Commit, commit, committed, write_shard
from pipelines.pictures.codecs import decode, encode_jpeg, encode_png
from pipelines.shards import Shards
from pipelines.storage import Storage

COLUMNS = ("identity", "visible", "classes", "valid", "apparent", "landmarks_70", "visible_70_rgb", "attributes")


def small_shards(folder: Path, partitions: int = 4, rows: int = 5) -> Storage:
    """Write shards whose every pixel tells its row: visible = row, apparent = 20 + row degC."""
    storage = Storage(folder)
    for part in range(partitions):
        numbers = range(part * rows, part * rows + rows)
        table = pa.table(
            {
                "identity": pa.array(numbers, pa.int64()),
                "visible": [encode_jpeg(np.full((8, 8, 3), 10 * n, np.uint8)) for n in numbers],
                "classes": [encode_png(np.full((8, 8), n % 19, np.uint8)) for n in numbers],
                "valid": [encode_png(np.full((8, 8), 255, np.uint8)) for _ in numbers],
                "apparent": [encode_png(to_centikelvin(np.full((8, 8), 20.0 + n))) for n in numbers],
                "landmarks_70": pa.array([np.full(140, n, np.float32) for n in numbers], pa.list_(pa.float32(), 140)),
                "visible_70_rgb": pa.array([[True] * 70 for _ in numbers], pa.list_(pa.bool_(), 70)),
                "attributes": [json.dumps({"n": n}) for n in numbers],
            }
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="none")
        name, digest = write_shard(storage, "data", part, sink.getvalue().to_pybytes())
        commit(storage, part, Commit(name, rows, digest))
    return storage


@pytest.mark.parametrize("memory", [2**30, 0], ids=["kept", "on demand"])
def test_rows_come_decoded_in_the_order_asked(tmp_path: Path, memory: int) -> None:
    shards = Shards(small_shards(tmp_path).uri, COLUMNS, memory=memory)
    assert len(shards) == 20
    rows = shards.rows(np.array([19, 3, 3]))
    assert rows["identity"].tolist() == [19, 3, 3]
    assert rows["visible"].shape == (3, 8, 8, 3) and rows["visible"].dtype == np.uint8
    assert abs(int(rows["visible"][0, 4, 4, 0]) - 190) <= 2
    assert rows["classes"].dtype == np.uint8 and rows["classes"][1, 0, 0] == 3
    assert rows["valid"].dtype == bool and rows["valid"].all()
    assert rows["apparent"].dtype == np.float32
    np.testing.assert_allclose(rows["apparent"][:, 0, 0], [39, 23, 23], atol=0.005)
    assert rows["landmarks_70"].shape == (3, 70, 2) and rows["landmarks_70"].dtype == np.float32
    assert rows["visible_70_rgb"].shape == (3, 70) and rows["visible_70_rgb"].dtype == bool
    assert json.loads(rows["attributes"][0]) == {"n": 19}


def test_several_data_sets_are_read_one_after_the_other(tmp_path: Path) -> None:
    one, two = (small_shards(tmp_path / name, count).uri for name, count in (("one", 2), ("two", 3)))
    both = Shards(f"{one},{two}", ("identity",))
    assert both.rows(np.arange(len(both)))["identity"].tolist() == [*range(10), *range(15)]
    assert both.digest not in {Shards(one, ("identity",)).digest, Shards(f"{two},{one}", ("identity",)).digest}
    with pytest.raises(UserError, match="none holds no committed shard"):
        Shards(f"{one},{tmp_path}/none", ("identity",))


@pytest.mark.parametrize("memory", [2**30, 0], ids=["kept", "on demand"])
def test_prepare_sees_degrees_and_is_what_remains(tmp_path: Path, memory: int) -> None:
    def prepare(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"mean": rows["apparent"].mean(axis=(1, 2))}

    shards = Shards(small_shards(tmp_path).uri, ("apparent",), prepare=prepare, memory=memory)
    rows = shards.rows(np.array([0, 7]))
    assert list(rows) == ["mean"]
    np.testing.assert_allclose(rows["mean"], [20, 27], atol=0.005)


@pytest.mark.parametrize("damage", ["garbage", "cut", "gone", "one bit"])
def test_a_damaged_shard_is_named_and_survived(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    storage = small_shards(tmp_path)
    file = Path(storage.path(committed(storage)[2].file))
    if damage == "gone":
        file.unlink()
    elif damage == "one bit":  # in the middle of a picture, which would still decode
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(b"no parquet" if damage == "garbage" else file.read_bytes()[:-100])
    shards = Shards(storage.uri, ("identity",))
    assert len(shards) == 15
    assert shards.rows(np.arange(15))["identity"].tolist() == [*range(10), *range(15, 20)]
    assert len(shards.skipped) == 1 and file.name in shards.skipped[0]
    assert "delete _commits/part-00002.json there and run the command that made it again" in shards.skipped[0]
    assert file.name in caplog.text


def test_a_row_that_cannot_be_decoded_is_named_and_stood_in_for(tmp_path: Path) -> None:
    storage = small_shards(tmp_path / "good", partitions=1)
    table = pq.read_table(storage.path(committed(storage)[0].file))
    pictures = table.column("visible").to_pylist()
    pictures[2] = b"no picture"
    table = table.set_column(table.schema.get_field_index("visible"), "visible", [pictures])
    sink, storage = pa.BufferOutputStream(), Storage(tmp_path / "bad")
    pq.write_table(table, sink)
    name, digest = write_shard(storage, "data", 0, sink.getvalue().to_pybytes())
    commit(storage, 0, Commit(name, 5, digest))
    shards = Shards(storage.uri, ("identity", "visible"))
    assert shards.rows(np.arange(5))["identity"].tolist() == [0, 1, 3, 3, 4]
    assert "row 2 of shard 0: column visible: not a picture" in shards.skipped[0]


def test_the_digest_follows_the_rows(tmp_path: Path) -> None:
    one, other = small_shards(tmp_path / "a"), small_shards(tmp_path / "b", partitions=3)
    assert Shards(one.uri, ("identity",)).digest == Shards(one.uri, ("identity",)).digest
    assert Shards(one.uri, ("identity",)).digest != Shards(other.uri, ("identity",)).digest


def test_what_cannot_be_read_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no committed shard; make them with"):
        Shards(str(tmp_path / "empty"), ("identity",))
    storage = small_shards(tmp_path / "a", partitions=1)
    with pytest.raises(UserError, match="has no column depth; it has: identity, visible"):
        Shards(storage.uri, ("depth",))
    Path(storage.path(committed(storage)[0].file)).write_bytes(b"")
    with pytest.raises(UserError, match="no shard of .* can be read"):
        Shards(storage.uri, ("identity",))


def test_temperature_survives_the_picture() -> None:
    values = np.linspace(-40, 120, 64, dtype=np.float32).reshape(8, 8)
    assert np.abs(from_centikelvin(decode(encode_png(to_centikelvin(values)))) - values).max() <= 0.0051
    assert np.array_equal(to_centikelvin(from_centikelvin(np.arange(65536, dtype=np.uint16))), np.arange(65536))


def test_a_picture_is_measured_before_it_is_decoded() -> None:
    wide = encode_png(np.zeros((2, 60_000), np.uint8))
    with pytest.raises(UserError, match="60000 x 2 pixels is over the limit of 100000"):
        decode(wide, max_pixels=100_000)
    whole = encode_png(np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8))
    with pytest.raises(UserError, match="64 x 64 pixels cannot be decoded"):
        decode(whole[:2000])
    with pytest.raises(UserError, match="not a picture"):
        decode(b"")
