"""Who is let in: a request that can expect its answer in time. The others are refused at once, with when to come back."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from serve.http.problems import ProblemError

SHARE = 0.8
"""Of the time that a request may take: one that is expected to take longer would as good as time out."""
LONGEST_RETRY = 60
"""Seconds; nobody knows what is in a minute."""
RATE = 0.2
"""Weight of the newest of the values that an average is of."""
FACTORS = (0.02, 50.0)
"""Least and largest of what is learned from one request."""
ROOM, ROOM_LEAST = 1.25, 8
"""A path that refuses has room for so many times what it has let in, and as many more, before it need be asked at all: those on
top are refused by it, so that it goes on saying how many."""
KINDS = 256
"""How many kinds of work a lane remembers the seconds of."""


@dataclass(frozen=True)
class Work:
    """What a request has one deployment compute: `rows` of one kind, of which a batch holds `most`.

    A batch takes as long whether it is full or not, for stages pad it; work that is not padded has batches of one row.
    """

    lane: str
    key: Hashable
    rows: int
    most: int

    @property
    def kind(self) -> tuple[Hashable, int]:
        """What work of equal seconds a batch has in common."""
        return self.key, self.most


@dataclass
class Lane:
    """What one deployment has before it, as far as this gateway knows."""

    rows: dict[tuple[Hashable, int], int] = field(default_factory=dict)
    """That wait, of each kind."""
    seconds: dict[tuple[Hashable, int], float] = field(default_factory=dict)
    """Of a batch of each kind, the last one learned last."""
    replicas: dict[str, float] = field(default_factory=dict)
    """When each replica was last heard of."""
    factor: float = 1.0
    """What requests took over what was expected: other gateways and a machine that does other things are in it."""

    def seconds_of(self, kind: tuple[Hashable, int]) -> float:
        """Return how long a batch of this kind takes; of an unknown kind as long as the last one, 0 where none is known."""
        return self.seconds.get(kind, next(reversed(self.seconds.values()), 0.0))

    def seconds_for(self, rows: Mapping[tuple[Hashable, int], int]) -> float:
        """Return how long all replicas take for so many rows of each kind."""
        batches = sum(math.ceil(count / kind[1]) * self.seconds_of(kind) for kind, count in rows.items())
        return batches / max(1, len(self.replicas))

    def count(self, work: Work, sign: int) -> None:
        """Let the rows of `work` wait (1), or no longer (-1)."""
        rows = self.rows.pop(work.kind, 0) + sign * work.rows
        if rows:
            self.rows[work.kind] = rows


class Admission:
    """Lets requests in while they can expect their answer within `patience` seconds, or the next two batches.

    The seconds that batches take are learned from answers (`note`). longest: how long a request may take at all.
    retry: least seconds that a refused caller is told to wait.
    """

    def __init__(
        self, patience: float, longest: float, retry: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.patience, self.longest, self.retry, self.clock = patience, longest, retry, clock
        self.lanes: defaultdict[str, Lane] = defaultdict(Lane)
        self.usual: dict[str, list[Work]] = {}
        self.inside = Counter[str]()
        """Requests to each endpoint that were let in and are not answered yet."""

    def note(self, work: Work, seconds: float, replica: str = "") -> None:
        """Learn that a batch with `work` took so long, on which replica."""
        lane, now = self.lanes[work.lane], self.clock()
        lane.replicas = {name: at for name, at in lane.replicas.items() if now - at < self.longest} | {replica: now}
        known = lane.seconds
        known[work.kind] = (1 - RATE) * known.pop(work.kind, seconds) + RATE * seconds
        if len(known) > KINDS:
            del known[next(iter(known))]

    def check(self, endpoint: str, works: Sequence[Work]) -> None:
        """Raise a ProblemError where `works` cannot expect to be done in time. Where nothing waits, they always can."""
        if not any(self.lanes[work.lane].rows for work in works):
            return
        # However slow they are: a batch that is computed, and one that gathers meanwhile.
        least = 2 * sum(
            max(1, lane.factor) * lane.seconds_of(work.kind) for work in works for lane in [self.lanes[work.lane]]
        )
        limit = min(SHARE * self.longest, max(self.patience, least))
        expected = sum(self.lanes[name].factor * seconds for name, seconds in self._queue(works).items())
        if expected > limit:
            wait = min(max(self.retry, math.ceil(expected - limit)), LONGEST_RETRY)
            detail = f"the answer would take about {expected:.0f} s"
            room = math.ceil(ROOM * self.inside[endpoint]) + ROOM_LEAST
            raise ProblemError("busy", detail, f"Ask again in {wait} s.", retry=wait, room=room)

    def check_usual(self, endpoint: str) -> None:
        """Raise a ProblemError where the least request of `endpoint` could not be let in, going by the last: no body is read."""
        self.check(endpoint, self.usual.get(endpoint, []))

    @contextmanager
    def admit(self, endpoint: str, works: Sequence[Work]) -> Iterator[None]:
        """Let a request in and count its `works` as waiting within the block.

        Raises:
            ProblemError: they cannot expect to be done in time.
        """
        self.check(endpoint, works)
        self.usual[endpoint] = [replace(work, rows=1) for work in works]
        expected, began = self._queue(works), self.clock()
        self.inside[endpoint] += 1
        for work in works:
            self.lanes[work.lane].count(work, 1)
        try:
            yield
        finally:
            self.inside[endpoint] -= 1
            for work in works:
                self.lanes[work.lane].count(work, -1)
        # What it took in truth; a request that failed or was left says nothing.
        self._compare(expected, self.clock() - began)

    def _queue(self, works: Sequence[Work]) -> dict[str, float]:
        """Return, for each lane of `works`, the seconds that it would have before it with them."""
        waiting = {work.lane: dict(self.lanes[work.lane].rows) for work in works}
        for work in works:
            waiting[work.lane][work.kind] = waiting[work.lane].get(work.kind, 0) + work.rows
        return {name: self.lanes[name].seconds_for(rows) for name, rows in waiting.items()}

    def _compare(self, expected: dict[str, float], seconds: float) -> None:
        """Learn how far the expectation of a request was off that took `seconds`."""
        if sum(expected.values()) <= 0:
            return
        ratio = min(max(seconds / sum(expected.values()), FACTORS[0]), FACTORS[1])
        for lane in map(self.lanes.__getitem__, expected):
            lane.factor = math.exp((1 - RATE) * math.log(lane.factor) + RATE * math.log(ratio))
