"""Bodies that work as they stand, for the OpenAPI document."""

from typing import Any

from pydantic import BaseModel

from serve.http.requests import (
    CaptionsRequest,
    EmbedRequest,
    LandmarksRequest,
    PairsRequest,
    ThermalizeRequest,
    TranslateRequest,
)

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFklEQVQIHWM8Ma2CARtgwiYIEhucEgBy6wHmWqEk2gAAAABJRU5ErkJggg=="
"""A PNG of 8 x 8 pixels of one colour: a picture, if not of a face."""

LOOKS = {"sex": "woman", "age": "young", "expression": "smile", "glasses": "clear"}

BODIES: dict[type[BaseModel], dict[str, dict[str, Any]]] = {
    PairsRequest: {
        "by seed": {"seed": 7, "views": 1, "conditions": ["warm"]},
        "by attributes": {"seed": 7, "attributes": LOOKS, "captions": "template", "conditions": ["warm", "cold"]},
        "by caption": {"seed": 7, "caption": "A young woman with clear glasses, smiling.", "conditions": ["cold"]},
        "by prompt": {"seed": 7, "captions": "template", "prompt": "an elderly man with a beard in a cold room"},
        "by angles": {"seed": 7, "captions": "template", "yaw": 30, "pitch": -10, "expression": "smile"},
        "in few steps": {"seed": 7, "captions": "template", "settings": {"visible": {"steps": 4}}},
    },
    ThermalizeRequest: {"one picture": {"pictures": [DOT], "conditions": ["warm"]}},
    TranslateRequest: {"one picture": {"pictures": [DOT], "samples": 2, "attributes": {"hair_colour": "red"}}},
    LandmarksRequest: {"one picture": {"pictures": [DOT], "points": 70}},
    EmbedRequest: {"one picture": {"pictures": [DOT], "modality": "visible"}},
    CaptionsRequest: {
        "two": {"attributes": [LOOKS, {"age": "elderly", "beard": "full"}], "seed": 1},
        "a prompt": {"prompts": ["an old woman with glasses and a scar, laughing"], "captions": "template"},
    },
}


def of(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """Return the examples of a request as OpenAPI lists them."""
    return {name: {"summary": name, "value": value} for name, value in BODIES[model].items()}
