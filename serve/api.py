"""The HTTP side: paths, and answers by Accept. Checks come before work, and work is `serve.service`."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import APIKeyHeader, HTTPBearer
from ray import serve as ray_serve

from models.temperature import from_centikelvin
from pipelines.config.generate import OF_PEOPLE
from serve import rows
from serve.http import answers, codecs, problems, requests
from serve.http.content_negotiation import CENTIKELVIN, JSON, NPY, PNG, Media, choose_media
from serve.http.middleware import AccessMiddleware
from serve.http.openapi import describe_post, openapi_document, responses
from serve.http.problems import ProblemError
from serve.pairs_request import check_limit
from serve.request_body import decode_pictures, read_body
from serve.service import Service


async def get_service(request: Request) -> Service:
    """Return the service that the application is made over; a plain function would be handed to a thread each time."""
    return request.app.state.service


InjectedService = Annotated[Service, Depends(get_service)]
Accept = Annotated[str | None, Header(description="Which of the answers: see the content types of 200.")]
# AccessMiddleware checks the key before a byte of the body is read; these say so in the OpenAPI document.
KEY = [
    Security(HTTPBearer(auto_error=False, description="Where the service has a key.")),
    Security(APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key.")),
]
router = APIRouter(dependencies=KEY)
probes = APIRouter()
"""What asks for no key."""


def create_app(service: Service, key: str) -> FastAPI:
    """Return the application over `service`; `key` is the API key, empty for none."""
    app = FastAPI(
        title="thermapair",
        version=version("thermapair"),
        description="Paired visible and thermal faces. Thermal pictures are predictions of a network, measured on nobody.",
    )
    app.state.service = service
    retry, body = service.profile.serve.retry_seconds, service.limits.body_mb * 2**20
    app.add_middleware(AccessMiddleware, key=key, body=body, most=service.most_requests, retry=retry)
    app.include_router(router)
    app.include_router(probes)
    problems.install(app)
    app.openapi = lambda: openapi_document(app, service.choices)  # type: ignore[method-assign]
    return app


@router.post("/v1/pairs", **describe_post(requests.PairsRequest, answers.PairsAnswer, "picture", PNG, CENTIKELVIN, NPY))
async def pairs(request: Request, service: InjectedService, accept: Accept = None) -> Response:
    """Make pairs of one person: an embedding, a face or a seed in; visible and thermal pictures out.

    JSON: rows of the data set's record. PNG: the visible picture of one sample. PNG in centikelvin: the thermal
    picture of one pair. NPY: degrees Celsius float32 [pairs, H, W].
    """
    # What is asked for, and whether its answer has room for it.
    media = choose_media(accept, [JSON, PNG, CENTIKELVIN, NPY])
    service.admission.check_usual("pairs")
    body = await read_body(request, requests.PairsRequest, "picture", service.limits.pictures)
    body, resolved = await service.resolve_pairs(body)
    if media in (PNG, CENTIKELVIN):
        check_one_picture(media, body.views * (1 if media == PNG else len(resolved.job.layers)))
    # The work, and its answer: all rows, or what was accepted.
    photo = None if body.picture is None else codecs.from_base64(body.picture, 0)
    done, batch_rows = await service.pairs(body, resolved, photo)
    if media == JSON:

        def encode() -> Response:
            good, bad = rows.records(resolved, done)
            return json_answer(request, {"thermal_scale": codecs.SCALE.model_dump(), "pairs": good, "rejects": bad})

        answer = await run_in_threadpool(encode)
    else:
        kept = np.flatnonzero(done["final"] & (done["reject"] == ""))
        if not len(kept):
            raise refusal(done["reject"][done["final"]].tolist())
        answer = picture_answer(media, done["visible"][kept[0]], done["thermal"][kept])
    answer.headers["X-Batch-Rows"] = str(batch_rows)
    return answer


@router.post(
    "/v1/thermalize",
    **describe_post(requests.ThermalizeRequest, answers.ThermalizeAnswer, "pictures", PNG, CENTIKELVIN, NPY),
)
async def thermalize(request: Request, service: InjectedService, accept: Accept = None) -> Response:
    """See pictures in thermal, as `thermapair thermalize` does: padded to squares of the bundle's size.

    JSON: a row for every picture, condition and draw. PNG: false colours to look at, of one picture in one condition. PNG
    in centikelvin: its temperatures. NPY: degrees Celsius float32 [conditions x draws, S, S] of one picture. The header
    X-Content-Box (x0,y0,x1,y1) says what of the square is the picture.
    """
    # What is asked for, and whether its answer has room for it.
    media = choose_media(accept, [JSON, PNG, CENTIKELVIN, NPY])
    service.admission.check_usual("thermalize")
    body = await read_body(request, requests.ThermalizeRequest, "pictures", service.limits.pictures)
    resolved = await service.resolve_thermalize(body)
    if media != JSON:
        check_one_picture(media, len(body.pictures) * (1 if media == NPY else len(resolved.job.layers)))
    # The work, and its answer.
    done, batch_rows = await service.thermalize(resolved, decode_pictures(body.pictures))
    if media == JSON:

        def encode() -> Response:
            found = rows.thermals(resolved, done)
            return json_answer(request, {"thermal_scale": codecs.SCALE.model_dump(), "thermals": found})

        answer = await run_in_threadpool(encode)
    else:
        counts = done["thermal"][0]
        answer = codecs.false_colour_response(counts[0]) if media == PNG else picture_answer(media, None, counts[None])
        answer.headers["X-Content-Box"] = ",".join(map(str, done["content_box"][0].tolist()))
    answer.headers["X-Batch-Rows"] = str(batch_rows)
    return answer


@router.post("/v1/translate", **describe_post(requests.TranslateRequest, answers.TranslateAnswer, "pictures", PNG))
async def translate(request: Request, service: InjectedService, accept: Accept = None) -> Response:
    """See thermal pictures in visible light, as `thermapair translate` does: padded to squares of the bundle's size.

    JSON: a row for every picture and draw. PNG: one translation of one picture; the header X-Content-Box (x0,y0,x1,y1) says
    what of the square is the picture. 501 where the bundle has no translator.
    """
    # What is asked for, and whether its answer has room for it.
    media = choose_media(accept, [JSON, PNG])
    service.admission.check_usual("translate")
    body = await read_body(request, requests.TranslateRequest, "pictures", service.limits.pictures)
    resolved = await service.resolve_translate(body)
    if media == PNG:
        check_one_picture(media, len(body.pictures) * body.samples)
    # The work, and its answer.
    done, batch_rows = await service.translate(body, resolved, decode_pictures(body.pictures))
    if media == JSON:

        def encode() -> Response:
            found = rows.translations(resolved, done)
            return json_answer(request, {"thermal_scale": codecs.SCALE.model_dump(), "translations": found})

        answer = await run_in_threadpool(encode)
    else:
        answer = codecs.png_response(done["translated"][0])
        answer.headers["X-Content-Box"] = ",".join(map(str, done["content_box"][0].tolist()))
    answer.headers["X-Batch-Rows"] = str(batch_rows)
    return answer


@router.post("/v1/landmarks", **describe_post(requests.LandmarksRequest, answers.LandmarksAnswer, "pictures"))
async def landmarks(request: Request, service: InjectedService, accept: Accept = None) -> Response:
    """Find 70 or 478 landmarks, or 5, 68 or 72 converted from them, with their variance on every face.

    Thermal pictures of 16 bits or floats are taken, too, stretched over the temperatures that people have. 501 where the
    bundle has no landmarks.
    """
    choose_media(accept, [JSON])
    service.admission.check_usual("landmarks")
    body = await read_body(request, requests.LandmarksRequest, "pictures", service.limits.pictures)
    found, batch_rows = await service.landmarks(decode_pictures(body.pictures), body.points)
    answer = json_answer(request, {"landmarks": found})
    answer.headers["X-Batch-Rows"] = str(batch_rows)
    return answer


@router.post("/v1/embed", **describe_post(requests.EmbedRequest, answers.EmbedAnswer, "pictures", NPY))
async def embed(request: Request, service: InjectedService, accept: Accept = None) -> Response:
    """Find the face of each picture and embed it, as `thermapair embed` does.

    `modality` says whether they are thermal. JSON: a row for every picture; without exactly one face it has a reason. NPY:
    unit float32 [pictures, 512], NaN where there is no embedding.
    """
    media = choose_media(accept, [JSON, NPY])
    service.admission.check_usual("embed")
    body = await read_body(request, requests.EmbedRequest, "pictures", service.limits.pictures)
    found, batch_rows = await service.embed(decode_pictures(body.pictures), body.modality, body.unit)
    if media == JSON:
        answer = json_answer(request, {"embeddings": found})
    else:
        nothing = np.full(512, np.nan, np.float32)
        answer = codecs.npy_response(np.stack([row.get("embedding", nothing) for row in found]).astype(np.float32))
    answer.headers["X-Batch-Rows"] = str(batch_rows)
    return answer


@router.post("/v1/captions", **describe_post(requests.CaptionsRequest, answers.CaptionsAnswer))
async def captions(request: Request, service: InjectedService, accept: Accept = None) -> Response:
    """Put attributes into words: by the bundle's language model, checked and written again, or by the grammar."""
    choose_media(accept, [JSON])
    service.admission.check_usual("captions")
    body = await read_body(request, requests.CaptionsRequest)
    check_limit("attribute sets", len(body.attributes), service.limits.captions)
    return json_answer(request, {"captions": await service.captions(body)})


@router.head("/v1/models", include_in_schema=False)
@router.get("/v1/models", responses=responses(answers.ModelsAnswer))
async def models(request: Request, service: InjectedService) -> Response:
    """Which models answer: digests, cards, licences, and what a request may ask for."""
    return json_answer(request, service.facts)


@probes.head("/healthz", include_in_schema=False)
@probes.get("/healthz", responses=responses(answers.Alive))
async def healthz(request: Request) -> Response:
    """Whether the HTTP side lives."""
    return json_answer(request, {"status": "ok"})


@probes.head("/readyz", include_in_schema=False)
@probes.get("/readyz", responses=responses(answers.Ready))
async def readyz(request: Request, service: InjectedService) -> Response:
    """Whether every model is loaded; 503 until then."""
    states = await run_in_threadpool(deployment_states)
    waiting = [f"{name} is {state}" for name, state in states.items() if state != "HEALTHY"]
    if waiting:
        retry = service.profile.serve.retry_seconds
        raise ProblemError("starting", "; ".join(waiting), "Ask again later.", retry=retry)
    return json_answer(request, {"ready": True, "deployments": states})


def refusal(reasons: Sequence[str]) -> ProblemError:
    """Return the problem of a request of which no sample was accepted: that of the picture it came with, or of the gates."""
    said = "; ".join(sorted(set(reasons)))
    # A reason that begins with the name of a picture is of the picture: no other draw would help.
    refused = {reason.split(":")[0] for reason in reasons}
    if refused <= set(OF_PEOPLE):
        names = " and ".join(sorted(refused))
        return ProblemError(
            "bad-picture", said, f"Send another picture as {names}, or none; another seed changes nothing."
        )
    return ProblemError("rejected", said, "Ask with another seed, more gates.attempts or wider gates.")


def check_one_picture(media: Media, count: int) -> None:
    """Raise a ProblemError where a request makes `count` pictures and `media` holds one."""
    if count > 1:
        way_out = "Ask for JSON, or for one picture, view and condition."
        raise ProblemError("not-acceptable", f"{media} holds one picture, this makes {count}", way_out)


def picture_answer(media: Media, visible: np.ndarray | None, thermal: np.ndarray) -> Response:
    """Return `visible` uint8 [H, W, 3] or `thermal` uint16 [N, C, H, W] centikelvin as `media`."""
    if media == PNG and visible is not None:
        return codecs.png_response(visible)
    if media == CENTIKELVIN:
        return codecs.centikelvin_response(thermal[0, 0])
    layers = from_centikelvin(thermal.reshape(-1, *thermal.shape[2:]))
    return codecs.npy_response(layers, **{"X-Thermal-Unit": "degC"})


def json_answer(request: Request, content: dict[str, Any]) -> Response:
    """Return `content` and the request's id as JSON."""
    return codecs.json_response({"request_id": request.state.request_id, **content})


def deployment_states() -> dict[str, str]:
    """Return the state of every deployment of this service."""
    name = ray_serve.get_replica_context().app_name
    return {key: str(one.status.value) for key, one in ray_serve.status().applications[name].deployments.items()}
