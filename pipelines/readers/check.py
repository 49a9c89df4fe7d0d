"""What a folder of a data set holds, counted and in words: what `thermapair data check` says."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from pipelines.config.gather import LayoutName
from pipelines.readers.registration import Registration
from pipelines.readers.sets.source import SOURCES, describe
from pipelines.readers.spread import tell_left

SPLITS = ("train", "validation", "test")
SPREAD = (5, 95)
"""Percentiles of temperatures that are told."""
MANY = 1000
"""Rows of one person from which it is told how to take fewer."""
NAMED = 3
"""Rows of a kind of reason that are named."""
WHOLE = {54, 68, 70, 72}
"""Numbers of points that tell where a face is all over."""
Reasons = dict[str, list[tuple[str, str]]]
"""Kind of reason -> the rows, each with its name and its reason in words."""


@dataclass
class Check:
    """What a folder holds. rows, people: of what the listing takes, by split ("" where nothing says one). left: what
    `rows_per_person` leaves out, by list. each: rows of (split, person). halves: rows with both pictures, the visible and the
    thermal one alone; shown: whom pictures of either camera show. roles: how many rows enrol (model) and ask (probe), where
    lists say so. missing, refused: reasons of the listing and of the rows opened. sizes, points, degrees, grey, joined: of the
    rows opened; joined are those with a picture in colour and a thermal one."""

    uri: str
    layout: LayoutName
    protocol: str = ""
    rows_per_person: int | None = None
    rows: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    people: dict[str, set[str]] = field(default_factory=dict)
    each: Counter[tuple[str, str]] = field(default_factory=Counter)
    halves: Counter[str] = field(default_factory=Counter)
    shown: dict[str, set[str]] = field(default_factory=lambda: {"visible": set(), "thermal": set()})
    roles: Counter[str] = field(default_factory=Counter)
    conditions: Counter[str] = field(default_factory=Counter)
    missing: Reasons = field(default_factory=dict)
    opened: int = 0
    refused: Reasons = field(default_factory=dict)
    sizes: dict[str, Counter[str]] = field(default_factory=lambda: {"visible": Counter(), "thermal": Counter()})
    points: Counter[int] = field(default_factory=Counter)
    degrees: list[np.ndarray] = field(default_factory=list)
    grey: int = 0
    joined: int = 0
    shared: list[str] = field(default_factory=list)
    """People who stand in more than one split."""
    archives: list[str] = field(default_factory=list)
    """Files beside the pictures that may hold more of the set."""
    registration: Registration | None = None
    """How far the halves of the pairs opened are apart, where that was asked for."""

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {half}" for half, count in self.halves.most_common())
        warnings = [f"in two splits: {', '.join(self.shared[:5])}"] if self.shared else []
        if self.archives:
            more = f" and {len(self.archives) - NAMED} more" if len(self.archives) > NAMED else ""
            warnings.append(f"not unpacked, or a download that broke off? {', '.join(self.archives[:NAMED])}{more}")
        lines = [
            ("", f"{self.uri}: layout {self.layout}"),
            ("", describe(self.layout)),
            ("rows", f"{self.rows.total()}{': ' * bool(counted)}{counted}"),
            ("left out", tell_left(self.left, self.rows_per_person)),
            ("halves", self._halves()),
            ("people", self._people()),
            ("splits", self._splits()),
            (
                "lists",
                f"{self.roles['model']} rows enrol (model), {self.roles['probe']} ask (probe)" if self.roles else "",
            ),
            ("conditions", _counted(self.conditions) if any(self.conditions) else ""),
            ("missing", f"{sum(map(len, self.missing.values()))}"),
            *(("", f"            {text}") for text in _tell(self.missing)),
            *(("warning", text) for text in warnings),
            ("opened", f"{self.opened}"),
            *(("", f"            {text}") for text in _tell(self.refused, "refused: ")),
            *((kind, _counted(sizes)) for kind, sizes in self.sizes.items()),
            ("landmarks", ", ".join(f"{number} points ({count})" for number, count in self.points.most_common())),
            ("temperature", self._temperature()),
            ("registered", str(self.registration or "")),
            ("use", self._uses()),
        ]
        return "\n".join(f"{name:11} {text}" if name else text for name, text in lines if text)

    def reasons(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the reason of every row that is missing something or was refused when it was opened."""
        for reasons in (self.missing, self.refused):
            for rows in reasons.values():
                yield from rows

    def table(self) -> bytes:
        """Return these as CSV with a head."""
        text = io.StringIO()
        csv.writer(text).writerows([("name", "reason"), *self.reasons()])
        return text.getvalue().encode()

    @property
    def apart(self) -> bool:
        """Whether both cameras' pictures are there, and none beside another."""
        return bool(self.halves["visible alone"] and self.halves["thermal alone"] and not self.halves["pairs"])

    def _halves(self) -> str:
        if not self.apart:
            return ""
        both = len((self.shown["visible"] & self.shown["thermal"]) - {""})
        return f"apart: no pixel joins the two cameras' pictures; {both} people are shown by both"

    def _people(self) -> str:
        everybody = set().union(*self.people.values()) if self.people else set()
        return f"{len(everybody - {''})}" if everybody - {""} else "nobody says who is who"

    def _splits(self) -> str:
        if not any(self.rows):
            return (
                "none published: evaluations test everybody, training splits by the person's name" if self.rows else ""
            )
        order = sorted(self.rows, key=(*SPLITS, "").index)
        return ", ".join(
            f"{split or 'no split'} {self.rows[split]} of {len(self.people[split] - {''})} people" for split in order
        )

    def _temperature(self) -> str:
        if self.degrees:
            low, middle, high = np.percentile(np.concatenate(self.degrees), (SPREAD[0], 50, SPREAD[1]))
            return f"{low:.1f} to {high:.1f} degC ({SPREAD[0]} to {SPREAD[1]} %), median {middle:.1f}"
        if self.grey:
            return "none: grey levels of each picture's own scale"
        return "none: no thermal picture" if self.opened else ""

    def _uses(self) -> str:
        """Return lines on what can be done with the folder: the first command whole, the others by name."""
        thermal, whole = bool(self.degrees or self.grey), bool(WHOLE & self.points.keys())
        known = len((self.shown["visible"] & self.shown["thermal"]) - {""}) > 1 and (self.joined or self.apart)
        fit = {
            "evaluate hfr": known,
            "evaluate translation": known,
            "train hfr": known,
            "evaluate landmarks": self.joined and whole,
            "evaluate lapig": self.joined,
            "train translator": self.joined,
            "evaluate tfake": thermal and whole,
        }
        names = [name for name, there in fit.items() if there]
        if not self.rows or self.layout not in SOURCES:
            return ""
        most = f" --rows-per-person {self.rows_per_person}" if self.rows_per_person else ""
        if not names:
            return f"thermapair gather --layout {self.layout} --images {self.uri}{most} --out DIR"
        more = f" --protocol {self.protocol}" if self.protocol else ""
        uses = [f"thermapair {names[0]} --data {self.uri} --reader {self.layout}{more}{most} --out DIR"]
        uses += [f"likewise {', '.join(names[1:])}"] if names[1:] else []
        if self.joined:
            uses.append(
                "with --parser starter --condition NAME also train thermalizer: they give classes and a condition"
            )
        if (many := max(self.each.values(), default=0)) >= MANY and not self.rows_per_person:
            uses.append(f"with --rows-per-person N fewer rows of each person are read: now up to {many}")
        return f"\n{'':12}".join(uses)


def note(reasons: Reasons, name: str, reason: str) -> None:
    """Keep a row's reason by its kind, which stands before the first colon."""
    reasons.setdefault(reason.split(":")[0], []).append((name, reason))


def _tell(reasons: Reasons, before: str = "") -> Iterator[str]:
    """Yield a line for each kind of reason: how many rows, the first in words, the next ones by name."""
    for kind, rows in reasons.items():
        (name, reason), more = rows[0], [other for other, _ in rows[1:NAMED]]
        others = f"; then {', '.join(more)}{' ...' if len(rows) > NAMED else ''}" if more else ""
        yield f"{len(rows)} {before}{kind} (first: {name}: {reason.removeprefix(kind).removeprefix(': ')}{others})"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.most_common())
