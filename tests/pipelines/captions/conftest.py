"""A server of chat completions for the tests of captions."""

import threading
from collections.abc import Iterator

import pytest

from pipelines.captions import chat
from tests.pipelines.captions.chat_server import KEY, Server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of its own for each test, so that no request of another comes late; pauses are short."""
    monkeypatch.setenv("CHAT_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(chat, "PAUSE", 0.002)
    monkeypatch.setattr(chat, "TICK", 0.01)
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.socket.close()
