"""The service as it runs: real Ray Serve, the starter's stages and its language model, asked over HTTP."""

import base64
import io
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import numpy as np
import pyarrow as pa
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from PIL import Image
from pipelines.record import schema
from ray import serve as ray_serve
from ray.serve.context import _get_global_client
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from models.faces.pack import Pack
from models.synthworld.domain import load_domain, sample_scene
from models.synthworld.render import Rendered, render
from models.synthworld.splits import identities
from models.temperature import from_centikelvin
from models.weights.bundle import fetch
from models.weights.store import ROOT
from pipelines.embed import looked_at
from pipelines.generate import spec, stages_of
from pipelines.pictures.codecs import decode, encode_png_rgb
from pipelines.run.chain import Chain
from serve import order
from serve.app import NAME, start
from serve.client import Client, ServiceError
from serve.examples import LOOKS
from serve.schemas import PairsRequest, Problem
from serve.service import Service
from tests.serve.conftest import SETTINGS

pytestmark = pytest.mark.slow

FAST = {"captions": "template", "conditions": ["warm"]}
"""A request that waits for no language model."""
CONFORMANCE = [status_code_conformance, content_type_conformance, response_schema_conformance]
"""Every answer is one that the document describes. That a picture is one cannot be said in it: those come back as 422."""


@pytest.fixture(scope="module")
def url(local_ray: Any) -> Iterator[str]:
    """Where the service is. It answers while its language model still starts; /readyz waits for that."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start(SETTINGS, port=port, wait=False)
    where = f"http://127.0.0.1:{port}"
    while not _alive(where):
        time.sleep(0.2)
    yield where
    ray_serve.shutdown()


def _alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=60).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, timeout=300, retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def two() -> Rendered:
    """Two people of the world at 160 px."""
    people = identities("test")[:2]
    return render([sample_scene(load_domain("portrait"), person, 0, "warm") for person in people], 160)


@pytest.fixture(scope="module")
def faces(two: Rendered) -> list[np.ndarray]:
    """Their pictures, uint8 [160, 160, 3]."""
    return list(two.rgb.numpy())


def refused(answer: httpx.Response, status: int, kind: str) -> Problem:
    assert answer.status_code == status, answer.text
    problem = Problem.model_validate_json(answer.content)
    assert problem.type == f"urn:thermapair:{kind}"
    assert problem.request_id == answer.headers["x-request-id"]
    return problem


def decoded(row: dict[str, Any]) -> dict[str, Any]:
    """Return a dumped pair with its pictures' bytes as the record has them."""
    return {
        name: {**value, "bytes": base64.b64decode(value["bytes"])}
        if isinstance(value, dict) and "bytes" in value
        else value
        for name, value in row.items()
    }


def test_pairs_are_what_a_job_makes_of_the_same_seed(client: Client) -> None:
    asked = {"seed": 7, "views": 2, "captions": "template", "attributes": {"glasses": "clear"}}
    answer = client.pairs(**asked)
    assert [(pair.view, pair.condition) for pair in answer.pairs] == [
        (0, "warm"), (0, "cold"), (1, "warm"), (1, "cold"),
    ]  # fmt: skip

    service = Service(*SETTINGS.load(), groups=[])
    request = PairsRequest(**asked)
    job = order.job_of(request, service.job, service.limits)
    person = order.person_of(request, None, service.reference)
    table = order.samples(request, job, person)
    captions = [pair.caption for pair in answer.pairs[::2]]
    rows = order.columns(table, person, captions, ["template"] * 2)
    made, rejects = service.records(
        job, Chain([spec(name, job, service.bundle) for name in stages_of(service.bundle)])(rows)
    )
    assert not rejects
    served = [decoded(pair.model_dump()) for pair in answer.pairs]
    ours, theirs = (pa.Table.from_pylist(rows, schema=schema()) for rows in (served, made))
    assert [name for name in ours.column_names if not ours[name].equals(theirs[name])] == []


def test_one_picture_in_every_form(client: Client) -> None:
    content = {**FAST, "seed": 3}
    forms = ("application/json", "image/png", "image/png; unit=centikelvin", "application/x-npy")
    answers = {
        form: client.http.post("/v1/pairs", json=content, headers={"accept": form}).raise_for_status() for form in forms
    }
    for form, answer in answers.items():
        assert answer.headers["content-type"] == form
    (pair,) = answers["application/json"].json()["pairs"]
    assert answers["image/png"].content == base64.b64decode(pair["visible"]["bytes"])
    thermal = answers["image/png; unit=centikelvin"]
    assert thermal.content == base64.b64decode(pair["thermal"]["bytes"])
    headers = thermal.headers
    celsius = decode(thermal.content) * float(headers["x-thermal-scale"]) + float(headers["x-thermal-offset"])
    values = np.load(io.BytesIO(answers["application/x-npy"].content), allow_pickle=False)
    np.testing.assert_allclose(values[0], celsius, atol=1e-3)
    assert 0 < celsius.min() < celsius.max() < 46


def test_requests_share_batches_and_a_row_is_the_same_alone(client: Client) -> None:
    alone = client.http.post("/v1/pairs", json={**FAST, "seed": 11})
    assert alone.headers["x-batch-rows"] == "1"
    with ThreadPoolExecutor(4) as threads:
        seeds = [11, 12, 13, 14]
        answers = list(threads.map(lambda seed: client.http.post("/v1/pairs", json={**FAST, "seed": seed}), seeds))
    assert max(int(answer.headers["x-batch-rows"]) for answer in answers) > 1
    first, again = (answer.json()["pairs"][0] for answer in (alone, answers[0]))
    # Batches are padded to one size, so what else is asked for changes no byte.
    assert first == again
    assert len({answer.json()["pairs"][0]["visible"]["bytes"] for answer in answers}) == 4


def test_other_seeds_conditions_and_steps_are_other_pictures(client: Client) -> None:
    base = {**FAST, "seed": 5, "identity_id": "someone"}
    changed = [base, {**base, "seed": 6}, {**base, "steps": 3}, {**base, "guidance": 1.0}]
    pictures = [client.pairs(**content).pairs[0].visible for content in changed]
    assert len({picture.bytes for picture in pictures if picture}) == 4
    warm, cold = client.celsius(**{**base, "conditions": ["warm", "cold"]})
    assert warm.mean() > cold.mean()


def test_gates_reject_with_their_reason(client: Client) -> None:
    strict = {**FAST, "seed": 2, "gates": {"attempts": 2, "identity": 1}}
    answer = client.pairs(**strict)
    assert not answer.pairs
    assert [row.attempt for row in answer.rejects] == [1, 0]
    assert all(row.reject for row in answer.rejects)
    picture = client.http.post("/v1/pairs", json=strict, headers={"accept": "image/png"})
    assert refused(picture, 422, "rejected").detail


def test_faces_are_embedded_as_the_job_embeds_them(client: Client, faces: list[np.ndarray]) -> None:
    group = np.concatenate(faces, axis=1)
    files = [encode_png_rgb(picture) for picture in (*faces, group)]
    found = client.embed(files).embeddings
    bundle, _, _ = SETTINGS.load()
    pack = Pack(fetch(bundle.faces, bundle), threads=1, batch=bundle.faces.batch)
    for row, expected in zip(found, looked_at(pack, [*faces, group]), strict=True):
        assert row.reason == expected["reason"]
        if not row.reason:
            np.testing.assert_allclose(row.embedding, expected["embedding"], atol=1e-5)
            np.testing.assert_allclose(row.bbox, expected["bbox"], atol=1e-2)
    assert found[0].embedding is not None
    assert found[2].reason.startswith("several faces")
    assert found[2].embedding is None

    by_picture, by_vector = (
        client.pairs(**FAST, seed=4, **whose).pairs[0]
        for whose in ({"picture": files[0]}, {"embedding": found[0].embedding})
    )
    assert by_picture.condition == "warm"
    np.testing.assert_allclose(by_picture.embedding, by_vector.embedding, atol=1e-6)
    with pytest.raises(ServiceError, match="several faces"):
        client.pairs(**FAST, picture=files[2])


def test_pictures_are_seen_in_thermal(client: Client, faces: list[np.ndarray]) -> None:
    tall = encode_png_rgb(np.concatenate([faces[0], faces[0]], axis=0))
    rows = client.thermalize([encode_png_rgb(faces[0]), tall]).thermals
    assert [(row.picture, row.condition, row.width, row.height) for row in rows] == [
        (0, "warm", 128, 128), (0, "cold", 128, 128), (1, "warm", 64, 128), (1, "cold", 64, 128),
    ]  # fmt: skip
    for row in rows:
        counts = decode(row.thermal.bytes)
        assert counts.dtype == np.uint16
        assert counts.shape == (row.height, row.width) == decode(row.classes.bytes).shape
        assert row.thermal_kind == "predicted"
    assert client.centikelvin(encode_png_rgb(faces[0]), "cold") == rows[1].thermal.bytes
    coloured = client.http.post(
        "/v1/thermalize",
        files={"picture": encode_png_rgb(faces[0])},
        data={"request": '{"conditions": ["warm"]}'},
        headers={"accept": "image/png"},
    )
    assert decode(coloured.content).shape == (128, 128, 3)
    degrees = from_centikelvin(decode(rows[0].thermal.bytes))
    assert coloured.headers["x-colours-to"] == f"{degrees.max():.2f} degC"


def test_models_name_their_licences_digests_and_cards(client: Client) -> None:
    found = client.models()
    bundle, _, _ = SETTINGS.load()
    assert found.digest == bundle.digest()
    assert found.limits["steps"] == 8
    assert set(found.models) == set(bundle.parts())
    assert all(part.licence and len(part.digest) == 16 for part in found.models.values())
    thermal = found.models["thermal"].card
    assert thermal is not None
    assert thermal["title"]


def test_landmarks_lie_on_every_face_of_a_picture(client: Client, two: Rendered, faces: list[np.ndarray]) -> None:
    truth = two.landmarks_70.numpy() + np.array([[[0, 0]], [[160, 0]]])
    found = client.landmarks([encode_png_rgb(np.concatenate(faces, axis=1))]).landmarks
    assert len(found) == 2
    for face, points in zip(sorted(found, key=lambda face: face.bbox[0]), truth, strict=True):
        error = np.linalg.norm(np.reshape(face.landmarks_70, (70, 2)) - points, axis=1)
        assert error.mean() < 0.1 * np.ptp(points[:, 1])
        assert face.variance_70_visible is not None
        assert min(face.variance_70_visible) > 0
        assert face.landmarks_478 is None


def test_a_full_queue_answers_503_and_when_to_come_back(client: Client) -> None:
    with ThreadPoolExecutor(48) as threads:
        answers = list(threads.map(lambda seed: client.http.post("/v1/pairs", json={**FAST, "seed": seed}), range(48)))
    states = [answer.status_code for answer in answers]
    assert set(states) == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert refused(answer, 503, "busy").way_out
            assert int(answer.headers["retry-after"]) >= 1


def test_a_lost_worker_is_a_retryable_error_and_another_takes_over(client: Client) -> None:
    lost: list[httpx.Response] = []
    with ThreadPoolExecutor(6) as threads:
        for _ in range(3):  # requests must be under way when their worker ends
            content = [{**FAST, "seed": seed, "views": 4, "steps": 8} for seed in range(6)]
            waiting = [threads.submit(client.http.post, "/v1/pairs", json=one) for one in content]
            time.sleep(1.5)
            os.kill(_worker(), signal.SIGKILL)
            lost = [answer for one in waiting if (answer := one.result()).status_code != 200]
            if lost:
                break
    for answer in lost:
        refused(answer, 503, "replica-lost")
        assert int(answer.headers["retry-after"]) >= 1
    assert lost
    again = Client(str(client.http.base_url), timeout=300, retries=30)
    assert again.pairs(**FAST, seed=9).pairs


def _worker() -> int:
    """Return the process of the replica that has the stages."""
    while True:
        deployments = _get_global_client().get_serve_details()["applications"][NAME]["deployments"]
        replicas = deployments["-".join(stages_of(SETTINGS.load()[0]))]["replicas"]
        running = [one["pid"] for one in replicas if one["state"] == "RUNNING" and one["pid"]]
        if running:
            return int(running[0])
        time.sleep(0.2)


def test_captions_come_from_the_language_model(client: Client) -> None:
    client.retries = 150
    assert set(client.ready().deployments.values()) == {"HEALTHY"}
    found = client.captions([LOOKS, {"sex": "man", "age": "elderly"}], seed=1)
    assert {row.caption_source for row in found.captions} <= {"llm", "grammar"}
    assert any(row.caption_source == "llm" for row in found.captions)
    assert found.captions == client.captions([LOOKS, {"sex": "man", "age": "elderly"}], seed=1).captions
    (pair, _) = client.pairs(seed=7).pairs
    assert pair.caption_source in ("llm", "grammar")


def test_the_lines_of_the_readme_work_as_pasted(url: str, client: Client, tmp_path: Path) -> None:
    client.retries = 150
    client.ready()
    section = (ROOT / "README.md").read_text().split("\n## Serve\n")[1].split("\n## ")[0]
    blocks = [block for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) if "curl" in block]
    lines = "".join(blocks).replace("localhost:8000", url.removeprefix("http://"))
    done = subprocess.run(["bash", "-euc", lines], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "face.png").size == (128, 128)
    assert decode((tmp_path / "thermal.png").read_bytes()).dtype == np.uint16
    assert np.load(tmp_path / "celsius.npy", allow_pickle=False).shape == (2, 128, 128)


def test_nothing_that_fits_the_document_ends_in_an_unhandled_error(url: str) -> None:
    document = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for found in document.get_all_operations():
        operation = found.ok()
        count = 3 if operation.path == "/v1/pairs" else 6

        @hypothesis.settings(
            max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy())
        def answered(case: Any) -> None:
            answer = case.call(timeout=300)
            assert answer.status_code != 500, (case.as_curl_command(), answer.text)
            case.validate_response(answer, checks=CONFORMANCE)

        answered()
