"""Captions that stream: pictures begin with the first chunk, faults and signals end the run, and it goes on where it was."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.weights.bundle import Bundle
from pipelines.captions import stream
from pipelines.captions.stream import CaptionGate, demands, fit
from pipelines.config.job import GenerateJob
from pipelines.config.profile import load_profile
from pipelines.plan.extend import write_generate_plan
from pipelines.run.driver import Run
from pipelines.run.progress import State
from pipelines.storage.commits import list_finished
from pipelines.storage.uri import Storage
from tests.pipelines import small

Job = Callable[..., GenerateJob]


def test_what_does_not_fit_a_cluster_together_is_found_node_by_node() -> None:
    gpu, cluster = load_profile("gpu"), load_profile("cluster")
    pictures = [group for group in gpu.groups if "visible" in group.stages]
    wanted = demands(gpu.captions, pictures, gpu.writer.cpus)
    one, two = ({"CPU": 16.0, "GPU": float(count), "memory": 2.0**36} for count in (1, 2))
    assert not fit([one], wanted) and fit([two], wanted) and fit([one, one], wanted)
    wanted = demands(cluster.captions, cluster.groups, cluster.writer.cpus)
    assert fit([{"CPU": 8.0, "GPU": 1.0, "memory": 2.0**35}] * 5, wanted)
    assert not fit([{"CPU": 8.0, "GPU": 1.0, "memory": 2.0**35}] * 4, wanted)
    assert not fit(
        [{"CPU": 3.0, "GPU": 1.0, "memory": 2.0**35}] * 20, wanted
    )  # enough in all, and no node for an engine
    assert not fit([{"CPU": 8.0, "GPU": 1.0, "memory": 2.0**30}] * 20, wanted)


def test_the_gate_waits_for_a_chunk_and_for_no_other(bundle: Bundle, job: Job, tmp_path: Path) -> None:
    plan = write_generate_plan(job(), bundle, Storage(tmp_path / "out"))
    missing = [1, 2]  # the second chunk's
    plan.save_captions(1, ["a caption"] * 16, ["template"] * 16)
    gate, block = CaptionGate(plan, missing), {"id": np.array([1])}
    assert gate(block) is block
    with pytest.raises(TimeoutError):
        _waits(CaptionGate(plan, [0]), {"id": np.array([0])})


def _waits(gate: CaptionGate, block: dict[str, np.ndarray]) -> None:
    def late(number: int, frame: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.7)
    try:
        gate(block)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


SERVER = "captions={backend: chat, url: 'http://127.0.0.1:9/v1', model: tiny}"


@pytest.mark.parametrize(
    ("captions", "edit", "fit", "waits", "phase", "line"),
    [
        ("captions=llm", "captions.stream=null", True, True, "starting", ""),
        ("captions=llm", "captions.stream=null", False, False, "captions", "captions are written first"),
        ("captions=llm", "captions.stream=true", False, True, "starting", ""),
        ("captions=llm", "captions.stream=false", True, False, "captions", ""),
        (
            "captions=template",
            "captions.stream=null",
            True,
            False,
            "captions",
            "",
        ),  # no engine, so no room is asked for
        ("captions=template", "captions.stream=null", False, False, "captions", ""),
        (SERVER, "captions.stream=null", False, True, "starting", ""),  # a server needs no room here
        (SERVER, "captions.stream=false", True, False, "captions", ""),
    ],
)
def test_pictures_wait_for_captions_where_both_run_at_once(
    captions: str, edit: str, fit: bool, waits: bool, phase: str, line: str, bundle: Bundle, job: Job, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    plan, profile = write_generate_plan(job(captions), bundle, Storage(tmp_path / "out")), small.profile(edit)
    run, phases = Run(State("test", plan.samples)), list[str]()
    monkeypatch.setattr(stream, "write_captions", lambda *_: phases.append(run.state.phase))
    monkeypatch.setattr(stream, "fits", lambda *_: fit)
    assert stream.write_beside(plan, profile, profile.groups, run) is waits
    run.join()
    assert phases == [phase]
    said = capsys.readouterr().out
    assert (line in said) if line else not said
    for chunk, partitions in plan.chunks():
        count = sum(plan.rows(k) for k in partitions)
        plan.save_captions(chunk, [f"caption {k}" for k in range(count)], ["template"] * count)
    assert not stream.write_beside(plan, profile, profile.groups, run) and phases == [phase]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edits", "waits", "line"),
    [
        ((), True, ""),
        (
            ("captions.cpus=5",),
            False,
            "captions are written first: the engines, stages and writer of profile test do not fit",
        ),
        (("captions.stream=false",), False, ""),
        (("captions.cpus=5", "captions.stream=true"), True, ""),
    ],
)
def test_captions_come_first_where_both_do_not_fit(
    edits: tuple[str, ...], waits: bool, line: str, local_ray: Any, bundle: Bundle, job: Job, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Of eight CPUs, stages, reading and writing take three or four."""
    plan, profile = write_generate_plan(job("captions=llm"), bundle, Storage(tmp_path / "out")), small.profile(*edits)
    run, phases = Run(State("test", plan.samples)), list[str]()
    monkeypatch.setattr(stream, "write_captions", lambda *_: phases.append(run.state.phase))
    groups = [profile.groups[0].model_copy(update={"actors": (2, 2)})]
    assert stream.write_beside(plan, profile, groups, run) is waits
    run.join()
    assert phases == ["starting" if waits else "captions"]
    said = capsys.readouterr().out
    assert (line in said) if line else not said


@pytest.mark.soak
@pytest.mark.parametrize("end", ["fault", "signal"])
def test_what_ends_the_captions_ends_the_run_and_a_signal_ends_both(
    end: str, local_ray: Any, bundle: Bundle, job: Job, tmp_path: Path
) -> None:
    """The engine is lost, or SIGTERM comes, while a partition waits at the gate: one message, and what is made stays."""
    out = Storage(tmp_path / "out")
    process = small.start_driver(ENDING, str(Path(bundle.folder, "bundle.yaml")), out.uri, end)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 75, errors
    assert ("the engine is gone" if end == "fault" else "stopped by SIGTERM") in errors
    assert end == "fault" or "captions stopped, too" in errors
    assert list_finished(out) == {0}
    assert "Traceback" not in errors


ENDING = """
import os, signal, sys, time
from models.errors import EnvironmentFault, UserError
from models.weights.bundle import load_bundle
from pipelines.captions import stream
from pipelines.captions.choose import templates
from pipelines.run.interrupts import leave
from pipelines.run.driver import Run
from pipelines.run.progress import State
from pipelines.storage.commits import list_finished
from tests.pipelines import small

def write(plan, engines, told, stopped):
    chunk, samples = next(plan.read_uncaptioned())
    plan.save_captions(chunk, [f"caption {k}." for k in range(len(samples))], ["llm"] * len(samples))
    while not list_finished(plan.out):
        time.sleep(0.05)
    if sys.argv[3] == "fault":
        raise EnvironmentFault("the engine is gone")
    os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.wait(30)
    print("captions stopped, too", file=sys.stderr)

stream.write_captions = write
small.register()
try:
    small.make(small.job("captions=llm"), load_bundle(sys.argv[1]), sys.argv[2])
except UserError as error:
    print(error, file=sys.stderr)
    leave(error.exit_code)
"""
