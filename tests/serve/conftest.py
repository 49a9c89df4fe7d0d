"""What the services of the tests are started with, where they answer, and what a refusal looks like."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from ray import serve as ray_serve
from ray.serve.context import _get_global_client

from serve.app import NAME, Settings, start
from serve.client import Client
from serve.http.answers import Problem
from serve.service import Service
from tests.ports import free_port

OPEN_GATES = "{attempts: 1, identity: -1, detection: 0, faces: 99, face_area: [0, 1], celsius: [-50, 90], clipped: 1}"
LIMITS = "{body_mb: 1, pictures: 3, megapixels: 1, views: 4, layers: 4, steps: 8, attempts: 2, captions: 4}"
SHARED = [
    "profile.captions.threads=1",
    "profile.serve.queue=8",
    "profile.serve.batch_wait_ms=300",
    f"profile.serve.limits={LIMITS}",
    "bundle.visible.batch=4",
    f"job.gates={OPEN_GATES}",
]
ONE_GROUP = "profile.groups=[{stages: [visible, parser, thermal, faces, gates, landmarks], actors: [1, 1], cpus: 1, threads: 1}]"
READS = "bundle.captions.options.read=true"
"""The starter's own bundle leaves prompts to the tables of words."""
SETTINGS = Settings(overrides=[*SHARED, ONE_GROUP, READS, "job.settings.visible.steps=2"])
"""The laptop's profile with one replica, low limits and few steps, so that what is refused and queued can be foretold; a
language model that reads prompts."""
TWO_GROUPS = (
    "profile.groups=[{stages: [visible, parser, thermal, faces, gates], actors: [1, 1], cpus: 1, threads: 1}, "
    "{stages: [landmarks], actors: [1, 1], cpus: 1, threads: 1}]"
)
NULL = Settings(bundle="null", overrides=[*SHARED, TWO_GROUPS])
"""The same without a model and in two groups: it starts in seconds."""
FAST = {"captions": "template", "conditions": ["warm"]}
"""A request that waits for no language model."""


@pytest.fixture(scope="session")
def quiet() -> Service:
    """The service of the starter without deployments: whatever reaches them is not of these tests."""
    return Service(SETTINGS.load(), stage_deployments=[])


@pytest.fixture(scope="module")
def url(local_ray: Any) -> Iterator[str]:
    """Where the service is. It answers while its language model still starts; /readyz waits for that."""
    with running(SETTINGS) as where:
        yield where


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, timeout=300, retries=0) as client:
        yield client


@contextmanager
def running(settings: Settings) -> Iterator[str]:
    """Start a service on the Ray that runs and yield where it is, once it answers; captions may still start by then."""
    port = free_port()
    start(settings, port=port, wait=False)
    where = f"http://127.0.0.1:{port}"
    while not _alive(where):
        time.sleep(0.2)
    yield where
    ray_serve.shutdown()


def replica_process(deployment: str) -> int:
    """Return the process of the one replica of a deployment, once it runs."""
    while True:
        deployments = _get_global_client().get_serve_details()["applications"][NAME]["deployments"]
        replicas = deployments[deployment]["replicas"]
        running = [one["pid"] for one in replicas if one["state"] == "RUNNING" and one["pid"]]
        if running:
            return int(running[0])
        time.sleep(0.2)


def problem_of(answer: httpx.Response) -> str:
    """Return the kind of the problem that an answer is."""
    return Problem.model_validate_json(answer.content).type.removeprefix("urn:thermapair:")


def refused(answer: httpx.Response, status: int, kind: str) -> Problem:
    assert answer.status_code == status, answer.text
    problem = Problem.model_validate_json(answer.content)
    assert problem.type == f"urn:thermapair:{kind}"
    assert problem.request_id == answer.headers["x-request-id"]
    return problem


def _alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=60).is_success
    except httpx.TransportError:
        return False
