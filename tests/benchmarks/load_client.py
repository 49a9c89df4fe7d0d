"""Callers of a service that cost little themselves, for they share the machine: bare HTTP/1.1 on connections that are kept."""

import asyncio
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Bodies = Callable[[int], bytes]
"""k -> body of the k-th request, JSON."""
MOST_CALLERS, PATIENCE = 1024, 20.0
"""How many callers wait for an answer at once, and how long after the last was sent, in seconds."""


@dataclass
class Load:
    """What came of requests: seconds of each answer by its status, rows of the batches that answered."""

    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    """For which it was asked."""
    client: float = 0.0
    """Processor seconds of the callers."""
    answers: dict[int, list[float]] = field(default_factory=dict)
    """By status; 0: the connection broke."""
    finished: list[float] = field(default_factory=list)
    """When each good answer came, in seconds from the beginning."""
    batches: list[int] = field(default_factory=list)
    unsent: int = 0
    """Not asked, for too many waited."""
    without_retry: int = 0
    """Answers 503 that do not say when to come back."""

    @property
    def rate(self) -> float:
        """Good answers a second while it was asked."""
        return self.rate_after(0)

    def rate_after(self, start: float) -> float:
        """Return the good answers a second while it was asked, but for the first `start` seconds."""
        return sum(start <= at <= self.seconds for at in self.finished) / (self.seconds - start)

    @property
    def rows(self) -> float:
        """Rows of a batch on average; each answer has one row."""
        return len(self.batches) / sum(1 / rows for rows in self.batches) if self.batches else math.nan

    def __str__(self) -> str:
        parts = [f"{self.rate:.2f}/s"]
        for status, found in sorted(self.answers.items()):
            middle, late = np.percentile(found, [50, 95])
            parts.append(f"{len(found)} x {status} (p50 {middle * 1000:.0f} ms, p95 {late * 1000:.0f} ms)")
        if self.batches:
            parts.append(f"{self.rows:.2f} rows a batch")
        if self.unsent:
            parts.append(f"{self.unsent} not sent")
        if self.without_retry:
            parts.append(f"{self.without_retry} without Retry-After")
        return ", ".join(parts)


class Caller:
    """One caller with one connection to `port` of this machine, opened again where it broke."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, body: bytes, load: Load) -> float:
        """Ask once and note in `load` what came of it; returns after how many seconds a refusal says to come back, else 0."""
        began = time.monotonic()
        try:
            status, headers = await self._post(path, body)
        except (OSError, asyncio.IncompleteReadError):
            status, headers = 0, {}
            self.close()
        except asyncio.CancelledError:
            self.close()
            raise
        now = time.monotonic()
        load.answers.setdefault(status, []).append(now - began)
        if status == 200:
            load.finished.append(now - load.began)
        if b"x-batch-rows" in headers:
            load.batches.append(int(headers[b"x-batch-rows"]))
        load.without_retry += status == 503 and b"retry-after" not in headers
        return float(headers.get(b"retry-after", 0))

    def close(self) -> None:
        """Close the connection."""
        if self.streams:
            self.streams[1].close()
        self.streams = None

    async def _post(self, path: str, body: bytes) -> tuple[int, dict[bytes, bytes]]:
        """Return status and headers of an answer; its body is read and dropped."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        headers = {name: value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        await reader.readexactly(int(headers[b"content-length"]))
        if headers.get(b"connection") == b"close":
            self.close()
        return int(lines[0].split()[1]), headers


async def ask_in_turn(port: int, path: str, bodies: Bodies, callers: int, seconds: float) -> Load:
    """Have so many callers ask for so long, each of whom asks again once it is answered."""
    load, numbers = Load(), itertools.count()
    spent = time.thread_time()

    async def call() -> None:
        caller = Caller(port)
        while time.monotonic() - load.began < seconds:
            await caller.ask(path, bodies(next(numbers)), load)
        caller.close()

    await asyncio.gather(*(call() for _ in range(callers)))
    load.seconds, load.client = time.monotonic() - load.began, time.thread_time() - spent
    return load


async def ask_at_rate(
    port: int, path: str, bodies: Bodies, rate: float, seconds: float, *, heed: bool = False, seed: int = 0
) -> Load:
    """Ask `rate` times a second for so long, at random times (Poisson), whatever comes back, and wait for the last answer.

    heed: a refused caller comes back after the seconds of Retry-After, while it is asked. At most `MOST_CALLERS` wait at once:
    who comes meanwhile is counted in `unsent`, and who has no answer `PATIENCE` seconds after the end leaves (status 0).
    """
    load, free, tasks = Load(), list[Caller](), set[asyncio.Task]()
    spent, randoms = time.thread_time(), np.random.default_rng(seed)

    async def call(number: int) -> None:
        caller = free.pop() if free else Caller(port)
        retry = await caller.ask(path, bodies(number), load)
        free.append(caller)
        if heed and retry and time.monotonic() + retry - load.began < seconds:
            await asyncio.sleep(retry)
            await call(number)

    at = 0.0
    for number in itertools.count():
        at += randoms.exponential(1 / rate)
        if at > seconds:
            break
        await asyncio.sleep(max(0, load.began + at - time.monotonic()))
        if len(tasks) >= MOST_CALLERS:
            load.unsent += 1
            continue
        tasks.add(task := asyncio.create_task(call(number)))
        task.add_done_callback(tasks.discard)
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=PATIENCE)
        for task in late:
            task.cancel()
            load.answers.setdefault(0, []).append(PATIENCE)
    for caller in free:
        caller.close()
    load.seconds, load.client = seconds, time.thread_time() - spent
    return load


async def ask_and_leave(port: int, path: str, bodies: Bodies, callers: int, seconds: float) -> None:
    """Have so many callers ask at once, and close their connections after so long, answered or not."""
    asking = [asyncio.create_task(Caller(port).ask(path, bodies(number), Load())) for number in range(callers)]
    await asyncio.sleep(seconds)
    for one in asking:
        one.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
