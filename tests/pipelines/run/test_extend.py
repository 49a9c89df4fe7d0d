"""A run grows: what was there stays, byte for byte, and what is new comes after it; it neither shrinks nor changes."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import EnvironmentFault, UserError
from models.weights.bundle import Bundle, load_bundle
from pipelines import gather
from pipelines.config import generate
from pipelines.config.job import GenerateJob
from pipelines.config.thermalize import ThermalizeJob
from pipelines.plan import pieces
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan, read_generate_plan
from pipelines.plan.pieces import read_pieces
from pipelines.plan.thermalize import ThermalizePlan, write_thermalize_plan
from pipelines.storage.commits import read_commits
from pipelines.storage.uri import Storage
from tests.pipelines import small

Job = Callable[..., GenerateJob]
Content = dict[str, bytes]


def content(out: Path, *folders: str) -> Content:
    """Return the files of an output's folders by name."""
    return {str(path.relative_to(out)): path.read_bytes() for name in folders for path in (out / name).rglob("*.*")}


def kept(out: Path) -> Content:
    """Return what an extension must not touch."""
    return content(out, "data", "rejects", "_commits", "_plan/captions", "_plan/pieces") | {
        "run": (out / "_plan" / "run.json").read_bytes()
    }


def ids(plan: GeneratePlan) -> list[str]:
    return [name for k in range(plan.partitions) for name in plan.sample_table(k)["sample_id"].to_pylist()]


@pytest.mark.parametrize("chunk", [4096, 8])
def test_more_people_come_after_those_who_are_there(
    chunk: int, bundle: Bundle, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a partition of one person, where two fit, and over a chunk of captions that was not full."""
    monkeypatch.setattr(generate, "CHUNK_SAMPLES", chunk)
    few = small.make_here(job("identities.count=3"), bundle, tmp_path / "out")
    before, first = kept(tmp_path / "out"), ids(few)
    assert [few.rows(k) for k in range(few.partitions)] == [8, 4]
    more = small.make_here(job("identities.count=6"), bundle, tmp_path / "out")
    assert [more.rows(k) for k in range(more.partitions)] == [8, 4, 8, 4] and more.samples == 24
    assert before.items() <= kept(tmp_path / "out").items()
    assert ids(more)[:12] == first and len(set(ids(more))) == 24
    # The same samples as of a run that was large from the start, in other partitions.
    whole = small.make_here(job("identities.count=6"), bundle, tmp_path / "whole")
    assert set(ids(whole)) == set(ids(more))
    texts = [text for k in range(more.partitions) for text in more.captions(k)["caption"].to_pylist()]
    assert len(set(texts)) == 24
    # Nothing is left to do, and once more is a run of its own piece.
    assert small.make_here(job("identities.count=6"), bundle, tmp_path / "out").partitions == 4
    assert small.make_here(job("identities.count=7"), bundle, tmp_path / "out").samples == 28


def test_a_limit_may_cut_a_person_and_be_raised(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    out = tmp_path / "out"
    small.make_here(job("limit=6"), bundle, out)
    before = kept(out)
    for limit, rows in (("limit=7", [6, 1]), ("limit=13", [6, 1, 5, 1]), ("limit=null", [6, 1, 5, 1, 7, 4])):
        plan = small.make_here(job(limit), bundle, out)
        assert [plan.rows(k) for k in range(plan.partitions)] == rows
        assert before.items() <= kept(out).items()
        before = kept(out)
        write_generate_plan(
            job(limit), bundle, Storage(out)
        )  # of what is planned whole nothing follows, not even an empty piece
        assert kept(out) == before
    whole = write_generate_plan(job(), bundle, Storage(tmp_path / "whole"))
    assert ids(plan) == ids(whole)
    # A person who was cut is in every partition with a row of theirs.
    for k in range(plan.partitions):
        assert set(plan.sample_table(k)["identity_id"].to_pylist()) <= set(
            plan.identity_table(k)["identity_id"].to_pylist()
        )
    rows = pq.read_table(out / "data").to_pylist() + pq.read_table(out / "rejects").to_pylist()
    assert {row["sample_id"] for row in rows} == set(ids(whole))


def test_captions_of_a_piece_that_begins_small_share_no_file_larger_than_others(
    bundle: Bundle, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "CHUNK_SAMPLES", 16)
    write_generate_plan(job("limit=7"), bundle, Storage(tmp_path / "out"))
    plan = write_generate_plan(
        job(), bundle, Storage(tmp_path / "out")
    )  # its first partition has what is left of two people
    assert [plan.rows(k) for k in range(plan.partitions)] == [7, 5, 8, 4]
    assert max(sum(plan.rows(k) for k in partitions) for _, partitions in plan.chunks()) <= 16


def test_a_run_that_was_stopped_may_be_extended_before_it_is_finished(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    write_generate_plan(job("identities.count=3"), bundle, Storage(tmp_path / "out"))  # and no row of it
    plan = small.make_here(job("identities.count=5"), bundle, tmp_path / "out")
    assert len(read_commits(plan.out, plan.partitions)) == 3 and plan.samples == 20


def test_fewer_than_planned_is_refused(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    out = Storage(tmp_path / "out")
    write_generate_plan(job("limit=20"), bundle, out)
    with pytest.raises(UserError, match="is planned for 20 samples, and 19 are asked for: a run can grow, not shrink"):
        write_generate_plan(job("limit=19"), bundle, out)
    with pytest.raises(UserError, match="is planned for 5 people, and 4 are asked for: a run can grow, not shrink"):
        write_generate_plan(job("identities.count=4"), bundle, out)
    assert len(read_pieces(out).found) == 1


@pytest.fixture
def people(tmp_path: Path) -> Callable[..., str]:
    """Writes a file of people by their numbers and returns its path."""

    def write(numbers: list[int], **words: str) -> str:
        vectors = [np.random.default_rng(k).normal(size=512).tolist() for k in numbers]
        given = [json.dumps({"sex": words[f"p{k}"]}) if f"p{k}" in words else None for k in numbers]
        table = {"identity_id": [f"p{k}" for k in numbers], "embedding": vectors}
        pq.write_table(pa.table(table | {"attributes": pa.array(given, pa.string())}), tmp_path / "people.parquet")
        return f"identities={{source: {tmp_path}/people.parquet}}"

    return write


def test_a_file_of_people_may_grow(bundle: Bundle, job: Job, people: Callable[..., str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    few = small.make_here(job(people([1, 2, 3])), bundle, out)
    before, first = kept(out), ids(few)
    more = small.make_here(job(people([1, 2, 3, 4, 5])), bundle, out)
    assert ids(more)[:12] == first and more.samples == 20
    assert before.items() <= kept(out).items()
    for numbers, words, named in (
        ([1, 2, 9, 4, 5], {}, "person 'p3'"),  # another person in the place of one
        ([2, 1, 3, 4, 5], {}, "person 'p1'"),  # another order
        ([1, 2, 3, 4, 5], {"p2": "man"}, "person 'p2'"),  # other words
    ):
        with pytest.raises(UserError, match=named):
            write_generate_plan(job(people(numbers, **words)), bundle, Storage(out))
    with pytest.raises(UserError, match="planned for 5 people, and 4 are asked for"):
        write_generate_plan(job(people([1, 2, 3, 4])), bundle, Storage(out))
    write_generate_plan(job(people([1, 2, 3, 4, 5])), bundle, Storage(out))


def test_a_plan_that_is_damaged_or_has_a_hole_is_named(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    plan = write_generate_plan(job("identities.count=3"), bundle, Storage(tmp_path / "out"))
    write_generate_plan(job(), bundle, plan.out)
    first, table = ("_plan/pieces/00000.json", "_plan/pieces/00000-samples.parquet")
    whole = plan.out.read(first)
    plan.out.remove(first)
    with pytest.raises(EnvironmentFault, match="a piece of the plan is damaged or missing"):
        write_generate_plan(job(), bundle, plan.out)
    plan.out.write(first, whole[:40])
    with pytest.raises(EnvironmentFault, match="a piece of the plan is damaged or missing"):
        write_generate_plan(job(), bundle, plan.out)
    plan.out.write(first, whole)
    plan.out.write(table, plan.out.read(table)[:-50])
    with pytest.raises(EnvironmentFault, match="00000-samples.parquet is damaged or missing"):
        write_generate_plan(job(), bundle, plan.out).rows(0)


def test_tasks_of_a_process_open_a_table_once(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    """Its list of row groups grows with the run; every task has its own copy of the plan."""
    plan = write_generate_plan(job(), bundle, Storage(tmp_path / "out"))
    pieces._open.cache_clear()
    copies = [deepcopy(plan) for _ in range(plan.partitions)]
    found = [own.sample_table(k)["sample_id"].to_pylist() for k, own in enumerate(copies)]
    assert pieces._open.cache_info().misses == 1 and len({name for names in found for name in names}) == plan.samples
    # Another file in its place is another one.
    name = "_plan/pieces/00000-samples.parquet"
    table = pq.read_table(tmp_path / "out" / name).slice(0, 3)
    pq.write_table(table, tmp_path / "out" / name)
    assert deepcopy(plan).rows(0) == 3


def test_a_table_that_opens_and_cannot_be_read_is_named(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    """Its last bytes are whole, so that it opens; what it holds is not."""
    plan = small.make_here(job(), bundle, tmp_path / "out")
    for name, way_out in (
        ("_plan/pieces/00000-identities.parquet", "make the output anew in another --out"),
        ("_plan/pieces/00000-samples.parquet", "make the output anew in another --out"),
        ("_plan/captions/part-00000.parquet", "captions are written anew, and finished pairs keep theirs"),
    ):
        whole = plan.out.read(name)
        plan.out.write(name, whole[:4] + bytes(200) + whole[204:])
        with pytest.raises(EnvironmentFault, match=f"{name} is damaged or missing: .*{way_out}"):
            read_generate_plan(plan.out).partition(0)
        plan.out.write(name, whole)
    plan.out.remove("_plan/captions/part-00000.parquet")
    with pytest.raises(EnvironmentFault, match="part-00000.parquet is damaged or missing: it holds the captions"):
        plan.partition(0)
    plan.out.write("_plan/captions/part-00000.json", b"{")
    with pytest.raises(EnvironmentFault, match="part-00000.json is damaged. Delete it and run the same command again"):
        plan.caption_notes()


def test_a_last_piece_that_is_gone_is_named_and_not_written_over(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    """Its partitions are finished: one that is planned anew could hold other samples than what was made of it."""
    out = Storage(tmp_path / "out")
    small.make_here(job("limit=6"), bundle, out.uri)
    small.make_here(job("limit=13"), bundle, out.uri)
    piece, table = out.read("_plan/pieces/00001.json"), out.read("_plan/pieces/00001-samples.parquet")
    out.remove("_plan/pieces/00001.json")
    for limit in (6, 13, 20):
        with pytest.raises(EnvironmentFault, match="partition 2 is finished, and the pieces of the plan end before 1"):
            write_generate_plan(job(f"limit={limit}"), bundle, out)
    with pytest.raises(EnvironmentFault, match="the last one is missing. Restore it from a copy"):
        read_generate_plan(out)
    assert out.read("_plan/pieces/00001-samples.parquet") == table
    out.write("_plan/pieces/00001.json", piece)
    assert write_generate_plan(job("limit=20"), bundle, out).samples == 20
    # The same of the only one.
    for number in range(len(read_pieces(out).found)):
        out.remove(f"_plan/pieces/0000{number}.json")
    with pytest.raises(EnvironmentFault, match="is finished, and the pieces of the plan end before 0"):
        write_generate_plan(job("limit=20"), bundle, out)


def test_a_run_that_failed_before_it_planned_leaves_its_place_free(
    bundle: Bundle, job: Job, people: Callable[..., str], tmp_path: Path
) -> None:
    out = Storage(tmp_path / "out")
    with pytest.raises(UserError, match="does not exist"):
        write_generate_plan(job("identities={source: nowhere.parquet}"), bundle, out)
    assert write_generate_plan(job(people([1, 2])), bundle, out).samples == 8
    with pytest.raises(UserError, match="belongs to another run"):
        write_generate_plan(job("identities={source: nowhere.parquet}"), bundle, out)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b", "c", "d"):
        cv2.imwrite(str(folder / f"{name}.png"), picture(ord(name)))
    return folder


def thermal(photos: Path, out: Path, **values: Any) -> ThermalizePlan:
    """Thermalize what is missing, in this process."""
    wanted = {"images": str(photos), "size": 32, "partition_samples": 2, "conditions": ["warm"]} | values
    plan = write_thermalize_plan(ThermalizeJob(**wanted), load_bundle("null"), Storage(out))
    small.write_missing(plan, small.chain_of(plan))
    return plan


def test_photographs_are_added_wherever_their_names_stand(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    thermal(photos, out)
    before = kept(out)
    for name in ("a", "bb", "e"):
        cv2.imwrite(str(photos / f"{name}.png"), picture(ord(name[0]) + len(name)))
    plan = thermal(photos, out)
    assert before.items() <= kept(out).items()
    rows = [name for k in range(plan.partitions) for name in plan.sample_table(k)["picture"].to_pylist()]
    assert rows == ["b.png", "c.png", "d.png", "a.png", "bb.png", "e.png"]
    assert [plan.rows(k) for k in range(plan.partitions)] == [2, 1, 2, 1]
    assert len(pq.read_table(out / "data")) == 6

    cv2.imwrite(str(photos / "c.png"), np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(UserError, match=r"c\.png is planned and has changed since"):
        thermal(photos, out)
    (photos / "c.png").unlink()
    with pytest.raises(UserError, match=r"c\.png is planned and no longer there: a run can grow, not shrink"):
        thermal(photos, out)


def test_a_parquet_of_pictures_grows_by_row_groups(tmp_path: Path) -> None:
    encoded = [bytes(cv2.imencode(".png", picture(number))[1]) for number in range(5)]
    folder, out = tmp_path / "tables", tmp_path / "out"

    def write(*groups: list[bytes]) -> None:
        folder.mkdir(exist_ok=True)
        with pq.ParquetWriter(folder / "a.parquet", pa.schema({"image": pa.binary()})) as writer:
            for group in groups:
                writer.write_table(pa.table({"image": group}))

    write(encoded[:2], encoded[2:3])
    thermal(folder, out)
    before = kept(out)
    write(encoded[:2], encoded[2:3], encoded[3:])
    assert thermal(folder, out).samples == 5
    assert before.items() <= kept(out).items()
    write(encoded[:2], encoded[2:])
    with pytest.raises(UserError, match=r"a\.parquet#2 is planned and has changed since"):
        thermal(folder, out)


def test_the_limit_of_a_thermalize_run_may_be_raised_alone(photos: Path, tmp_path: Path) -> None:
    thermal(photos, tmp_path / "out", limit=1)
    before = kept(tmp_path / "out")
    assert thermal(photos, tmp_path / "out", limit=3, name="renamed").samples == 3
    assert before.items() <= kept(tmp_path / "out").items()
    with pytest.raises(UserError, match="is planned for 3 pictures, and 2 are asked for: a run can grow, not shrink"):
        thermal(photos, tmp_path / "out", limit=2)


def test_files_are_added_to_a_gathered_folder(photos: Path, tmp_path: Path) -> None:
    def run(**values: Any) -> gather.Summary:
        job = {"layout": "plain", "images": str(photos), "size": 32, "partition": 2, "columns": {"visible": "NAME.png"}}
        return gather.run(job | values, str(tmp_path / "out"), local=True)

    assert run().gathered == 3
    before = kept(tmp_path / "out")
    cv2.imwrite(str(photos / "a.png"), picture(1))
    assert run().gathered == 4
    assert before.items() <= kept(tmp_path / "out").items()
    assert pq.read_table(tmp_path / "out" / "data")["name"].to_pylist() == ["b", "c", "d", "a"]
    with pytest.raises(UserError, match=r"is planned and no longer there: a run can grow, not shrink"):
        run(limit=2)
    cv2.imwrite(str(photos / "b.png"), np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(UserError, match=r"b is planned and has changed since"):
        run()
    (photos / "b.png").unlink()
    with pytest.raises(UserError, match=r"b is planned and no longer there"):
        run()
