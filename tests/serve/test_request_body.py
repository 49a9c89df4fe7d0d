"""Bodies: one model for JSON and forms, as many files as are taken, within the time that a body may take."""

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict

from serve import request_body
from serve.http.problems import ProblemError
from serve.request_body import decode_pictures, read_body


class One(BaseModel):
    model_config = ConfigDict(extra="forbid")

    picture: str | None = None
    seed: int = 0


class Many(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pictures: list[str] = []
    seed: int = 0


def ask(model: type[BaseModel], field: str, most: int, **request: Any) -> Any:
    """Return the model that a request is read as, or the problem that it has."""
    app, found = FastAPI(), list[Any]()

    @app.post("/")
    async def read(request: Request) -> None:
        try:
            found.append(await read_body(request, model, field, most))
        except ProblemError as error:
            found.append(error)

    with TestClient(app) as client:
        assert client.post("/", **request).is_success
    return found[0]


def files(*names: str) -> list[tuple[str, tuple[str, bytes]]]:
    return [("picture", (name, name.encode())) for name in names]


def encode(name: str) -> str:
    return base64.b64encode(name.encode()).decode()


def test_a_form_is_the_same_request_as_json() -> None:
    json_form = ask(Many, "pictures", 2, json={"pictures": [encode("a"), encode("b")], "seed": 3})
    form = ask(Many, "pictures", 2, files=files("a", "b"), data={"request": '{"seed": 3}'})
    assert json_form == form == Many(pictures=[encode("a"), encode("b")], seed=3)
    assert ask(One, "picture", 2, files=files("a")) == One(picture=encode("a"))
    assert ask(One, "picture", 2, data={"picture": "a"}, files=[("request", (None, "{}"))]) == One(picture=encode("a"))
    assert ask(One, "picture", 2, files=[("request", (None, '{"seed": 5}'))]) == One(seed=5)
    assert decode_pictures([encode("a"), encode("b")]) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("model", "field", "most", "request_", "named"),
    [
        (Many, "pictures", 2, {"json": {"pictures": ["x"] * 3}}, "pictures is 3, at most 2"),
        (Many, "pictures", 2, {"files": files("a", "b", "c")}, "pictures is 3, at most 2"),
        (One, "picture", 2, {"files": files("a", "b")}, "pictures is 2, at most 1"),
        (Many, "pictures", 2, {"files": files("a"), "data": {"seed": "3"}}, "unknown part 'seed'"),
        (Many, "pictures", 2, {"files": files("a"), "data": {"request": "{"}}, "is not JSON"),
        (Many, "pictures", 2, {"files": files("a"), "data": {"request": "[]"}}, "not a JSON object"),
        (Many, "pictures", 2, {"json": {"seed": "x"}}, "seed"),
        (Many, "pictures", 2, {"content": b"{}", "headers": {"content-type": "text/plain"}}, "the body is text/plain"),
        (Many, "pictures", 2, {"content": b"{}"}, "the body is of no type"),
        (Many, "", 0, {"files": files("a")}, "the body is multipart/form-data"),
    ],
)
def test_what_is_not_taken_is_named(
    model: type[BaseModel], field: str, most: int, request_: dict[str, Any], named: str
) -> None:
    found = ask(model, field, most, **request_)
    assert isinstance(found, ProblemError) and named in str(found)


def test_types_have_parameters_and_any_case() -> None:
    found = ask(Many, "", 0, content=b"{}", headers={"content-type": "Application/JSON; charset=utf-8"})
    assert found == Many()
    refused = ask(Many, "", 0, content=b"", headers={"content-type": "text/yaml"})
    assert "multipart" not in refused.way_out
    assert "multipart" in ask(Many, "pictures", 2, content=b"", headers={"content-type": "text/yaml"}).way_out


def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "BODY_SECONDS", 0.01)
    receive: Callable[[], Any] = lambda: asyncio.sleep(20)  # noqa: E731
    request = Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)
    with pytest.raises(ProblemError, match=r"nothing whole within 0\.01 s"):
        asyncio.run(read_body(request, Many))
