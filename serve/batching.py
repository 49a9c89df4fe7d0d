"""Batches over requests: what waits gathers while the batch before it is computed."""

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from models.stopping import Abandoned, stop_when

Item = TypeVar("Item")
Value = TypeVar("Value")
Compute = Callable[[list[Any]], Sequence[Any]]
"""Items in, for each its value or the exception that is its answer."""


@dataclass(frozen=True)
class Answer(Generic[Value]):
    """What an item came out as."""

    value: Value
    batch_rows: int
    """Computed together, its own among them."""
    seconds: float
    """Of the batch."""
    replica: str
    """Which batcher it was."""


@dataclass(eq=False)
class _Waiting:
    """An item in the queue; whoever leaves cancels the future."""

    compute: Compute
    item: Any
    key: Hashable
    rows: int
    most: int
    answer: asyncio.Future
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """Computes items in one thread, one batch at a time.

    A batch is what waits longest and everything else of the same key, up to the rows that are computed at once. While it is
    computed others gather, so that batches are as full as callers make them; `wait` seconds are how long an item that
    came while nothing was computed waits for company. What its caller has left is not begun, and a batch that all its
    callers have left ends at the next step of its work (`models.stopping`).
    """

    def __init__(self, wait: float) -> None:
        self.wait, self.name = wait, uuid.uuid4().hex
        self.worker = ThreadPoolExecutor(1)
        self.queue: list[_Waiting] = []
        self.came = asyncio.Event()
        self.task: asyncio.Task | None = None

    async def submit(
        self,
        compute: Callable[[list[Item]], Sequence[Value | Exception]],
        item: Item,
        key: Hashable,
        rows: int,
        most: int,
    ) -> Answer[Value]:
        """Return what `compute` makes of `item`, which counts as `rows` of the `most` of a batch.

        Items share a batch where their `key` is equal, so `compute` has to be the same for all of them. Raises the exception that
        `compute` returns for the item, or raises.
        """
        waiting = _Waiting(compute, item, key, rows, most, asyncio.get_running_loop().create_future())
        self.queue.append(waiting)
        # The queue is worked off by a task that ends once it is empty.
        if self.task is None:
            self.came = asyncio.Event()
            self.task = asyncio.create_task(self._work())
        self.came.set()
        return await waiting.answer

    async def _work(self) -> None:
        try:
            while self._drop_left():
                await self._fill()
                batch = self._take()
                if batch:
                    await self._compute(batch)
        finally:
            self.task = None

    def _drop_left(self) -> bool:
        """Forget what was left by its caller; returns whether anything waits."""
        self.queue = [one for one in self.queue if not one.answer.done()]
        return bool(self.queue)

    async def _fill(self) -> None:
        """Return once the next batch is full, or its oldest item has waited long enough."""
        oldest = self.queue[0]
        while sum(one.rows for one in self.queue if one.key == oldest.key) < oldest.most:
            left = oldest.since + self.wait - time.monotonic()
            if left <= 0:
                return
            self.came.clear()
            try:
                await asyncio.wait_for(self.came.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[_Waiting]:
        """Take the next batch out of the queue: in order of arrival, what does not fit is passed over."""
        batch, rows = list[_Waiting](), 0
        if self._drop_left():
            first = self.queue[0]
            for one in self.queue:
                if one.key == first.key and (not batch or rows + one.rows <= first.most):
                    batch.append(one)
                    rows += one.rows
            self.queue = [one for one in self.queue if one not in batch]
        return batch

    async def _compute(self, batch: list[_Waiting]) -> None:
        """Compute a batch and answer those of its callers who are still there."""
        # The work ends early once every caller has left.
        left, rows = threading.Event(), sum(one.rows for one in batch)

        def note_left(_: asyncio.Future) -> None:
            if all(one.answer.cancelled() for one in batch):
                left.set()

        for one in batch:
            one.answer.add_done_callback(note_left)

        def work() -> Sequence[Any]:
            with stop_when(left.is_set):
                return batch[0].compute([one.item for one in batch])

        began = time.monotonic()
        try:
            results: Sequence[Any] = await asyncio.get_running_loop().run_in_executor(self.worker, work)
        except Abandoned:
            return
        except Exception as error:
            results = [error] * len(batch)
        # Each item has its own answer.
        seconds = time.monotonic() - began
        for one, result in zip(batch, results, strict=True):
            if one.answer.done():
                continue
            if isinstance(result, Exception):
                one.answer.set_exception(result)
            else:
                one.answer.set_result(Answer(result, rows, seconds, self.name))
