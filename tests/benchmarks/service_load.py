"""The service under load beside a bare loop of the same work: `python -m tests.benchmarks.service_load [--bundle starter]`.

The loop runs the stages in this process on one thread, in full batches, from encoded pictures to rows of an answer, without HTTP.
Then the service is asked the same by so many callers, each of whom asks again once it is answered; the two take turns, so that
what others do on the machine falls on both. With `--overload` it is then asked at four times the rate that it answered, at random
times whatever comes back, by callers who ignore Retry-After and by such as heed it, and once more after many have asked and
left. The ratios are what counts. What each process of the service, and the callers, cost of the processors is said, too: all of
them share the machine.
"""

import argparse
import asyncio
import base64
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.synthworld.render.render import render
from models.synthworld.sampling.domain import load_domain, sample_scene
from models.synthworld.sampling.splits import identities
from pipelines.pictures.codecs import encode_png_rgb
from pipelines.run.session import ray_session
from serve import pairs_request, rows
from serve.app import Settings, call_rows, start
from serve.http import codecs
from serve.http.requests import PairsRequest, ThermalizeRequest
from serve.service import Service
from serve.stage_deployment import Call, StageDeployment
from tests.benchmarks.load_client import Bodies, Load, ask_and_leave, ask_at_rate, ask_in_turn
from tests.ports import free_port

OVERLOAD = 4
LEAVE, LEAVE_SECONDS = 48, 0.3
"""How many ask and leave, and after how long."""
TICKS = os.sysconf("SC_CLK_TCK")


def make_contents(endpoint: str, side: int) -> Callable[[int], dict[str, Any]]:
    """Return the k-th request's content: of pictures of two people, or of a seed."""
    people = identities("test")[:2]
    scenes = [sample_scene(load_domain("portrait"), person, 0, "warm") for person in people]
    pictures = [base64.b64encode(encode_png_rgb(one)).decode() for one in render(scenes, side).rgb.numpy()]
    if endpoint == "pairs":
        return lambda k: {"seed": k, "captions": "template", "conditions": ["warm"]}
    more = {"conditions": ["warm"]} if endpoint == "thermalize" else {}
    return lambda k: {"pictures": [pictures[k % 2]], **more}


class BareLoop:
    """What an endpoint computes, in this process on one thread, in full batches without HTTP."""

    def __init__(self, settings: Settings, endpoint: str, contents: Callable[[int], dict[str, Any]]) -> None:
        request = settings.load()
        self.endpoint, self.contents, self.batch = endpoint, contents, call_rows(request.chain)
        self.service = Service(request, [])
        chain = self.service.thermalize_chain if endpoint == "thermalize" else request.chain
        names = {"embed": ("faces",), "landmarks": ("faces", "landmarks")}.get(endpoint, chain.stages)
        pixels = codecs.max_pixels(self.service.limits)
        self.group = StageDeployment(request.chain.part_of(names), 1, self.batch, 0.0, pixels)
        self.answer(0)

    def rate(self, seconds: float) -> float:
        """Return how many requests a second are answered."""
        began, count = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            self.answer(count)
            count += self.batch
        return count / (time.monotonic() - began)

    def answer(self, first: int) -> None:
        """Answer a batch of requests, from the `first` on."""
        contents = [self.contents(first + k) for k in range(self.batch)]
        if self.endpoint in ("embed", "landmarks"):
            files = [codecs.from_base64(one["pictures"][0], 0) for one in contents]
            embed = self.endpoint == "embed"
            found = (
                self.group.embed_faces(files) if embed else self.group.place_landmarks(70, [(f, None) for f in files])
            )
            codecs.json_response({"found": found})
            return
        made, columns = self._photos(contents) if self.endpoint == "thermalize" else self._samples(contents)
        (done,) = self.group.run_chain([Call(made.chain, made.chain.stages, made.attempts, columns)])
        codecs.json_response(
            {"rows": rows.thermals(made, done) if self.endpoint == "thermalize" else rows.records(made, done)[0]}
        )

    def _photos(self, contents: list[dict[str, Any]]) -> tuple[Any, Any]:
        """Return what requests for thermal pictures resolve to, and their pictures as columns."""
        asked, service = ThermalizeRequest.model_validate(contents[0]), self.service
        made = pairs_request.resolve_thermalize(
            asked, service.job, service.thermalize_chain, service.bundle, service.limits
        )
        files = [codecs.from_base64(one["pictures"][0], 0) for one in contents]
        return made, rows.photo_columns(files, service.bundle.size, service.limits)

    def _samples(self, contents: list[dict[str, Any]]) -> tuple[Any, Any]:
        """Return what the last of the requests for pairs resolves to, and the samples of all as columns."""
        parts, service = [], self.service
        for one in contents:
            asked = PairsRequest.model_validate(one)
            made = pairs_request.resolve_pairs(asked, service.job, service.chain, service.bundle, service.limits)
            person = rows.person_of(asked, None, service.reference)
            table = rows.sample_table(asked, made, person)
            parts.append(rows.sample_columns(table, person, ["A face."], ["template"], service.bundle.size))
        return made, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def processor_ticks() -> Counter[str]:
    """Return the clock ticks that the processes that this one started have used of the processors, by their name."""
    parents, ticks = dict[int, int](), dict[int, tuple[str, int]]()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().split()
        except OSError:  # it has ended
            continue
        name = words[0].rpartition("/")[2].partition(".")[0] if words else ""  # without the method that Ray appends
        parents[int(entry.name)] = int(fields[1])
        ticks[int(entry.name)] = (name, int(fields[11]) + int(fields[12]))
    found = Counter[str]()
    for number, (name, spent) in ticks.items():
        parent = parents.get(number)
        while parent in parents and parent != os.getpid():
            parent = parents.get(parent)
        if parent == os.getpid():
            found[name] += spent
    return found


async def ask_after_leavers(port: int, path: str, bodies: Bodies) -> tuple[Load, Load]:
    """Return what comes of requests when nobody else asks, and of one right after `LEAVE` callers have asked and left."""
    alone = await ask_in_turn(port, path, bodies, 1, 0.5)
    await ask_and_leave(port, path, bodies, LEAVE, LEAVE_SECONDS)
    return alone, await ask_in_turn(port, path, bodies, 1, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="starter")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--endpoints", nargs="+", default=["thermalize", "landmarks"])
    parser.add_argument(
        "--set", nargs="+", default=[], help="edits of the three files, as `thermapair serve` takes them"
    )
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3, help="in which loop and service take turns")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--side", type=int, default=160, help="of the pictures, px")
    parser.add_argument("--overload", action="store_true", help="also four times what it answers")
    args = parser.parse_args()
    settings = Settings(bundle=args.bundle, profile=args.profile, overrides=["captions=template", *args.set])
    port = free_port()
    with ray_session(settings.load().profile.ray):
        start(settings, port=port)
        for endpoint in args.endpoints:
            measure(endpoint, settings, port, args)


def measure(endpoint: str, settings: Settings, port: int, args: argparse.Namespace) -> None:
    """Print how an endpoint does beside the bare loop, what it costs whom, and what it does at overload."""
    contents, path = make_contents(endpoint, args.side), f"/v1/{endpoint}"
    cache = [json.dumps(contents(k)).encode() for k in range(64)]
    bodies = (lambda k: json.dumps(contents(k)).encode()) if endpoint == "pairs" else (lambda k: cache[k % 64])
    loop = BareLoop(settings, endpoint, contents)
    asyncio.run(ask_in_turn(port, path, bodies, args.callers, 3))
    # In turns.
    bare, loads, spent = list[float](), list[Load](), Counter[str]()
    for _ in range(args.rounds):
        bare.append(loop.rate(args.seconds))
        before = processor_ticks()
        loads.append(asyncio.run(ask_in_turn(port, path, bodies, args.callers, args.seconds)))
        spent += processor_ticks() - before
        spent["callers"] += round(loads[-1].client * TICKS)
    ratios = [load.rate / rate for load, rate in zip(loads, bare, strict=True)]
    print(f"{endpoint}: loop {', '.join(f'{rate:.1f}' for rate in bare)}/s; {args.callers} callers:")
    for load, ratio in zip(loads, ratios, strict=True):
        print(f"  {load}; {ratio:.2f} of the loop")
    count = sum(len(found) for load in loads for found in load.answers.values())
    shares = [f"{name} {ticks / TICKS / count * 1000:.2f}" for name, ticks in spent.most_common(8)]
    print(f"  {statistics.median(ratios):.2f} of the loop; processor ms of a request: {', '.join(shares)}", flush=True)
    if args.overload:
        measure_overload(port, path, bodies, statistics.median(load.rate for load in loads), args.rounds * args.seconds)
    print(f"  load of the machine {os.getloadavg()[0]:.1f}", flush=True)


def measure_overload(port: int, path: str, bodies: Bodies, capacity: float, seconds: float) -> None:
    """Print what a path that answers `capacity` requests a second does at four times that, and after callers have left."""
    for heed in (False, True):
        before = processor_ticks()
        over = asyncio.run(ask_at_rate(port, path, bodies, OVERLOAD * capacity, seconds, heed=heed))
        spent = sum((processor_ticks() - before).values()) / TICKS
        # What waits has to gather first; then what is answered counts.
        kept, share = over.rate_after(seconds / 3) / capacity, over.client / (over.client + spent)
        print(f"  at {OVERLOAD} times that, Retry-After {'heeded' if heed else 'ignored'}: {over}")
        print(
            f"    {kept:.2f} of it after {seconds / 3:.0f} s; callers take {share:.2f} of the processors' work",
            flush=True,
        )
    alone, after = asyncio.run(ask_after_leavers(port, path, bodies))
    print(f"  one alone: {alone}\n  after {LEAVE} have left: {after}", flush=True)


if __name__ == "__main__":
    main()
