"""One view of a whole job while it runs: samples done, rate, time left, rejected and redrawn, where the time goes.

It is fed by what is committed. On a terminal the view is redrawn in place; elsewhere it is a line every ten seconds.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LINE_SECONDS = 10.0
SECONDS = "seconds_"
"""Begins the name of a count that says how long a stage took."""


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
    pairs: int = 0
    """Rows that this run has written."""
    texts: tuple[int, int] = (0, 0)
    """Samples that the language model has written a first text for, and those that lacked a caption."""
    texts_began: float = 0.0
    """When the first texts came."""
    phase: str = "starting"
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> seconds of all its workers, of what is committed."""
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return max(time.monotonic() - self.began, 1e-3)

    @property
    def rate(self) -> float:
        """Samples per second of this run."""
        return (self.done - self.before) / self.elapsed

    def add(self, counts: Mapping[str, Any]) -> None:
        """Take note of a partition that was committed (`pipelines.run.driver.Counts`)."""
        self.done += int(counts.get("items", counts["samples"]))  # of what is planned
        self.pairs += int(counts.get("pairs", 0))
        self.rejected += int(counts.get("rejected", 0))
        self.redrawn += int(counts.get("redrawn", 0))
        for name, value in counts.items():
            if name.startswith(SECONDS):
                stage = name.removeprefix(SECONDS)
                self.seconds[stage] = self.seconds.get(stage, 0.0) + float(value)

    def shares(self) -> dict[str, float]:
        """Return the share of the workers' time that each stage took."""
        total = sum(self.seconds.values())
        return {stage: seconds / total for stage, seconds in self.seconds.items()} if total else {}

    def count_captions(self, written: int, asked: int) -> None:
        """Take note of captions as they are written."""
        if not self.texts[0]:
            self.texts_began = time.monotonic()  # the engine has started
        self.texts = (written, asked)

    def facts(self) -> list[str]:
        """Return what is counted in this phase, each in a few words."""
        counts = []
        written, asked = self.texts
        if written < asked or self.phase == "captions":
            since = max(time.monotonic() - self.texts_began, 1e-3)
            left = since * (asked / written - 1) if written else None
            counts += [f"captions {written}/{asked}", f"{written / since:.1f}/s", f"left {duration(left)}"]
        if self.phase == "captions":
            return counts
        counts += [f"{self.done}/{self.total} samples"]
        if self.phase == "pictures":
            begun = self.done > self.before  # before, workers load their models and make the first partition
            counts += [f"{self.rate:.2f}/s", f"left {duration(self.left)}"] if begun else ["stages start"]
        return [*counts, f"rejected {self.rejected}", f"redrawn {self.redrawn}"]

    @property
    def left(self) -> float | None:
        """Seconds until the end, estimated; None while nothing is known."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None

    def restart_clock(self, phase: str) -> None:
        """Begin `phase`; rate and shares count from here."""
        self.phase, self.began = phase, time.monotonic()

    def line(self) -> str:
        """Return the view as one line of a log."""
        parts = [f"{self.title}: {self.phase}", *self.facts()]
        if self.phase == "pictures":
            parts += [f"{stage} {share:.0%}" for stage, share in self.shares().items()]
        return " | ".join(parts)

    def table(self) -> Group:
        """Return the view for a terminal."""
        head = Text.assemble((self.title, "bold"), f"  {self.phase}  {duration(self.elapsed)}")
        bar = ProgressBar(total=max(self.total, 1), completed=self.done, width=48)
        stages = Table("stage", "seconds", "share", box=None, header_style="dim", padding=(0, 2))
        for stage, share in self.shares().items():
            stages.add_row(stage, f"{self.seconds[stage]:.1f}", f"{share:.0%}")
        return Group(head, bar, Text("   ".join(self.facts())), stages)


class View:
    """Shows a `State` inside a `with` block: live on a terminal, lines otherwise."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, refresh_per_second=4) if self.console.is_terminal else None
        self._last, self._phase, self._line = 0.0, "", ""

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
        elif last or self.state.phase != self._phase or time.monotonic() - self._last > LINE_SECONDS:
            # At the end nothing is written that was written just before.
            line = self.state.line()
            if not (last and line == self._line):
                print(line, file=sys.stderr, flush=True)
            self._last, self._phase, self._line = time.monotonic(), self.state.phase, line


def duration(seconds: float | None) -> str:
    """Return seconds as text: 0:42, 3:05, 2:10:00."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
