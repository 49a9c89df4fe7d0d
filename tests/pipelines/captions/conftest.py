"""A server of chat completions for the tests of captions."""

import threading
from collections.abc import Iterator

import pytest

from pipelines.captions import chat
from tests.pipelines.captions.chat_server import KEY, Server


@pytest.fixture(scope="session")
def one_server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()


@pytest.fixture
def server(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("CHAT_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(chat, "PAUSE", 0.002)
    monkeypatch.setattr(chat, "TICK", 0.01)
    one_server.reset()
    return one_server
