"""What the service says of itself: its document, its configuration, and a client that needs nothing heavy."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient
from ray.serve.schema import ServeDeploySchema

from cluster import cli
from models.errors import UserError
from models.weights.store import ROOT
from serve.app import Settings, build, config
from serve.http import examples
from serve.http.middleware import KEY_VARIABLE
from serve.service import Service
from tests.serve.local import ask_here


@pytest.fixture
def client(quiet: Service) -> Iterator[TestClient]:
    with ask_here(quiet) as client:
        yield client


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
