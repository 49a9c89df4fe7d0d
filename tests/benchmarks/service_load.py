"""The service under load beside a bare loop of the same work: `python -m tests.benchmarks.service_load [--bundle starter]`.

The loop runs the stages in this process on one thread, in full batches, from encoded pictures to rows of an answer, without HTTP.
Then the service is asked the same by so many callers, each of whom asks again once it is answered; and at four times the
rate that it answered, whoever asks. All in one run, for a machine that others use, too: the ratios are what counts.
"""

import argparse
import asyncio
import base64
import math
import os
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from models.synthworld.render.render import render
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.synthworld.sampling.splits import identities
from pipelines.pictures.codecs import encode_png_rgb
from pipelines.run.session import ray_session
from serve import pairs_request, rows
from serve.app import Settings, call_rows, start
from serve.http import codecs
from serve.http.schemas import PairsRequest, ThermalizeRequest
from serve.service import Service
from serve.stage_deployment import Call, StageDeployment

OVERLOAD = 4


@dataclass
class Load:
    """What came of requests: seconds of each answer by its status, rows of its batch."""

    seconds: float = 0.0
    answers: dict[int, list[float]] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return len(self.answers.get(200, [])) / self.seconds

    def __str__(self) -> str:
        parts = [f"{self.rate:.2f}/s"]
        for status, found in sorted(self.answers.items()):
            middle, late = np.percentile(found, [50, 95])
            parts.append(f"{len(found)} x {status} (p50 {middle * 1000:.0f} ms, p95 {late * 1000:.0f} ms)")
        if self.batches:
            parts.append(f"{np.mean(self.batches):.2f} rows a batch")
        return ", ".join(parts)


def make_bodies(endpoint: str, side: int) -> Callable[[int], dict[str, Any]]:
    """Return the k-th request's body: of pictures of two people, or of a seed."""
    people = identities("test")[:2]
    scenes = [sample_scene(load_domain("portrait"), person, 0, "warm") for person in people]
    pictures = [base64.b64encode(encode_png_rgb(one)).decode() for one in render(scenes, side).rgb.numpy()]
    if endpoint == "pairs":
        return lambda k: {"seed": k, "captions": "template", "conditions": ["warm"]}
    more = {"conditions": ["warm"]} if endpoint == "thermalize" else {}
    return lambda k: {"pictures": [pictures[k % 2]], **more}


def bare_loop(settings: Settings, endpoint: str, body: Callable[[int], dict[str, Any]], seconds: float) -> float:
    """Return how many requests a second one thread answers in full batches without HTTP."""
    request = settings.load()
    service, batch = Service(request, []), call_rows(request.chain)
    chain = service.thermalize_chain if endpoint == "thermalize" else request.chain
    names = {"embed": ("faces",), "landmarks": ("faces", "landmarks")}.get(endpoint, chain.stages)
    group = StageDeployment(request.chain.part_of(names), 1, batch, 0.0, codecs.max_pixels(service.limits))

    def answer(bodies: list[dict[str, Any]]) -> None:
        if endpoint in ("embed", "landmarks"):
            files = [codecs.from_base64(one["pictures"][0], 0) for one in bodies]
            found = (
                group.embed_faces(files)
                if endpoint == "embed"
                else group.place_landmarks(70, [(f, None) for f in files])
            )
            codecs.json_response({"found": found})
            return
        if endpoint == "thermalize":
            asked = ThermalizeRequest.model_validate(bodies[0])
            made: Any = pairs_request.resolve_thermalize(
                asked, service.job, service.thermalize_chain, service.bundle, service.limits
            )
            files = [codecs.from_base64(one["pictures"][0], 0) for one in bodies]
            columns = rows.photo_columns(files, service.bundle.size, service.limits)
        else:
            parts = []
            for one in bodies:
                asked_pair = PairsRequest.model_validate(one)
                made = pairs_request.resolve_pairs(
                    asked_pair, service.job, service.chain, service.bundle, service.limits
                )
                person = rows.person_of(asked_pair, None, service.reference)
                table = rows.sample_table(asked_pair, made, person)
                parts.append(rows.sample_columns(table, person, ["A face."], ["template"]))
            columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        (done,) = group.run_chain([Call(made.chain, made.chain.stages, made.attempts, columns)])
        codecs.json_response(
            {"rows": rows.thermals(made, done) if endpoint == "thermalize" else rows.records(made, done)[0]}
        )

    answer([body(k) for k in range(batch)])
    began, count = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        answer([body(count + k) for k in range(batch)])
        count += batch
    return count / (time.monotonic() - began)


async def ask(client: httpx.AsyncClient, endpoint: str, content: dict[str, Any], load: Load) -> None:
    began = time.monotonic()
    try:
        answer = await client.post(f"/v1/{endpoint}", json=content)
        status = answer.status_code
        if "x-batch-rows" in answer.headers:
            load.batches.append(int(answer.headers["x-batch-rows"]))
    except httpx.TransportError:
        status = 0
    load.answers.setdefault(status, []).append(time.monotonic() - began)


async def closed_loop(
    url: str, endpoint: str, body: Callable[[int], dict[str, Any]], callers: int, seconds: float
) -> Load:
    """Have `callers` ask again and again for so long."""
    load, asked = Load(), iter(range(10**9))
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=httpx.Limits(max_connections=None)) as client:
        began = time.monotonic()

        async def call() -> None:
            while time.monotonic() - began < seconds:
                await ask(client, endpoint, body(next(asked)), load)

        await asyncio.gather(*(call() for _ in range(callers)))
        load.seconds = time.monotonic() - began
    return load


async def open_loop(
    url: str, endpoint: str, body: Callable[[int], dict[str, Any]], rate: float, seconds: float
) -> Load:
    """Ask `rate` times a second for so long, whatever comes back; good answers count until the last one."""
    load, tasks = Load(), list[Awaitable[None]]()
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=httpx.Limits(max_connections=None)) as client:
        began = time.monotonic()
        for k in range(math.ceil(rate * seconds)):
            await asyncio.sleep(max(0, began + k / rate - time.monotonic()))
            tasks.append(asyncio.ensure_future(ask(client, endpoint, body(k), load)))
        await asyncio.gather(*tasks)
        load.seconds = time.monotonic() - began
    return load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="starter")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--endpoints", nargs="+", default=["thermalize", "landmarks"])
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--side", type=int, default=160, help="of the pictures, px")
    parser.add_argument("--overload", action="store_true", help="also four times what it answers")
    args = parser.parse_args()
    settings = Settings(bundle=args.bundle, profile=args.profile, overrides=["captions=template"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ray_session(settings.load().profile.ray):
        start(settings, port=port)
        url = f"http://127.0.0.1:{port}"
        for endpoint in args.endpoints:
            body = make_bodies(endpoint, args.side)
            asyncio.run(closed_loop(url, endpoint, body, args.callers, 3))
            bare = bare_loop(settings, endpoint, body, args.seconds)
            served = asyncio.run(closed_loop(url, endpoint, body, args.callers, args.seconds))
            print(
                f"{endpoint}: loop {bare:.2f}/s; {args.callers} callers: {served}; {served.rate / bare:.2f} of the loop"
            )
            if args.overload:
                load = asyncio.run(open_loop(url, endpoint, body, OVERLOAD * served.rate, args.seconds))
                print(f"  at {OVERLOAD} times that: {load}; {load.rate / served.rate:.2f} of it", flush=True)
            print(f"  load of the machine {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
