"""The early look: what a run's first partitions are like, before many actors make the rest."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster import cli
from models.weights.bundle import load_bundle
from pipelines import generate
from pipelines.captions.write import write_captions
from pipelines.plan.extend import write_generate_plan
from pipelines.plan.generate import GeneratePlan
from pipelines.report import look, write
from pipelines.report.look import PAGE, SHEET, LookGate, look_beside, waits
from pipelines.run.writer import write_partition
from pipelines.storage.commits import list_finished
from pipelines.storage.uri import Storage
from tests.pipelines import small


@pytest.fixture
def begun(tmp_path: Path) -> GeneratePlan:
    """A run of four partitions of two people of one view, of which two are finished; captions of the others are not there."""
    job = small.job("identities.count=8", "views.per_identity=1", "partition_samples=2", "gates={attempts: 1}")
    plan = write_generate_plan(job, load_bundle("null"), Storage(tmp_path / "out"))
    write_captions(plan, small.profile().captions)
    chain = small.chain_of(plan)
    for partition in range(2):
        write_partition(chain(plan.partition(partition)), plan, threads=1)
    return plan


def test_the_look_shows_the_first_partitions_once(begun: GeneratePlan, capsys: pytest.CaptureFixture[str]) -> None:
    look_beside(begun, threading.Event())
    assert begun.out.path(PAGE) in capsys.readouterr().out
    page = begun.out.read(PAGE).decode()
    people = begun.identity_table(0)["identity_id"].to_pylist() + begun.identity_table(1)["identity_id"].to_pylist()
    assert all(person in page for person in people)
    assert begun.identity_table(2)["identity_id"][0].as_py() not in page
    assert begun.out.read(SHEET).startswith(b"\x89PNG")
    begun.out.write(PAGE, b"there")
    look_beside(begun, threading.Event())
    assert begun.out.read(PAGE) == b"there"
    assert not begun.out.exists("manifest.json"), "a look is no end"


def test_what_is_shown_opens_few_shards(begun: GeneratePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where people have fewer views than the sheet looks for, so that it never has enough."""
    monkeypatch.setattr(write, "SHARDS_SHOWN", 1)
    look_beside(begun, threading.Event())
    page = begun.out.read(PAGE).decode()
    assert begun.identity_table(0)["identity_id"][0].as_py() in page
    assert begun.identity_table(1)["identity_id"][0].as_py() not in page


def test_partitions_wait_for_the_look_where_pools_may_grow_far(begun: GeneratePlan) -> None:
    groups = {most: small.profile(f"groups=[{{stages: [visible], actors: [1, {most}]}}]").groups for most in (4, 5)}
    assert not waits(begun, groups[4]) and waits(begun, groups[5])
    begun.job = small.job("stop.look_first=true")
    assert waits(begun, groups[4])


def test_who_waits_for_the_look_ends_with_the_run(begun: GeneratePlan) -> None:
    begun.job, stopped = small.job("stop.look=3"), threading.Event()
    waiting = threading.Thread(target=look_beside, args=(begun, stopped), daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    stopped.set()
    waiting.join(10)
    assert not waiting.is_alive() and not begun.out.exists(PAGE)


def test_the_gate_holds_all_but_the_first_partitions(begun: GeneratePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "WAIT_SECONDS", 0.01)
    gate, passed = LookGate(begun, range(4)), list[int]()

    def send() -> None:
        for place in range(4):
            gate({"id": np.array([place])})
            passed.append(place)

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    time.sleep(0.05)
    assert passed == [0, 1]
    look_beside(begun, threading.Event())
    sending.join(10)
    assert passed == [0, 1, 2, 3]


@pytest.fixture
def words(tmp_path: Path, local_ray: Any) -> list[str]:
    """A command of twelve partitions, of which those after the first two wait for the look."""
    edits = ["captions=template", "identities.count=24", "views.per_identity=1", "partition_samples=2",
             "stop.look_first=true", "gates={attempts: 1}"]  # fmt: skip
    words = ["generate", "--bundle", "null", "--job", "pairs", "--out", str(tmp_path / "out")]
    return [*words, *(word for edit in edits for word in ("--set", edit))]


@pytest.mark.slow
def test_a_run_stops_at_its_ceiling_and_goes_on_beyond_it(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Storage(tmp_path / "out")
    assert cli.main([*words, "--set", "stop.pairs=9"]) == 3
    assert "the ceiling stop.pairs=9 is reached" in capsys.readouterr().err
    # A task that was under way may still commit its partition, so what is there now is no exact number.
    assert 3 <= len(list_finished(out)) < 12 and out.exists(PAGE) and not out.exists("manifest.json")
    with monkeypatch.context() as patch:
        patch.delattr(generate, "pairs")  # a graph that is built again fails with another code
        assert cli.main([*words, "--set", "stop.pairs=9"]) == 3, "at once, and again"
    assert cli.main(words) == 0
    assert len(list_finished(out)) == 12 and out.exists("manifest.json")
    assert cli.main([*words, "--set", "stop.pairs=9"]) == 0, "a whole run has nothing to stop"
