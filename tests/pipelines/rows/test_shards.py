"""Reading shards: what a row holds, what a damaged shard costs, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import UserError
from models.temperature import from_centikelvin, to_centikelvin
from pipelines.pictures.codecs import decode, encode_jpeg, encode_png
from pipelines.rows.encode import encode_parquet, picture
from pipelines.rows.schema import arrow_schema
from pipelines.rows.shards import Shards
from pipelines.storage.commits import Commit, commit, read_commits, write_shard
from pipelines.storage.uri import Storage

COLUMNS = ("world_identity", "visible", "classes", "valid", "thermal", "landmarks_70", "seen_70_visible", "attributes")


def write_rows(folder: Path, rows: list[dict[str, Any]], partition: int = 4) -> str:
    """Write rows of any columns as shards of `partition` rows; returns the folder."""
    storage, names = Storage(folder), list(dict.fromkeys(name for row in rows for name in row))
    for part, begin in enumerate(range(0, len(rows), partition)):
        table = pa.Table.from_pylist(rows[begin : begin + partition], schema=arrow_schema(names))
        name, digest = write_shard(storage, "data", part, encode_parquet(table))
        commit(storage, part, Commit(name, len(table), digest))
    return storage.uri


def pairs(people: int = 6) -> list[dict[str, Any]]:
    """Return two views in two conditions of every person; the first is of validation, the second of test."""
    found = []
    for person in range(people):
        split = {0: "validation", 1: "test"}.get(person, "train")
        for view in range(2):
            for condition in ("warm", "cold"):
                row = {"sample_id": f"{person}.{view}", "split": split, "condition": condition, "view": view}
                found.append(row | {"world_identity": person, "visible_kind": "rgb"})
    return found


def small_shards(folder: Path, partitions: int = 4, rows: int = 5) -> Storage:
    """Write shards whose every pixel tells its row: visible = row, thermal = 20 + row degC."""
    storage = Storage(folder)
    for part in range(partitions):
        numbers = range(part * rows, part * rows + rows)
        table = pa.table(
            {
                "world_identity": pa.array(numbers, pa.int64()),
                "visible": [encode_jpeg(np.full((8, 8, 3), 10 * n, np.uint8)) for n in numbers],
                "classes": [encode_png(np.full((8, 8), n % 19, np.uint8)) for n in numbers],
                "valid": [encode_png(np.full((8, 8), 255, np.uint8)) for _ in numbers],
                "thermal": [encode_png(to_centikelvin(np.full((8, 8), 20.0 + n))) for n in numbers],
                "landmarks_70": pa.array([np.full(140, n, np.float32) for n in numbers], pa.list_(pa.float32(), 140)),
                "seen_70_visible": pa.array([[True] * 70 for _ in numbers], pa.list_(pa.bool_(), 70)),
                "attributes": [json.dumps({"n": n}) for n in numbers],
            }
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="none")
        name, digest = write_shard(storage, "data", part, sink.getvalue().to_pybytes())
        commit(storage, part, Commit(name, rows, digest))
    return storage


@pytest.mark.parametrize("fixed", [True, False], ids=["lists of one length", "lists"])
def test_points_that_the_reader_looks_for_are_nan_where_there_are_none(tmp_path: Path, fixed: bool) -> None:
    """Empty in some rows of a shard, in all, and a column that is not there; what is there stays."""
    storage, kind = Storage(tmp_path), pa.list_(pa.float32(), 140 if fixed else -1)
    given: list[list[float | None] | None] = [[1.0, None, 3.0], [None, None, None], None]
    for part, shard in enumerate(given):
        table = pa.table({"view": pa.array(range(3), pa.int64())})
        if shard is not None:
            lists = pa.array([None if n is None else np.full(140, n, np.float32) for n in shard], kind)
            table = table.append_column("landmarks_70", lists)
        name, digest = write_shard(storage, "data", part, encode_parquet(table))
        commit(storage, part, Commit(name, 3, digest))
    shards = Shards(storage.uri, ("view", "landmarks_70"), found=("landmarks_70",))
    assert shards.values("view").tolist() == [0, 1, 2] * 3
    wanted = np.array([1.0, np.nan, 3.0, *[np.nan] * 6])
    np.testing.assert_array_equal(
        shards.rows(np.arange(9))["landmarks_70"], np.broadcast_to(wanted[:, None, None], (9, 70, 2))
    )
    np.testing.assert_array_equal(shards.lists("landmarks_70"), np.broadcast_to(wanted[:, None], (9, 140)))
    # Whoever does not look for them is told.
    with pytest.raises(UserError, match="landmarks_70"):
        Shards(storage.uri, ("view", "landmarks_70"))


def test_lists_of_another_length_are_no_points_and_the_rows_that_come_decide_the_digest(tmp_path: Path) -> None:
    storage, whole = Storage(tmp_path), [1.0] * 140
    cells: list[list[Any]] = [[whole, [], [None, *whole[1:]], None], [None] * 4]
    for part, kind in enumerate((pa.list_(pa.float32()), pa.null())):
        table = pa.table({"view": pa.array(range(4), pa.int64()), "landmarks_70": pa.array(cells[part], kind)})
        name, digest = write_shard(storage, "data", part, encode_parquet(table))
        commit(storage, part, Commit(name, 4, digest))
    wanted = ("view", "landmarks_70")
    shards, given = Shards(storage.uri, wanted, found=wanted[1:]), Shards(storage.uri, wanted, limit=1)
    assert np.isfinite(shards.lists("landmarks_70")).sum(axis=1).tolist() == [140, 0, 139, *[0] * 5]
    assert shards.digest != Shards(storage.uri, wanted, memory=0).digest and len(given) == 1
    assert Shards(storage.uri, wanted[:1], found=()).digest == Shards(storage.uri, wanted[:1]).digest


@pytest.mark.parametrize("memory", [2**30, 0], ids=["kept", "on demand"])
def test_rows_come_decoded_in_the_order_asked(tmp_path: Path, memory: int) -> None:
    shards = Shards(small_shards(tmp_path).uri, COLUMNS, memory=memory)
    assert len(shards) == 20
    rows = shards.rows(np.array([19, 3, 3]))
    assert rows["world_identity"].tolist() == [19, 3, 3]
    assert rows["visible"].shape == (3, 8, 8, 3) and rows["visible"].dtype == np.uint8
    assert abs(int(rows["visible"][0, 4, 4, 0]) - 190) <= 2
    assert rows["classes"].dtype == np.uint8 and rows["classes"][1, 0, 0] == 3
    assert rows["valid"].dtype == bool and rows["valid"].all()
    assert rows["thermal"].dtype == np.float32
    np.testing.assert_allclose(rows["thermal"][:, 0, 0], [39, 23, 23], atol=0.005)
    assert rows["landmarks_70"].shape == (3, 70, 2) and rows["landmarks_70"].dtype == np.float32
    assert rows["seen_70_visible"].shape == (3, 70) and rows["seen_70_visible"].dtype == bool
    assert json.loads(rows["attributes"][0]) == {"n": 19}


def test_several_data_sets_are_read_one_after_the_other(tmp_path: Path) -> None:
    one, two = (small_shards(tmp_path / name, count).uri for name, count in (("one", 2), ("two", 3)))
    both = Shards(f"{one},{two}", ("world_identity",))
    assert both.rows(np.arange(len(both)))["world_identity"].tolist() == [*range(10), *range(15)]
    assert both.digest not in {
        Shards(one, ("world_identity",)).digest,
        Shards(f"{two},{one}", ("world_identity",)).digest,
    }
    with pytest.raises(UserError, match="none holds no committed shard: give what .*`gather`"):
        Shards(f"{one},{tmp_path}/none", ("world_identity",))


@pytest.mark.parametrize("memory", [2**30, 0], ids=["kept", "on demand"])
def test_prepare_sees_degrees_and_is_what_remains(tmp_path: Path, memory: int) -> None:
    def prepare(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"mean": rows["thermal"].mean(axis=(1, 2))}

    shards = Shards(small_shards(tmp_path).uri, ("thermal",), prepare=prepare, memory=memory)
    rows = shards.rows(np.array([0, 7]))
    assert list(rows) == ["mean"]
    np.testing.assert_allclose(rows["mean"], [20, 27], atol=0.005)


@pytest.mark.parametrize("damage", ["garbage", "cut", "gone", "one bit"])
def test_a_damaged_shard_is_named_and_survived(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    storage = small_shards(tmp_path)
    file = Path(storage.path(read_commits(storage)[2].file))
    if damage == "gone":
        file.unlink()
    elif damage == "one bit":  # in the middle of a picture, which would still decode
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(b"no parquet" if damage == "garbage" else file.read_bytes()[:-100])
    shards = Shards(storage.uri, ("world_identity",))
    assert len(shards) == 15
    assert shards.rows(np.arange(15))["world_identity"].tolist() == [*range(10), *range(15, 20)]
    assert len(shards.skipped) == 1 and file.name in shards.skipped[0]
    assert "delete _commits/part-00002.json there and run the command that made it again" in shards.skipped[0]
    assert file.name in caplog.text


def test_a_row_that_cannot_be_decoded_is_named_and_stood_in_for(tmp_path: Path) -> None:
    storage = small_shards(tmp_path / "good", partitions=1)
    table = pq.read_table(storage.path(read_commits(storage)[0].file))
    pictures = table.column("visible").to_pylist()
    pictures[2] = b"no picture"
    table = table.set_column(table.schema.get_field_index("visible"), "visible", [pictures])
    sink, storage = pa.BufferOutputStream(), Storage(tmp_path / "bad")
    pq.write_table(table, sink)
    name, digest = write_shard(storage, "data", 0, sink.getvalue().to_pybytes())
    commit(storage, 0, Commit(name, 5, digest))
    shards = Shards(storage.uri, ("world_identity", "visible"))
    assert shards.rows(np.arange(5))["world_identity"].tolist() == [0, 1, 3, 3, 4]
    assert "row 2 of shard 0: column visible: not a picture" in shards.skipped[0]


def test_the_digest_follows_the_rows(tmp_path: Path) -> None:
    one, other = small_shards(tmp_path / "a"), small_shards(tmp_path / "b", partitions=3)
    assert Shards(one.uri, ("world_identity",)).digest == Shards(one.uri, ("world_identity",)).digest
    assert Shards(one.uri, ("world_identity",)).digest != Shards(other.uri, ("world_identity",)).digest


def test_what_cannot_be_read_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no committed shard: give what"):
        Shards(str(tmp_path / "empty"), ("world_identity",))
    storage = small_shards(tmp_path / "a", partitions=1)
    with pytest.raises(UserError, match="task parser reads depth, which .* has not: .*part-00000.* has world_identity"):
        Shards(storage.uri, ("depth",), reader="task parser")
    Path(storage.path(read_commits(storage)[0].file)).write_bytes(b"")
    with pytest.raises(UserError, match="no shard of .* can be read"):
        Shards(storage.uri, ("world_identity",))


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


def read(uri: str, *columns: str, **how: Any) -> list[tuple[Any, ...]]:
    """Return the rows that are taken, as tuples of `columns`."""
    shards = Shards(uri, columns, **how)
    rows = shards.rows(np.arange(len(shards)))
    return list(zip(*(rows[name].tolist() for name in columns), strict=True))


def test_rows_of_other_splits_are_left_out_in_order(tmp_path: Path) -> None:
    uri = write_rows(tmp_path, pairs(), partition=3)
    assert read(uri, "world_identity", "condition", split="test") == [(1, "warm"), (1, "cold")] * 2
    people = [person for person, *_ in read(uri, "world_identity", "condition", split="train")]
    assert people == sorted(people) and set(people) == {2, 3, 4, 5} and len(people) == 16
    assert len(read(uri, "world_identity", "condition")) == 24
    assert len(read(uri, "world_identity", "condition", split="train", limit=5)) == 5
    with pytest.raises(UserError, match=r"split 'judges' \(rows there: 4 test, 16 train, 4 validation\): give --split"):
        Shards(uri, ("view",), split="judges", option="--split")


def test_a_sample_is_taken_once_unless_a_column_differs_from_layer_to_layer(tmp_path: Path) -> None:
    rows = pairs()
    uri = write_rows(tmp_path, rows, partition=3)  # layers of a sample lie in two shards
    assert read(uri, "world_identity", "view") == [(person, view) for person in range(6) for view in range(2)]
    assert len(read(uri, "world_identity", "view", "condition")) == len(rows)
    assert len(Shards(f"{uri},{uri}", ("view",))) == 24


def test_rows_that_differ_in_what_is_taken_are_other_rows(tmp_path: Path) -> None:
    """The digest of what was trained on knows the split, and whether samples and grey pictures were left out."""
    uri = write_rows(tmp_path, pairs())
    ways: list[dict[str, Any]] = [{}, {"split": "train"}, {"split": "test"}, {"colour": True}]
    digests = [Shards(uri, names, **how).digest for names in (("view",), ("view", "condition")) for how in ways]
    assert len(set(digests)) == 8


def test_thermal_pictures_in_grey_teach_no_network_of_colours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [row | {"visible_kind": "thermal" if row["world_identity"] < 4 else "rgb"} for row in pairs()]
    uri = write_rows(tmp_path, rows)
    with caplog.at_level("INFO"):
        assert {person for person, _ in read(uri, "world_identity", "condition", colour=True)} == {4, 5}
    assert "16 rows are left out: they show the thermal picture in grey" in caplog.text
    assert len(read(uri, "world_identity", "condition")) == 24
    with pytest.raises(
        UserError, match="task vae takes pictures of a camera for visible light, and .* has none: all show the thermal"
    ):
        Shards(uri, ("view",), colour=True, split="test", reader="task vae")
    made_rows = [row | {"visible_kind": "translated"} for row in rows[:8]]
    made = write_rows(tmp_path / "made", made_rows + rows[8:])
    assert {person for person, _ in read(made, "world_identity", "condition", colour=True, translated=True)} == {
        0,
        1,
        4,
        5,
    }
    with pytest.raises(
        UserError, match="has none: all show the thermal picture in grey or what a translator made of the"
    ):
        Shards(write_rows(tmp_path / "none", [*made_rows, *rows[8:16]]), ("view",), colour=True, reader="task vae")
    kinds = {0: "nir", 1: "", 2: None, 3: "grey", 4: "RGB"}
    odd = write_rows(
        tmp_path / "odd", [row | {"visible_kind": kinds.get(row["world_identity"], "rgb")} for row in rows]
    )
    assert {person for person, _ in read(odd, "world_identity", "condition", colour=True)} == {5}


def test_empty_columns_are_refused_and_rows_without_a_value_left_out(tmp_path: Path) -> None:
    rows = pairs()
    for number, row in enumerate(rows):
        row |= {"bbox": [0.0, 0, 1, 1] if number % 3 else None, "pose": None}
    uri = write_rows(tmp_path, rows)
    assert len(Shards(uri, ("bbox", "condition"))) == 16
    assert Shards(uri, ("bbox", "condition"), optional=("bbox",)).columns == ("condition",)
    with pytest.raises(
        UserError, match="task recogniser reads pose, which .* has not: column pose is empty in all rows"
    ):
        Shards(uri, ("pose", "view"), reader="task recogniser")


def test_grey_levels_are_never_taken_for_degrees_beside_others(tmp_path: Path) -> None:
    warm, grey = encode_png(to_centikelvin(np.full((8, 8), 30.0))), encode_png(np.full((8, 8), 99, np.uint8))
    uri = write_rows(tmp_path, [{"thermal": picture("a", "png", content), "view": 0} for content in (warm, grey, grey)])
    assert Shards(uri, ("thermal",), memory=0).rows(np.array([1, 2]))["thermal"].dtype == np.uint8
    with pytest.raises(UserError, match="thermal holds 8-bit grey levels in some rows and temperatures in others"):
        Shards(uri, ("thermal",), memory=0).rows(np.array([0, 1]))


def test_rows_that_each_lack_something_else_are_told_apart(tmp_path: Path) -> None:
    """Two cameras apart: visible pictures without thermal ones, and thermal ones in grey."""
    rows = [row | {"visible_kind": "rgb" if number % 3 else "thermal"} for number, row in enumerate(pairs())]
    for row in rows:
        row |= {"thermal": None if row["visible_kind"] == "rgb" else {"bytes": b"1", "path": "a.png"}}
    uri = write_rows(tmp_path / "apart", rows)
    with pytest.raises(UserError) as caught:
        Shards(uri, ("condition", "thermal"), colour=True, reader="task vae")
    assert "task vae takes rows with all that it reads, and" in str(caught.value)
    assert "8 show the thermal picture in grey" in str(caught.value) and "16 have no thermal" in str(caught.value)
    assert "`evaluate translation` alone read them" in str(caught.value)
    # Of other columns nothing is said of halves.
    for number, row in enumerate(rows):
        row |= {"bbox": [0.0, 0, 1, 1] if number % 2 else None, "pose": None if number % 2 else [0.0, 0, 0]}
    with pytest.raises(UserError, match=r"has none: 12 have no bbox, 12 have no pose$"):
        Shards(write_rows(tmp_path / "other", rows), ("bbox", "pose", "condition"))


def test_pictures_are_read_from_structs(tmp_path: Path) -> None:
    """As `load_dataset` shows them, and with the shapes of the vocabulary."""
    grey = np.full((8, 8), 77, np.uint8)
    rows = [
        {
            "visible": picture("a", "visible", encode_jpeg(np.full((8, 8, 3), 99, np.uint8)), "jpg"),
            "thermal": picture("a", "thermal", encode_png(to_centikelvin(np.full((8, 8), celsius)))),
            "valid": picture("a", "valid", encode_png(np.full((8, 8), 255, np.uint8))),
            "keypoints": np.arange(10, dtype=np.float32),
        }
        for celsius in (30.0, 38.5)
    ]
    found = Shards(write_rows(tmp_path / "a", rows), ("visible", "thermal", "valid", "keypoints")).rows(np.arange(2))
    assert found["visible"].shape == (2, 8, 8, 3) and found["valid"].all() and found["keypoints"].shape == (2, 5, 2)
    np.testing.assert_allclose(found["thermal"][:, 0, 0], [30, 38.5], atol=0.006)
    rows[0]["thermal"] = picture("a", "thermal", encode_png(grey))
    assert Shards(write_rows(tmp_path / "b", rows[:1]), ("thermal",)).rows(np.arange(1))["thermal"].dtype == np.uint8
