"""Batches over callers: full ones, of one kind, and nothing for those who have left."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from models.stopping import check_wanted
from serve.batching import Answer, Batcher, Gatherer


class Work:
    """Echoes items; begins a batch once `go` is set, and remembers batches."""

    def __init__(self) -> None:
        self.go, self.begun, self.batches = threading.Event(), threading.Event(), list[list[Any]]()

    def __call__(self, items: list[Any]) -> list[Any]:
        self.batches.append(items)
        self.begun.set()
        assert self.go.wait(20)
        return [item if item != "bad" else KeyError("bad") for item in items]


def submit(batcher: Batcher, work: Work, item: object, key: str = "", rows: int = 1) -> Coroutine[Any, Any, Answer]:
    return batcher.submit(work, item, key, rows, most=8)


async def begin(batcher: Batcher, work: Work) -> asyncio.Task:
    """Start a batch of one item, which is computed until `work.go`."""
    first = asyncio.ensure_future(submit(batcher, work, "first"))
    await asyncio.to_thread(work.begun.wait, 20)
    return first


def test_what_comes_while_a_batch_is_computed_fills_the_next() -> None:
    async def ask() -> list[Answer]:
        batcher, work = Batcher(wait=0), Work()
        calls = [await begin(batcher, work)]
        calls += [asyncio.ensure_future(submit(batcher, work, item)) for item in range(16)]
        await asyncio.sleep(0.01)
        work.go.set()
        answers = await asyncio.gather(*calls)
        assert work.batches == [["first"], list(range(8)), list(range(8, 16))]
        return answers

    answers = asyncio.run(ask())
    assert [answer.value for answer in answers] == ["first", *range(16)]
    assert [answer.batch_rows for answer in answers] == [1] + [8] * 16
    assert answers[0].seconds > 0.005


def test_a_batch_is_of_one_kind_and_what_does_not_fit_is_passed_over() -> None:
    async def ask() -> list[list[Any]]:
        batcher, work = Batcher(wait=0), Work()
        calls = [await begin(batcher, work)]
        asked = [("a", 5), ("b", 8), ("a", 4), ("a", 3), ("b", 1), ("a", 9)]
        calls += [asyncio.ensure_future(submit(batcher, work, f"{key}{rows}", key, rows)) for key, rows in asked]
        await asyncio.sleep(0.01)
        work.go.set()
        await asyncio.gather(*calls)
        return work.batches

    assert asyncio.run(ask()) == [["first"], ["a5", "a3"], ["b8"], ["a4"], ["b1"], ["a9"]]


def test_a_lone_item_waits_for_company_and_a_full_batch_does_not() -> None:
    async def ask(count: int, wait: float) -> float:
        batcher, work = Batcher(wait), Work()
        work.go.set()
        began = time.monotonic()
        answers = await asyncio.gather(*(submit(batcher, work, item) for item in range(count)))
        assert {answer.batch_rows for answer in answers} == {count}
        return time.monotonic() - began

    assert asyncio.run(ask(1, 0.05)) >= 0.05
    assert asyncio.run(ask(8, 60)) < 30


def test_what_its_caller_has_left_is_not_computed() -> None:
    async def ask() -> list[list[Any]]:
        batcher, work = Batcher(wait=0), Work()
        first = await begin(batcher, work)
        left, stays = (asyncio.ensure_future(submit(batcher, work, item)) for item in ("left", "stays"))
        await asyncio.sleep(0.01)
        left.cancel()
        work.go.set()
        await asyncio.gather(first, stays)
        return work.batches

    assert asyncio.run(ask()) == [["first"], ["stays"]]


def test_a_batch_that_all_have_left_ends_at_its_next_step() -> None:
    steps, begun = list[int](), threading.Event()

    def work(items: list[Any]) -> list[Any]:
        for step in range(2000):
            check_wanted()
            begun.set()
            steps.append(step)
            time.sleep(0.005)
        return items

    async def ask() -> object:
        batcher = Batcher(wait=0)
        one, two = (asyncio.ensure_future(batcher.submit(work, k, "a", 1, 8)) for k in range(2))
        await asyncio.to_thread(begun.wait, 20)
        one.cancel()
        await asyncio.sleep(0.02)
        assert not two.done()  # its batch goes on
        two.cancel()
        return (await batcher.submit(lambda items: items, "next", "b", 1, 8)).value

    assert asyncio.run(ask()) == "next"
    assert len(steps) < 2000


def test_an_error_is_its_items_own() -> None:
    async def ask() -> list[Any]:
        batcher, work = Batcher(wait=0.01), Work()
        work.go.set()
        return await asyncio.gather(*(submit(batcher, work, item) for item in (1, "bad", 2)), return_exceptions=True)

    one, bad, two = asyncio.run(ask())
    assert (one.value, type(bad), two.value, two.batch_rows) == (1, KeyError, 2, 3)

    async def fail() -> None:
        def broken(_: list[Any]) -> list[Any]:
            raise MemoryError

        batcher = Batcher(wait=0)
        with pytest.raises(MemoryError):
            await batcher.submit(broken, 1, "a", 1, 8)
        assert (await batcher.submit(lambda items: items, 1, "a", 1, 8)).value == 1

    asyncio.run(fail())


class Deployment:
    """Echoes the items of calls once `go` is set, and remembers calls and how many were taken back."""

    def __init__(self) -> None:
        self.go, self.calls, self.cancelled = asyncio.Event(), list[list[Any]](), 0

    def send(self, items: list[Any]) -> asyncio.Task:
        self.calls.append(items)
        return asyncio.ensure_future(self._answer(items))

    async def _answer(self, items: list[Any]) -> list[Any]:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if "lost" in items:
            raise ConnectionError("lost")
        return [item if item != "bad" else KeyError("bad") for item in items]


def gather(
    items: Sequence[Any], calls: int = 1, wait: float = 0.0, most: int = 4
) -> tuple[Deployment, Gatherer[Any, Any], list[asyncio.Task]]:
    deployment = Deployment()
    gatherer = Gatherer[Any, Any](deployment.send, most, lambda: calls, wait)
    return deployment, gatherer, [asyncio.ensure_future(gatherer.submit(item)) for item in items]


def test_items_gather_while_calls_are_under_way_and_a_full_call_goes() -> None:
    async def ask() -> None:
        deployment, gatherer, asked = gather(["first"])
        await asyncio.sleep(0.005)
        asked += [asyncio.ensure_future(gatherer.submit(item)) for item in range(6)]
        await asyncio.sleep(0.005)
        assert deployment.calls == [["first"], [0, 1, 2, 3]]  # a full one, and two wait for company
        deployment.go.set()
        assert await asyncio.gather(*asked) == ["first", *range(6)]
        assert deployment.calls[2:] == [[4, 5]]

    asyncio.run(ask())


def test_an_item_waits_for_company_and_no_longer() -> None:
    async def ask() -> None:
        deployment, gatherer, asked = gather(["a"], calls=2, wait=0.03)
        await asyncio.sleep(0.005)
        asked.append(asyncio.ensure_future(gatherer.submit("b")))
        await asyncio.sleep(0)
        assert deployment.calls == []
        deployment.go.set()
        assert await asyncio.gather(*asked) == ["a", "b"]
        assert deployment.calls == [["a", "b"]]

    asyncio.run(ask())


def test_the_end_of_a_call_does_not_take_along_what_has_just_come() -> None:
    async def ask() -> None:
        deployment, gatherer, asked = gather(["a"], wait=0.03)
        await asyncio.sleep(0.04)
        assert deployment.calls == [["a"]]
        asked.append(asyncio.ensure_future(gatherer.submit("b")))
        await asyncio.sleep(0)
        deployment.go.set()
        await asked[0]
        await asyncio.sleep(0)
        asked.append(asyncio.ensure_future(gatherer.submit("c")))
        assert await asyncio.gather(*asked) == ["a", "b", "c"]
        assert deployment.calls == [["a"], ["b", "c"]]

    asyncio.run(ask())


def test_each_item_of_a_call_has_its_own_answer_and_a_failed_call_is_everybodys() -> None:
    async def ask() -> None:
        deployment, _, asked = gather(["a", "bad", "c"])
        deployment.go.set()
        good, bad, last = await asyncio.gather(*asked, return_exceptions=True)
        assert (good, last) == ("a", "c") and isinstance(bad, KeyError)
        deployment, gatherer, asked = gather(["a", "lost"])
        deployment.go.set()
        assert all(isinstance(one, ConnectionError) for one in await asyncio.gather(*asked, return_exceptions=True))
        assert await gatherer.submit("next") == "next"

    asyncio.run(ask())


def test_a_call_is_taken_back_once_all_its_callers_have_left() -> None:
    async def ask() -> None:
        deployment, gatherer, asked = gather(["a", "b"])
        await asyncio.sleep(0.005)
        asked += [asyncio.ensure_future(gatherer.submit(item)) for item in ("left", "stays")]
        await asyncio.sleep(0)
        asked[0].cancel()
        asked[2].cancel()
        await asyncio.sleep(0.005)
        assert (deployment.cancelled, deployment.calls) == (0, [["a", "b"]])  # one of its callers is there
        asked[1].cancel()
        await asyncio.sleep(0.005)
        assert (deployment.cancelled, deployment.calls) == (1, [["a", "b"], ["stays"]])
        deployment.go.set()
        assert await asked[3] == "stays"

    asyncio.run(ask())
