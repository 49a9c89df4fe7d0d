"""What the service takes and gives, as pydantic models. Names and types of a row are those of the data set's record."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from models import layers
from models.attributes import ATTRIBUTES, EXPRESSIONS, check_words
from models.captions.reading import read_attributes
from models.gates.settings import Gates
from models.landmarks.settings import Standard
from models.synthworld.sampling.scene import pose_word
from models.temperature import UnitName
from models.visible.angles import DIGITS, DRAWN
from models.visible.smirk import SMIRK

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


def _check_vocabulary(attributes: dict[str, str]) -> dict[str, str]:
    for name, word in attributes.items():
        check_words(name, [word])
    return attributes


VOCABULARY = {
    "type": "object",
    "properties": {name: {"enum": list(words)} for name, (_, _, words) in ATTRIBUTES.items()},
    "additionalProperties": False,
}
Words = Annotated[dict[str, str], AfterValidator(_check_vocabulary), WithJsonSchema(VOCABULARY)]
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
    AfterValidator(lambda word: _check_vocabulary({"expression": word})["expression"]),
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


def _not_twice(name: str, attribute: str) -> Any:
    """Return the schema of a request that gives `name` or an attribute, not both."""
    return {
        "not": {
            "required": [name, "attributes"],
            "properties": {name: GIVEN, "attributes": {"required": [attribute]}},
        }
    }


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
                _not_twice("yaw", "pose"),
                _not_twice("expression", "expression"),
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


class _Answer(BaseModel):
    request_id: str


class Picture(BaseModel):
    """An encoded picture: in JSON `bytes` is base64."""

    bytes: Base64Bytes
    path: str


class ThermalScale(BaseModel):
    """How to read `thermal`: degrees Celsius = value * scale + offset; 0 means no reading."""

    unit: Literal["centikelvin"] = "centikelvin"
    scale: float = 0.01
    offset: float = -273.15


class Pair(BaseModel):
    """One row of the record (`pipelines.rows.schema.RECORD`), pictures in base64; further columns of it follow."""

    model_config = ConfigDict(extra="allow")

    pair_id: str
    sample_id: str
    identity_id: str
    view: int
    draw: int
    condition: str
    thermal_draw: int
    split: str
    seed: int
    attempt: int
    caption: str
    caption_source: Literal["llm", "grammar", "template", "given"]
    attributes: str = Field(description="JSON: attribute -> word")
    attributes_source: str = Field(description="JSON: attribute -> asked, estimated, given or none")
    embedding: list[float]
    visible: Picture | None
    thermal: Picture | None
    thermal_kind: str
    thermal_clipped: float | None
    valid: Picture | None
    classes: Picture | None
    size: int | None
    bbox: Numbers | None
    keypoints: Numbers | None
    pose_asked: Numbers | None = Field(
        None, description="Where the request names an angle: yaw, pitch, roll in degrees."
    )
    scores: str
    reject: str
    licence: str
    provenance: str = Field(
        description="JSON: digest of the recipe that the request resolved to, and what was particular"
    )


class PairsAnswer(_Answer):
    """`pairs` passed the gates; `rejects` did not, each attempt with its reason."""

    thermal_scale: ThermalScale = ThermalScale()
    pairs: list[Pair]
    rejects: list[Pair]


class Thermal(BaseModel):
    """One picture in one condition and draw. `visible` is the picture as the networks saw it, pixel for pixel under
    `thermal`: a square, of which `content_box` (x0, y0, x1, y1) is the picture and the rest padding.
    """

    picture: int
    condition: str
    thermal_draw: int
    visible: Picture
    thermal: Picture
    thermal_kind: str
    thermal_clipped: float
    valid: Picture
    classes: Picture | None = Field(description="Where the thermal part looks at them.")
    size: int
    content_box: list[int]
    licence: str
    provenance: str


class ThermalizeAnswer(_Answer):
    """A row for every picture, condition and draw."""

    thermal_scale: ThermalScale = ThermalScale()
    thermals: list[Thermal]


class Translation(BaseModel):
    """One translation. `thermal` is the picture as the network saw it, pixel for pixel under `visible`: a square, of which
    `content_box` (x0, y0, x1, y1) is the picture and the rest padding. Of kind agc it has the 8-bit grey levels that came.
    """

    picture: int
    draw: int
    visible: Picture
    visible_kind: Literal["translated"] = "translated"
    thermal: Picture
    thermal_kind: Literal["measured", "agc"]
    attributes: str = Field(description="JSON: attribute -> the word that it was told")
    attributes_source: str = Field(
        description="JSON: attribute -> given, estimated, or asked at the population's shares"
    )
    size: int
    content_box: list[int]
    licence: str
    provenance: str


class TranslateAnswer(_Answer):
    """A row for every picture and draw."""

    thermal_scale: ThermalScale = ThermalScale()
    translations: list[Translation]


class Embedding(BaseModel):
    """What was found in one picture. Exactly one face gives an `embedding`, anything else a `reason`."""

    picture: int
    reason: str
    faces: int
    width: int
    height: int
    detection_score: float | None = None
    bbox: list[float] | None = None
    keypoints: list[float] | None = None
    embedding: list[float] | None = None


class EmbedAnswer(_Answer):
    """A row for every picture."""

    embeddings: list[Embedding]


class Landmarks(BaseModel):
    """One face. Of the fields those of the points asked for are there: x, y in pixels, centres at .5; variance in px^2."""

    picture: int
    bbox: list[float]
    detection_score: float
    landmarks_70: list[float] | None = None
    variance_70_visible: list[float] | None = None
    landmarks_478: list[float] | None = None
    variance_478_visible: list[float] | None = None
    landmarks_68: list[float] | None = None
    variance_68_visible: list[float] | None = None
    landmarks_72: list[float] | None = None
    variance_72_visible: list[float] | None = None
    landmarks_5: list[float] | None = None
    variance_5_visible: list[float] | None = None


class LandmarksAnswer(_Answer):
    """A row for every face, the surest of each picture first."""

    landmarks: list[Landmarks]


class Caption(BaseModel):
    """A caption, who wrote it and what it states."""

    caption: str
    caption_source: Literal["llm", "grammar", "template"]
    attributes: dict[str, str]
    conditions: list[str] = Field([], description="Those that a prompt names.")
    also: str = Field("", description="What a prompt says that no attribute does; the caption ends with it.")
    seed: int


class CaptionsAnswer(_Answer):
    """A caption for every attribute set."""

    captions: list[Caption]


class Weights(BaseModel):
    """One set of weights."""

    address: str
    digest: str
    licence: str
    card: dict[str, Any] | None = Field(description="The facts of its card, where it comes with one.")


class Model(BaseModel):
    """One part of the bundle."""

    stage: str
    kind: str
    dtype: str
    batch: int
    settings: dict[str, Any] = Field(description="What `settings` of a request may change, with what holds otherwise.")
    weights: dict[str, Weights]


class ModelsAnswer(_Answer):
    """The bundle that answers, by the parts that are used."""

    bundle: str
    description: str
    size: int = Field(description="Side of the pictures in pixels.")
    licence: str = Field(description="The strictest of the parts'.")
    digest: str = Field(description="Of the recipe of a request for pairs that leaves everything open.")
    conditions: list[str] | None = Field(description="Words that the thermal part knows, null where it names none.")
    defaults: list[str] = Field(description="Conditions of a request that names none.")
    captions: Source
    stages: list[str]
    models: dict[str, Model]
    limits: dict[str, float]


class Alive(_Answer):
    """The HTTP side answers."""

    status: Literal["ok"] = "ok"


class Ready(_Answer):
    """Every deployment is up."""

    ready: Literal[True] = True
    deployments: dict[str, str]


class Problem(BaseModel):
    """Why there is no answer (RFC 9457, application/problem+json)."""

    type: str = Field(examples=["urn:thermapair:too-many-pixels"])
    title: str
    status: int
    detail: str = Field(description="The reason.")
    way_out: str = Field(description="What to do about it.")
    request_id: str
    errors: list[str] = Field([], description="Every wrong field with what was expected.")
