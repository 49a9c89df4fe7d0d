"""A typed client of the service, in plain httpx: no Ray, no torch.

with Client() as client:
    wanted = {"seed": 7, "conditions": ["warm"], "settings": {"visible": {"steps": 4}}}
    visible, celsius = client.pairs(**wanted).pairs[0].visible.bytes, client.celsius(**wanted)
"""

import base64
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx
import numpy as np
from pydantic import BaseModel

from models.landmarks.settings import Standard
from serve.http import answers

Answer = TypeVar("Answer", bound=BaseModel)
File = bytes | str | Path
NPY, CENTIKELVIN = "application/x-npy", "image/png; unit=centikelvin"


class ServiceError(Exception):
    """The service did not answer; `problem` says why and what to do."""

    def __init__(self, problem: answers.Problem) -> None:
        super().__init__(f"{problem.detail} {problem.way_out} (request {problem.request_id})")
        self.problem = problem


class Client:
    """Asks the service at `url`. A busy or restarting one (503, or a connection that ends without an answer) is
    asked again up to `retries` times.

    Every method raises ServiceError with the service's problem, and httpx's errors when there is no connection.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str = "",
        *,
        timeout: float = 180.0,
        retries: int = 3,
    ) -> None:
        self.retries = retries
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=timeout)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.http.close()

    def pairs(self, **request: Any) -> answers.PairsAnswer:
        """Return pairs; the arguments are the fields of `PairsRequest`; `picture`, `reference` and `crop` may be files."""
        return self._answer(answers.PairsAnswer, "/v1/pairs", _with_file(request))

    def celsius(self, **request: Any) -> np.ndarray:
        """Return the thermal pictures of the same pairs alone: float32 [pairs, H, W] degrees Celsius."""
        return _array(self._post("/v1/pairs", _with_file(request), NPY))

    def thermalize(self, pictures: Sequence[File], **request: Any) -> answers.ThermalizeAnswer:
        """Return thermal pictures of pictures; further arguments are the fields of `requests.ThermalizeRequest`."""
        return self._answer(answers.ThermalizeAnswer, "/v1/thermalize", {**request, "pictures": _encode(pictures)})

    def centikelvin(self, picture: File, condition: str | float, **request: Any) -> bytes:
        """Return the 16-bit PNG of one picture in one condition, a square (`thermalize` says what of it is padding)."""
        content = {**request, "pictures": _encode([picture]), "conditions": [condition]}
        return self._post("/v1/thermalize", content, CENTIKELVIN).content

    def translate(self, pictures: Sequence[File], **request: Any) -> answers.TranslateAnswer:
        """Return visible pictures of thermal ones; further arguments are the fields of `requests.TranslateRequest`."""
        return self._answer(answers.TranslateAnswer, "/v1/translate", {**request, "pictures": _encode(pictures)})

    def embed(self, pictures: Sequence[File], **request: Any) -> answers.EmbedAnswer:
        """Return the face and embedding of each picture, or the reason why it has none; further arguments (`modality`, `unit`)
        are the fields of `requests.EmbedRequest`."""
        return self._answer(answers.EmbedAnswer, "/v1/embed", {**request, "pictures": _encode(pictures)})

    def landmarks(self, pictures: Sequence[File], points: Standard = 70) -> answers.LandmarksAnswer:
        """Return the landmarks of every face of every picture."""
        content = {"pictures": _encode(pictures), "points": points}
        return self._answer(answers.LandmarksAnswer, "/v1/landmarks", content)

    def captions(
        self, attributes: Sequence[Mapping[str, str]] = (), seed: int = 0, **request: Any
    ) -> answers.CaptionsAnswer:
        """Return a caption for every attribute set, or of `prompts`; further arguments as in `requests.CaptionsRequest`."""
        content = {"attributes": [dict(words) for words in attributes], "seed": seed, **request}
        return self._answer(answers.CaptionsAnswer, "/v1/captions", content)

    def models(self) -> answers.ModelsAnswer:
        """Return which models answer."""
        return self._answer(answers.ModelsAnswer, "/v1/models")

    def ready(self) -> answers.Ready:
        """Return the deployments of a service that is ready; it is asked again while it starts."""
        return self._answer(answers.Ready, "/readyz")

    def _answer(self, model: type[Answer], path: str, content: dict[str, Any] | None = None) -> Answer:
        return model.model_validate_json(self._post(path, content).content)

    def _post(self, path: str, content: dict[str, Any] | None, accept: str = "application/json") -> httpx.Response:
        """POST `content`, or GET without any."""
        # A service that is busy or starts says when to come back.
        for attempt in range(self.retries + 1):
            headers = {"Accept": accept}
            method = "GET" if content is None else "POST"
            try:
                answer = self.http.request(method, path, json=content, headers=headers)
            except httpx.RemoteProtocolError:
                # A connection that was kept has ended, as where a gateway was lost; to ask twice changes nothing.
                if attempt == self.retries:
                    raise
                time.sleep(1)
                continue
            if answer.status_code != 503 or attempt == self.retries:
                break
            time.sleep(float(answer.headers.get("retry-after", 1)))
        # What it cannot do it says as a problem.
        if answer.is_success:
            return answer
        raise ServiceError(_problem(answer))


def _problem(answer: httpx.Response) -> answers.Problem:
    """Return the problem of an answer; a proxy in between may have answered in its own words."""
    if answer.headers.get("content-type", "").startswith("application/problem+json"):
        return answers.Problem.model_validate_json(answer.content)
    return answers.Problem(
        type="about:blank",
        title=answer.reason_phrase,
        status=answer.status_code,
        detail=answer.text[:300],
        way_out="Ask again later.",
        request_id=answer.headers.get("x-request-id", ""),
    )


def _with_file(request: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a request as JSON takes them."""
    given = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in request.items()}
    files = [name for name in ("picture", "reference", "crop") if given.get(name) is not None]
    return given | {name: _encode([given[name]])[0] for name in files}


def _encode(files: Sequence[File]) -> list[str]:
    """Return pictures (bytes, or paths of files) in base64."""
    read = [file if isinstance(file, bytes) else Path(file).read_bytes() for file in files]
    return [base64.b64encode(data).decode() for data in read]


def _array(answer: httpx.Response) -> np.ndarray:
    return np.load(io.BytesIO(answer.content), allow_pickle=False)
