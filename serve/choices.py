"""What requests of one service may hold, as JSON schemas: its stages and settings, words and limits. The document shows them."""

from typing import Any

from models.gates.settings import Gates
from models.stages import BY_JOB
from pipelines.config.chain import ChainSpec
from pipelines.config.profile import Limits
from serve.http.openapi import Choices

Schema = dict[str, Any]


def request_choices(
    limits: Limits,
    gates: Gates,
    pairs: ChainSpec,
    thermalize: ChainSpec,
    translate: ChainSpec | None,
    conditions: list[str] | None,
    language_model: bool,
    thermal_faces: bool,
) -> Choices:
    """Return model -> field -> the keywords that its schema gets beside those of every service.

    gates: of requests that say nothing of them. pairs, thermalize, translate: the chains, the last None where the bundle has
    no translator. conditions: the words that the thermal part knows, None where its kind does not say. thermal_faces: whether the
    bundle embeds these.
    """
    pictures: Schema = {"maxItems": limits.pictures}
    layers: dict[str, Schema] = {
        "conditions": {"maxItems": limits.layers} | ({} if conditions is None else {"items": {"enum": conditions}}),
        "samples": {"maximum": limits.layers},
    }
    own = {name: {"default": value} for name, value in gates.model_dump(mode="json").items()}
    told = type(translate.link("translate").settings).model_fields if translate else {}
    captions: Schema = {} if language_model else {"enum": ["template"]}
    return {
        "PairsRequest": {
            **layers,
            "settings": settings_schema(pairs, limits),
            "views": {"maximum": limits.views},
            "captions": captions,
        },
        "ThermalizeRequest": {**layers, "settings": settings_schema(thermalize, limits), "pictures": pictures},
        "TranslateRequest": {
            "samples": {"maximum": limits.layers},
            "settings": settings_schema(translate, limits) if translate else {},
            "attributes": {} if translate and "attributes" in told else {"maxProperties": 0},
            "pictures": pictures,
        },
        "LandmarksRequest": {"pictures": pictures},
        "EmbedRequest": {"pictures": pictures, "modality": {} if thermal_faces else {"enum": ["visible"]}},
        "CaptionsRequest": {
            "attributes": {"maxItems": limits.captions},
            "prompts": {"maxItems": limits.captions},
            "captions": captions,
            "mode": {} if language_model else {"enum": ["describe"]},
        },
        "Gates": own | {"attempts": {**own["attempts"], "maximum": limits.attempts}},
    }


def settings_schema(chain: ChainSpec, limits: Limits) -> Schema:
    """Return the schema of `settings`: of each stage what its kind may be asked for, and no other stage or setting."""
    stages: dict[str, Schema] = {}
    for link in chain.links:
        known = {} if link.stage == "gates" else type(link.settings).model_json_schema()["properties"]
        own = {name: schema for name, schema in known.items() if name not in BY_JOB and "$ref" not in str(schema)}
        if "steps" in own:
            own["steps"] = {**own["steps"], "maximum": limits.steps}
        stages[link.stage] = {"type": "object", "properties": own, "additionalProperties": False}
    stages.pop("gates", None)
    return {"properties": stages, "additionalProperties": False}
