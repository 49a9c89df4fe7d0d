"""Types of what requests and answers are made of, with what the OpenAPI document says of them."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from models import layers
from models.attributes import ATTRIBUTES, EXPRESSIONS, check_words
from models.visible.angles import DRAWN

Source = Literal["llm", "template"]
"""Who writes captions: the bundle's language model, or the grammar."""
Modality = Literal["visible", "thermal"]
Seed = Annotated[int, Field(ge=0, lt=2**63, description="The same seed and input give the same answer.")]
Value = Annotated[float, Field(allow_inf_nan=False, ge=-3e38, le=3e38)]
"""A number that fits float32."""
SOMETHING = {"contains": {"anyOf": [{"minimum": 1e-3}, {"maximum": -1e-3}]}}
"""Of an embedding: it has a direction."""
Encoded = Annotated[
    str,
    Field(
        description="A picture (JPEG, PNG, WebP, BMP, TIFF; 8 bits a channel) in base64; line breaks and a `data:` prefix are "
        "allowed.",
        min_length=1,
    ),
    Field(json_schema_extra={"contentEncoding": "base64"}),
]

EncodedThermal = Annotated[
    str,
    Field(
        description="A thermal picture in base64: 16-bit PNG or TIFF in `unit`, a radiometric JPEG, or 8-bit grey levels of "
        "which white is hot.",
        min_length=1,
    ),
    Field(json_schema_extra={"contentEncoding": "base64"}),
]


def check_vocabulary(attributes: dict[str, str]) -> dict[str, str]:
    for name, word in attributes.items():
        check_words(name, [word])
    return attributes


VOCABULARY = {
    "type": "object",
    "properties": {name: {"enum": list(words)} for name, (_, _, words) in ATTRIBUTES.items()},
    "additionalProperties": False,
}
Words = Annotated[dict[str, str], AfterValidator(check_vocabulary), WithJsonSchema(VOCABULARY)]
"""Attribute -> its word. Captions say them, so nothing else is taken."""
ROOM = {"type": "number", "minimum": layers.DEGREES[0], "maximum": layers.DEGREES[1]}
CONDITIONS = {
    "type": "array",
    "minItems": 1,
    "uniqueItems": True,
    "items": {"anyOf": [{"type": "string", "pattern": r"^[a-z][a-z0-9_-]{0,39}$"}, ROOM]},
}
Conditions = Annotated[layers.Conditions, WithJsonSchema(CONDITIONS)]
Numbers = Annotated[list[float | None], Field(description="null where there is none")]


Expression = Annotated[
    str,
    AfterValidator(lambda word: check_vocabulary({"expression": word})["expression"]),
    WithJsonSchema({"type": "string", "enum": list(EXPRESSIONS)}),
]


def angle_within(name: str) -> Any:
    """Return the constraint of an angle in degrees."""
    return Field(ge=-DRAWN[name], le=DRAWN[name], allow_inf_nan=False)


STATES = Field(json_schema_extra={"pattern": r"\S"})
Prompt = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=600), STATES]
"""What somebody asks for in words of their own."""
GIVEN: Any = {"not": {"type": "null"}}
ANY_WORD: Any = {"minProperties": 1}


def not_twice(name: str, attribute: str) -> Any:
    """Return the schema of a request that gives `name` or an attribute, not both."""
    return {
        "not": {
            "required": [name, "attributes"],
            "properties": {name: GIVEN, "attributes": {"required": [attribute]}},
        }
    }
