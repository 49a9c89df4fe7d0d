"""The HTTP side: paths, bodies, answers by Accept. Checks come before work, and work is `serve.service`."""

import asyncio
import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import FastAPI, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from ray import serve as ray_serve

from models.temperature import from_centikelvin
from serve import codecs, examples, problems, schemas
from serve.accept import CENTIKELVIN, JSON, NPY, PNG, Media, chosen
from serve.guard import Guard
from serve.order import within
from serve.problems import ProblemError
from serve.service import Service

BODY_SECONDS = 60
"""How long a body may take to arrive."""
REQUESTS = (schemas.PairsRequest, schemas.ThermalizeRequest, schemas.LandmarksRequest, schemas.EmbedRequest,
            schemas.CaptionsRequest)  # fmt: skip

Body = TypeVar("Body", bound=BaseModel)
Accept = Annotated[str | None, Header(description="Which of the answers: see the content types of 200.")]


def create_app(service: Service, key: str) -> FastAPI:
    """Return the application over `service`; `key` is the API key, empty for none."""
    limits = service.limits
    app = FastAPI(
        title="thermapair",
        version=version("thermapair"),
        description="Paired visible and thermal faces. Thermal pictures are predictions of a network, measured on nobody.",
    )
    app.add_middleware(Guard, key=key, body=limits.body_mb * 2**20)
    problems.install(app)
    app.openapi = lambda: documented(app)  # type: ignore[method-assign]

    @app.post("/v1/pairs", **described(schemas.PairsRequest, schemas.PairsAnswer, "picture", PNG, CENTIKELVIN, NPY))
    async def pairs(request: Request, accept: Accept = None) -> Response:
        """Make pairs of one person: an embedding, a face or a seed in; visible and thermal pictures out.

        JSON: rows of the data set's record. PNG: the visible picture of one sample. PNG in centikelvin: the thermal
        picture of one pair. NPY: degrees Celsius float32 [pairs, H, W].
        """
        form = chosen(accept, [JSON, PNG, CENTIKELVIN, NPY])
        asked = await body(request, schemas.PairsRequest, "picture", limits.pictures)
        if form in (PNG, CENTIKELVIN):
            one_only(form, asked.views * (1 if form == PNG else len(asked.conditions)))
        photo = None if asked.picture is None else codecs.from_base64(asked.picture, 0)
        job, rows, together = await service.pairs(asked, photo)
        if form == JSON:
            good, bad = await run_in_threadpool(service.records, job, rows)
            scale = codecs.SCALE.model_dump()
            answer = await json_answer(request, {"thermal_scale": scale, "pairs": good, "rejects": bad})
        else:
            kept = np.flatnonzero(rows["final"] & (rows["reject"] == ""))
            if not len(kept):
                reasons = "; ".join(sorted(set(rows["reject"][rows["final"]].tolist())))
                raise ProblemError("rejected", reasons, "Ask with another seed, more gates.attempts or wider gates.")
            answer = picture_answer(form, rows["visible"][kept[0]], rows["thermal"][kept])
        answer.headers["X-Batch-Rows"] = str(together)
        return answer

    @app.post(
        "/v1/thermalize",
        **described(schemas.ThermalizeRequest, schemas.ThermalizeAnswer, "pictures", PNG, CENTIKELVIN, NPY),
    )
    async def thermalize(request: Request, accept: Accept = None) -> Response:
        """See pictures in thermal, as portraits: their longer side is scaled to the bundle's size.

        JSON: a row for every picture and condition. PNG: false colours to look at, of one picture in one condition. PNG
        in centikelvin: its temperatures. NPY: degrees Celsius float32 [conditions, H, W] of one picture.
        """
        form = chosen(accept, [JSON, PNG, CENTIKELVIN, NPY])
        asked = await body(request, schemas.ThermalizeRequest, "pictures", limits.pictures)
        if form != JSON:
            one_only(form, len(asked.pictures) * (1 if form == NPY else len(asked.conditions)))
        pictures = await run_in_threadpool(
            lambda: [codecs.opened(photo, n, limits) for n, photo in enumerate(decoded(asked.pictures))]
        )
        rows, sizes, together = await service.thermalize(pictures, asked.conditions)
        if form == JSON:
            found = await run_in_threadpool(service.thermals, rows, sizes, asked.conditions)
            scale = codecs.SCALE.model_dump()
            answer = await json_answer(request, {"thermal_scale": scale, "thermals": found})
        else:
            height, width = sizes[0]
            counts = rows["thermal"][0, :, :height, :width]
            answer = (
                codecs.false_colour_response(counts[0]) if form == PNG else picture_answer(form, None, counts[None])
            )
        answer.headers["X-Batch-Rows"] = str(together)
        return answer

    @app.post("/v1/landmarks", **described(schemas.LandmarksRequest, None, "pictures"))
    async def landmarks(request: Request, accept: Accept = None) -> Response:
        """Find 70 or 478 landmarks with their variance on every face. 501 where the bundle has no such model."""
        chosen(accept, [JSON])
        await body(request, schemas.LandmarksRequest, "pictures", limits.pictures)
        service.landmarks()
        raise AssertionError

    @app.post("/v1/embed", **described(schemas.EmbedRequest, schemas.EmbedAnswer, "pictures", NPY))
    async def embed(request: Request, accept: Accept = None) -> Response:
        """Find the face of each picture and embed it, as `thermapair embed` does.

        JSON: a row for every picture; without exactly one face it has a reason. NPY: unit float32 [pictures, 512], NaN
        where there is no embedding.
        """
        form = chosen(accept, [JSON, NPY])
        asked = await body(request, schemas.EmbedRequest, "pictures", limits.pictures)
        rows = await service.embed(decoded(asked.pictures))
        if form == JSON:
            return await json_answer(request, {"embeddings": rows})
        nothing = np.full(512, np.nan, np.float32)
        return codecs.npy_response(np.stack([row.get("embedding", nothing) for row in rows]).astype(np.float32))

    @app.post("/v1/captions", **described(schemas.CaptionsRequest, schemas.CaptionsAnswer))
    async def captions(request: Request, accept: Accept = None) -> Response:
        """Put attributes into words: by the bundle's language model, checked and written again, or by the grammar."""
        chosen(accept, [JSON])
        asked = await body(request, schemas.CaptionsRequest)
        within("attribute sets", len(asked.attributes), limits.captions)
        return await json_answer(request, {"captions": await service.captions(asked)})

    @app.get("/v1/models", responses=answers(schemas.ModelsAnswer))
    async def models(request: Request) -> Response:
        """Which models answer: digests, cards, licences, and what a request may ask for."""
        return await json_answer(request, service.facts)

    @app.get("/healthz", responses=answers(schemas.Alive))
    async def healthz(request: Request) -> Response:
        """Whether the HTTP side lives."""
        return await json_answer(request, {"status": "ok"})

    @app.get("/readyz", responses=answers(schemas.Ready))
    async def readyz(request: Request) -> Response:
        """Whether every model is loaded; 503 until then."""
        states = await run_in_threadpool(deployment_states)
        waiting = [f"{name} is {state}" for name, state in states.items() if state != "HEALTHY"]
        if waiting:
            retry = service.profile.serve.retry_seconds
            raise ProblemError("starting", "; ".join(waiting), "Ask again later.", retry=retry)
        return await json_answer(request, {"ready": True, "deployments": states})

    return app


async def body(request: Request, model: type[Body], picture: str = "", pictures: int = 0) -> Body:
    """Return the request's body as `model`: JSON, or multipart with files `picture` and the rest as JSON in `request`.

    picture: the model's field for files, and `pictures` how many it takes at most.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            if kind == "application/json":
                asked = model.model_validate_json(await request.body())
            elif kind == "multipart/form-data" and picture:
                asked = model.model_validate(await _form(request, picture, pictures))
            else:
                known = "application/json" + (" or multipart/form-data" if picture else "")
                raise ProblemError("media-type", f"the body is {kind or 'of no type'}", f"Send {known}.")
    except ValidationError as error:
        raise problems.of_validation(error) from None
    except TimeoutError:
        raise ProblemError("slow-body", f"nothing whole within {BODY_SECONDS} s", "Send it faster, or less.") from None
    within("pictures", len(getattr(asked, "pictures", ())), pictures)
    return asked


async def _form(request: Request, picture: str, pictures: int) -> dict[str, Any]:
    import base64

    async with request.form(max_files=pictures + 1, max_fields=4) as form:
        unknown = sorted(set(form) - {"picture", "request"})
        if unknown:
            detail = f"unknown part {unknown[0]!r}"
            raise ProblemError("invalid", detail, "Parts are `picture`, a file, and `request`, JSON.", [detail])
        try:
            content = json.loads(str(form.get("request", "{}")))
        except (ValueError, RecursionError):
            raise ProblemError("bad-json", "the part `request` is not JSON", "Send a JSON object in it.") from None
        if not isinstance(content, dict):
            raise ProblemError("bad-json", "the part `request` is not a JSON object", "Send a JSON object in it.")
        files = [
            base64.b64encode(part.encode() if isinstance(part, str) else await part.read()).decode()
            for part in form.getlist("picture")
        ]
    within("pictures", len(files), pictures if picture == "pictures" else 1)
    if files:
        content[picture] = files if picture == "pictures" else files[0]
    return content


def decoded(pictures: Sequence[str]) -> list[bytes]:
    """Return the files of base64 pictures."""
    return [codecs.from_base64(text, number) for number, text in enumerate(pictures)]


def one_only(form: Media, count: int) -> None:
    """Raise a ProblemError where a request makes `count` pictures and `form` holds one."""
    if count > 1:
        way_out = "Ask for JSON, or for one picture, view and condition."
        raise ProblemError("not-acceptable", f"{form} holds one picture, this makes {count}", way_out)


def picture_answer(form: Media, visible: np.ndarray | None, thermal: np.ndarray) -> Response:
    """Return `visible` uint8 [H, W, 3] or `thermal` uint16 [N, C, H, W] centikelvin as `form`."""
    if form == PNG and visible is not None:
        return codecs.png_response(visible)
    if form == CENTIKELVIN:
        return codecs.centikelvin_response(thermal[0, 0])
    layers = from_centikelvin(thermal.reshape(-1, *thermal.shape[2:]))
    return codecs.npy_response(layers, **{"X-Thermal-Unit": "degC"})


async def json_answer(request: Request, content: dict[str, Any]) -> Response:
    """Return `content` and the request's id as JSON."""
    name = request.state.request_id
    return await run_in_threadpool(codecs.json_response, {"request_id": name, **content})


def deployment_states() -> dict[str, str]:
    """Return the state of every deployment of this service."""
    name = ray_serve.get_replica_context().app_name
    return {key: str(one.status.value) for key, one in ray_serve.status().applications[name].deployments.items()}


def described(
    asked: type[BaseModel], answered: type[BaseModel] | None, picture: str = "", *forms: Media
) -> dict[str, Any]:
    """Return what the OpenAPI document says of a POST: body, examples, answers."""
    schema = {"$ref": f"#/components/schemas/{asked.__name__}"}
    content: dict[str, Any] = {"application/json": {"schema": schema, "examples": examples.of(asked)}}
    if picture:
        file = {"type": "string", "format": "binary"}
        parts = {
            "picture": {"type": "array", "items": file} if picture == "pictures" else file,
            "request": {"type": "string", "description": "The other fields as JSON.", "default": "{}"},
        }
        content["multipart/form-data"] = {
            "schema": {"type": "object", "properties": parts, "additionalProperties": False}
        }
    return {
        "responses": answers(answered, *forms),
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


def answers(answered: type[BaseModel] | None, *forms: Media) -> dict[int | str, dict[str, Any]]:
    """Return the documented answers: 200 in JSON and in `forms`, and every problem."""
    found: dict[int | str, dict[str, Any]] = {
        status: {
            "description": "; ".join(title for code, title in problems.KINDS.values() if code == status),
            "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({status for status, _ in problems.KINDS.values()})
    }
    if answered is not None:
        binary = {str(form): {"schema": {"type": "string", "format": "binary"}} for form in forms}
        schema = {"$ref": f"#/components/schemas/{answered.__name__}"}
        found[200] = {"description": "The answer", "content": {"application/json": {"schema": schema}, **binary}}
    return found


def documented(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with the models that the paths refer to."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        answered = (schemas.PairsAnswer, schemas.ThermalizeAnswer, schemas.EmbedAnswer, schemas.CaptionsAnswer,
                    schemas.ModelsAnswer, schemas.Alive, schemas.Ready, schemas.Problem)  # fmt: skip
        known: list[Any] = [(model, "validation") for model in REQUESTS] + [
            (model, "serialization") for model in answered
        ]
        _, models = models_json_schema(known, ref_template="#/components/schemas/{model}")
        document.setdefault("components", {})["schemas"] = models["$defs"]
        app.openapi_schema = document
    return app.openapi_schema
