"""Requests over HTTP without Ray: what is refused before anything is computed, and how."""

import base64
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError

from models.errors import EnvironmentFault, UserError
from pipelines.config.request import check_request
from serve.api import create_app
from serve.http import answers, problems
from serve.service import Service
from tests.pipelines.pictures.test_open import png as hostile_png
from tests.serve.conftest import SETTINGS
from tests.serve.local import LOCAL, ask_here, png, problem


@pytest.fixture
def client(quiet: Service) -> Iterator[TestClient]:
    with ask_here(quiet) as client:
        yield client


def bomb(width: int, height: int) -> str:
    """A PNG that says to be of this size and holds next to no pixels: decoding it would fail, not only be slow."""
    return base64.b64encode(hostile_png(width, height, 8, 2)).decode()


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
        with ask_here(service) as client:
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
        found = answers.CaptionsAnswer.model_validate_json(first.content).captions[0]
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
