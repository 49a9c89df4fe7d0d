"""A service without Ray: its deployments in this process, behind handles that answer as Ray Serve's do, asked over HTTP."""

import asyncio
import base64
import copy
import io
from typing import Any

from fastapi.testclient import TestClient
from PIL import Image

from serve.api import create_app
from serve.app import Settings, call_rows
from serve.http import answers, codecs
from serve.pairs_request import served_chain, thermal_faces
from serve.service import Service
from serve.stage_deployment import StageDeployment

LOCAL = ("127.0.0.1", 40000)


class Method:
    """A method of a handle: `remote` starts it and returns a task, which can be awaited and cancelled."""

    def __init__(self, method: Any) -> None:
        self.method = method

    def remote(self, *asked: Any) -> asyncio.Task:
        # Between processes everything travels as a copy.
        return asyncio.ensure_future(self.method(*copy.deepcopy(asked)))


class Handle:
    """The handle of one replica of `deployment`."""

    def __init__(self, deployment: Any) -> None:
        self.deployment = deployment

    def __getattr__(self, name: str) -> Method:
        return Method(getattr(self.deployment, name))


def local_service(settings: Settings, captions: Any = None) -> Service:
    """Return a service of `settings` whose deployments of stages have one replica each, in this process.

    captions: the deployment of the language model, where there is one.
    """
    request = settings.load()
    served = served_chain(request.chain, request.bundle)
    groups = request.profile.assign(served.stages)
    batch, serving = call_rows(request.chain), request.profile.serve
    wait, pixels = serving.batch_wait_ms / 1000, codecs.max_pixels(serving.limits)
    thermal = thermal_faces(request.bundle)
    handles = [
        (group.stages, Handle(StageDeployment(served.part_of(group.stages), 1, batch, wait, pixels, thermal)))
        for group in groups
    ]
    return Service(request, handles, None if captions is None else Handle(captions))


def ask_here(service: Service, key: str = "") -> TestClient:
    """Return a client on this machine that asks `service`."""
    return TestClient(create_app(service, key), base_url="http://127.0.0.1:8000", client=LOCAL)


def png(width: int, height: int) -> str:
    """Return a black PNG as base64."""
    sink = io.BytesIO()
    Image.new("RGB", (width, height)).save(sink, "PNG")
    return base64.b64encode(sink.getvalue()).decode()


def problem(answer, status: int, kind: str) -> answers.Problem:  # type: ignore[no-untyped-def]
    """Return the problem of an answer that must be one, whole and without a trace of the code."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answers.Problem.model_validate_json(answer.content)
    assert found.type == f"urn:thermapair:{kind}"
    assert found.status == status
    assert found.detail and found.way_out
    assert found.request_id
    assert "Traceback" not in answer.text and ".py" not in answer.text
    return found
