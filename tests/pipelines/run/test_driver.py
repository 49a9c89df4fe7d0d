"""The driver without Ray: what is missing is made, and what goes wrong beside the graph ends the run."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from models.errors import EnvironmentFault
from pipelines.run import driver, provenance
from pipelines.run.driver import Job, Run, run_job
from pipelines.storage.commits import Commit, commit
from pipelines.storage.lease import Lease
from pipelines.storage.uri import Storage
from tests.pipelines import small


class Sums(BaseModel):
    """A job of four partitions."""


class Plan:
    """Four partitions of two samples each."""

    title, partitions, samples, job = "sums", 4, 8, Sums()

    def __init__(self, out: Storage) -> None:
        self.out = out

    def rows(self, partition: int) -> int:
        return 2


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """An empty output; nobody asks git for the commit."""
    monkeypatch.setattr(provenance, "commit_of", str)
    monkeypatch.setattr(driver, "STOP_SECONDS", 5.0)
    return Storage(tmp_path / "out")


def make(out: Storage, graph: Callable[[Plan, list[int], Run], Iterator[dict[str, Any]]]) -> dict[int, Commit]:
    """Run the job in this process; returns its commits."""
    job = Job(plan=lambda: Plan(out), graph=graph, finish=lambda plan, commits: commits)
    return run_job(job, out, small.profile(), local=True)


def commit_all(plan: Plan, missing: list[int], run: Run) -> Iterator[dict[str, Any]]:
    for partition in missing:
        commit(plan.out, partition, Commit("", 0, str(partition)))
        yield {"partition": partition, "samples": 2}


def test_a_run_makes_what_is_missing_and_nothing_else(out: Storage) -> None:
    commit(out, 1, Commit("", 0, "before"))
    asked = list[int]()

    def graph(plan: Plan, missing: list[int], run: Run) -> Iterator[dict[str, Any]]:
        asked.extend(missing)
        assert (run.state.before, run.state.done, run.state.total) == (2, 2, 8)
        yield from commit_all(plan, missing, run)
        assert run.state.done == 8

    assert [record.digest for record in make(out, graph).values()] == ["0", "before", "2", "3"]
    assert asked == [0, 2, 3]
    make(out, lambda *_: pytest.fail("nothing is missing"))
    assert out.list("_lease") == []


def test_a_driver_that_another_has_taken_over_stops(out: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "Lease", partial(Lease, heartbeat=0.01))
    ended = threading.Event()

    def graph(plan: Plan, missing: list[int], run: Run) -> Iterator[dict[str, Any]]:
        out.create("_lease/000002.json", b"{}")
        try:
            assert run.stopped.wait(20)
            yield from commit_all(plan, missing, run)
        finally:
            ended.set()

    with pytest.raises(EnvironmentFault, match="was taken over by another driver; this one stops"):
        make(out, graph)
    assert ended.wait(20)
    assert out.list("_commits") == ["_commits/part-00000.json"]  # no further partition was asked for
    assert "_lease/000002.json" in out.list("_lease")


def test_what_work_beside_the_graph_raises_ends_the_run_and_the_other_way_round(out: Storage) -> None:
    ended = threading.Event()

    def lost() -> None:
        raise EnvironmentFault("the engine is gone")

    def graph(plan: Plan, missing: list[int], run: Run) -> Iterator[dict[str, Any]]:
        run.beside(lost)
        run.beside(lambda: run.stopped.wait(20) and ended.set())
        assert run.stopped.wait(20)
        yield from ()

    with pytest.raises(EnvironmentFault, match="the engine is gone"):
        make(out, graph)
    assert ended.is_set()


def test_work_beside_the_graph_belongs_to_the_run(out: Storage) -> None:
    """The run waits for it, and what it raises after the last partition is no success."""
    go_on = threading.Event()

    def late() -> None:
        assert go_on.wait(20)
        raise EnvironmentFault("late")

    def graph(plan: Plan, missing: list[int], run: Run) -> Iterator[dict[str, Any]]:
        run.beside(late)
        yield from commit_all(plan, missing, run)
        go_on.set()

    with pytest.raises(EnvironmentFault, match="late"):
        make(out, graph)


def test_a_job_may_end_a_run_that_goes_wrong(out: Storage) -> None:
    def check(plan: Plan, state: Any) -> None:
        if state.done == 4:
            raise EnvironmentFault("hopeless")

    job = Job(plan=lambda: Plan(out), graph=commit_all, finish=lambda plan, commits: commits, check=check)
    with pytest.raises(EnvironmentFault, match="hopeless"):
        run_job(job, out, small.profile(), local=True)
    assert len(out.list("_commits")) == 2
