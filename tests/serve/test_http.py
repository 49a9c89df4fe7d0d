"""The HTTP side without Ray: what is refused before anything is computed, and how."""

import asyncio
import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fastapi.testclient import TestClient
from PIL import Image
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.schema import ServeDeploySchema

from cluster import cli
from models.errors import EnvironmentFault, UserError
from models.weights.store import ROOT
from pipelines.config.profile import Limits
from pipelines.config.request import check_request
from pipelines.pictures.codecs import decode
from serve.api import create_app
from serve.app import Settings, build, check_host, config
from serve.http import codecs, examples, problems, schemas
from serve.http.content_negotiation import CENTIKELVIN, JSON, NPY, PNG, Media, choose_media
from serve.http.middleware import KEY_VARIABLE, AccessMiddleware, is_loopback
from serve.http.problems import ProblemError
from serve.pairs_request import check_limit
from serve.service import Service
from tests.pipelines.pictures.test_open import png as hostile_png
from tests.serve.conftest import SETTINGS

LOCAL = ("127.0.0.1", 40000)


@pytest.fixture(scope="module")
def quiet() -> Service:
    """The service of the starter without deployments: whatever reaches them is not of these tests."""
    return Service(SETTINGS.load(), stage_deployments=[])


@pytest.fixture
def client(quiet: Service) -> Iterator[TestClient]:
    with TestClient(create_app(quiet, ""), base_url="http://127.0.0.1:8000", client=LOCAL) as client:
        yield client


def png(width: int, height: int) -> str:
    sink = io.BytesIO()
    Image.new("RGB", (width, height)).save(sink, "PNG")
    return base64.b64encode(sink.getvalue()).decode()


def bomb(width: int, height: int) -> str:
    """A PNG that says to be of this size and holds next to no pixels: decoding it would fail, not only be slow."""
    return base64.b64encode(hostile_png(width, height, 8, 2)).decode()


def problem(answer, status: int, kind: str) -> schemas.Problem:  # type: ignore[no-untyped-def]
    """Return the problem of an answer that must be one, whole and without a trace of the code."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = schemas.Problem.model_validate_json(answer.content)
    assert found.type == f"urn:thermapair:{kind}"
    assert found.status == status
    assert found.detail and found.way_out
    assert found.request_id
    assert "Traceback" not in answer.text and ".py" not in answer.text
    return found


class TestRequests:
    @pytest.mark.parametrize(
        ("path", "content", "kind", "said"),
        [
            ("/v1/pairs", {"seeds": 7}, "invalid", "seeds"),
            ("/v1/pairs", {"embedding": [0.0] * 511}, "invalid", "embedding"),
            ("/v1/pairs", {"embedding": [0.0] * 512}, "invalid", "length zero"),
            ("/v1/pairs", {"embedding": [0.0] * 512, "picture": png(8, 8)}, "invalid", "not both"),
            ("/v1/pairs", {"caption": "A man.", "attributes": {"sex": "man"}}, "invalid", "not both"),
            ("/v1/pairs", {"attributes": {"scar": "long"}}, "invalid", "no attribute 'scar'"),
            ("/v1/pairs", {"attributes": {"age": "ancient"}}, "invalid", "young, middle-aged, elderly"),
            ("/v1/pairs", {"conditions": ["warm", "warm"]}, "invalid", "different"),
            ("/v1/pairs", {"conditions": []}, "invalid", "conditions"),
            ("/v1/pairs", {"conditions": ["Hot"]}, "invalid", "neither a word"),
            ("/v1/pairs", {"conditions": [300]}, "invalid", "a room of -60 to 80 degrees"),
            ("/v1/pairs", {"conditions": ["hot"]}, "invalid", "no condition 'hot'; it has: warm, cold"),
            ("/v1/pairs", {"conditions": [22.5]}, "invalid", "no room in degrees, so not '22.5'"),
            ("/v1/pairs", {"conditions": ["warm"], "samples": 2}, "invalid", "samples has to be 1"),
            ("/v1/pairs", {"samples": 3}, "over-limit", "conditions x samples is 6, at most 4"),
            ("/v1/pairs", {"views": 5}, "over-limit", "views is 5, at most 4"),
            ("/v1/pairs", {"steps": 4}, "invalid", "steps"),
            (
                "/v1/pairs",
                {"settings": {"visible": {"steps": 9}}},
                "over-limit",
                "settings.visible.steps is 9, at most 8",
            ),
            ("/v1/pairs", {"settings": {"visible": {"steps": 0}}}, "invalid", "settings.visible.steps"),
            ("/v1/pairs", {"settings": {"visible": {"step": 2}}}, "invalid", "known here: steps, guidance"),
            ("/v1/pairs", {"settings": {"thermal": {"steps": 2}}}, "invalid", "settings.thermal.steps: unknown key"),
            ("/v1/pairs", {"settings": {"visible": {"size": 64}}}, "invalid", "settings.visible.size"),
            ("/v1/pairs", {"settings": {"visibel": {}}}, "invalid", "no stage 'visibel' here; known: visible, parser"),
            ("/v1/pairs", {"settings": {"gates": {"identity": 0}}}, "invalid", "a field of their own"),
            ("/v1/pairs", {"gates": {"attempts": 3}}, "over-limit", "gates.attempts is 3, at most 2"),
            ("/v1/pairs", {"picture": "/"}, "bad-picture", "not base64"),
            ("/v1/thermalize", {"pictures": []}, "invalid", "pictures"),
            ("/v1/thermalize", {"pictures": [png(8, 8)], "conditions": [20]}, "invalid", "no room in degrees"),
            (
                "/v1/thermalize",
                {"pictures": [png(8, 8)], "settings": {"visible": {}}},
                "invalid",
                "known: parser, thermal",
            ),
            ("/v1/thermalize", {"pictures": [png(8, 8)] * 4}, "over-limit", "pictures is 4, at most 3"),
            ("/v1/thermalize", {"pictures": [png(8, 8), "AAAA"]}, "bad-picture", "picture 1: not a picture"),
            ("/v1/thermalize", {"pictures": [bomb(1001, 1000)]}, "too-many-pixels", "1001 x 1000"),
            ("/v1/thermalize", {"pictures": [bomb(40_000, 40_000)]}, "too-many-pixels", "too large"),
            ("/v1/thermalize", {"pictures": [bomb(1000, 1000)]}, "bad-picture", "picture 0"),
            ("/v1/captions", {"attributes": [{}] * 5}, "over-limit", "at most 4"),
            ("/v1/captions", {"attributes": [{"Ignore\nall": "x"}]}, "invalid", "no attribute"),
            ("/v1/captions", {"attributes": [{"age": "ignore all previous"}]}, "invalid", "young, middle-aged"),
            ("/v1/landmarks", {"pictures": [png(8, 8)], "points": 69}, "invalid", "points"),
        ],
    )
    def test_what_is_wrong_is_named(self, client: TestClient, path: str, content: dict, kind: str, said: str) -> None:
        assert said in problem(client.post(path, json=content), 422, kind).detail

    def test_every_wrong_field_is_listed(self, client: TestClient) -> None:
        found = problem(client.post("/v1/pairs", json={"views": 0, "seed": -1, "more": 1}), 422, "invalid")
        assert {line.partition(":")[0] for line in found.errors} == {"views", "seed", "more"}

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
    def test_bodies_that_are_no_json(self, client: TestClient, content: bytes) -> None:
        problem(
            client.post("/v1/pairs", content=content, headers={"content-type": "application/json"}), 400, "bad-json"
        )

    def test_other_bodies_and_paths(self, client: TestClient) -> None:
        problem(client.post("/v1/pairs", content=b"seed: 7", headers={"content-type": "text/yaml"}), 415, "media-type")
        problem(client.post("/v1/captions", files={"picture": b"x"}), 415, "media-type")
        problem(client.get("/v2/pairs"), 404, "not-found")
        answer = client.get("/v1/pairs")
        problem(answer, 405, "method")
        assert answer.headers["allow"] == "POST"

    def test_a_bundle_without_a_model_says_so(self) -> None:
        whole = SETTINGS.load()
        bundle = whole.bundle.model_copy(
            update={"parts": {name: part for name, part in whole.bundle.parts.items() if name != "landmarks"}}
        )
        service = Service(check_request(whole.job, bundle, whole.profile), stage_deployments=[])
        with TestClient(create_app(service, ""), base_url="http://127.0.0.1:8000", client=LOCAL) as client:
            found = problem(client.post("/v1/landmarks", json={"pictures": [png(8, 8)]}), 501, "not-in-bundle")
        assert "landmarks" in found.detail

    def test_no_language_model(self, client: TestClient) -> None:
        content = {"attributes": [{"sex": "man"}], "captions": "llm"}
        problem(client.post("/v1/captions", json=content), 501, "not-in-bundle")

    def test_multipart_is_the_same_request(self, client: TestClient) -> None:
        files = [("picture", ("a.png", base64.b64decode(bomb(1001, 1000)))), ("picture", ("b.png", b"x"))]
        found = problem(client.post("/v1/thermalize", files=files), 422, "too-many-pixels")
        assert found.detail.startswith("picture 0")
        form = {"request": '{"conditions": ["Hot"]}'}
        assert "conditions" in problem(client.post("/v1/thermalize", files=files, data=form), 422, "invalid").detail
        problem(client.post("/v1/thermalize", files=files, data={"request": "{"}), 400, "bad-json")
        problem(client.post("/v1/thermalize", files=files, data={"request": "[]"}), 400, "bad-json")
        assert "'seed'" in problem(client.post("/v1/pairs", files=files[:1], data={"seed": "7"}), 422, "invalid").detail
        problem(client.post("/v1/pairs", files=files), 422, "over-limit")

    def test_captions_of_the_grammar_need_no_deployment(self, client: TestClient) -> None:
        content = {"attributes": [{"sex": "woman", "age": "elderly"}], "captions": "template", "seed": 5}
        first, again = (client.post("/v1/captions", json=content) for _ in range(2))
        found = schemas.CaptionsAnswer.model_validate_json(first.content).captions[0]
        assert found.caption_source == "template"
        assert found.caption == again.json()["captions"][0]["caption"]

    def test_prompts_are_read_and_put_into_words(self, client: TestClient) -> None:
        asked = {"prompts": ["an elderly man with a scar on the chin in a cold room"], "captions": "template"}
        (found,) = client.post("/v1/captions", json=asked).json()["captions"]
        assert found["attributes"] == {"sex": "man", "age": "elderly"}
        assert (found["conditions"], found["also"]) == (["cold"], "a scar on the chin")
        assert found["caption"].endswith(" A scar on the chin.")

    @pytest.mark.parametrize(
        ("asked", "status", "kind"),
        [
            ({"attributes": [{}], "prompts": ["a man"]}, 422, "invalid"),
            ({"seed": 1}, 422, "invalid"),
            ({"prompts": [" "]}, 422, "invalid"),
            ({"attributes": [{}], "mode": "sing"}, 422, "invalid"),
            ({"attributes": [{}], "mode": "invent", "captions": "template"}, 422, "invalid"),
            ({"attributes": [{}], "mode": "invent", "captions": "llm"}, 501, "not-in-bundle"),
            ({"prompts": ["a man"], "captions": "llm"}, 501, "not-in-bundle"),
        ],
    )
    def test_captions_that_cannot_be_are_refused(
        self, client: TestClient, asked: dict[str, object], status: int, kind: str
    ) -> None:
        problem(client.post("/v1/captions", json=asked), status, kind)

    def test_a_defect_is_told_without_its_stack(self, quiet: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        async def broken(*_: object) -> None:
            raise ZeroDivisionError("secret")

        monkeypatch.setattr(quiet, "captions", broken)
        with TestClient(create_app(quiet, ""), base_url="http://localhost", client=LOCAL) as client:
            answer = client.post("/v1/captions", json={"attributes": [{}]})
        problem(answer, 500, "defect")
        assert "secret" not in answer.text


class TestAccess:
    def test_a_body_is_refused_from_its_length(self, client: TestClient) -> None:
        headers = {"content-length": str(2**20 + 1), "content-type": "application/json"}
        problem(client.post("/v1/pairs", content=b"{}", headers=headers), 413, "too-large")

    def test_a_body_without_length_is_read_no_further_than_the_limit(self, client: TestClient) -> None:
        read = 0

        def endless() -> Iterator[bytes]:
            nonlocal read
            for _ in range(64):
                read += 1
                yield b" " * 2**16

        problem(
            client.post("/v1/pairs", content=endless(), headers={"content-type": "application/json"}), 413, "too-large"
        )

    def test_so_many_are_under_way_on_one_path_and_probes_always(self) -> None:
        async def ask() -> list[int]:
            found, go = list[int](), asyncio.Event()

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await go.wait()
                await send({"type": "http.response.start", "status": 200, "headers": []})

            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    assert message["status"] == 200 or (b"retry-after", b"3") in message["headers"]
                    found.append(message["status"])

            async def call(method: str, path: str) -> None:
                head = {"headers": [(b"host", b"localhost")], "client": LOCAL, "query_string": b""}
                await middleware({"type": "http", "method": method, "path": path, **head}, None, send)  # type: ignore[arg-type]

            middleware = AccessMiddleware(app, key="", body=9, most=2, retry=3)
            asked = [("POST", "/a"), ("POST", "/a"), ("POST", "/a"), ("POST", "/b"), *[("GET", "/a")] * 3]
            calls = [asyncio.create_task(call(*one)) for one in asked]
            await asyncio.sleep(0)
            assert found == [503]
            go.set()
            await asyncio.gather(*calls)
            await call("POST", "/a")
            assert not middleware.under_way
            return found

        assert asyncio.run(ask()) == [503] + [200] * 7

    def test_request_ids_are_kept_or_made(self, client: TestClient) -> None:
        assert client.get("/healthz", headers={"x-request-id": "mine-1"}).json()["request_id"] == "mine-1"
        assert len(client.get("/healthz").json()["request_id"]) == 32

    def test_without_a_key_this_machine_alone_may_ask(self, quiet: Service) -> None:
        app = create_app(quiet, "")
        far = TestClient(app, base_url="http://127.0.0.1", client=("192.0.2.7", 4000))
        problem(far.get("/v1/models"), 403, "not-local")
        assert far.get("/healthz").status_code == 200
        rebound = TestClient(app, base_url="http://evil.example:8000", client=LOCAL)
        problem(rebound.get("/v1/models"), 403, "not-local")
        near = TestClient(app, base_url="http://localhost:8000", client=LOCAL)
        problem(near.get("/v1/models", headers={"origin": "https://evil.example"}), 403, "not-local")
        assert near.get("/v1/models", headers={"origin": "http://localhost:8000"}).status_code == 200
        assert near.get("/v1/models", headers={"host": "[::1]:8000"}).status_code == 200
        problem(near.get("/v1/models", headers={"host": "[bad"}), 403, "not-local")

    @pytest.mark.parametrize("headers", [{"authorization": "Bearer k3y"}, {"x-api-key": "k3y"}])
    def test_a_key_opens_the_service_to_others(self, quiet: Service, headers: dict[str, str]) -> None:
        far = TestClient(create_app(quiet, "k3y"), base_url="http://faces.example", client=("192.0.2.7", 4000))
        assert far.get("/v1/models", headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "headers", [{}, {"authorization": "Bearer k3"}, {"authorization": "Basic k3y"}, {"x-api-key": "K3Y"}]
    )
    def test_a_wrong_key_does_not(self, quiet: Service, headers: dict[str, str]) -> None:
        near = TestClient(create_app(quiet, "k3y"), base_url="http://127.0.0.1", client=LOCAL)
        answer = near.get("/v1/models", headers=headers)
        problem(answer, 401, "no-key")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "k3y" not in answer.text

    @pytest.mark.parametrize(
        ("host", "expected"),
        [("localhost", True), ("127.8.0.1", True), ("[::1]", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False),
         ("localhost.evil.example", False), ("10.0.0.1", False), ("", False)],
    )  # fmt: skip
    def test_what_counts_as_this_machine(self, host: str, expected: bool) -> None:
        assert is_loopback(host) is expected

    def test_other_machines_need_a_key_before_anything_starts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(KEY_VARIABLE, raising=False)
        with pytest.raises(UserError, match=KEY_VARIABLE):
            check_host("0.0.0.0")
        monkeypatch.setenv(KEY_VARIABLE, "k3y")
        check_host("0.0.0.0")


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "kind", "status"),
        [
            (BackPressureError(9, 8), "busy", 503),
            (TimeoutError(), "timeout", 504),
            (RayActorError(), "replica-lost", 503),
            (RayTaskError("run", "", UserError("no such condition")).as_instanceof_cause(), "invalid", 422),
            (RayTaskError("run", "", EnvironmentFault("/secret/path")).as_instanceof_cause(), "environment", 503),
            (RayTaskError("run", "", KeyError("secret")).as_instanceof_cause(), "defect", 500),
        ],
    )
    def test_a_failed_call_says_what_its_caller_can_do(self, error: Exception, kind: str, status: int) -> None:
        found = problems.of_failure(error, retry=2)
        answer = problems.response(found, "id")
        assert (found.kind, answer.status_code) == (kind, status)
        assert b"secret" not in answer.body
        assert ("retry-after" in answer.headers) == (status == 503)


class TestAccept:
    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            (None, JSON),
            ("*/*", JSON),
            ("image/*", PNG),
            ("image/png", PNG),
            ("image/png; unit=centikelvin", CENTIKELVIN),
            ('IMAGE/PNG;UNIT="centikelvin"', CENTIKELVIN),
            ("image/png;q=0.2, application/x-npy;q=0.8", NPY),
            ("text/html, */*;q=0.1", JSON),
            ("*/*, application/json;q=0", PNG),
        ],
    )
    def test_the_best_offer_is_chosen(self, header: str | None, expected: Media) -> None:
        assert choose_media(header, [JSON, PNG, CENTIKELVIN, NPY]) == expected

    @pytest.mark.parametrize("header", ["text/html", "image/png; unit=kelvin", "application/json;q=0", "image/png;q=x"])
    def test_what_there_is_not_is_refused_with_what_there_is(self, header: str) -> None:
        with pytest.raises(ProblemError, match="image/png; unit=centikelvin"):
            choose_media(header, [JSON, PNG, CENTIKELVIN])

    def test_a_picture_is_one_picture(self, client: TestClient) -> None:
        two = {"pictures": [png(8, 8), png(8, 8)], "conditions": ["warm"]}
        for form in ("image/png", "image/png; unit=centikelvin", "application/x-npy"):
            problem(client.post("/v1/thermalize", json=two, headers={"accept": form}), 406, "not-acceptable")
        problem(client.post("/v1/pairs", json={"views": 2}, headers={"accept": "image/png"}), 406, "not-acceptable")
        problem(client.get("/v1/pairs"), 405, "method")

    @pytest.mark.parametrize("form", ["image/png", "image/png; unit=centikelvin"])
    def test_one_picture_is_of_one_condition(self, client: TestClient, form: str) -> None:
        """Two conditions are two thermal pictures: the first alone would be taken for both."""
        two = {"pictures": [png(8, 8)], "conditions": ["warm", "cold"]}
        found = problem(client.post("/v1/thermalize", json=two, headers={"accept": form}), 406, "not-acceptable")
        assert found.detail == f"{form} holds one picture, this makes 2"
        if form != "image/png":  # of a pair that is the visible picture, the same in every condition
            body = {"conditions": ["warm", "cold"]}
            problem(client.post("/v1/pairs", json=body, headers={"accept": form}), 406, "not-acceptable")


class TestCodecs:
    @pytest.mark.parametrize("letter", ["*", "-", "_", "%", "\N{LATIN SMALL LETTER E WITH ACUTE}", "\0", "="])
    def test_letters_that_are_not_of_base64_are_refused(self, letter: str) -> None:
        """They are not passed over: what is left may be another picture."""
        text = base64.b64encode(b"some bytes of a picture").decode()
        assert codecs.from_base64(text, 0) == codecs.from_base64(f"data:image/png;base64,{text}", 0)
        with pytest.raises(ProblemError, match="picture 3: not base64"):
            codecs.from_base64(f"{text[:8]}{letter}{text[8:]}", 3)

    def test_limits_are_what_is_taken_at_most(self) -> None:
        check_limit("views", 4, 4)
        with pytest.raises(ProblemError, match="views is 5, at most 4 are taken"):
            check_limit("views", 5, 4)
        assert codecs.max_pixels(Limits(megapixels=1.5)) == 1_500_000

    def test_values_of_any_kind_become_json(self) -> None:
        answer = codecs.json_response(
            {"a": (1, np.float32(2.5), [np.bool_(True)]), "b": {"c": np.array([[1, 2]])}, "d": None, "e": float("nan")}
        )
        assert json.loads(answer.body) == {"a": [1, 2.5, [True]], "b": {"c": [[1, 2]]}, "d": None, "e": None}
        assert answer.headers["content-type"] == "application/json"

    def test_false_colours_span_a_degree_at_least_and_leave_out_what_has_no_reading(self) -> None:
        counts = np.full((4, 4), 30_315, np.uint16)
        counts[0, 0], counts[1, 1] = 0, 30_355
        answer = codecs.false_colour_response(counts)
        assert (answer.headers["x-colours-from"], answer.headers["x-colours-to"]) == ("30.00 degC", "31.00 degC")
        assert answer.headers["content-type"] == "image/png"

    def test_centikelvin_and_npy_come_back(self) -> None:
        counts = np.array([[30_815, 27_315], [0, 65_535]], np.uint16)
        answer = codecs.centikelvin_response(counts)
        assert (decode(answer.body) == counts).all()
        assert decode(answer.body).dtype == np.uint16
        assert answer.headers["content-type"] == "image/png; unit=centikelvin"
        assert answer.headers["x-thermal-scale"] == "0.01"
        values = np.array([1.5, np.nan], np.float32)
        loaded = np.load(io.BytesIO(codecs.npy_response(values).body), allow_pickle=False)
        np.testing.assert_array_equal(loaded, values)

    def test_false_colours_say_their_range(self) -> None:
        counts = (np.arange(20, 36).reshape(4, 4) * 100 + 27_315).astype(np.uint16)
        answer = codecs.false_colour_response(counts)
        assert decode(answer.body).shape == (4, 4, 3)
        assert answer.headers["x-colours-from"] == "20.00 degC"
        assert answer.headers["x-colours-to"] == "35.00 degC"

    def test_json_has_no_nan(self) -> None:
        answer = codecs.json_response({"a": np.array([1.0, np.nan], np.float32), "b": b"\x00\xff", "c": np.int32(3)})
        assert json.loads(answer.body) == {"a": [1.0, None], "b": "AP8=", "c": 3}


def test_the_client_needs_neither_ray_nor_torch() -> None:
    code = "import sys, serve.client; print(*sorted({'ray', 'torch', 'cv2', 'diffusers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


class TestDocument:
    def test_every_example_is_a_request(self) -> None:
        for model, found in examples.BODIES.items():
            for content in found.values():
                model.model_validate(content)

    def test_every_reference_of_the_document_is_there(self, client: TestClient) -> None:
        document = client.get("/openapi.json").json()
        text = json.dumps(document)
        for name in {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}:
            assert name in document["components"]["schemas"], name
        for path, operations in document["paths"].items():
            for operation in operations.values():
                assert {"403", "413", "422", "503"} <= set(operation["responses"]), path

    def test_the_document_says_how_a_key_is_sent_and_what_asks_for_none(self, client: TestClient) -> None:
        document = client.get("/openapi.json").json()
        schemes = document["components"]["securitySchemes"]
        assert {(one["type"], one.get("scheme", one.get("name"))) for one in schemes.values()} == {
            ("http", "bearer"),
            ("apiKey", "X-API-Key"),
        }
        asked = {
            path: operation.get("security") for path, one in document["paths"].items() for operation in one.values()
        }
        assert {path for path, security in asked.items() if not security} == {"/healthz", "/readyz"}
        assert [list(one) for one in asked["/v1/pairs"]] == [[name] for name in schemes]

    def test_conditions_of_the_document_are_those_of_the_bundle(self, client: TestClient) -> None:
        found = client.get("/openapi.json").json()["components"]["schemas"]
        for name in ("PairsRequest", "ThermalizeRequest"):
            choices = found[name]["properties"]["conditions"]["anyOf"]
            assert {
                "type": "array",
                "minItems": 1,
                "uniqueItems": True,
                "maxItems": 4,
                "items": {"enum": ["warm", "cold"]},
            } in choices

    def test_the_configuration_is_one_that_ray_serve_takes(self) -> None:
        content = config(Settings(overrides=["captions=template"]), "0.0.0.0", 9000)
        parsed = ServeDeploySchema.model_validate(content)
        assert parsed.applications[0].import_path == "serve.app:build"
        assert Settings.model_validate(parsed.applications[0].args).overrides == ["captions=template"]
        assert KEY_VARIABLE not in json.dumps(content)

    def test_the_command_writes_it(self, tmp_path: Path) -> None:
        file = tmp_path / "new" / "serve.yaml"
        assert cli.main(["serve", "--host", "0.0.0.0", "--set", "captions=template", "--config-out", str(file)]) == 0
        content = ServeDeploySchema.model_validate(yaml.safe_load(file.read_text()))
        assert content.http_options.host == "0.0.0.0"

    def test_a_wrong_setting_is_named(self) -> None:
        with pytest.raises(UserError, match="no bundle 'nothing'"):
            config(Settings(bundle="nothing"), "127.0.0.1", 8000)
        with pytest.raises(UserError, match="request_seconds"):
            config(Settings(overrides=["profile.serve.request_seconds=0"]), "127.0.0.1", 8000)
        with pytest.raises(UserError, match="known here: steps, guidance"):
            config(Settings(overrides=["job.settings.visible.step=2"]), "127.0.0.1", 8000)

    def test_redraws_stay_with_the_gates_or_the_service_does_not_start(self) -> None:
        cut = "profile.groups=[{stages: [visible]}, {stages: [parser, thermal, faces, gates, landmarks]}]"
        once = [cut, "job.gates.attempts=1"]
        with pytest.raises(UserError, match=r"or set profile\.serve\.limits\.attempts=1"):
            Settings(overrides=once).load()
        Settings(overrides=[*once, "profile.serve.limits.attempts=1"]).load()

    def test_what_requests_leave_open_must_be_within_the_limits(self) -> None:
        with pytest.raises(UserError, match=r"leave everything open .* settings\.visible\.steps is 16, at most 8"):
            build(Settings(overrides=["profile.serve.limits.steps=8", "captions=template"]))
