"""What the service takes and gives, as pydantic models. Names and types of a row are those of the data set's record."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Base64Bytes, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from models.gates import Gates
from models.landmarks.standards import Standard

Condition = Literal["warm", "cold"]
Source = Literal["llm", "template"]
Seed = Annotated[int, Field(ge=0, lt=2**63, description="The same seed and input give the same answer.")]
Value = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_ ]{0,39}$")]
Word = Annotated[str, StringConstraints(min_length=1, max_length=80)]
Words = Annotated[dict[Name, Word], Field(max_length=32, json_schema_extra={"additionalProperties": False})]
Encoded = Annotated[
    str,
    Field(description="A picture (JPEG, PNG, WebP, BMP, TIFF; 8 bits a channel) in base64.", min_length=1),
    Field(json_schema_extra={"contentEncoding": "base64"}),
]


def _distinct(values: list[Condition]) -> list[Condition]:
    if len(set(values)) != len(values):
        raise ValueError("name different conditions")
    return values


Conditions = Annotated[list[Condition], Field(min_length=1, max_length=2), AfterValidator(_distinct)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PairsRequest(_Request):
    """Whose pairs, and how they are seen. Without `embedding` and `picture`: a person who does not exist, by the seed."""

    embedding: list[Value] | None = Field(
        None, min_length=512, max_length=512, description="Of the bundle's recogniser, as /v1/embed returns it."
    )
    picture: Encoded | None = Field(None, description="A picture with one face, in base64.")
    identity_id: Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,80}$")] | None = Field(
        None, description="Part of the ids and of the noise; a digest of the embedding by default."
    )
    caption: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=600)] | None = Field(
        None, description="What every view shows; excludes `attributes`."
    )
    attributes: Words = Field({}, description="Words to keep; the others are drawn for each view by the seed.")
    captions: Source | None = Field(None, description="Who writes captions where none is given.")
    views: int = Field(1, ge=1)
    conditions: Conditions = ["warm", "cold"]
    seed: Seed = 0
    steps: int | None = Field(None, ge=1, description="Of the diffusion sampler.")
    guidance: float | None = Field(None, ge=0, le=50, allow_inf_nan=False)
    gates: Gates | None = Field(None, description="Limits that a sample must keep; drawn again where it does not.")
    encoding: Literal["jpeg", "png"] = Field("png", description="Of `visible` in a JSON answer.")

    @model_validator(mode="after")
    def _one_of_each(self) -> "PairsRequest":
        if self.embedding is not None and self.picture is not None:
            raise ValueError("give an embedding or a picture, not both")
        if self.caption is not None and self.attributes:
            raise ValueError("give a caption or attributes, not both")
        return self


class ThermalizeRequest(_Request):
    """Pictures to see in thermal."""

    pictures: list[Encoded] = Field(min_length=1)
    conditions: Conditions = ["warm", "cold"]


class LandmarksRequest(_Request):
    """Pictures whose faces get landmarks."""

    pictures: list[Encoded] = Field(min_length=1)
    points: Standard = 70


class EmbedRequest(_Request):
    """Pictures whose face gets an embedding."""

    pictures: list[Encoded] = Field(min_length=1)


class CaptionsRequest(_Request):
    """Attribute sets to put into words."""

    attributes: list[Words] = Field(min_length=1)
    captions: Source | None = Field(None, description="Who writes; the service's default otherwise.")
    seed: Seed = 0


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
    """One row of the record (`pipelines.record.COLUMNS`), pictures in base64; further columns of the record follow."""

    model_config = ConfigDict(extra="allow")

    pair_id: str
    sample_id: str
    identity_id: str
    view: int
    draw: int
    condition: Condition
    split: str
    seed: int
    attempt: int
    caption: str
    caption_source: Literal["llm", "grammar", "template", "given"]
    attributes: str = Field(description="JSON: asked | estimated | given -> attribute -> word")
    embedding: list[float]
    visible: Picture | None
    thermal: Picture | None
    thermal_kind: str
    thermal_clipped: float | None
    valid: Picture | None
    classes: Picture | None
    bbox: list[float] | None
    keypoints: list[float] | None
    scores: str
    reject: str
    licence: str
    provenance: str


class PairsAnswer(_Answer):
    """`pairs` passed the gates; `rejects` did not, each attempt with its reason."""

    thermal_scale: ThermalScale = ThermalScale()
    pairs: list[Pair]
    rejects: list[Pair]


class Thermal(BaseModel):
    """One picture in one condition. `visible` is the picture as the networks saw it, pixel for pixel under `thermal`."""

    picture: int
    condition: Condition
    visible: Picture
    thermal: Picture
    thermal_kind: str
    thermal_clipped: float
    valid: Picture
    classes: Picture
    width: int
    height: int
    licence: str


class ThermalizeAnswer(_Answer):
    """A row for every picture and condition."""

    thermal_scale: ThermalScale = ThermalScale()
    thermals: list[Thermal]


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
    seed: int


class CaptionsAnswer(_Answer):
    """A caption for every attribute set."""

    captions: list[Caption]


class Model(BaseModel):
    """One part of the bundle."""

    kind: str
    weights: str
    licence: str
    dtype: str
    batch: int
    digest: str
    card: dict[str, Any] | None = Field(description="The facts of its card, where it comes with one.")


class ModelsAnswer(_Answer):
    """The bundle that answers."""

    bundle: str
    description: str
    size: int = Field(description="Side of the pictures in pixels.")
    licence: str = Field(description="The strictest of the parts'.")
    digest: str
    conditions: list[str]
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
