"""An S3 server with misfortunes: it answers with errors for a while, or forgets what it was asked for."""

import time
from collections.abc import Callable
from typing import Any


class Faulty:
    """Stands before the server's application: answers the next `count` requests with an S3 error, and notes all of them."""

    def __init__(self, app: Any) -> None:
        self.app, self.count, self.status, self.code = app, 0, "", ""
        self.conditions = "heeded"
        """Or ignored, or refused: what becomes of If-None-Match."""
        self.stall = 0.0
        """Seconds that every request waits for its answer."""
        self.seen: list[tuple[float, str]] = []

    def answer(self, status: str, code: str, count: int = 10**9) -> None:
        self.status, self.code, self.count = status, code, count

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        self.seen.append((time.monotonic(), f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"))
        if self.conditions != "heeded" and environ.pop("HTTP_IF_NONE_MATCH", None) and self.conditions == "refused":
            self.answer("501 Not Implemented", "NotImplemented", count=1)
        if self.stall:
            time.sleep(self.stall)
        if self.count <= 0:
            return self.app(environ, start_response)
        self.count -= 1
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        body = f"<Error><Code>{self.code}</Code><Message>said by the test</Message></Error>".encode()
        start_response(self.status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]
