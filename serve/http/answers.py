"""What the service gives, as pydantic models. Names and types of a row are those of the data set's record."""

from typing import Any, Literal

from pydantic import (
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
)

from serve.http.fields import Numbers, Source


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
