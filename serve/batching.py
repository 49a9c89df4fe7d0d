"""Batches over requests: what waits gathers while the batch before it is computed."""

import asyncio
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Hashable, Sequence
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
    wait: float
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
        wait: float | None = None,
    ) -> Answer[Value]:
        """Return what `compute` makes of `item`, which counts as `rows` of the `most` of a batch.

        wait: seconds in place of the batcher's, 0 for what has gathered before it came.

        Items share a batch where their `key` is equal, so `compute` has to be the same for all of them. Raises the exception that
        `compute` returns for the item, or raises.
        """
        answer = asyncio.get_running_loop().create_future()
        waiting = _Waiting(compute, item, key, rows, most, self.wait if wait is None else wait, answer)
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
            left = oldest.since + oldest.wait - time.monotonic()
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


class Gatherer(Generic[Item, Value]):
    """Puts what many requests have for one deployment into few calls: between processes a call costs more than a small item.

    send: starts a call and returns its response: for each of its items the value, or the exception that is its answer.
    most: items of a call. calls: how many calls may be under way, one that is computed and one to follow it for each replica;
    what gathers goes once it fills a call, however many are. wait: seconds that an item waits for company.
    """

    def __init__(
        self,
        send: Callable[[list[Item]], Awaitable[Sequence[Value | Exception]]],
        most: int,
        calls: Callable[[], int],
        wait: float,
    ) -> None:
        self.send, self.most, self.calls, self.wait = send, most, calls, wait
        self.queue: list[tuple[float, Item, asyncio.Future[Value]]] = []
        self.under_way: set[asyncio.Task] = set()

    async def submit(self, item: Item) -> Value:
        """Return what the deployment makes of `item`. Raises its exception, or what the call failed with."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Value] = loop.create_future()
        if not self._drop_left():
            loop.call_later(self.wait, self._flush)
        self.queue.append((loop.time(), item, answer))
        if len(self.queue) >= self.most:
            self._flush()
        return await answer

    def _drop_left(self) -> bool:
        """Forget what was left by its caller; returns whether anything waits."""
        self.queue = [one for one in self.queue if not one[2].done()]
        return bool(self.queue)

    def _flush(self) -> None:
        """Start the calls that can be started now, and come back when the next one can."""
        loop = asyncio.get_running_loop()
        while self._drop_left():
            full, left = len(self.queue) >= self.most, self.queue[0][0] + self.wait - loop.time()
            if not full and len(self.under_way) >= self.calls():
                return  # the end of one of them comes back
            if not full and left > 0:
                loop.call_later(left, self._flush)
                return
            some, self.queue = self.queue[: self.most], self.queue[self.most :]
            self._start([item for _, item, _ in some], [answer for _, _, answer in some])

    def _start(self, items: list[Item], answers: Sequence[asyncio.Future[Value]]) -> None:
        """Start a call; it is taken back once all its callers have left."""
        task = asyncio.create_task(self._call(items, answers))
        self.under_way.add(task)

        def note_left(_: asyncio.Future) -> None:
            if all(answer.cancelled() for answer in answers):
                task.cancel()

        def note_end(_: asyncio.Task) -> None:
            self.under_way.discard(task)
            self._flush()

        for answer in answers:
            answer.add_done_callback(note_left)
        task.add_done_callback(note_end)

    async def _call(self, items: list[Item], answers: Sequence[asyncio.Future[Value]]) -> None:
        """Answer `items` by one call."""
        try:
            results: Sequence[Value | Exception] = await ask(self.send(items))
        except Exception as error:
            results = [error] * len(items)
        for answer, result in zip(answers, results, strict=True):
            if answer.done():
                continue
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)


async def ask(response: Awaitable[Value]) -> Value:
    """Return the answer of a deployment's handle. A caller who leaves takes the call back: it need not be computed."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()  # type: ignore[attr-defined]
        raise
