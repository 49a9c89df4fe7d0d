"""Ctrl-C, SIGTERM and SIGHUP: the work in flight is dropped, what is committed stays, and the exit says that it can resume."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, NoReturn, TypeVar

from models.errors import Interrupted

Result = TypeVar("Result")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a run to stop: Ctrl-C, a scheduler, a terminal that is closed."""
RUN = "run"
"""Name of the threads that `in_thread` works in."""


class Signals:
    """Inside a `with` block the first signal of `ENDING` is remembered, a second one acts as usual."""

    def __init__(self) -> None:
        self.name = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        self.watch()
        return self

    def watch(self) -> None:
        """Install the handlers; again after a library (Ray among them) installed its own."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in ENDING:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # under nohup the run is to outlive its terminal
            before = signal.signal(number, self._remember)
            self._before.setdefault(number, before)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before.clear()

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.name:
            raise Interrupted(
                f"stopped by {self.name}: finished partitions are kept, run the same command again to resume."
            )


def in_thread(work: Callable[[], Result], watch: Callable[[], None], interval: float = 0.25) -> Result:
    """Return `work()`, run in a thread of its own while `watch` is called every `interval` seconds here.

    What `watch` raises ends the wait at once: a library's long wait in C is thereby no obstacle to Ctrl-C. The thread goes on
    then, as nothing can end it: a process that stops for good does so by `leave`.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name=RUN, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(interval)
        watch()
    if errors:
        raise errors[0]
    return results[0]


def has_abandoned_work() -> bool:
    """Return whether work whose wait was ended still runs in a thread of its own."""
    return any(thread.name == RUN and thread is not threading.current_thread() for thread in threading.enumerate())


def leave(code: int) -> NoReturn:
    """End this process with `code`, at once if work was abandoned.

    Ray must not be shut down, nor Python, under a thread that is inside Ray: that ends in a segmentation fault instead of
    the exit code that says "resume". Ray's processes and actors end with their driver by themselves.
    """
    if has_abandoned_work():
        with suppress(OSError):  # of a terminal that is gone
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
