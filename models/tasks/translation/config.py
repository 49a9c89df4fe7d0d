"""What a training of a translator may choose, and the frozen networks that it names."""

from functools import lru_cache

from pydantic import Field

from models.errors import UserError
from models.faces.pack import Session, open_sessions
from models.tasks import Place, TrainConfig
from models.thermal.latent.autoencoder import ThermalAutoencoder, load_autoencoder
from models.translation.attributes import AttributeClassifier, load_classifier
from models.translation.network import (
    TranslatorConfig,
)
from models.visible import cache


class Config(TrainConfig):
    steps: int = Field(4000, gt=0)
    batch: int = Field(32, gt=0)
    lr: float = Field(1e-3, gt=0)
    warmup: int = Field(200, ge=0)
    ema: float = Field(0.998, ge=0, lt=1)
    channels_last: bool = Field(False, description="group norm is slow in NHWC on CPUs")
    validate_rows: int = Field(256, gt=0)
    size: int = Field(128, gt=0, multiple_of=8, description="side of the pictures in pixels")
    vae: Place = Field("models/starter/visible/vae", description="folder of the visible autoencoder")
    autoencoder: Place = Field("", description="folder of the thermal one, which `train thermal_vae` writes")
    shape: TranslatorConfig = TranslatorConfig()
    face: float = Field(2.5, gt=0, description="weight of the face's latent cells; the rest has 1")
    time: float = Field(0.3, description="mean of the logit-normal time, 0 = clear, 1 = noise (arXiv 2403.03206, 3.1)")
    regression: bool = Field(
        False, description="learn the mean alone, in one step from noise that says nothing: sampled with steps=1"
    )
    flip: float = Field(0.5, ge=0, le=1, description="share of rows that are seen mirrored")
    grey: float = Field(0.2, ge=0, le=1, description="share of rows whose thermal picture is seen as 8-bit grey levels")
    tell: float = Field(0.7, ge=0, le=1, description="chance of an attribute to be told in a row that is told any")
    tell_nothing: float = Field(0.15, ge=0, le=1, description="share of rows that are told no attribute")
    stage1: Place = Field(
        "", description="folder of a translator that stays as it is: the control network alone learns"
    )
    visible: Place = Field("", description="folder of a visible model: layers of its U-Net that fit are begun with")
    thermal_attributes: Place = Field("", description="folder of the thermal classifier that goes with the translator")
    attributes: Place = Field("", description="folder of the visible classifier whose reading of pictures is a loss")
    consistency: float = Field(0.05, ge=0, description="weight of the attributes that are read in the clean prediction")
    faces: Place = Field("models/starter/faces", description="insightface pack whose recogniser's cosine is a loss")
    identity: float = Field(0.0, ge=0, description="weight of 1 - cosine of the clean prediction to the true picture")
    adversarial: float = Field(0.0, ge=0, description="weight of a critic's say (DiffTV's disc_weight: 0.6)")
    adversarial_from: int = Field(1, ge=0, description="step from which on the critic has its say (disc_start)")
    critic: int = Field(32, gt=0, description="channels of the critic's first layer")
    recogniser: Place = Field(
        "", description="folder of a recogniser of thermal faces, which says who is shown (shape.identity)"
    )
    landmarks: Place = Field("models/starter/landmarks", description="folder of the landmarker that finds faces for it")
    true_who: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of rows that are told whom the visible picture shows by the recogniser of `faces`, which knows it "
        "better than `recogniser` knows the thermal one: the U-Net learns to draw who it is told",
    )
    who_noise: float = Field(
        0.0, ge=0, description="largest length of the noise that is added to the true one, whose length is one"
    )
    unknown: float = Field(0.1, ge=0, le=1, description="share of rows that are not told who is shown")
    looked_at: int = Field(4, ge=0, description="rows of a step that are decoded for the losses that look at pictures")
    low_noise: float = Field(0.8, gt=0, le=1, description="largest share of noise of rows that are decoded")


@lru_cache(maxsize=1)
def autoencoder_of(folder: str) -> ThermalAutoencoder:
    return load_autoencoder(cache.from_root(folder)).requires_grad_(False)


@lru_cache(maxsize=1)
def classifier_of(folder: str) -> AttributeClassifier:
    found = load_classifier(cache.from_root(folder))
    if found.config.modality != "visible":
        raise UserError(f"{folder} reads attributes from thermal pictures: name one that was trained on visible ones")
    return found


@lru_cache(maxsize=2)
def recogniser_session(folder: str, whose: str) -> Session:
    """Return the recogniser in `folder`, which embeds faces without a gradient. whose: which field names it, for the message."""
    session = open_sessions(cache.from_root(folder), threads=1)[1]
    if session is None:
        raise UserError(f"{whose}={folder} holds no recogniser: name an insightface pack, or what `train hfr` wrote.")
    return session
