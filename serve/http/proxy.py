"""What Ray Serve's own HTTP proxy answers where no gateway does: 503 with Retry-After, as a problem.

Ray Serve asks `list_middlewares` in each proxy (`pipelines.run.session.PROXY`).
"""

import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http import problems
from serve.http.problems import ProblemError

RETRY_SECONDS = 2


class LostGatewayMiddleware:
    """Answers for a gateway that died, of which the proxy says nothing (a bare 500 of its server), and gives every 503 a
    Retry-After.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                if message["status"] == 503:
                    MutableHeaders(scope=message).setdefault("retry-after", str(RETRY_SECONDS))
            await send(message)

        await self.app(scope, receive, answer)
        if not begun:
            name = Headers(scope=scope).get("x-request-id") or uuid.uuid4().hex
            problem = ProblemError(
                "replica-lost", "the process that took this request has ended", "Ask again.", retry=RETRY_SECONDS
            )
            await problems.response(problem, name)(scope, receive, send)


def list_middlewares() -> list[Middleware]:
    """Return what Ray Serve's proxies are to put before their own answers."""
    return [Middleware(LostGatewayMiddleware)]
