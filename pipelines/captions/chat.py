"""Captions by a server of chat completions: asked over HTTP from one thread of the driver, as patiently as it needs.

A request is a chat with a seed of its own, and where the answer is JSON with its schema. What goes wrong on the way (429, 5xx,
timeouts, lost connections, broken answers) is asked again with growing pauses. A server that answers nobody for `patience`
seconds is gone: the run stops, and the same command goes on. The key stands in a header alone, and in no message.
"""

import asyncio
import functools
import json
import logging
import random
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

import httpx

from models.captions.prompt import messages
from models.errors import EnvironmentFault, Interrupted, UserError
from pipelines.captions.resident import MEMBERS, Answers, Request, Structured, Written
from pipelines.config.chat import ChatServer

log = logging.getLogger(__name__)

PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a request is asked again: the first time, doubled each time, and at most."""
JITTER = random.Random()
TRIES = 5
"""How often one request is asked while the server answers others; then it has no answer."""
AHEAD = 4
"""Requests, as a multiple of those under way, that should wait for their turn."""
TICK = 0.5
"""Seconds between two looks at whether the run goes on."""
CHECK_SECONDS = 5.0
LARGEST = 2**22
"""Bytes of an answer that are read."""
AGAIN = "Captions that are committed are kept: run the same command again once it answers."
THOUGHTS = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
FENCE = re.compile(r"^```(?:json)?\s*(.*?)\s*```$", re.DOTALL)
"""What some models put around their JSON."""


@dataclass(frozen=True)
class Again:
    """A request that has to be asked again."""

    why: str
    after: float = 0.0
    """Seconds that the server asks for."""
    busy: bool = False
    """Whether it asks everybody for a pause."""


class ChatClient:
    """A server of chat completions, inside a `with` block; asked like `Engines`.

    stopped: an event that ends every wait here, by Interrupted.

    Raises UserError for a key that is not set or refused, or a model that the server does not have, EnvironmentFault for a
    server that is gone.
    """

    def __init__(self, server: ChatServer, stopped: threading.Event | None = None) -> None:
        self.spec, self.stopped = server, stopped or threading.Event()
        self.key = server.read_key()
        self.counts: Counter[str] = Counter()
        """What became of requests: `answered`, why they were asked again, and what was wrong with answers."""
        self._slots, self._lock = asyncio.Semaphore(server.concurrency), threading.Lock()
        self._open, self._turn, self._alive, self._refusal = 0, 0.0, 0.0, ""
        self._fault: UserError | None = None

    def __enter__(self) -> "ChatClient":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chat", daemon=True)
        self._thread.start()
        self._http = httpx.AsyncClient(
            headers=headers(self.key),
            timeout=self.spec.timeout,
            limits=httpx.Limits(max_connections=self.spec.concurrency),
            verify=certificates(),
        )
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # Nothing under way is waited for.
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        trouble = {name: count for name, count in self.counts.items() if name != "answered"}
        if trouble:
            words = ", ".join(f"{count} x {name}" for name, count in sorted(trouble.items()))
            log.warning(
                "captions: %s answered %d requests; besides: %s", self.spec.name, self.counts["answered"], words
            )

    @property
    def busy(self) -> bool:
        """Whether enough requests wait for their turn."""
        return self._open >= AHEAD * self.spec.concurrency

    @property
    def hint(self) -> str:
        """What the server said last where it refused requests."""
        return f"(it says: {self._refusal or 'nothing'}). Look at captions.options and at the server."

    def submit(self, requests: Sequence[Request], progress: Callable[[int], None] = lambda answered: None) -> Answers:
        """Ask; return what will hold the answers, one request each. progress: called with 1 for each that is answered."""
        with self._lock:
            self._open += len(requests)
        return [asyncio.run_coroutine_threadsafe(self._write(one, progress), self._loop) for one in requests]

    def collect(self, answers: Answers) -> list[Written]:
        """Return the texts of `submit`, in the order of its requests, once all are there."""
        left: set[Future[list[Written]]] = set(answers)
        while left:
            done, left = wait(left, timeout=TICK, return_when=FIRST_EXCEPTION)
            if self.stopped.is_set():
                raise Interrupted("the run has ended; captions that are committed are kept.")
            for future in done:
                future.result()
        return [text for future in answers for text in future.result()]

    async def _write(self, request: Request, progress: Callable[[int], None]) -> list[Written]:
        """Return the text of one request, "" for one that has none."""
        try:
            async with self._slots:
                written = await self._insist(request)
        except UserError as error:
            self._fault = error  # nobody else has to find out
            raise
        finally:
            with self._lock:
                self._open -= 1
        progress(1)
        return [written]

    async def _insist(self, request: Request) -> Written:
        """Ask until there is an answer; "" where the server answers others only. Raises an EnvironmentFault when it is gone."""
        body, began, tries = self._body(request), time.monotonic(), 0
        while True:
            await self._take_turn()
            if self._fault is not None:
                raise self._fault
            answer = await self._ask(body)
            if isinstance(answer, Written):
                return self._check(answer, request)
            # A pause for this request, or for all of them.
            self.counts[answer.why] += 1
            tries += not answer.busy
            pause = max(answer.after, min(LONGEST_PAUSE, PAUSE * 2 ** max(0, tries - 1)) * JITTER.uniform(0.5, 1))
            now = time.monotonic()
            if answer.busy:
                self._turn = max(self._turn, now + pause)
            if tries >= TRIES and self._alive > began:
                self.counts["given up"] += 1
                return Written("", 0, time.time())
            silent = now - max(self._alive, began)
            if silent + pause > self.spec.patience:
                asks = f" and asks to come back after {answer.after:.0f} s" if answer.after else ""
                raise EnvironmentFault(
                    f"captions: {self.spec.name} has answered nothing for {silent:.0f} s (last: {answer.why}){asks}. {AGAIN}"
                )
            await asyncio.sleep(pause)

    async def _take_turn(self) -> None:
        """Wait until the next request may go: evenly spaced where there is a limit, and after pauses."""
        spacing = 60 / self.spec.requests_per_minute if self.spec.requests_per_minute else 0.0
        now = time.monotonic()
        turn = max(now, self._turn)
        self._turn = turn + spacing
        await asyncio.sleep(turn - now)

    async def _ask(self, body: dict[str, Any]) -> Written | Again:
        """Ask once. Raises a UserError for what no further try would mend."""
        try:
            async with asyncio.timeout(self.spec.timeout):
                async with self._http.stream("POST", f"{address(self.spec)}/chat/completions", json=body) as response:
                    content = b""
                    async for piece in response.aiter_bytes():
                        content += piece
                        if len(content) > LARGEST:
                            return Again("an answer without end")
        except (TimeoutError, httpx.TimeoutException):
            return Again("timeout")
        except (httpx.TransportError, httpx.DecodingError) as error:
            return Again(f"no connection ({type(error).__name__})")
        if response.status_code == 200:
            return self._read(content)
        return self._explain(response, content)

    def _read(self, content: bytes) -> Written | Again:
        """Return the text of an answer."""
        try:
            found = json.loads(content)
            choice = found["choices"][0]
            text, tokens = choice["message"].get("content"), (found.get("usage") or {}).get("completion_tokens")
            if isinstance(text, list):  # in parts
                text = "".join(part.get("text", "") for part in text)
            if not isinstance(text, str | None):
                raise TypeError
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            return Again("no answer of a chat")
        self._alive = time.monotonic()
        self.counts["answered"] += 1
        if choice.get("finish_reason") == "length":
            self.counts["cut"] += 1
        return Written(THOUGHTS.sub("", text or "").strip(), tokens if isinstance(tokens, int) else 0, time.time())

    def _explain(self, response: httpx.Response, content: bytes) -> Written | Again:
        """Return what an answer with an error means."""
        status, server = response.status_code, self.spec
        if status == 429 or (status == 503 and "retry-after" in response.headers):
            return Again(str(status), read_pause(response), busy=True)
        if status >= 500 or status in (408, 409, 425):
            return Again(str(status), read_pause(response))
        refuse_for_good(server, status)
        if status == 402:
            raise EnvironmentFault(f"captions: {server.name} wants to be paid first (402). {AGAIN}")
        # This request alone: too long, or with a field that the server does not know.
        said = " ".join(content.decode(errors="replace").split())[:300]
        self._refusal = f"{status} {said.replace(self.key, '***') if self.key else said}"
        self.counts[f"refused ({status})"] += 1
        return Written("", 0, time.time())

    def _check(self, answer: Written, request: Request) -> Written:
        """Return an answer as it may be taken: JSON without what stands around it, no text that is too long."""
        text, options = answer.text, self.spec.options
        limit = options.max_tokens + (MEMBERS if isinstance(request, Structured) else 0)
        if isinstance(request, Structured):
            text = FENCE.sub(r"\1", text)
            if text and not text.startswith("{"):
                self.counts["prose for JSON"] += 1
        # A token is a word at most: such a server does not hold itself to max_tokens.
        if len(text.split()) > limit or len(text) > 16 * limit:
            self.counts["too long"] += 1
            text = ""
        return answer._replace(text=text)

    def _body(self, request: Request) -> dict[str, Any]:
        """Return the fields of a request."""
        options = self.spec.options
        fields: dict[str, Any] = {"model": self.spec.model, "temperature": options.temperature, "top_p": options.top_p}
        fields["max_tokens"] = options.max_tokens
        if isinstance(request, Structured):
            fields |= {"messages": request.chat, "seed": request.seed, "max_tokens": options.max_tokens + MEMBERS}
            if request.temperature is not None:
                fields["temperature"] = request.temperature
            # OpenAI is strict only with a schema whose members are all required.
            strict = set(request.schema["required"]) == set(request.schema["properties"])
            schema = {"name": "answer", "schema": request.schema, "strict": strict}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        else:
            fields |= {"messages": messages(request[0]), "seed": request[1]}
        return {name: value for name, value in {**fields, **options.extra}.items() if value is not None}

    async def _end(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.aclose()


def check_reachable(server: ChatServer) -> None:
    """Ask `server` for its models once, before anything starts.

    Raises:
        UserError: the key is not set or refused, or the model is not there.
        EnvironmentFault: nobody answers within `CHECK_SECONDS`.
    """
    try:
        response = httpx.get(
            f"{address(server)}/models",
            headers=headers(server.read_key()),
            timeout=CHECK_SECONDS,
            verify=certificates(),
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EnvironmentFault(f"captions: {server.url} cannot be reached ({type(error).__name__}). {AGAIN}") from None
    if response.status_code in (401, 403):
        refuse_for_good(server, response.status_code)
    try:
        known = sorted(str(one["id"]) for one in response.json()["data"]) if response.status_code == 200 else []
    except (ValueError, KeyError, TypeError):
        return  # no list: the first caption tells
    if known and not any(one in (server.model, f"{server.model}:latest") for one in known):
        shown = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
        raise UserError(f"captions.model: {server.url} has no model {server.model}; it has {shown}.")


def refuse_for_good(server: ChatServer, status: int) -> None:
    """Raise a UserError for a status that no further try would mend."""
    if status in (401, 403):
        what = f"refuses the key in the environment variable {server.key}" if server.key else "asks for a key"
        way = "" if server.key else ": put it into an environment variable and name that, captions.key=NAME"
        raise UserError(f"captions: {server.url} {what} ({status}){way}.")
    if status in (404, 405) or 300 <= status < 400:
        raise UserError(
            f"captions: {server.url} has no model {server.model}, or is not the address of such an API ({status}): look at "
            "captions.model, and whether captions.url ends as the server's own examples do, mostly in /v1."
        )


@functools.cache
def certificates() -> ssl.SSLContext:
    """Return what servers are checked by; reading all certificates takes a while, so once."""
    return httpx.create_ssl_context()


def headers(key: str) -> dict[str, str]:
    """Return what every request carries."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def address(server: ChatServer) -> str:
    """Return the address of the API without a slash at its end."""
    return server.url.rstrip("/")


def read_pause(response: httpx.Response) -> float:
    """Return the seconds that Retry-After asks for, as a number or a date; 0 where it says nothing."""
    said = response.headers.get("retry-after", "")
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(said).timestamp() - time.time()
        except (ValueError, TypeError):
            return 0.0
    return seconds if 0 < seconds < 1e6 else 0.0
