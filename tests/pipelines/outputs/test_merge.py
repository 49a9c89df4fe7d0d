"""`merge` and `runs`: rows of several runs as one output, what does not go together, and the list of what lies below a folder."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from cluster.commands import runs as commands
from models.errors import EnvironmentFault, UserError
from models.weights.bundle import load_bundle
from pipelines.outputs import merge
from pipelines.status import read_runs, read_status
from pipelines.storage.commits import read_commits
from pipelines.storage.uri import Storage
from tests.pipelines import small

JOB = ("identities.count=4", "views.per_identity=1", "gates={attempts: 1}", "partition_samples=2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs of the null bundle, `a` and `b`, of other people."""
    folder = tmp_path_factory.mktemp("merge")
    for name, seed in (("a", 1), ("b", 2)):
        small.finish(small.make_here(small.job(*JOB, f"seed={seed}"), load_bundle("null"), folder / name))
    return folder


def pairs(out: Path) -> list[dict[str, object]]:
    return pq.read_table(out / "data").to_pylist()


def test_the_rows_of_both_are_there_as_they_were(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = merge.run([str(made / "a"), str(made / "b")], str(out))
    both = pairs(made / "a") + pairs(made / "b")
    assert pairs(out) == both and said.startswith(f"{len(both)} rows of 2 runs, in 4 shards")
    found = read_status(str(out))
    assert (found.state, found.kind, found.rows, found.samples) == ("finished", "merge", len(both), len(both))
    # Stopped half way, it goes on; what is there is not read again.
    kept = (out / "_commits" / "part-00000.json").read_bytes()
    (out / "_commits" / "part-00003.json").unlink()
    (out / "manifest.json").unlink()
    merge.run([str(made / "a"), str(made / "b")], str(out))
    assert pairs(out) == both and (out / "_commits" / "part-00000.json").read_bytes() == kept
    with pytest.raises(UserError, match="belongs to another run"):
        merge.run([str(made / "b"), str(made / "a")], str(out))


def test_a_pair_that_is_there_twice_is_refused(made: Path, tmp_path: Path) -> None:
    small.finish(
        small.make_here(small.job(*JOB, "seed=1", "conditions=[warm]"), load_bundle("null"), tmp_path / "again")
    )
    with pytest.raises(
        UserError, match=r"^4 pairs are there twice, the first in .*a and in .*again: runs of the same seed"
    ):
        merge.run([str(made / "a"), str(tmp_path / "again")], str(tmp_path / "out"))
    assert not (tmp_path / "out" / "_commits").exists()


def test_a_person_in_two_splits_is_refused(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(made / "b", other)
    (person, split), *_ = [(row["identity_id"], row["split"]) for row in pairs(made / "a")]
    out = Storage(other)
    record = read_commits(out)[0]
    table = pq.read_table(other / record.file)
    column = ["validation" if split != "validation" else "test"] * len(table)
    for name, values in (("identity_id", [person] * len(table)), ("split", column)):
        table = table.set_column(table.column_names.index(name), name, [values])
    pq.write_table(table, other / record.file)
    with pytest.raises(UserError, match="1 people are in two splits"):
        merge.run([str(made / "a"), str(other)], str(tmp_path / "out"))


def test_what_is_not_whole_is_refused(made: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(made / "b", half)
    shard = next((half / "data").iterdir())
    content = shard.read_bytes()
    shard.write_bytes(content[:100] + b"x" + content[101:])
    with pytest.raises(EnvironmentFault, match=r"damaged \(delete _commits/part-0000\d.json there"):
        merge.run([str(made / "a"), str(half)], str(tmp_path / "out"))
    (half / "manifest.json").unlink()
    with pytest.raises(UserError, match="half is not finished"):
        merge.run([str(made / "a"), str(half)], str(tmp_path / "out"))
    with pytest.raises(UserError, match="named twice"):
        merge.run([str(made / "a"), str(made / "a")], str(tmp_path / "out"))
    with pytest.raises(UserError, match="sources"):
        merge.run([str(made / "a")], str(tmp_path / "out"))


def test_runs_lists_what_lies_below_a_folder(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "a", tmp_path / "deep" / "a")
    shutil.copytree(made / "b", tmp_path / "b")
    (tmp_path / "b" / "_plan" / "run.json").write_text("{")
    (tmp_path / "other").mkdir()
    found = {Path(run.uri).name: run for run in read_runs(str(tmp_path))}
    assert found.keys() == {"a", "b"} and found["a"].state == "finished" and found["a"].done == 4
    assert found["b"].state.startswith("cannot be read: ")
    said = CliRunner().invoke(commands.command, [str(tmp_path)]).output
    assert "100.0%" in said and "deep/a" in said
    assert [run.uri for run in read_runs(str(made / "a"))] == [str(made / "a")]
    assert CliRunner().invoke(commands.command, [str(tmp_path / "other")]).output == "no run\n"
