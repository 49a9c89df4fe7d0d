"""The null service in this process: what callers send, and what is computed for whom."""

import asyncio
import base64
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import hypothesis
import numpy as np
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from starlette.types import Message, Receive, Scope, Send

from models.captions.grammar import write_caption
from pipelines.captions.resident import Request, Structured, Written
from pipelines.config.captions import VllmOptions
from pipelines.pictures.codecs import decode, encode_png, encode_png_rgb
from serve.api import create_app
from serve.caption_deployment import CaptionDeployment
from serve.http.answers import Problem
from serve.http.proxy import ProxyMiddleware
from serve.service import Service
from tests.serve.conftest import NULL
from tests.serve.local import local_service, problem

TRANSLATOR = "bundle.parts.translate={kind: 'null', batch: 4}"
QUICK = NULL.model_copy(update={"overrides": [*NULL.overrides, "profile.serve.batch_wait_ms=0", TRANSLATOR]})
PHOTO = encode_png_rgb(np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8))
KNOWN = {"bad-picture", "too-many-pixels", "over-limit", "not-acceptable", "rejected", "not-in-bundle"}
"""What a document cannot say: that a string is a picture, that a product has a limit, what comes of the work, what adapters the
bundle has."""


@pytest.fixture(scope="module")
def service() -> Service:
    return local_service(QUICK)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    app = create_app(service, "")
    with TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 40000)) as client:
        yield client


def test_json_may_come_as_a_browsers_blob(client: TestClient) -> None:
    files = {"picture": ("a.png", PHOTO, "image/png"), "request": ("blob", b'{"conditions": [21]}', "application/json")}
    (row,) = client.post("/v1/thermalize", files=files).json()["thermals"]
    assert row["condition"] == "21"
    bad = client.post("/v1/thermalize", files=files | {"request": ("blob", b"\xff{", "application/json")})
    assert (bad.status_code, bad.json()["type"]) == (400, "urn:thermapair:bad-json")


def test_base64_may_have_lines_and_a_prefix(client: TestClient) -> None:
    plain = base64.b64encode(PHOTO).decode()
    lines = base64.encodebytes(PHOTO).decode()
    forms = [plain, lines, lines.replace("\n", "\r\n"), f"data:image/png;base64,\n{lines}"]
    rows = client.post("/v1/embed", json={"pictures": forms[:3]}).json()["embeddings"]
    rows += client.post("/v1/embed", json={"pictures": forms[3:]}).json()["embeddings"]
    assert {(row["reason"], tuple(row["embedding"])) for row in rows} == {("", tuple(rows[0]["embedding"]))}
    answer = client.post("/v1/embed", json={"pictures": [plain.replace("A", "*", 1)]})
    assert "not base64" in answer.json()["detail"]


class ReadingModel:
    """Stands for an engine: it reads an elderly man with a scar, and captions as the grammar does."""

    def __init__(self) -> None:
        self.read = list[Structured]()

    async def write(self, requests: Sequence[Request]) -> list[Written]:
        return [Written(self._answer(one), 7, 0.0) for one in requests]

    def _answer(self, request: Request) -> str:
        if not isinstance(request, Structured):
            return write_caption(*request)
        self.read.append(request)
        return json.dumps({"sex": "man", "age": "elderly", "rest": " a scar"})

    def close(self) -> None:
        pass


def test_a_prompt_is_read_by_the_language_model_behind_the_service() -> None:
    captions = object.__new__(CaptionDeployment)
    captions.options, captions.engine = VllmOptions(), (model := ReadingModel())
    app = create_app(local_service(QUICK, captions), "")
    with TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 40000)) as client:
        prompt = "an old man with a scar"
        (row,) = client.post("/v1/captions", json={"prompts": [prompt]}).json()["captions"]
        assert row["attributes"] == {"sex": "man", "age": "elderly"} and row["also"] == "a scar"
        assert row["caption_source"] == "llm" and row["caption"].endswith(". A scar.")
        assert [one.chat[0]["content"].endswith(f"Text: {prompt}") for one in model.read] == [True]
        pair = client.post("/v1/pairs", json={"prompt": prompt, "conditions": ["warm"]}).json()["pairs"][0]
        assert pair["caption"].endswith(". A scar.") and json.loads(pair["attributes"])["age"] == "elderly"
        # What the tables explain it is not asked for, nor where templates are.
        client.post("/v1/captions", json={"prompts": ["an old man"]})
        client.post("/v1/captions", json={"prompts": [prompt], "captions": "template"})
    assert len(model.read) == 2


@pytest.mark.parametrize("path", ["/healthz", "/v1/models"])
def test_head_is_get_without_a_body(client: TestClient, path: str) -> None:
    answer = client.head(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"


def test_thermal_pictures_have_landmarks(client: TestClient) -> None:
    counts = np.full((60, 80), 29_500, np.uint16)
    counts[10:50, 20:60] = 30_800
    body = {"pictures": [base64.b64encode(encode_png(counts)).decode()]}
    answer = client.post("/v1/landmarks", json=body)
    (face,) = answer.json()["landmarks"]
    assert answer.headers["x-batch-rows"] == "1"
    assert len(face["landmarks_70"]) == 140


def thermal_face(inverted: bool = False) -> np.ndarray:
    """Return grey levels uint8 [40, 30] of a warm middle before a cool border."""
    levels = np.full((40, 30), 60, np.uint8)
    levels[8:32, 6:24] = 200
    return 255 - levels if inverted else levels


def test_thermal_pictures_are_translated(client: TestClient) -> None:
    """16 bits in a unit, or grey levels; several draws, by the seed; a picture alone as PNG."""
    counts = thermal_face().astype(np.uint16) * 5 + 29_300
    pictures = [base64.b64encode(encode_png(one)).decode() for one in (counts, thermal_face())]
    body = {"pictures": pictures, "samples": 2, "seed": 3}
    answer = client.post("/v1/translate", json=body).json()
    rows = answer["translations"]
    assert [(row["picture"], row["draw"], row["thermal_kind"]) for row in rows] == [
        (0, 0, "measured"), (0, 1, "measured"), (1, 0, "agc"), (1, 1, "agc")
    ]  # fmt: skip
    assert len({row["visible"]["bytes"] for row in rows}) == 4 and rows[0]["content_box"] == [8, 0, 56, 64]
    levels = decode(base64.b64decode(rows[2]["thermal"]["bytes"]))
    assert levels.dtype == np.uint8 and abs(int(levels[32, 32]) - 200) <= 2  # what came, no temperatures
    assert client.post("/v1/translate", json=body).json()["translations"] == rows
    other = client.post("/v1/translate", json=body | {"seed": 4}).json()["translations"]
    assert other[0]["visible"] != rows[0]["visible"]
    # One picture, sent as a file.
    files = {"picture": ("a.png", encode_png(counts), "image/png"), "request": (None, '{"seed": 3}')}
    alone = client.post("/v1/translate", files=files, headers={"accept": "image/png"})
    assert alone.headers["x-content-box"] == "8,0,56,64"
    np.testing.assert_array_equal(decode(alone.content), decode(base64.b64decode(rows[0]["visible"]["bytes"])))


@pytest.mark.parametrize(
    ("body", "status", "kind", "said"),
    [
        ({"pictures": [encode_png(thermal_face(inverted=True))]}, 422, "bad-picture", "picture 0: inverted"),
        ({"pictures": [PHOTO]}, 422, "bad-picture", "colours"),
        ({"pictures": [encode_png(np.full((40, 30), 100, np.uint16))]}, 422, "bad-picture", "not centikelvin"),
        ({"pictures": [encode_png(np.zeros((1001, 1000), np.uint16))]}, 422, "too-many-pixels", "1000 x 1001"),
        ({"pictures": [b"x"], "unit": "furlong"}, 422, "invalid", "unit"),
        ({"pictures": [b"x"], "attributes": {"hair_colour": "plaid"}}, 422, "invalid", "plaid"),
        ({"pictures": [b"x"], "samples": 5}, 422, "over-limit", "samples is 5, at most 4"),
        ({"pictures": [b"x"], "settings": {"visible": {}}}, 422, "invalid", "no stage"),
    ],
)
def test_what_cannot_be_translated_is_refused(
    client: TestClient, body: dict[str, Any], status: int, kind: str, said: str
) -> None:
    pictures = [base64.b64encode(data).decode() for data in body["pictures"]]
    answer = client.post("/v1/translate", json=body | {"pictures": pictures})
    assert said in problem(answer, status, kind).detail


@pytest.mark.parametrize(
    ("path", "count"), [("/v1/captions", 12), ("/v1/pairs", 6), ("/v1/embed", 4), ("/v1/translate", 6)]
)
def test_what_the_document_allows_is_answered(client: TestClient, path: str, count: int) -> None:
    """But for what no document can say; the service of `test_service.py` is asked the same over HTTP."""
    document = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    operation = document[path]["POST"]

    @hypothesis.settings(
        max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy())
    def answered(case: Any) -> None:
        sent = case.as_transport_kwargs(base_url="http://127.0.0.1:8000")
        sent.pop("cookies", None)
        answer = client.request(**sent)
        if answer.status_code != 200:
            problem = Problem.model_validate_json(answer.content)
            assert problem.type.rpartition(":")[2] in KNOWN, (problem, case.body)

    answered()


def test_what_a_request_took_too_long_for_is_not_computed(service: Service) -> None:
    """The requests after it are answered as if it had never come."""
    faces, begun, go = service.deployments.stages[0][1].deployment, threading.Event(), threading.Event()
    whole, computed = faces.embed_faces, list[int]()

    def slow(photos: list[bytes]) -> list[Any]:
        begun.set()
        assert go.wait(20)
        computed.append(len(photos))
        return whole(photos)

    async def ask() -> list[dict[str, Any]]:
        first = asyncio.ensure_future(service.embed([PHOTO]))
        await asyncio.to_thread(begun.wait, 20)
        gone = [asyncio.ensure_future(service.embed([PHOTO] * 3)) for _ in range(2)]
        await asyncio.sleep(0.01)
        for call in gone:
            call.cancel()
        await asyncio.sleep(0.01)
        go.set()
        return (await first)[0] + (await service.embed([PHOTO]))[0]

    faces.embed_faces = slow
    try:
        assert len(asyncio.run(ask())) == 2
    finally:
        faces.embed_faces = whole
    assert computed == [1, 1]
    assert not any(lane.rows for lane in service.admission.lanes.values())


class Sent:
    """What the proxy's middleware sends over `app`, at the times of `now`."""

    def __init__(self, app: Any) -> None:
        self.now, self.asked, self.app = 0.0, 0, app
        self.middleware = ProxyMiddleware(self._count, clock=lambda: self.now)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        await self.app(scope, receive, send)

    def ask(self, method: str = "POST", path: str = "/v1/pairs") -> tuple[int, dict[bytes, bytes], bytes]:
        sent = list[Message]()

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        scope = {"type": "http", "method": method, "path": path, "headers": [(b"x-request-id", b"mine")]}
        asyncio.run(self.middleware(scope, receive, send))
        start, body = sent
        return start["status"], dict(start["headers"]), body["body"]


def answer_with(status: int, *headers: tuple[bytes, bytes]) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": b"of the gateway"})

    return app


def test_a_killed_gateway_is_told_as_a_problem_to_come_back_from() -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None: ...

    status, headers, body = Sent(silent).ask()
    assert (status, headers[b"retry-after"]) == (503, b"2")
    problem = Problem.model_validate_json(body)
    assert (problem.type, problem.request_id) == ("urn:thermapair:replica-lost", "mine")


def test_the_proxy_sends_what_the_gateway_says_and_503_with_retry_after() -> None:
    assert Sent(answer_with(200)).ask() == (200, {}, b"of the gateway")
    assert Sent(answer_with(503)).ask() == (503, {b"retry-after": b"2"}, b"of the gateway")


def test_for_a_moment_the_proxy_refuses_what_its_gateway_refused() -> None:
    sent = Sent(answer_with(503, (b"retry-after", b"7")))
    sent.ask()
    status, headers, body = sent.ask()
    assert (status, headers[b"retry-after"], sent.asked) == (503, b"7", 1)
    assert Problem.model_validate_json(body).type == "urn:thermapair:busy"
    # Other paths, probes, and a moment later are the gateway's.
    for method, path in (("POST", "/v1/embed"), ("GET", "/readyz"), ("GET", "/readyz")):
        sent.ask(method, path)
    assert sent.asked == 4
    sent.now = 0.11
    assert sent.ask()[2] == b"of the gateway"
    good = Sent(answer_with(200))
    assert [good.ask()[0] for _ in range(3)] == [200] * 3
