"""Work that nobody waits for any longer ends where it next asks, not at its own end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_abandoned: ContextVar[Callable[[], bool] | None] = ContextVar("abandoned", default=None)


class Abandoned(BaseException):
    """Nobody waits for this work any longer. No `Exception`: it is no fault of a row, and nothing is to catch it on the way."""


@contextmanager
def stop_when(abandoned: Callable[[], bool]) -> Iterator[None]:
    """Have `check_wanted` raise within the block, in this thread, once `abandoned` returns true."""
    token = _abandoned.set(abandoned)
    try:
        yield
    finally:
        _abandoned.reset(token)


def check_wanted() -> None:
    """Raise Abandoned if whoever started this work has left; loops of seconds call it at every step."""
    abandoned = _abandoned.get()
    if abandoned is not None and abandoned():
        raise Abandoned
