"""What a run has cost so far: the time of its launches, as launch files and commit records tell it."""

import time
from calendar import timegm
from collections.abc import Sequence
from typing import Any, NamedTuple

from models.config import parse_json
from models.errors import CeilingReached, EnvironmentFault
from pipelines.config.job import Stop
from pipelines.run.provenance import LAUNCHES, TIME
from pipelines.storage.commits import read_commits
from pipelines.storage.uri import Storage


class Launch(NamedTuple):
    """One launch of a run. began: unix seconds. profile: where it ran, as it was then; its `price` is of an hour."""

    began: float
    profile: dict[str, Any]
    hardware: str


def read_launches(out: Storage) -> list[Launch]:
    """Return the launches of a run in order. Raises EnvironmentFault, with the way out, for a file that is damaged."""
    return [_read_launch(out, name) for name in out.list(LAUNCHES)]


def _read_launch(out: Storage, name: str) -> Launch:
    try:
        content = parse_json(out.read(name))
        profile, hardware = dict(content["profile"]), str(content.get("hardware", ""))
        return Launch(timegm(time.strptime(content["time"], TIME)), profile, hardware)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise EnvironmentFault(
            f"{out.shown(name)} is damaged. Delete it: hours and cost of the run are then counted without this launch, and "
            "nothing else changes."
        ) from None


def worked_seconds(began: Sequence[float], ended: Sequence[float], until: float | None = None) -> float:
    """Return how long launches worked, together: each from its begin to the last partition that it committed.

    began, ended: unix seconds of launches and of partitions. until: the end of the last launch, where it is known.
    """
    total, following = 0.0, [*sorted(began)[1:], float("inf")]
    for first, after in zip(sorted(began), following):
        own = [moment for moment in ended if first <= moment < after]
        last = until if until is not None and after == float("inf") else max(own, default=first)
        total += max(last - first, 0.0)
    return total


class Ceiling:
    """How much a run may make and spend. `begin` reads what earlier launches did, `check` says when it is enough."""

    def __init__(self, stop: Stop, price: float | None) -> None:
        self.stop, self.price = stop, price
        self.pairs, self.seconds, self.began = 0, 0.0, time.monotonic()

    def begin(self, out: Storage) -> None:
        """Read what is there; storage is asked only where there is a ceiling."""
        if (self.stop.pairs, self.stop.hours, self.stop.cost) == (None, None, None):
            return
        commits = read_commits(out).values()
        self.pairs = sum(record.rows for record in commits)
        ended = [float(record.facts["ended"]) for record in commits]
        self.seconds = worked_seconds([one.began for one in read_launches(out)], ended)

    def check(self, pairs: int = 0) -> None:
        """Raise CeilingReached where `pairs` of this launch, or its time, reach what is allowed together with those before."""
        hours = (self.seconds + time.monotonic() - self.began) / 3600
        spent = {"pairs": self.pairs + pairs, "hours": hours, "cost": hours * (self.price or 0)}
        for name, value in spent.items():
            most = getattr(self.stop, name)
            if most is not None and value >= most:
                raise CeilingReached(
                    f"the ceiling stop.{name}={most:g} is reached: {value:,.6g} by now. What is finished is kept; with a higher "
                    f"one, as in --set stop.{name}={2 * most:g}, the same command goes on."
                )
