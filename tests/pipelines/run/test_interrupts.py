"""Signals: the work in flight is dropped at once, the exit code says that the run can resume; a second signal acts as usual."""

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.errors import EnvironmentFault, Interrupted, UserError
from pipelines.run.faults import as_fault, cause_of
from pipelines.run.interrupts import in_thread

ROOT = Path(__file__).parents[3]

DRIVER = """
import atexit, time
from models.errors import UserError
from pipelines.run.interrupts import Signals, in_thread, leave
atexit.register(print, "torn down under the work")
try:
    with Signals() as signals:
        print("ready", flush=True)
        in_thread(lambda: time.sleep(60), signals.check)
except UserError as error:
    print(error)
    leave(error.exit_code)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_and_says_how_to_go_on(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", DRIVER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=50)
    assert time.monotonic() - began < 40
    assert process.returncode == 75
    assert f"stopped by {number.name}: finished partitions are kept" in output
    assert "torn down" not in output


def test_work_in_a_thread_returns_and_raises_as_if_called() -> None:
    assert in_thread(lambda: 5, lambda: None) == 5
    with pytest.raises(ValueError, match="inside"):
        in_thread(lambda: (_ for _ in ()).throw(ValueError("inside")), lambda: None)


class SystemException(Exception):
    """What Ray puts around its own errors."""


def chained(*errors: Exception) -> Exception:
    for outer, inner in itertools.pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (chained(RuntimeError("task"), EnvironmentFault("the disk is full")), EnvironmentFault, "^the disk is full$"),
        (chained(RuntimeError("task"), Interrupted("stopped")), Interrupted, "^stopped$"),
        (
            chained(TimeoutError("Timed out while starting actors."), SystemException()),
            EnvironmentFault,
            "start_seconds",
        ),
        (
            chained(RuntimeError("x"), OSError(28, "No space left on device")),
            EnvironmentFault,
            "No space left on device",
        ),
        (
            RuntimeError("died\nmodels.errors.UserError: no such condition\nmore"),
            EnvironmentFault,
            "^no such condition$",
        ),
    ],
)
def test_what_is_said_is_the_cause_in_words(error: Exception, kind: type[UserError], message: str) -> None:
    with pytest.raises(kind, match=message):
        raise as_fault(error)


def test_what_was_raised_from_none_has_no_cause() -> None:
    """json's own error hides a StopIteration, which would tell nobody anything."""
    with pytest.raises(json.JSONDecodeError) as raised:
        json.loads("zz")
    assert isinstance(raised.value.__context__, StopIteration)
    assert cause_of(raised.value) is raised.value
