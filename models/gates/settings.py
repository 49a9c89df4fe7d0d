"""The limits that a finished sample must keep, and which columns are measured for them."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from models.layers import Layer
from models.stages import Files, Flow, NoOptions

WEIGHTS: dict[str, bool] = {}
Options = NoOptions


class Gates(BaseModel):
    """Limits a sample must keep. A sample that fails is drawn again, up to `attempts` times in all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attempts: int = Field(3, ge=1, description="draws per sample before it is given up as a reject")
    identity: float = Field(0.35, ge=-1, le=1, description="least cosine between the embedding asked for and found")
    detection: float = Field(0.5, ge=0, le=1, description="least score of the face detector")
    faces: int = Field(1, ge=1, description="most faces found in one picture")
    face_area: tuple[float, float] = Field((0.08, 0.75), description="share of the picture that the face classes cover")
    celsius: tuple[float, float] = Field((15.0, 40.0), description="range of the mean temperature of the face")
    clipped: float = Field(0.05, ge=0, le=1, description="largest share of the person at an end of the thermal scale")

    pose: float | None = Field(
        None,
        gt=0,
        le=180,
        description="most degrees between an angle asked for and the landmarks' own; landmarks then run first",
    )
    regions: float | None = Field(
        None,
        gt=0,
        description="most standard deviations that a part's difference from the face's mean (nose, eyes, mouth, ears) is from "
        "that of true faces of the world in such a room",
    )
    agreement: float | None = Field(
        None,
        gt=0,
        description="how far landmarks of the thermal picture alone may be from the visible one's, over the sides of their box; "
        "landmarks then run first",
    )
    duplicates: float | None = Field(
        None,
        gt=0,
        le=1,
        description="least share of the bits of a difference hash in which two visible pictures of a person differ",
    )

    @model_serializer(mode="wrap")
    def _leave_out(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Recipes of runs from before these gates stay what they were."""
        silent = [name for name in ("agreement", "duplicates") if getattr(self, name) is None]
        return {name: value for name, value in dump(self).items() if name not in silent}


class Settings(Gates):
    """The gates of a job, and its layers."""

    layers: tuple[Layer, ...] = ()


def columns(options: NoOptions, settings: Settings, files: Mapping[str, Files]) -> Flow:
    """Return what is measured: the face always, its area and temperature where there are classes and degrees; the pose and
    the parts of the face where a gate asks for them, how far the halves of a pair are apart, and the pictures of a person from
    each other."""
    pose = ("pose", "pose_asked") if settings.pose is not None else ()
    parts = ("classes", "thermal") if settings.regions is not None else ()
    halves = ("apart_70",) if settings.agreement is not None else ()
    alike = ("visible", "identity_id") if settings.duplicates is not None else ()
    seen = [name for name in ("classes", "thermal", "thermal_clipped") if name not in parts]
    return Flow(
        reads=("embedding", "found_embedding", "faces", "detection_score", *pose, *parts, *halves, *alike),
        reads_if_there=tuple(seen),
        writes=("scores", "reject"),
        compares=alike,
    )
