"""A hub on this machine, as far as a client needs one to make a data set, send files by commits, and see what is there."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlparse

SMALL = 1000
"""Bytes from which a file is large (LFS)."""


class Hub(ThreadingHTTPServer):
    """What it knows: data sets, their files, contents by SHA-256, commits; and the token that it takes."""

    daemon_threads = True

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.token = token
        self.files: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.commits: list[list[str]] = []
        self.private: dict[str, bool] = {}
        self.fails_after: int | None = None
        """Commits that are taken before one is answered 503."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None: ...

    def answer(self, status: int, content: Any = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self) -> None:
        path = urlparse(self.path).path
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self.answer(401, {"error": "Invalid credentials"})
        if "/tree/" not in path:
            return self.answer(404, {"error": "not found"})
        files = self.server.files[path.split("/api/datasets/")[1].split("/tree/")[0]]
        self.answer(200, [self.entry(name, content) for name, content in files.items()])

    @staticmethod
    def entry(name: str, content: bytes) -> dict[str, Any]:
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        found: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": blob}
        if len(content) >= SMALL:
            digest = hashlib.sha256(content).hexdigest()
            found["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
        return found

    def do_PUT(self) -> None:
        content = self.body()
        self.server.objects[hashlib.sha256(content).hexdigest()] = content
        self.answer(200)

    def do_POST(self) -> None:
        body, path = self.body(), urlparse(self.path).path
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self.answer(401, {"error": "Invalid credentials"})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            status = 409 if name in self.server.files else 200
            self.server.files.setdefault(name, {})
            self.server.private.setdefault(name, asked.get("visibility") == "private" or bool(asked.get("private")))
            return self.answer(status, {"url": f"{self.server.endpoint}/datasets/{name}"})
        if path == "/api/validate-yaml":
            return self.answer(200, {"warnings": [], "errors": []})
        if "/preupload/" in path:
            files = [{"path": one["path"], "uploadMode": "lfs" if one["size"] >= SMALL else "regular", "shouldIgnore": False}
                     for one in json.loads(body)["files"]]  # fmt: skip
            return self.answer(200, {"files": files})
        if path.endswith("/info/lfs/objects/batch"):
            href = f"{self.server.endpoint}/object"
            objects = [{**one, "actions": {"upload": {"href": href}}} for one in json.loads(body)["objects"]]
            return self.answer(200, {"transfer": "basic", "objects": objects})
        if "/commit/" in path:
            return self.commit(path.split("/api/datasets/")[1].split("/commit/")[0], body)
        self.answer(404, {"error": "not found"})

    def commit(self, repo: str, body: bytes) -> None:
        hub = self.server
        if hub.fails_after is not None and len(hub.commits) >= hub.fails_after:
            return self.answer(503, {"error": "busy"})
        lines = [json.loads(line) for line in body.splitlines()]
        for line in lines[1:]:
            value = line["value"]
            hub.files[repo][value["path"]] = (
                hub.objects[value["oid"]] if line["key"] == "lfsFile" else base64.b64decode(value["content"])
            )
        hub.commits.append([line["value"]["path"] for line in lines[1:]])
        self.answer(
            200,
            {
                "commitUrl": f"{hub.endpoint}/datasets/{repo}/commit/{'0' * 40}",
                "commitOid": "0" * 40,
                "pullRequestUrl": None,
            },
        )


@contextmanager
def running(token: str) -> Iterator[Hub]:
    """Serve a hub that takes `token` while the block runs."""
    with Hub(token) as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()
