"""`status`: what is read from an output while it is made, after it, and where there is nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.commands import status as commands
from models.errors import EnvironmentFault, UserError
from models.weights.bundle import load_bundle
from pipelines.status import Status, read_status
from pipelines.storage.commits import Commit, commit, read_commits
from pipelines.storage.lease import Lease
from pipelines.storage.uri import Storage
from tests.pipelines import small

JOB = ("identities.count=4", "views.per_identity=3", "gates={attempts: 1}", "partition_samples=3")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the null bundle: 12 samples in four partitions."""
    out = tmp_path_factory.mktemp("status") / "out"
    small.finish(small.make_here(small.job(*JOB), load_bundle("null"), out))
    return out


def change(out: Path, edit: Callable[[int, Commit], Commit | None]) -> None:
    """Write the records anew, as `edit` makes them; None takes one away."""
    storage = Storage(out)
    records = read_commits(storage)
    for number, record in records.items():
        (out / "_commits" / f"part-{number:05d}.json").unlink()
        if (new := edit(number, record)) is not None:
            commit(storage, number, new)


def copy(made: Path, to: Path) -> Path:
    import shutil

    shutil.copytree(made, to)
    return to


def test_a_finished_run_is_finished(made: Path) -> None:
    found = read_status(str(made))
    assert (found.kind, found.state, found.driver) == ("generate", "finished", "")
    assert (found.done, found.samples, found.committed, found.partitions) == (12, 12, 4, 4)
    assert found.rows == sum(record.rows for record in read_commits(Storage(made)).values()) > 0
    assert found.bytes == sum(path.stat().st_size for path in (made / "data").iterdir())
    assert {"visible", "write"} <= set(found.seconds)
    assert not found.left


def test_rate_and_time_to_go_are_of_the_last_partitions(made: Path, tmp_path: Path) -> None:
    out = copy(made, tmp_path / "out")
    (out / "manifest.json").unlink()
    # One launch, at the time of the first record.
    launch = {"time": "1970-01-01T00:16:40Z", "profile": {"price": 36.0}}
    Storage(out).write("_plan/launches/0000.json", json.dumps(launch).encode())
    # A slow begin, then a partition of three samples every ten seconds; the last one is missing.
    ends = {0: 1000.0, 1: 2000.0, 2: 2010.0}

    def edit(number: int, record: Commit) -> Commit | None:
        facts = record.facts | {"ended": ends.get(number), "rejected": 1, "redrawn": 2, "reasons": {"no face": number}}
        return None if number == 3 else replace(record, facts=facts)

    change(out, edit)
    found = read_status(str(out))
    assert read_status(str(out), price=72.0).cost == pytest.approx(20.2)
    assert found.state == "stopped; the same command goes on"
    assert (found.done, found.rejected, found.redrawn, found.reasons) == (9, 3, 6, {"no face": 3})
    assert found.rate == pytest.approx(6 / 1010)
    assert found.left == pytest.approx(3 / found.rate)
    assert (found.elapsed, found.cost) == (1010.0, pytest.approx(10.1))
    # With a driver that lives the run goes on; what is said has all of it.
    with Lease(Storage(out)):
        running = read_status(str(out))
    assert running.state.startswith("running (process ")
    said = str(found)
    for words in (
        "9 of 12 (75.0%), 3 of 4 partitions",
        "3 given up, 6 drawn again",
        "3 no face",
        "to go",
        "10.10 at that price",
    ):
        assert words in said, said


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b'{"time": "1970-01-01T00:16:40Z"}', b'{"time": "yesterday", "profile": {}}',
     b'{"time": 5, "profile": {}}', b'{"time": "1970-01-01T00:16:40Z", "profile": null}'],
)  # fmt: skip
def test_a_damaged_launch_is_one_message_with_the_way_out(made: Path, tmp_path: Path, content: bytes) -> None:
    out = copy(made, tmp_path / "out")
    launch = out / "_plan" / "launches" / "0000.json"
    launch.parent.mkdir(exist_ok=True)
    launch.write_bytes(content)
    with pytest.raises(EnvironmentFault, match=r"launches/0000\.json is damaged\. Delete it"):
        read_status(str(out))
    launch.unlink()
    assert read_status(str(out)).done == 12


def test_the_command_prints_words_or_json(made: Path) -> None:
    run = CliRunner()
    words = run.invoke(commands.command, [str(made)])
    assert words.exit_code == 0 and "12 of 12 (100.0%)" in words.output
    said = json.loads(run.invoke(commands.command, [str(made), "--json"]).output)
    assert Status(**said) == read_status(str(made))


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        read_status(str(tmp_path))
