"""The service without a model, in two groups: every endpoint answers, for what it asks of stages every kind has."""

import http.client
import io
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.temperature import from_centikelvin
from pipelines.pictures.codecs import decode
from serve.client import Client, ServiceError
from serve.http.answers import Problem
from tests.serve.conftest import NULL, replica_process, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(local_ray: Any) -> Iterator[Client]:
    with running(NULL) as url, Client(url, timeout=120, retries=60) as client:
        client.ready()
        client.retries = 0
        yield client


def photo(width: int, height: int, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def test_there_is_a_deployment_for_each_group_and_none_for_captions(client: Client) -> None:
    assert set(client.ready().deployments) == {"visible-parser-thermal-faces-gates", "landmarks", "gateway"}
    found = client.models()
    assert (found.bundle, found.captions, found.conditions) == ("null", "template", None)
    assert {name: part.kind for name, part in found.models.items()} == dict.fromkeys(
        ("visible", "parser", "thermal", "faces", "landmarks"), "null"
    )


def test_pairs_have_every_layer_and_landmark(client: Client) -> None:
    rows = client.pairs(seed=3, views=2, conditions=["warm", 10], samples=2).pairs
    assert [(row.view, row.condition, row.thermal_draw) for row in rows] == [
        (view, condition, draw) for view in (0, 1) for condition in ("warm", "10") for draw in (0, 1)
    ]
    for row in rows:
        extra = row.model_extra or {}
        assert len(extra["landmarks_70"]) == 140
        assert row.size == 64
        assert row.caption_source == "template"
        assert json.loads(row.scores)["identity"] == pytest.approx(1)
    assert len({row.thermal.bytes for row in rows if row.thermal}) == len(rows)
    celsius = client.celsius(seed=3, views=2, conditions=["warm", 10], samples=2)
    np.testing.assert_array_equal(celsius, [from_centikelvin(decode(row.thermal.bytes)) for row in rows if row.thermal])


def test_what_a_null_stage_does_not_have_is_refused(client: Client) -> None:
    with pytest.raises(ServiceError, match=r"settings\.visible\.steps: unknown key; known here: none"):
        client.pairs(settings={"visible": {"steps": 4}})
    with pytest.raises(ServiceError, match="without a language model"):
        client.captions([{"sex": "man"}], captions="llm")


def test_redraws_and_their_rejects_come_back_from_two_groups(client: Client) -> None:
    gates = {"attempts": 2, "celsius": [0, 1]}
    found = client.pairs(seed=3, conditions=["warm"], gates=gates)
    assert not found.pairs
    assert sorted(row.attempt for row in found.rejects) == [0, 1]
    assert all("temperature" in row.reject for row in found.rejects)


def test_a_picture_is_thermalized_in_its_square(client: Client) -> None:
    tall, small = photo(48, 96), photo(32, 32, 1)
    rows = client.thermalize([tall, small], conditions=[21.5], samples=2).thermals
    assert [(row.picture, row.condition, row.thermal_draw) for row in rows] == [
        (0, "21.5", 0), (0, "21.5", 1), (1, "21.5", 0), (1, "21.5", 1),
    ]  # fmt: skip
    assert [row.content_box for row in rows[::2]] == [[16, 0, 48, 64], [0, 0, 64, 64]]
    assert rows[0].classes is None  # this thermal part looks at none, so nobody makes them
    assert rows[0].thermal.bytes != rows[1].thermal.bytes
    # The picture alone decides: its place in the request does not.
    again = client.thermalize([small, tall], conditions=["21.50"], samples=2).thermals
    assert [row.thermal.bytes for row in again[2:]] == [row.thermal.bytes for row in rows[:2]]


def test_faces_are_embedded_placed_and_made_pairs_of(client: Client) -> None:
    picture = photo(100, 60)
    (found,) = client.embed([picture]).embeddings
    assert found.bbox == pytest.approx([25, 12, 75, 51])
    assert np.linalg.norm(found.embedding or []) == pytest.approx(1)
    for points in (70, 5):
        (face,) = client.landmarks([picture], points=points).landmarks  # type: ignore[arg-type]
        placed = np.reshape(getattr(face, f"landmarks_{points}"), (points, 2))
        assert (placed > [25, 12]).all() and (placed < [75, 51]).all()
    pair = client.pairs(picture=picture, conditions=["warm"]).pairs[0]
    np.testing.assert_allclose(pair.embedding, found.embedding or [], atol=1e-6)


def test_captions_are_the_grammars(client: Client) -> None:
    (found,) = client.captions([{"sex": "woman", "age": "young"}]).captions
    assert found.caption_source == "template"
    assert found.caption


def test_a_lost_gateway_is_a_retryable_error_and_another_takes_over(client: Client) -> None:
    """The gateway ends while it waits for the rest of a body."""
    url = client.http.base_url
    with socket.create_connection((url.host, url.port), timeout=60) as line:
        head = (
            "POST /v1/embed HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n"
        )
        line.sendall(head.encode() + b"{")
        time.sleep(1)
        os.kill(replica_process("gateway"), signal.SIGKILL)
        answer = http.client.HTTPResponse(line)
        answer.begin()
        problem = Problem.model_validate_json(answer.read())
    assert (answer.status, problem.type) == (503, "urn:thermapair:replica-lost")
    assert int(answer.headers["retry-after"]) >= 1
    client.retries = 60
    assert client.embed([photo(60, 60)]).embeddings
