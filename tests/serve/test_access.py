"""Who may ask the service, how much at once, and from where."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from models.errors import UserError
from serve.api import create_app
from serve.app import check_host
from serve.http.middleware import KEY_VARIABLE, AccessMiddleware, is_loopback
from serve.service import Service
from tests.serve.local import LOCAL, ask_here, problem


@pytest.fixture
def client(quiet: Service) -> Iterator[TestClient]:
    with ask_here(quiet) as client:
        yield client


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
