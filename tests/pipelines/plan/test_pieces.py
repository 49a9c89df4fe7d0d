"""A large plan: written a row group at a time in several pieces, whole or not at all, and read again without its people."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import EnvironmentFault, UserError
from models.weights.bundle import Bundle
from pipelines.config.job import GenerateJob
from pipelines.plan import extend
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan
from pipelines.plan.people.identities import Identity, Reference
from pipelines.plan.people.sampling import SampledPeople
from pipelines.plan.pieces import OPEN_FILES, Piece, Pieces, check_planned, chunk_sizes, read_pieces
from pipelines.plan.pieces import _open as open_file
from pipelines.storage.uri import Storage

Job = Callable[..., GenerateJob]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extend, "PIECE_SAMPLES", 20)  # two partitions of two people


def rows(plan: GeneratePlan) -> list[dict]:
    return [row for k in range(plan.partitions) for row in plan.sample_table(k).to_pylist()]


def files(out: Storage) -> dict[str, bytes]:
    return {name: out.read(name) for name in out.list("_plan/pieces")}


def test_a_large_plan_is_several_pieces_of_the_same_samples(
    bundle: Bundle, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = write_generate_plan(job("identities.count=11", "limit=41"), bundle, Storage(tmp_path / "many"))
    assert [(piece.start, piece.stop) for piece in many.pieces.found] == [(0, 4), (4, 8), (8, 11)]
    assert [many.rows(k) for k in range(many.partitions)] == [8, 8, 8, 8, 8, 1]
    chunks = [k for _, partitions in many.chunks() for k in partitions]
    assert chunks == list(range(6))
    assert [many.chunk_of(k) for k in chunks] == [chunk for chunk, partitions in many.chunks() for _ in partitions]
    assert many.partitions_of(many.chunk_of(5)) == range(5, 6)
    monkeypatch.setattr(extend, "PIECE_SAMPLES", 10**6)
    one = write_generate_plan(job("identities.count=11", "limit=41"), bundle, Storage(tmp_path / "one"))
    assert len(one.pieces.found) == 1 and rows(one) == rows(many)
    for k in range(6):
        assert one.identity_table(k) == many.identity_table(k)


def test_a_plan_that_was_stopped_between_two_pieces_goes_on_with_the_same(
    bundle: Bundle, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_generate_plan(job("identities.count=11"), bundle, Storage(tmp_path / "whole"))
    out, people_table = Storage(tmp_path / "out"), extend.people_table

    def broken(people: list[Identity], further: tuple[str, ...]) -> pa.Table:
        if people[0].id == whole.identity_table(3)["identity_id"][0].as_py():
            raise KeyboardInterrupt
        return people_table(people, further)

    monkeypatch.setattr(extend, "people_table", broken)
    with pytest.raises(KeyboardInterrupt):
        write_generate_plan(job("identities.count=11"), bundle, out)
    assert [name for name in out.list() if "pieces" in name] == [
        f"_plan/pieces/00000{end}" for end in ("-identities.parquet", "-samples.parquet", ".json")
    ]
    monkeypatch.setattr(extend, "people_table", people_table)
    again = write_generate_plan(job("identities.count=11"), bundle, out)
    assert rows(again) == rows(whole) and files(again.out) == files(whole.out)


def test_a_plan_is_read_again_without_drawing_anybody(
    bundle: Bundle, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = write_generate_plan(job("identities.count=11"), bundle, Storage(tmp_path / "out"))
    monkeypatch.setattr(Reference, "numbers", lambda *_: pytest.fail("drawn"))
    again = write_generate_plan(job("identities.count=11"), bundle, plan.out)
    assert rows(again) == rows(plan)
    with pytest.raises(pytest.fail.Exception, match="drawn"):
        write_generate_plan(job("identities.count=12"), bundle, plan.out)


def test_a_digest_of_another_kind_is_no_proof_that_somebody_changed(
    bundle: Bundle, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an earlier version's is, or that of a file with other bits: what is planned decides, to a processor's last bit."""
    plan = write_generate_plan(job("identities.count=11"), bundle, Storage(tmp_path / "out"))
    name = "_plan/pieces/00001.json"
    plan.out.write(name, json.dumps(json.loads(plan.out.read(name)) | {"digest": "0" * 16}).encode())
    before, blocks = files(plan.out), SampledPeople.blocks
    write_generate_plan(job("identities.count=11"), bundle, plan.out)
    assert files(plan.out) == before

    def moved(by: float) -> Callable[..., Iterator[list[Identity]]]:
        def found(people: SampledPeople, start: int, stop: int) -> Iterator[list[Identity]]:
            for person in itertools.chain.from_iterable(blocks(people, start, stop)):
                person.embedding[3] += by * (person.id == plan.identity_table(3)["identity_id"][0].as_py())
                yield [person]

        return found

    monkeypatch.setattr(SampledPeople, "blocks", moved(2e-7))
    write_generate_plan(job("identities.count=11"), bundle, plan.out)
    monkeypatch.setattr(SampledPeople, "blocks", moved(1e-4))
    with pytest.raises(UserError, match=f"person {plan.identity_table(3)['identity_id'][0].as_py()!r}, who is planned"):
        write_generate_plan(job("identities.count=11"), bundle, plan.out)


def test_tables_are_let_go_as_they_are_written(tmp_path: Path) -> None:
    """Of all tables of a piece one row group is made at a time, and its file is there when the last one is."""
    out, made = Storage(tmp_path), list[str]()

    def tables(name: str) -> Iterator[pa.Table]:
        for k in range(3):
            made.append(f"{name}{k}")
            assert not out.list("_plan/pieces")[2:], "hidden until it is whole"
            yield pa.table({"x": np.arange(k + 1)})

    pieces = Pieces(out, []).extend({"people": tables("p"), "samples": tables("s")}, start=0, stop=3, digest="")
    assert made == ["p0", "s0", "p1", "s1", "p2", "s2"]
    assert [pieces.rows(k) for k in range(3)] == [1, 2, 3] and pieces.samples == 6
    assert pieces.table(2, "people")["x"].to_pylist() == [0, 1, 2]
    assert Pieces(out, []).extend({"samples": iter(())}, start=0, stop=0, digest="").found == ()


def test_a_process_keeps_few_tables_open_however_many_pieces_there_are(tmp_path: Path) -> None:
    out = Storage(tmp_path)
    pieces = Pieces(out, [])
    for number in range(5):
        pieces = pieces.extend(
            {name: [pa.table({name: [number]})] for name in ("people", "samples")},
            start=number,
            stop=number + 1,
            digest="",
        )
    read = Pieces(out, pieces.found)
    for number in (0, 1, 2, 3, 4, 0):
        assert (
            read.table(number)["samples"].to_pylist() == read.table(number, "people")["people"].to_pylist() == [number]
        )
        assert len(read._files) <= OPEN_FILES and open_file.cache_info().currsize <= OPEN_FILES
    assert list(read._files) == [(0, "samples"), (0, "people")]


def test_a_file_that_cannot_be_written_whole_is_not_there(
    bundle: Bundle, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = write_generate_plan(job("identities.count=3"), bundle, Storage(tmp_path / "out"))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(EnvironmentFault, match="cannot be written: No space left.*run the same command again"):
        write_generate_plan(job(), bundle, plan.out)
    monkeypatch.undo()
    assert not [name for name in plan.out.list() if "00001" in name]
    assert len(read_pieces(plan.out).found) == 1
    assert write_generate_plan(job(), bundle, plan.out).samples == 24


def test_a_partition_that_no_piece_plans_is_a_damaged_plan(tmp_path: Path) -> None:
    pieces = Pieces(Storage(tmp_path), [Piece(0, 2, 8, 0, 4, ""), Piece(2, 1, 2, 4, 5, "")])
    check_planned([], pieces), check_planned([0, 2], pieces)  # the last one is there
    with pytest.raises(EnvironmentFault, match=r"partition 3 is finished, .*end before 3: the last one is missing"):
        check_planned([0, 3, 1], pieces)


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 5))
def test_chunks_grow_and_every_partition_has_its_place_in_one(partitions: int, most: int, first: int) -> None:
    sizes = chunk_sizes(partitions, most)
    assert sum(sizes) == partitions and sizes[0] == 1 and max(sizes) <= most
    assert all(later == min(2 * size, most) for size, later in itertools.pairwise(sizes[:-1]))
    piece = Piece(7, partitions, 1, 0, 1, "", first_chunk=first, chunks=sizes)
    places = [(first + chunk, place) for chunk, size in enumerate(sizes) for place in range(size)]
    assert [piece.chunk_of(place) for place in range(partitions)] == places
    found = [(chunk, k) for chunk in range(first, first + len(sizes)) for k in piece.partitions_of(chunk)]
    assert found == [(chunk, 7 + place) for place, (chunk, _) in enumerate(places)]
