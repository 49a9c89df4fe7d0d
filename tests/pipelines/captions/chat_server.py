"""A server of chat completions on this machine that misbehaves as it is told."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from models.captions.answers import CAPTION
from models.captions.grammar import write_caption

KEY = "sk-secret-0123456789"
HANG, DROP = "hang", "drop"
Answer = tuple[int, dict[str, str], str] | str
"""Status, headers and text, or what happens in the place of an answer."""


def reply(text: str | None, finish: str = "stop") -> Answer:
    """An answer of a chat."""
    message = {"role": "assistant", "content": text}
    return (
        200,
        {},
        json.dumps({"choices": [{"message": message, "finish_reason": finish}], "usage": {"completion_tokens": 7}}),
    )


def words_of(body: dict[str, Any]) -> dict[str, list[str]]:
    """What a chat lists: attribute -> its words."""
    lines = [line[2:].split(": ", 1) for line in body["messages"][0]["content"].split("\n") if line.startswith("- ")]
    return {name: words.split(" | ") for name, words in lines}


def honest(body: dict[str, Any], number: int = 0) -> Answer:
    """What a good model answers to a chat that describes, invents or reads."""
    asked = words_of(body)
    if "response_format" not in body:
        return reply(write_caption({name.replace(" ", "_"): some[0] for name, some in asked.items()}, body["seed"]))
    if CAPTION not in body["response_format"]["json_schema"]["schema"]["properties"]:
        return reply(json.dumps({"sex": "man", "age": "elderly", "rest": " a scar"}))
    chosen = {name: some[body["seed"] % len(some)] for name, some in asked.items()}
    return reply(json.dumps({**chosen, CAPTION: write_caption(chosen, body["seed"])}))


class Server(ThreadingHTTPServer):
    """Answers by `answer` (body, number of the request), and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.released, self.lock = threading.Event(), threading.Lock()
        self.reset()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that leave in the middle of a request."""

    def reset(self) -> None:
        self.answer: Callable[[dict[str, Any], int], Answer] = honest
        self.models: Answer = (200, {}, json.dumps({"data": [{"id": "small"}, {"id": "large"}]}))
        self.bodies, self.keys = list[dict[str, Any]](), list[str | None]()
        self.times, self.under_way, self.most = list[float](), 0, 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["Authorization"])
        self._send(self.server.models if self.path == "/v1/models" else (404, {}, ""))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.bodies)
            self.server.bodies.append(body)
            self.server.keys.append(self.headers["Authorization"])
            self.server.times.append(time.monotonic())
            self.server.under_way += 1
            self.server.most = max(self.server.most, self.server.under_way)
        answer = self.server.answer(body, number) if self.path == "/v1/chat/completions" else (404, {}, "")
        with self.server.lock:
            self.server.under_way -= 1
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        if answer == HANG:
            self.server.released.wait(5)
        if isinstance(answer, str):
            return  # the connection is closed
        status, headers, text = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: Any) -> None:
        pass
