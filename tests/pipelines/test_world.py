"""The world job: which row is which person, what a shard holds, resuming, and refusing another world."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import EnvironmentFault, UserError
from models.synthworld.sampling import splits
from pipelines import world
from pipelines.config.world import WorldJob
from pipelines.pictures.codecs import decode
from pipelines.plan.claim import RUN, read_run
from pipelines.plan.world import read_world, recipe_for, write_world_plan
from pipelines.rows.schema import SEEN, WORLD
from pipelines.rows.shards import Shards
from pipelines.storage.commits import MANIFEST, read_commits
from pipelines.storage.uri import Storage
from pipelines.world import commit_shard
from tests.pipelines import worlds


def test_rows_walk_through_people_views_and_conditions() -> None:
    job = WorldJob(domain="portrait", split="test", count=10, views=2, conditions=("warm", "cold"))
    first = splits.identities("test").start
    assert [job.picture(row) for row in range(5)] == [
        (first, 0, "warm"), (first, 0, "cold"), (first, 1, "warm"), (first, 1, "cold"), (first + 1, 0, "warm"),
    ]  # fmt: skip


def test_few_people_are_seen_again_with_further_views() -> None:
    job = WorldJob(domain="field", split="test", count=100, views=3)
    pictures = [job.picture(row) for row in range(60)]
    assert len({identity for identity, *_ in pictures}) == 10
    assert len(set(pictures)) == 60
    assert pictures[30] == (pictures[0][0], 3, "warm")


def test_partitions_hold_whole_people_and_all_rows() -> None:
    job = WorldJob(domain="portrait", split="test", count=70, views=3, conditions=("warm", "cold"), partition=16)
    assert job.partition_rows == 18
    assert [row for part in range(job.partitions) for row in job.rows_of(part)] == list(range(70))


def test_the_digest_ignores_the_count_alone() -> None:
    job = WorldJob(domain="portrait", split="test", count=70)
    assert recipe_for(job.model_copy(update={"count": 700})) == recipe_for(job)
    for change in ({"size": 64}, {"gap": 0.5}, {"domain": "lab"}, {"views": 2}, {"first": 3}):
        assert recipe_for(job.model_copy(update=change)).digest != recipe_for(job).digest


def test_another_world_and_a_part_shard_are_refused(tmp_path: Path) -> None:
    job = WorldJob(domain="portrait", split="test", count=10, views=1, partition=4)
    storage = Storage(tmp_path)
    assert write_world_plan(job, storage).partitions == 3
    with pytest.raises(UserError, match="no person 100000"):
        write_world_plan(WorldJob(domain="portrait", split="test", count=1, first=100_000), Storage(tmp_path / "x"))
    with pytest.raises(
        UserError, match="domain fake has no thermal picture: it fills --layout facesynthetics, not sejong"
    ):
        write_world_plan(WorldJob(domain="fake", split="test", count=1, layout="sejong"), Storage(tmp_path / "y"))
    commit_shard(filler(job, 2), job, storage)
    assert write_world_plan(job, storage).samples == 10
    with pytest.raises(UserError, match=r"belongs to another run; what differs: size: 128 -> 64"):
        write_world_plan(job.model_copy(update={"size": 64}), storage)
    with pytest.raises(UserError, match=r"part shard \(2 of 4 rows\).*multiple of 4"):
        write_world_plan(job.model_copy(update={"count": 20}), storage)


def test_what_cannot_be_told_is_not_taken_for_rows_of_another_kind(tmp_path: Path) -> None:
    out = Storage(tmp_path)
    assert read_world(out) is None
    write_world_plan(worlds.JOB, out)
    assert read_world(out) == (worlds.JOB, read_run(out)["digest"])
    # A damaged file is said, with the way out.
    for content in ("{", "{}", "[]"):
        out.write(MANIFEST, content.encode())
        with pytest.raises(EnvironmentFault, match="manifest.json is damaged. Delete it"):
            read_world(out)
    out.remove(MANIFEST)
    out.write(RUN, b"{")
    with pytest.raises(EnvironmentFault, match="run.json is damaged"):
        read_world(out)


def test_the_writer_takes_whole_partitions_only(tmp_path: Path) -> None:
    job = WorldJob(domain="portrait", split="test", count=10, views=1, partition=4)
    with pytest.raises(RuntimeError, match="3 rows for partition 0 of 4"):
        commit_shard(filler(job, 0).slice(0, 3), job, Storage(tmp_path))


def filler(job: WorldJob, part: int) -> pa.Table:
    """Return a block of the right length with nothing but its numbers."""
    return pa.Table.from_pylist(
        [{"partition": part, "view": row} for row in job.rows_of(part)], schema=world.BLOCK_SCHEMA
    )


def test_a_rendered_row_says_what_it_is(tiny_world: str) -> None:
    """Names as models.columns has them, pictures as `datasets` shows them, and nothing that is only on its way."""
    table = pq.read_table(Path(tiny_world) / "data")
    assert table.schema.names == list(WORLD) and b"huggingface" in table.schema.metadata
    first, cold, turned = table.slice(0, 3).to_pylist()
    assert first["sample_id"] == cold["sample_id"] != turned["sample_id"]
    assert len({row["pair_id"] for row in (first, cold, turned)}) == 3
    said = [first[name] for name in ("split", "world_split", "domain", "gap", "visible_kind", "thermal_kind", "size")]
    assert said == ["train", "generator", "portrait", 1.0, "rgb", "apparent", 32]
    assert first["identity_id"] == str(first["world_identity"]) == str(splits.identities("generator").start)
    assert first["thermal"]["path"] == f"{first['pair_id']}-thermal.png"
    assert decode(first["thermal"]["bytes"]).dtype == np.uint16


@pytest.mark.slow
def test_a_world_through_ray_resumes_and_holds_the_truth(tmp_path: Path, local_ray: object) -> None:
    profile = tmp_path / "test.yaml"
    profile.write_text("{name: test, groups: [{stages: [render], actors: [1, 2]}]}")
    values = {"size": 32, "profile": str(profile), "views": 2, "conditions": ("warm", "cold"), "partition": 4}
    storage = world.run("portrait", "generator", 8, str(tmp_path / "world"), **values)  # type: ignore[arg-type]
    before = {part: record.digest for part, record in read_commits(storage).items()}
    assert list(before) == [0, 1]
    storage.remove("_commits/part-00001.json")
    world.run("portrait", "generator", 12, storage.uri, **values)  # type: ignore[arg-type]
    after = {part: record.digest for part, record in read_commits(storage).items()}
    assert list(after) == [0, 1, 2]
    assert {part: after[part] for part in before} == before  # the partition made again has the same bytes

    columns = ("world_identity", "view", "condition", "visible", "thermal", "valid", "classes", "landmarks_70", *SEEN)
    rows = Shards(storage.uri, columns).rows(np.arange(12))
    first = splits.identities("generator").start
    assert rows["world_identity"].tolist() == [first + k // 4 for k in range(12)]
    assert np.array_equal(rows["visible"][0], rows["visible"][1])  # conditions differ in heat alone
    skin = rows["classes"] == 1
    warm, cold = (rows["thermal"][k][skin[k] & rows["valid"][k]].mean() for k in (0, 1))
    assert 25 < cold < warm < 40
    inside = (rows["landmarks_70"] > 0) & (rows["landmarks_70"] < 32)
    assert inside.mean() > 0.8
    table = pq.read_table(storage.path(read_commits(storage)[0].file))
    assert set(json.loads(table.column("attributes")[0].as_py())) >= {"hair_colour", "expression", "glasses"}
    assert json.loads(storage.read("manifest.json"))["rows"] == 12
