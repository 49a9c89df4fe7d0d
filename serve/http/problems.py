"""Errors as problems: a reason, a way out and the request's id. Nothing else leaves the service, above all no stack."""

import logging
from typing import Any

import ray.exceptions
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from starlette.exceptions import HTTPException

from models.errors import EnvironmentFault, UserError
from pipelines.run.faults import cause_of
from serve.http import answers

MEDIA_TYPE = "application/problem+json"

log = logging.getLogger("ray.serve")

KINDS: dict[str, tuple[int, str]] = {
    "bad-json": (400, "The body is not what its type says"),
    "no-key": (401, "An API key is needed"),
    "not-local": (403, "Only this machine may ask"),
    "not-found": (404, "There is no such path"),
    "method": (405, "The path takes another method"),
    "not-acceptable": (406, "No such answer"),
    "slow-body": (408, "The body did not arrive in time"),
    "too-large": (413, "The body is too large"),
    "media-type": (415, "The body is of another type"),
    "invalid": (422, "The request is wrong"),
    "bad-picture": (422, "A picture is not taken"),
    "too-many-pixels": (422, "A picture has too many pixels"),
    "over-limit": (422, "More than one request may ask for"),
    "no-face": (422, "Not exactly one face"),
    "rejected": (422, "No sample passed the gates"),
    "defect": (500, "A defect of the service"),
    "not-in-bundle": (501, "The bundle has no model for this"),
    "busy": (503, "The queue is full"),
    "replica-lost": (503, "A worker was lost"),
    "starting": (503, "Not ready"),
    "environment": (503, "A model, disk or engine failed"),
    "timeout": (504, "The computation took too long"),
}
"""Kind of a problem -> status and title. The kind is the last part of `type`."""
LONGEST_MESSAGE = 500
"""Characters of what is said of one wrong field: it may quote what was sent."""


class ProblemError(Exception):
    """A request that is not answered, with the reason and the way out that its caller reads.

    retry: seconds after which to come back. room: how many requests to the path may be under way, for the proxy (`haproxy.sh`).
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        way_out: str,
        errors: list[str] | None = None,
        retry: int | None = None,
        room: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.way_out, self.errors = kind, detail, way_out, errors or []
        self.retry, self.room = retry, room


def response(problem: ProblemError, request_id: str) -> JSONResponse:
    """Return the answer to a request that ended in `problem`."""
    status, title = KINDS[problem.kind]
    # RFC 9457, with the way out and the request's id beside its own members.
    body = answers.Problem(
        type=f"urn:thermapair:{problem.kind}",
        title=title,
        status=status,
        detail=problem.detail,
        way_out=problem.way_out,
        request_id=request_id,
        errors=problem.errors,
    )
    headers = {} if problem.retry is None else {"Retry-After": str(problem.retry)}
    if problem.room is not None:
        headers["X-Room"] = str(problem.room)
    if problem.kind == "no-key":
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body.model_dump(), status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make `app` answer its own and the framework's errors as problems."""

    # Ours as they are; the framework's, of paths and of headers, in the same form.
    async def own(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ProblemError)
        return response(error, request.state.request_id)

    async def routing(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        kind = {404: "not-found", 405: "method"}.get(error.status_code, "bad-json")
        answer = response(ProblemError(kind, str(error.detail), "See /docs."), request.state.request_id)
        answer.headers.update(error.headers or {})
        return answer

    async def parameters(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return response(invalid(list(error.errors())), request.state.request_id)

    app.add_exception_handler(ProblemError, own)
    app.add_exception_handler(HTTPException, routing)
    app.add_exception_handler(RequestValidationError, parameters)


def of_validation(error: ValidationError) -> ProblemError:
    """Return what is wrong with a request that is not of its model."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return ProblemError("bad-json", found[0]["msg"], "Send a JSON object in UTF-8.")
    return invalid([dict(item) for item in found])


def invalid(found: list[Any]) -> ProblemError:
    """Return the problem that lists every wrong field."""
    lines = [
        f"{'.'.join(map(str, item['loc'])) or 'request'}: {item['msg'].removeprefix('Value error, ')[:LONGEST_MESSAGE]}"
        for item in found[:20]
    ]
    return ProblemError("invalid", lines[0], "Correct the fields; /docs shows them with examples.", lines)


def of_failure(error: BaseException, retry: int) -> ProblemError:
    """Return what a call of a deployment that failed means for the caller; `retry` seconds is when to come back.

    Only messages that are written for users are passed on; anything else is logged and told as a defect.
    """
    # Ray Serve's own: a full queue, no time left, a replica that ended, a deployment that does not start.
    if isinstance(error, BackPressureError):
        return ProblemError("busy", "more requests are waiting than the queue takes", "Ask again later.", retry=retry)
    if isinstance(error, TimeoutError):
        return ProblemError(
            "timeout", "the computation did not end in time", "Ask for fewer views or steps, or later when it is quiet."
        )
    lost = (ray.exceptions.RayActorError, ReplicaUnavailableError, ray.exceptions.WorkerCrashedError)
    if isinstance(error, lost):
        return ProblemError(
            "replica-lost", "the worker that computed this has ended", "Ask again: another takes over.", retry=retry
        )
    if isinstance(error, DeploymentUnavailableError):
        return ProblemError("environment", "a deployment cannot be started", "See the service's log.", retry=retry)
    # What a stage raised: the environment's fault is logged, a wrong request is told, anything else is a defect.
    cause = cause_of(error)
    if isinstance(cause, EnvironmentFault):
        log.error("a deployment failed: %s", cause)
        return ProblemError("environment", "a model, disk or engine failed", "See the service's log.", retry=retry)
    if isinstance(cause, UserError):
        return ProblemError("invalid", str(cause), "Correct the request.")
    log.error("unexpected failure of a deployment", exc_info=error)
    return defect()


def defect() -> ProblemError:
    """Return what an error that nobody foresaw is told as."""
    return ProblemError("defect", "this should not have happened", "Report the request id; the service's log has more.")
