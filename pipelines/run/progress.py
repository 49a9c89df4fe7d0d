"""One view of a whole job while it runs: samples done, rate, time left, rejected and redrawn, how busy each stage is.

Workers report to a small `Board` actor and never wait for it. On a terminal the view is redrawn in place; elsewhere it is
a line every ten seconds.
"""

import contextlib
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LINE_SECONDS = 10.0


class Board:
    """Adds up what the workers report. Runs as a Ray actor; plain Python, so that tests may call it."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = defaultdict(int)
        self.seconds: dict[str, float] = defaultdict(float)
        self.workers: dict[str, set[str]] = defaultdict(set)

    def add(self, stage: str, rows: int, seconds: float, worker: str) -> None:
        """Count `rows` that `stage` took `seconds` for in process `worker`."""
        self.rows[stage] += rows
        self.seconds[stage] += seconds
        self.workers[stage].add(worker)

    def snapshot(self) -> dict[str, tuple[int, float, int]]:
        """Return stage -> (rows, seconds, workers)."""
        return {stage: (self.rows[stage], self.seconds[stage], len(self.workers[stage])) for stage in self.rows}


class Tracker:
    """A worker's line to the board, if there is one."""

    def __init__(self, board: Any = None, worker: str = "") -> None:
        self.board, self.worker = board, worker

    @classmethod
    def find(cls, name: str) -> "Tracker":
        """Return a tracker of the board called `name`, or one that drops everything."""
        if not name:
            return cls()
        import ray

        with contextlib.suppress(ValueError):
            return cls(ray.get_actor(name), ray.get_runtime_context().get_worker_id())
        return cls()

    def add(self, stage: str, rows: int, seconds: float) -> None:
        """Report without waiting."""
        if self.board is not None:
            self.board.add.remote(stage, rows, seconds, self.worker)


@dataclass
class State:
    """What the view shows."""

    title: str
    total: int
    """Samples of the plan."""
    before: int = 0
    """Samples that an earlier run finished."""
    done: int = 0
    rejected: int = 0
    redrawn: int = 0
    texts: tuple[int, int] = (0, 0)
    """Captions written by the language model, and asked for, in phase `captions`."""
    phase: str = "starting"
    stages: dict[str, tuple[int, float, int]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return max(time.monotonic() - self.began, 1e-3)

    @property
    def rate(self) -> float:
        """Samples per second of this run."""
        return (self.done - self.before) / self.elapsed

    def write(self, written: int, asked: int) -> None:
        """Take note of the captions of this phase."""
        if not self.texts[0]:
            self.began = time.monotonic()  # the engine has started
        self.texts = (written, asked)

    def facts(self) -> list[str]:
        """Return what is counted in this phase, each in a few words."""
        if self.phase == "captions":
            written, asked = self.texts
            left = self.elapsed * (asked / written - 1) if written else None
            return [f"{written}/{asked} texts", f"{written / self.elapsed:.1f}/s", f"left {duration(left)}"]
        counts = [f"{self.done}/{self.total} samples"]
        if self.phase == "pictures":
            counts += [f"{self.rate:.2f}/s", f"left {duration(self.left)}"]
        return [*counts, f"rejected {self.rejected}", f"redrawn {self.redrawn}"]

    @property
    def left(self) -> float | None:
        """Seconds until the end, estimated; None while nothing is known."""
        open_ = self.total - self.done
        if self.rate > 0:
            return open_ / self.rate
        if not self.stages:
            return None
        share = min(rows for rows, _, _ in self.stages.values()) / max(open_, 1)  # redraws count in most stages
        return self.elapsed * (1 / share - 1) if 0 < share < 1 else None

    def busy(self, stage: str) -> float:
        """Share of the time since the start that the workers of `stage` spent in it."""
        _, seconds, workers = self.stages[stage]
        return seconds / (self.elapsed * max(workers, 1))

    def restart_clock(self, phase: str) -> None:
        """Begin `phase`; rate and shares count from here."""
        self.phase, self.began = phase, time.monotonic()

    def line(self) -> str:
        """Return the view as one line of a log."""
        parts = [f"{self.title}: {self.phase}", *self.facts()]
        if self.phase == "pictures":
            parts += [f"{stage} {self.stages[stage][0]} ({self.busy(stage):.0%} busy)" for stage in self.stages]
        return " | ".join(parts)

    def table(self) -> Group:
        """Return the view for a terminal."""
        head = Text.assemble((self.title, "bold"), f"  {self.phase}  {duration(self.elapsed)}")
        bar = ProgressBar(total=max(self.total, 1), completed=self.done, width=48)
        stages = Table("stage", "samples", "samples/s", "busy", box=None, header_style="dim", padding=(0, 2))
        for stage, (rows, seconds, workers) in self.stages.items():
            stages.add_row(stage, str(rows), f"{rows / max(seconds, 1e-6) * workers:.1f}", f"{self.busy(stage):.0%}")
        return Group(head, bar, Text("   ".join(self.facts())), stages)


class View:
    """Shows a `State` inside a `with` block: live on a terminal, lines otherwise."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, refresh_per_second=4) if self.console.is_terminal else None
        self._last, self._shown = 0.0, ""

    def __enter__(self) -> "View":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.show(last=True)
        if self.live:
            self.live.stop()

    def show(self, last: bool = False) -> None:
        """Draw the state, or write its line when it is time for one or the phase has changed."""
        if self.live:
            self.live.update(self.state.table())
        elif last or self.state.phase != self._shown or time.monotonic() - self._last > LINE_SECONDS:
            self._last, self._shown = time.monotonic(), self.state.phase
            print(self.state.line(), file=sys.stderr, flush=True)


def duration(seconds: float | None) -> str:
    """Return seconds as text: 0:42, 3:05, 2:10:00."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
