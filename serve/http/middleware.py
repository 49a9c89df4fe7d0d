"""Before any request is looked at: its id, who may ask, how many at once, and how much of a body is read at all."""

import hmac
import ipaddress
import logging
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http import problems
from serve.http.problems import ProblemError

KEY_VARIABLE = "THERMAPAIR_API_KEY"
"""Environment variable of the API key; on the command line or in a configuration it would be read by others."""

OPEN = ("/healthz", "/readyz")
"""Paths that probes ask without a key."""

log = logging.getLogger("ray.serve")


class AccessMiddleware:
    """ASGI middleware around the whole application.

    key: what callers must send as `Authorization: Bearer KEY` or `X-API-Key: KEY`. Without one, only this machine may
    ask, by a loopback name and for no foreign page, so that no web page can have its visitor's browser ask.
    body: largest body in bytes, refused from its Content-Length, or once so much has arrived.
    most: how many POSTs to one path may be under way. Whatever is refused further in has cost this process its share of the
    work by then, and where this process is what is short, the queues behind it never fill. retry: seconds that one beyond
    is told to wait.
    """

    def __init__(self, app: ASGIApp, *, key: str, body: int, most: int, retry: int) -> None:
        self.app, self.key, self.body, self.most, self.retry = app, key, body, most, retry
        self.under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # The request's id, which its answer and the log carry.
        headers, begin = Headers(scope=scope), time.perf_counter()
        name = headers.get("x-request-id") or uuid.uuid4().hex  # Ray Serve gives one, and puts it on every answer
        scope.setdefault("state", {})["request_id"] = name
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        # Whoever may ask is let through; every error on the way becomes a problem, and what nobody foresaw is logged.
        try:
            self._admit(scope, headers)
            with self._count(scope):
                await self.app(scope, self._limit_body(receive), answer)
        except Exception as error:
            problem = error if isinstance(error, ProblemError) else problems.defect()
            if problem is not error:
                log.exception("request %s failed", name)
            if status:  # the answer has begun and cannot be taken back
                raise
            await problems.response(problem, name)(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - begin
            log.info("%s %s %s %d in %.3f s", name, scope["method"], scope["path"], status, seconds)

    def _admit(self, scope: Scope, headers: Headers) -> None:
        """Raise a ProblemError for a caller who may not ask, or a body that says to be too large."""
        if scope["path"] not in OPEN:
            if self.key:
                self._check_key(headers)
            elif not all(map(is_loopback, _parties(scope, headers))):
                raise ProblemError(
                    "not-local",
                    "without an API key the service answers this machine alone",
                    f"Ask 127.0.0.1 from the same machine, or start the service with {KEY_VARIABLE} set.",
                )
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.body:
            raise self._too_large()

    @contextmanager
    def _count(self, scope: Scope) -> Iterator[None]:
        """Count a POST as under way within the block. Raises a ProblemError where too many are."""
        path = scope["path"]
        if scope["method"] != "POST":
            yield
            return
        if self.under_way[path] >= self.most:
            detail = f"{self.most} requests are under way"
            raise ProblemError("busy", detail, f"Ask again in {self.retry} s.", retry=self.retry, room=self.most)
        self.under_way[path] += 1
        try:
            yield
        finally:
            self.under_way[path] -= 1
            if not self.under_way[path]:
                del self.under_way[path]

    def _check_key(self, headers: Headers) -> None:
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        sent = sent if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), self.key.encode()):
            raise ProblemError(
                "no-key",
                "the API key is missing or wrong",
                "Send it as Authorization: Bearer KEY, or as X-API-Key.",
            )

    def _limit_body(self, receive: Receive) -> Receive:
        """Return `receive`, but for a ProblemError once more has arrived than a body may have."""
        arrived = 0

        async def receive_some() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > self.body:
                raise self._too_large()
            return message

        return receive_some

    def _too_large(self) -> ProblemError:
        return ProblemError(
            "too-large",
            f"the body may have {self.body} bytes at most",
            "Send fewer or smaller pictures, or several requests.",
        )


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address, without port) is this machine itself."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _parties(scope: Scope, headers: Headers) -> list[str]:
    """Return who is involved: the client, the name that it asks for, and the page in whose name a browser asks."""
    origin = [headers["origin"]] if "origin" in headers else []
    return [(scope.get("client") or ("",))[0], *map(_host, [f"//{headers.get('host', '')}", *origin])]


def _host(url: str) -> str:
    """Return the host of `url`, empty for none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # an address that never closes its bracket
        return ""
