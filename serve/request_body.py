"""Bodies as typed requests: JSON, or multipart with the pictures as files."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from serve.http import codecs, problems
from serve.http.problems import ProblemError
from serve.pairs_request import check_limit

Body = TypeVar("Body", bound=BaseModel)
JSON: TypeAdapter[Any] = TypeAdapter(JsonValue)
BODY_SECONDS = 60
"""How long a body may take to arrive."""


async def read_body(request: Request, model: type[Body], picture: str = "", pictures: int = 0) -> Body:
    """Return the request's body as `model`: JSON, or multipart with files `picture` and the rest as JSON in `request`.

    picture: the model's field for files, and `pictures` how many it takes at most.
    """
    # Read as what its type says, within the time that a body may take.
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
    # A list of pictures in JSON; files of a form were counted as they came.
    check_limit("pictures", len(getattr(asked, "pictures", ())), pictures)
    return asked


async def _form(request: Request, picture: str, pictures: int) -> dict[str, Any]:
    """Return the fields of a form: those of its part `request`, JSON, and its files in base64 as the field `picture`."""
    async with request.form(max_files=pictures + 2, max_fields=4) as form:
        # Two parts are known; any other is a field in the wrong place.
        unknown = sorted(set(form) - {"picture", "request"})
        if unknown:
            detail = f"unknown part {unknown[0]!r}"
            raise ProblemError("invalid", detail, "Parts are `picture`, a file, and `request`, JSON.", [detail])
        # A browser sends JSON with its type as a file: a Blob.
        sent = form.get("request", "{}")
        try:
            content = JSON.validate_json(sent if isinstance(sent, str) else await sent.read())
        except ValueError:
            raise ProblemError("bad-json", "the part `request` is not JSON", "Send a JSON object in it.") from None
        if not isinstance(content, dict):
            raise ProblemError("bad-json", "the part `request` is not a JSON object", "Send a JSON object in it.")
        # Files become what the JSON form holds, so that one model checks both.
        files = [
            base64.b64encode(part.encode() if isinstance(part, str) else await part.read()).decode()
            for part in form.getlist("picture")
        ]
    check_limit("pictures", len(files), pictures if picture == "pictures" else 1)
    if "" in files:
        raise ProblemError("bad-picture", f"picture {files.index('')}: the file is empty", "Send another picture.")
    if files:
        content[picture] = files if picture == "pictures" else files[0]
    return content


def decode_pictures(pictures: Sequence[str]) -> list[bytes]:
    """Return the files of base64 pictures."""
    return [codecs.from_base64(text, number) for number, text in enumerate(pictures)]
