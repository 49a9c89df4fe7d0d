"""The stages of one group in one actor: arrays are handed on in place, partition by partition.

A partition that comes in leaves whole: every sample keeps its row, also when it is rejected. Samples that fail the gates
are drawn again with the noise of the next attempt; the failed attempts leave as extra rows with `final` false. A stage that
writes what is a person's alone runs once for a person.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np

from models.columns import COLUMNS, Columns
from models.errors import UserError
from models.stages import Comparing, Stage
from models.stopping import check_wanted
from pipelines.config.chain import ChainSpec, Link
from pipelines.rows.ids import noise_id
from pipelines.run import faults, metrics
from pipelines.run.cut import FaceCutter, ThermalCutter


@dataclass
class State:
    """What a chain keeps of a partition beside its columns.

    rows: the columns, writable. reached: uint64 [N], bit k says that the row has column `tracked[k]`. final: bool [N].
    seconds: float64 [stages of the whole chain]. shrunk: int32 [N, stages], the compute batch that memory left, 0 for its own.
    unusable: bool [N], rows that the source rejected or a stage could not take: another draw would fail again.
    """

    rows: Columns
    reached: np.ndarray
    final: np.ndarray
    seconds: np.ndarray
    shrunk: np.ndarray
    unusable: np.ndarray

    @classmethod
    def of(cls, block: Columns, stages: int) -> "State":
        """Return the state of a block: fresh, or as another group of the chain has handed it on."""
        rows = {name: np.array(values, dtype=_dtype(values)) for name, values in block.items()}
        count = len(rows["sample_id"])
        reached = rows.pop("reached", np.zeros(count, np.uint64))
        final = rows.pop("final", np.ones(count, bool))
        seconds = rows.pop("seconds", np.zeros((count, stages)))
        shrunk = rows.pop("shrunk", np.zeros((count, stages), np.int32))
        return cls(rows, reached, final, seconds.sum(axis=0), shrunk, np.array(rows["reject"] != "", bool))

    def block(self) -> Columns:
        """Return the state as columns; seconds stand in the first row, so that they add up however blocks are put together."""
        seconds = np.zeros((len(self.final), len(self.seconds)))
        seconds[:1] = self.seconds
        own = {"reached": self.reached, "final": self.final, "seconds": seconds, "shrunk": self.shrunk}
        return {**self.rows, **own}


class Chain:
    """The stages of one group. `whole` is the chain of the job, `names` are this group's stages, in order.

    attempts: how often a sample is drawn, 1 in a group that does not hold the gates. loaded: the stages where their weights
    are in memory already; by default they are loaded here.
    """

    def __init__(
        self,
        whole: ChainSpec,
        names: Sequence[str],
        attempts: int = 1,
        threads: int = 1,
        loaded: Sequence[Stage] = (),
    ) -> None:
        self.whole, self.attempts = whole, attempts
        self.links = whole.part_of(names).links
        self.stages = list(loaded) or [link.load(threads) for link in self.links]
        # Pictures are cut into faces by the group that holds the first stage.
        first = self.links[:1] == whole.links[:1]
        self.cutter: FaceCutter | ThermalCutter | None = None
        if whole.cut and first:
            self.cutter = (ThermalCutter if whole.cut.frames else FaceCutter)(whole.cut, threads)
        self.place = {stage: place for place, stage in enumerate(whole.stages)}
        self.bits = {name: np.uint64(1 << place) for place, name in enumerate(whole.tracked)}
        # What a stage makes for those whom the source gave none, and what a person keeps over redraws.
        self.made = {name for link in whole.links for name in link.flow.writes}
        self.kept = {*whole.given, *(name for name in whole.tracked if COLUMNS[name].per == "person")}

    def __call__(self, block: Columns) -> Columns:
        began = time.perf_counter()
        state, failed = State.of(self.cut(block), len(self.place)), list[Columns]()
        if not len(state.final):
            return state.block()
        if self.cutter:
            state.seconds[0] += time.perf_counter() - began
        self._note_given(state)
        for attempt in range(self.attempts):
            # From the second attempt on: samples that the gates refused, with the noise of this attempt.
            if attempt > 0:
                failed.append(reopen(state, attempt, self._mask(self.kept)))
            # Rows still wanted: not rejected, and not a failed attempt. Of those who were accepted nothing is lacking.
            open_ = np.flatnonzero((state.rows["reject"] == "") & state.final)
            for link, stage in zip(self.links, self.stages):
                open_ = self._run(link, stage, state, open_)
                if link.flow.compares:
                    open_ = self._compare(link, cast(Comparing, stage), state, open_)
        return stack_rows([state.block(), *failed])

    def cut(self, block: Columns) -> Columns:
        """Return the rows of a partition as the stages take them: faces where they are cut out of pictures, else as they are."""
        return self.cutter(block) if self.cutter and "frame" in block else block

    def _mask(self, names: Iterable[str]) -> np.uint64:
        return np.uint64(sum(int(self.bits[name]) for name in set(names) if name in self.bits))

    def _note_given(self, state: State) -> None:
        """Note what the source brought, of rows that it did not reject."""
        good = state.rows["reject"] == ""
        for name in self.whole.given:
            if name in self.bits and name in state.rows:
                # Of a person without a picture there are zeros, and a stage may make one instead.
                lacks = name in self.made and COLUMNS[name].per == "person"
                there = good & state.rows[name].reshape(len(good), -1).any(axis=1) if lacks else good
                state.reached[there] |= self.bits[name]

    def _run(self, link: Link, stage: Stage, state: State, open_: np.ndarray) -> np.ndarray:
        """Run one stage over the open rows, batch by batch, in place; returns the rows still open."""
        mask, reject = self._mask(link.flow.writes), state.rows["reject"]
        lacking = open_[(state.reached[open_] & mask) != mask]  # what the source gave for some rows stays theirs
        whole, owners = lacking, np.arange(len(lacking))
        if all(COLUMNS[name].per == "person" for name in link.flow.writes):
            lacking, owners = first_of_alike(state.rows, link, lacking)
        # First draws and later ones have compute batches of their own, so that nothing but the attempt decides on padding.
        first = state.rows["attempt"][lacking] == 0
        for size, rows in ((link.batch(0), lacking[first]), (link.batch(1), lacking[~first])):
            for start in range(0, len(rows), size):
                self._batch(link, stage, state, rows[start : start + size], size)
        self._share(link, state, whole, lacking[owners])
        return open_[reject[open_] == ""]

    def _share(self, link: Link, state: State, rows: np.ndarray, owners: np.ndarray) -> None:
        """Give `rows` what the stage made for their `owners`, of one person each, or the reason why it could not."""
        others = rows != owners
        rows, owners = rows[others], owners[others]
        for name in link.flow.writes if len(rows) else ():
            if name in state.rows:
                state.rows[name][rows] = state.rows[name][owners]
        state.reached[rows] |= state.reached[owners] & self._mask(link.flow.writes)
        state.rows["reject"][rows] = state.rows["reject"][owners]
        state.unusable[rows] = state.unusable[owners]
        place = self.place[link.stage]
        state.shrunk[rows, place] = state.shrunk[owners, place]

    def _compare(self, link: Link, stage: Comparing, state: State, open_: np.ndarray) -> np.ndarray:
        """Have a stage compare the open rows with each other, in place; returns the rows still open.

        A partition holds whole people, and what was accepted at an earlier attempt comes first, so its size and its resumption
        change nothing. Rows of several requests that share a batch are compared within their own.
        """
        rows, place, began = state.rows, self.place[link.stage], time.perf_counter()
        owners = rows["call"][open_] if "call" in rows else np.zeros(len(open_), int)
        for owner in np.unique(owners):
            mine = open_[owners == owner]
            ordered = mine[np.argsort(rows["attempt"][mine], kind="stable")]
            given = {name: rows[name][ordered] for name in (*link.flow.compares, *link.flow.writes)}
            put(rows, ordered, check_result(stage.compare(given, link.settings), len(ordered), link))
        state.seconds[place] += time.perf_counter() - began
        return open_[rows["reject"][open_] == ""]

    def _batch(self, link: Link, stage: Stage, state: State, chosen: np.ndarray, size: int) -> None:
        """Run one stage over rows `chosen`, at most `size`, and note what it took and what became of them."""
        check_wanted()
        # The columns that the stage says it reads, and no others.
        rows, place, began, smaller = state.rows, self.place[link.stage], time.perf_counter(), list[int]()
        names = ("sample_id", *link.flow.reads, *link.flow.reads_if_there)
        given = {name: rows[name][chosen] for name in dict.fromkeys(names) if name in rows}
        result, found, reasons = faults.survivors(partial(call_stage, stage, link, size, smaller), given, link.stage)
        # What survived is written back; the others keep their reason.
        put(rows, chosen[found], result)
        state.reached[chosen[found]] |= self._mask(link.flow.writes)
        for row, reason in zip(chosen, reasons):
            rows["reject"][row] = reason or rows["reject"][row]
            state.unusable[row] |= bool(reason)
        if smaller:
            state.shrunk[chosen, place] = min(smaller)
        spent = time.perf_counter() - began
        state.seconds[place] += spent
        metrics.observe_batch(link.stage, spent)


def call_stage(stage: Stage, link: Link, batch: int, smaller: list[int], rows: Columns) -> Columns:
    """Call `stage`; when memory runs out once more, then with half its compute batch, a quarter, ...

    A batch that had to shrink is added to `smaller`: its rows may differ in the last digits, so they are marked.
    A device that failed takes this process with it.
    """
    size, again = batch, True
    while True:
        # A device that failed, and a row that is to blame, are no matter of memory.
        try:
            return check_result(stage(rows, link.settings, size), len(rows["sample_id"]), link)
        except Exception as error:
            kind = faults.kind_of(error)
            if kind == "device":
                faults.leave(error)
            if kind != "memory" or (size == 1 and not again):
                raise
        # The whole batch once more with what was freed, then halves.
        faults.free_memory()
        if not again:
            size = max(1, size // 2)
            smaller.append(size)
        again = False


def reopen(state: State, attempt: int, given: np.uint64) -> Columns:
    """Give the samples that failed the gates at the attempt before a new one, in place; returns their failed rows.

    given: bits of the columns that the source brought or that are the person's, which a new attempt keeps.
    """
    # Samples whose last attempt the gates refused; what a stage could not take would fail again.
    rows = state.rows
    failing = np.array(rows["reject"] != "", bool) & ~state.unusable
    chosen = np.flatnonzero(failing & state.final & (rows["attempt"] == attempt - 1))
    # Their rows leave as failed attempts ...
    failed = {name: values[chosen] for name, values in State.block(state).items()}
    failed["final"] = np.zeros(len(chosen), bool)
    failed["seconds"] = np.zeros_like(failed["seconds"])
    # ... and begin anew with nothing but what the source gave.
    rows["attempt"][chosen] = attempt
    rows["reject"][chosen] = ""
    state.reached[chosen] &= given
    state.shrunk[chosen] = 0
    rows["noise_id"][chosen] = [noise_id(str(name), attempt) for name in rows["sample_id"][chosen]]
    return failed


def first_of_alike(rows: Columns, link: Link, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of rows `chosen` of each person, and for every one of `chosen` the place of its person's among these.

    A person is told by all that the stage reads, as rows of several requests may have a name in common.
    """
    names = [name for name in (*link.flow.reads, *link.flow.reads_if_there) if name in rows]
    places, first, owners = dict[tuple[bytes, ...], int](), list[int](), list[int]()
    for row in chosen:
        values = [rows[name][row] for name in names]
        told = tuple(str(one).encode() if isinstance(one, str) else one.tobytes() for one in values)
        if told not in places:
            places[told] = len(first)
            first.append(int(row))
        owners.append(places[told])
    return np.array(first, int), np.array(owners, int)


def put(rows: Columns, chosen: np.ndarray, result: Columns) -> None:
    """Write what a stage returned for rows `chosen` into `rows`; a new column is zero (or empty) everywhere else."""
    count = len(rows["sample_id"])
    for name, values in result.items():
        values = np.asarray(values)
        if values.dtype.kind in "US":
            values = values.astype(object)
        if name not in rows:
            rows[name] = np.full((count, *values.shape[1:]), _blank(values.dtype), values.dtype)
        rows[name][chosen] = values


def stack_rows(parts: Sequence[Columns]) -> Columns:
    """Return the rows of several blocks under each other; a column that a block lacks is blank there."""
    kept = [part for part in parts if len(part["sample_id"])] or list(parts[:1])
    like = {name: values for part in reversed(kept) for name, values in part.items()}
    return {name: np.concatenate([_wide(part, name, like[name]) for part in kept]) for name in like}


def _wide(part: Columns, name: str, like: np.ndarray) -> np.ndarray:
    if name in part:
        return part[name]
    return np.full((len(part["sample_id"]), *like.shape[1:]), _blank(like.dtype), like.dtype)


def _blank(dtype: np.dtype) -> object:
    return "" if dtype.kind == "O" else 0


def check_result(result: Columns, count: int, link: Link) -> Columns:
    """Return `result` if it holds the columns that the stage writes, each of `count` rows.

    Raises:
        UserError: it does not. No row is to blame but the kind, so the run ends instead of rejecting all of them.
    """
    told = f"stage {link.stage} (kind {link.part.kind}, {link.package})"
    short = {name: len(values) for name, values in result.items() if len(values) != count}
    if short:
        raise UserError(f"{told} was given {count} rows and returned {short}: mend the kind.")
    if set(result) != set(link.flow.writes):
        differs = sorted(set(result) ^ set(link.flow.writes))
        raise UserError(
            f"{told} says that it writes {sorted(link.flow.writes)}; what differs: {differs}. Mend the kind."
        )
    return result


def _dtype(values: np.ndarray) -> np.dtype:
    return np.dtype(object) if values.dtype.kind in "USO" else values.dtype
