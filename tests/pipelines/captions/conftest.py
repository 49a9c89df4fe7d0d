"""What the tests of captions ask: a server of chat completions, and the starter's language model as a real engine."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from models.stages import CAPTIONS
from models.weights.bundle import Bundle, load_bundle
from pipelines.captions import chat
from pipelines.captions.engine import EngineSpec
from pipelines.captions.pool import Engines
from pipelines.config.profile import CaptionEngines
from tests.pipelines.captions.chat_server import KEY, Server

ENGINES = CaptionEngines(threads=1)


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


@pytest.fixture(scope="module")
def starter() -> Bundle:
    return load_bundle("starter")


@pytest.fixture(scope="module")
def pool(local_ray: Any, starter: Bundle) -> Iterator[Engines]:
    """The starter's engine, for several tests: each start takes half a minute."""
    with run_engines(EngineSpec(starter.part(CAPTIONS), starter.folder, ENGINES)) as engines:
        yield engines


@contextlib.contextmanager
def run_engines(spec: EngineSpec) -> Iterator[Engines]:
    """Run the engines of `spec`, whose own processes end with them."""
    with Engines(spec) as engines:
        yield engines
    gone = time.monotonic() + 20
    while children_named("VLLM::EngineCore") and time.monotonic() < gone:
        time.sleep(0.2)
    assert not children_named("VLLM::EngineCore")


def children_named(name: str) -> list[psutil.Process]:
    """Processes below this one whose command begins with `name`."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()  # asked for once: it is empty as soon as the process has ended
            if command and command[0].startswith(name):
                found.append(process)
    return found
