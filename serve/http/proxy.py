"""What Ray Serve's own HTTP proxy answers where no gateway does, or need not: 503 with Retry-After, as a problem.

Ray Serve asks `list_middlewares` in each proxy (`pipelines.run.session.SERVE`).
"""

import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RETRY_SECONDS = 2
SHED_SECONDS = 0.1
"""How long a path is taken for busy after its gateway said so: short beside any queue, and long beside what asking costs."""


class ProxyMiddleware:
    """Answers for a gateway that died, of which the proxy says nothing (a bare 500 of its server), and gives every 503 a
    Retry-After. Once a gateway refuses a POST it refuses the next ones to that path itself for a moment: to pass a request
    on costs more than a small one is worth, and what overload costs is missing to the work.
    """

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self.app, self.clock = app, clock
        self.busy: dict[str, tuple[float, int]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name = Headers(scope=scope).get("x-request-id") or uuid.uuid4().hex
        # A path that was busy just now.
        path = scope["path"] if scope["method"] == "POST" else ""
        until, retry = self.busy.get(path, (0.0, 0))
        if self.clock() < until:
            detail = "more is asked than can be answered in time"
            await _unavailable(name, "busy", "The queue is full", detail, retry)(scope, receive, send)
            return
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                if message["status"] == 503:
                    headers = MutableHeaders(scope=message)
                    headers.setdefault("retry-after", str(RETRY_SECONDS))
                    self._note_busy(path, headers["retry-after"])
            await send(message)

        # The gateway's answer, or ours where none came.
        await self.app(scope, receive, answer)
        if not begun:
            detail = "the process that took this request has ended"
            await _unavailable(name, "replica-lost", "A worker was lost", detail, RETRY_SECONDS)(scope, receive, send)

    def _note_busy(self, path: str, retry: str) -> None:
        if path:
            now = self.clock()
            self.busy = {one: found for one, found in self.busy.items() if found[0] > now}
            self.busy[path] = now + SHED_SECONDS, int(retry) if retry.isdigit() else RETRY_SECONDS


def _unavailable(request_id: str, kind: str, title: str, detail: str, retry: int) -> JSONResponse:
    """Return a problem as `serve.http.problems` makes it. A proxy has seconds to start, so it imports nothing of ours."""
    body = {"type": f"urn:thermapair:{kind}", "title": title, "status": 503, "detail": detail, "errors": []}
    told = {"way_out": f"Ask again in {retry} s.", "request_id": request_id}
    headers = {"Retry-After": str(retry), "X-Request-Id": request_id}
    return JSONResponse(body | told, 503, headers, "application/problem+json")


def list_middlewares() -> list[Middleware]:
    """Return what Ray Serve's proxies are to put before their own answers."""
    return [Middleware(ProxyMiddleware)]
