"""What the OpenAPI document says beyond what FastAPI finds out: bodies, answers in other types than JSON, problems."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serve.http import answers, examples, problems
from serve.http.content_negotiation import Media

FORM = "Form"
"""Ends the name of a request's schema without its pictures, which a form has as files."""
PICTURES = ("picture", "pictures")
Choices = dict[str, dict[str, dict[str, Any]]]
"""Model -> field -> keywords of its JSON schema beside those that every service has."""
REQUESTS = tuple(examples.BODIES)
ANSWERS = (answers.PairsAnswer, answers.ThermalizeAnswer, answers.TranslateAnswer, answers.LandmarksAnswer,
           answers.EmbedAnswer, answers.CaptionsAnswer, answers.ModelsAnswer, answers.Alive, answers.Ready,
           answers.Problem)  # fmt: skip


def describe_post(
    request: type[BaseModel], answer: type[BaseModel], picture: str = "", *media: Media
) -> dict[str, Any]:
    """Return what the OpenAPI document says of a POST: body, examples, answers.

    picture: the field of `request` for files, where it has one; media: what the answer may be beside JSON.
    """
    # The body in JSON; where there are pictures also as a form, with them as files.
    schema = {"$ref": f"#/components/schemas/{request.__name__}"}
    content: dict[str, Any] = {"application/json": {"schema": schema, "examples": examples.of(request)}}
    if picture:
        file = {"type": "string", "format": "binary"}
        parts = {
            "picture": {"type": "array", "items": file, "minItems": 1} if picture == "pictures" else file,
            "request": {"$ref": f"#/components/schemas/{request.__name__}{FORM}"},
        }
        content["multipart/form-data"] = {
            "schema": {"type": "object", "properties": parts, "required": ["picture"], "additionalProperties": False},
            "encoding": {"request": {"contentType": "application/json"}},
        }
    return {
        "responses": responses(answer, *media),
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


def responses(answer: type[BaseModel], *media: Media) -> dict[int | str, dict[str, Any]]:
    """Return the documented answers: 200 in JSON and in `media`, and every problem."""
    described: dict[int | str, dict[str, Any]] = {
        status: {
            "description": "; ".join(title for code, title in problems.KINDS.values() if code == status),
            "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({status for status, _ in problems.KINDS.values()})
    }
    binary = {str(one): {"schema": {"type": "string", "format": "binary"}} for one in media}
    schema = {"$ref": f"#/components/schemas/{answer.__name__}"}
    described[200] = {"description": "The answer", "content": {"application/json": {"schema": schema}, **binary}}
    return described


def openapi_document(app: FastAPI, choices: Choices) -> dict[str, Any]:
    """Return the OpenAPI document, with the models that the paths refer to, and what this service takes: `choices`."""
    if app.openapi_schema is None:
        # FastAPI's own document, and the models that bodies and answers are read and written with by hand.
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        known: list[Any] = [(model, "validation") for model in REQUESTS] + [
            (model, "serialization") for model in ANSWERS
        ]
        _, models = models_json_schema(known, ref_template="#/components/schemas/{model}")
        document.setdefault("components", {})["schemas"] = models["$defs"]
        narrow(models["$defs"], choices)
        for model in REQUESTS:
            models["$defs"][f"{model.__name__}{FORM}"] = without_pictures(models["$defs"][model.__name__])
        app.openapi_schema = document
    return app.openapi_schema


def narrow(schemas: dict[str, Any], choices: Choices) -> None:
    """Put `choices` into the schemas of a document. A field that may be null gets them where it is not."""
    for model, fields in choices.items():
        for name, keywords in fields.items():
            schema = schemas[model]["properties"][name]
            schema.get("anyOf", [schema])[0].update(keywords)


def without_pictures(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a request whose pictures come as files beside it."""
    return {
        **schema,
        "properties": {name: one for name, one in schema["properties"].items() if name not in PICTURES},
        "required": [name for name in schema.get("required", []) if name not in PICTURES],
        "description": "The other fields, as JSON.",
    }
