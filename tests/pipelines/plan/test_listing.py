"""Plans of listed rows: made and let go partition by partition, with a digest of all of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.config import digest_of
from models.errors import UserError
from models.weights.bundle import load_bundle
from pipelines.config.thermalize import ThermalizeJob
from pipelines.plan.listing import ListDigest, extend_by_rows, new_rows
from pipelines.plan.photos import FACTS
from pipelines.plan.pieces import Pieces
from pipelines.plan.thermalize import write_thermalize_plan
from pipelines.storage.uri import Storage

SCHEMA = pa.schema({"name": pa.string(), "bytes": pa.int64()})


@pytest.mark.parametrize("entries", [[], [1], [{"b": 1, "a": "x"}, ["é", None, 0.5]]])
def test_a_digest_entry_by_entry_is_that_of_the_list(entries: list[Any]) -> None:
    digest = ListDigest()
    for entry in entries:
        digest.add([entry])
    assert digest.hexdigest() == digest_of(entries)


def test_no_more_than_a_partition_of_rows_is_made_at_a_time(tmp_path: Path) -> None:
    events = list[str]()

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(5):
            events.append(f"row {number}")
            yield {"name": str(number), "bytes": number}

    digest = ListDigest()

    def note(group: list[dict[str, Any]]) -> None:
        events.append(f"partition of {len(group)}")
        digest.add(group)

    pieces = extend_by_rows(Pieces(Storage(tmp_path), []), rows(), SCHEMA, 2, note=note, digest=digest.hexdigest)
    assert events == [
        "row 0", "row 1", "partition of 2", "row 2", "row 3", "partition of 2", "row 4", "partition of 1",
    ]  # fmt: skip
    (piece,) = pieces.found
    assert (piece.start, piece.stop, piece.samples, piece.partitions) == (0, 5, 5, 3)
    assert piece.digest == digest_of([{"name": str(number), "bytes": number} for number in range(5)])


def test_nothing_is_written_where_a_planned_row_is_gone_behind_new_ones(tmp_path: Path) -> None:
    def extend(pieces: Pieces, names: str) -> Pieces:
        rows = new_rows(pieces, ({"name": name, "bytes": 1} for name in names), ["name"])
        return extend_by_rows(pieces, rows, SCHEMA, 2, note=lambda group: None, digest=str)

    out = Storage(tmp_path)
    pieces = extend(Pieces(out, []), "bcd")
    before = out.list()
    with pytest.raises(UserError, match="d is planned and no longer there"):
        extend(pieces, "abcefg")
    assert out.list() == before
    assert [extend(pieces, "abcd").table(k)["name"].to_pylist() for k in range(3)] == [["b", "c"], ["d"], ["a"]]


def test_pictures_of_a_parquet_are_planned_with_the_digest_of_their_facts(tmp_path: Path) -> None:
    """Who is shown is said by a column only where a row of it says so: the first that does decides for all."""
    (tmp_path / "tables").mkdir()
    people = [None, "", None, "anna", None]
    table = pa.table({"image": [b"x"] * 5, "identity_id": pa.array(people, pa.string())})
    pq.write_table(table, tmp_path / "tables" / "a.parquet", row_group_size=2)
    job = ThermalizeJob(images=str(tmp_path / "tables"), size=32, partition_samples=2)
    plan = write_thermalize_plan(job, load_bundle("null"), Storage(tmp_path / "out"))
    rows = [row for k in range(plan.partitions) for row in plan.sample_table(k).to_pylist()]
    assert plan.by_person and plan.recipe.source["person"] == "column:identity_id"
    assert [(row["picture"], row["person"], row["group"], row["row"]) for row in rows] == [
        ("a.parquet#0", "", 0, 0), ("a.parquet#1", "", 0, 1), ("a.parquet#2", "", 1, 0), ("a.parquet#3", "anna", 1, 1),
        ("a.parquet#4", "", 2, 0),
    ]  # fmt: skip
    assert plan.pieces.found[0].digest == digest_of([[row[name] for name in FACTS] for row in rows])
    pq.write_table(table.slice(0, 3), tmp_path / "tables" / "a.parquet", row_group_size=2)
    plan = write_thermalize_plan(job, load_bundle("null"), Storage(tmp_path / "unknown"))
    assert not plan.by_person and plan.split == "train"
