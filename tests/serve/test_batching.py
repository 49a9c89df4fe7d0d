"""Batches over callers: full ones, of one kind, and nothing for those who have left."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from models.stopping import check_wanted
from serve.batching import Answer, Batcher


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
