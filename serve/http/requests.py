"""What the service takes, as pydantic models. Names and types of a row are those of the data set's record."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from models import layers
from models.captions.reading import read_attributes
from models.gates.settings import Gates
from models.landmarks.settings import Standard
from models.synthworld.sampling.scene import pose_word
from models.temperature import UnitName
from models.visible.angles import DIGITS
from models.visible.smirk import SMIRK
from serve.http.fields import (
    ANY_WORD,
    GIVEN,
    SOMETHING,
    STATES,
    Conditions,
    Encoded,
    EncodedThermal,
    Expression,
    Modality,
    Prompt,
    Seed,
    Source,
    Value,
    Words,
    angle_within,
    not_twice,
)


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _ThermalRequest(_Request):
    """What thermal pictures are asked for."""

    conditions: Conditions | None = Field(
        None,
        description="Words that the thermal part knows, or rooms in degrees Celsius where it takes them; /v1/models says "
        "which, and those of a request without any.",
    )
    samples: layers.Draws | None = Field(
        None, description="Thermal pictures of each condition; 1 unless the service says more."
    )
    settings: dict[str, dict[str, Any]] = Field(
        {},
        max_length=32,
        description="Stage -> setting -> value beyond the defaults that /v1/models lists. Unknown ones are refused.",
        examples=[{"visible": {"steps": 4}}],
    )


class PairsRequest(_ThermalRequest):
    """Who is shown, and how. Without `embedding` and `picture`: a person who does not exist, by the seed."""

    model_config = ConfigDict(
        regex_engine="python-re",
        json_schema_extra={
            "allOf": [
                {"not": {"required": ["embedding", "picture"], "properties": {"embedding": GIVEN, "picture": GIVEN}}},
                {
                    "not": {
                        "required": ["caption", "attributes"],
                        "properties": {"caption": GIVEN, "attributes": ANY_WORD},
                    }
                },
                {"not": {"required": ["caption", "expression"], "properties": {"caption": GIVEN, "expression": GIVEN}}},
                {"not": {"required": ["caption", "prompt"], "properties": {"caption": GIVEN, "prompt": GIVEN}}},
                not_twice("yaw", "pose"),
                not_twice("expression", "expression"),
            ]
        },
    )

    embedding: Annotated[list[Value], Field(min_length=512, max_length=512, json_schema_extra=SOMETHING)] | None = (
        Field(None, description="Of the bundle's recogniser, as /v1/embed returns it.")
    )
    picture: Encoded | None = Field(None, description="A picture with one face, in base64.")
    reference: Encoded | None = Field(
        None,
        description="A picture of the person, in base64, that every view draws on; for a part with a reference adapter.",
    )
    crop: Encoded | None = Field(
        None,
        description="The aligned crop of the person's face, in base64, as `thermapair embed --crop` writes it; for FaceCLIP.",
    )
    smirk: Annotated[list[Value], Field(min_length=SMIRK, max_length=SMIRK)] | None = Field(
        None, description="The expression of every view in SMIRK's 55 numbers; for a part with an expression adapter."
    )
    identity_id: Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,80}$")] | None = Field(
        None, description="Part of the ids and of the noise; a digest of the embedding by default."
    )
    caption: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=600), STATES] | None = (
        Field(None, description="What every view shows; excludes `attributes`.")
    )
    prompt: Prompt | None = Field(
        None,
        description="What to make in your own words: read into attributes, view and conditions; the rest ends every caption. "
        "What the request itself names wins; excludes `caption`.",
    )
    attributes: Words = Field({}, description="Words to keep; the others are drawn for each view by the seed.")
    captions: Source | None = Field(None, description="Who writes captions where none is given.")
    views: int = Field(1, ge=1)
    yaw: Annotated[float, angle_within("yaw")] | None = Field(
        None,
        description="Degrees in which every view shows the head; above 0 it turns to the image right, its own left.",
    )
    pitch: Annotated[float, angle_within("pitch")] | None = Field(
        None, description="Degrees; above 0 the head looks up."
    )
    roll: Annotated[float, angle_within("roll")] | None = Field(
        None, description="Degrees; above 0 the head tilts clockwise in the picture."
    )
    expression: Expression | None = Field(None, description="Of every view; excludes `caption`, which says it itself.")
    seed: Seed = 0
    gates: Gates | None = Field(None, description="Limits that a sample must keep; drawn again where it does not.")
    encoding: Literal["jpeg", "png"] = Field("png", description="Of `visible` in a JSON answer.")

    @model_validator(mode="after")
    def _one_of_each(self) -> "PairsRequest":
        if self.embedding is not None and self.picture is not None:
            raise ValueError("give an embedding or a picture, not both")
        if self.caption is not None and self.attributes:
            raise ValueError("give a caption or attributes, not both")
        if self.caption is not None and self.prompt is not None:
            raise ValueError("give a caption or a prompt, not both")
        for name, attribute in (("yaw", "pose"), ("expression", "expression")):
            if getattr(self, name) is not None and attribute in self.attributes:
                raise ValueError(f"give {name} or attributes.{attribute}, not both")
        if self.caption is not None and self.expression is not None:
            raise ValueError("give a caption or an expression, not both: the caption says it")
        # Text and numbers never contradict each other.
        if self.caption is not None and self.yaw is not None:
            word, said = pose_word(round(self.yaw, DIGITS)), read_attributes(self.caption).get("pose")
            if said not in (None, word):
                raise ValueError(f"yaw {self.yaw:g} is {word!r}, and the caption says {said!r}: leave one of them out")
        return self


class ThermalizeRequest(_ThermalRequest):
    """Pictures to see in thermal."""

    pictures: list[Encoded] = Field(min_length=1)


class TranslateRequest(_Request):
    """Thermal pictures to see in visible light."""

    pictures: list[EncodedThermal] = Field(min_length=1)
    unit: UnitName = Field("centikelvin", description="Of values of more than 8 bits.")
    palette: Literal["white-hot", "any"] = Field(
        "white-hot", description="`any` also takes grey pictures whose middle is darker than their border."
    )
    samples: int = Field(1, ge=1, description="Translations of each picture.")
    seed: Seed = 0
    attributes: Words = Field(
        {}, description="Of the people shown; what thermal cannot show is drawn from the population otherwise."
    )
    settings: dict[str, dict[str, Any]] = Field(
        {}, max_length=32, description="Stage -> setting -> value beyond the defaults that /v1/models lists."
    )


class LandmarksRequest(_Request):
    """Pictures whose faces get landmarks."""

    pictures: list[Encoded] = Field(min_length=1)
    points: Standard = 70


class EmbedRequest(_Request):
    """Pictures whose face gets an embedding."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"properties": {"unit": {"type": "null"}}},
                {"required": ["modality"], "properties": {"modality": {"const": "thermal"}}},
            ]
        }
    )

    pictures: list[Encoded] = Field(min_length=1)
    modality: Modality = Field(
        "visible",
        description="What the pictures show. A thermal face is found by the landmarker and embedded by the recogniser that was "
        "adapted to them, into the space of visible ones.",
    )
    unit: UnitName | None = Field(
        None, description="Of thermal values of more than 8 bits; without it they give contrast alone."
    )

    @model_validator(mode="after")
    def _check_unit(self) -> "EmbedRequest":
        if self.modality == "visible" and self.unit is not None:
            raise ValueError('unit: is of thermal pictures; add "modality": "thermal"')
        return self


class CaptionsRequest(_Request):
    """Attribute sets to put into words, or prompts to read and put into other words."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["attributes"], "properties": {"attributes": {"minItems": 1}, "prompts": {"maxItems": 0}}},
                {"required": ["prompts"], "properties": {"prompts": {"minItems": 1}, "attributes": {"maxItems": 0}}},
            ],
            "not": {
                "required": ["mode", "captions"],
                "properties": {"mode": {"const": "invent"}, "captions": {"const": "template"}},
            },
        }
    )

    attributes: list[Words] = []
    prompts: list[Prompt] = Field([], description="In the place of `attributes`: the attributes are read in them.")
    mode: Literal["describe", "invent"] = Field(
        "describe", description="`invent`: the language model chooses a word for every attribute that is not given."
    )
    captions: Source | None = Field(None, description="Who writes; the service's default otherwise.")
    seed: Seed = 0

    @model_validator(mode="after")
    def _one_of_both(self) -> "CaptionsRequest":
        if bool(self.attributes) == bool(self.prompts):
            raise ValueError("give attributes or prompts, one at least, not both")
        return self
