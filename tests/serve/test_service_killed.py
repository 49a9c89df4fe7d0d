"""The service whose worker or language model is killed: retryable errors, and another takes over."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from serve.client import Client
from serve.http.examples import LOOKS
from tests.serve.conftest import FAST, SETTINGS, problem_of, refused, replica_process

pytestmark = pytest.mark.soak


def test_a_lost_worker_is_a_retryable_error_and_another_takes_over(client: Client) -> None:
    """Of several requests at once some may be refused because they would wait for long; those under way are lost."""
    lost: list[httpx.Response] = []
    with ThreadPoolExecutor(6) as threads:
        for _ in range(3):  # requests must be under way when their worker ends
            content = [{**FAST, "seed": seed, "views": 4, "settings": {"visible": {"steps": 8}}} for seed in range(6)]
            waiting = [threads.submit(client.http.post, "/v1/pairs", json=one) for one in content]
            time.sleep(1.5)
            os.kill(replica_process("-".join(SETTINGS.load().chain.stages)), signal.SIGKILL)
            failed = [answer for one in waiting if (answer := one.result()).status_code != 200]
            lost = [answer for answer in failed if problem_of(answer) != "busy"]
            assert all(answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1 for answer in failed)
            if lost:
                break
    for answer in lost:
        refused(answer, 503, "replica-lost")
        assert int(answer.headers["retry-after"]) >= 1
    assert lost
    again = Client(str(client.http.base_url), timeout=300, retries=30)
    assert again.pairs(**FAST, seed=9).pairs


def test_a_dead_language_model_is_a_retryable_error_and_comes_back(client: Client) -> None:
    client.retries = 150
    client.ready()
    before = client.captions([LOOKS], seed=1).captions
    (engine,) = [
        child
        for child in psutil.Process(replica_process("captions")).children(recursive=True)
        if child.cmdline()[:1] == ["VLLM::EngineCore"]
    ]
    engine.kill()
    answer = client.http.post("/v1/captions", json={"attributes": [LOOKS], "seed": 2})
    refused(answer, 503, "replica-lost")
    assert int(answer.headers["retry-after"]) >= 1
    # Pictures never needed it; captions wait for another engine and come out as before.
    assert client.pairs(**FAST, seed=9).pairs
    assert client.captions([LOOKS], seed=1).captions == before
