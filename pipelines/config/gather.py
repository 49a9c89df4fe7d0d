"""What to gather: a data set on disk, how it is laid out, and the rows to make of it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.landmarks.settings import Standard
from models.temperature import Unit
from pipelines.config.job import Encoding

LayoutName = Literal[
    "facesynthetics", "tfake", "sejong", "charlotte", "speakingfaces", "sf-tl54", "tfw", "tufts", "vis-th", "aachen", "mcxface",
    "plain",
]  # fmt: skip


class Patterns(BaseModel):
    """Where `plain` finds things: patterns of file names, or columns of Parquet files; empty for what is not there.

    In a pattern NAME stands for what the files of one row share, folders included: `rgb/NAME.jpg`, `NAME_seg.png`. A
    pattern without an extension takes any picture.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    visible: str = ""
    thermal: str = ""
    mask: str = ""
    landmarks: str = ""
    """`.pts` of 300-W, lines `x y` in pixels, YOLO's lines of shares, or COCO's JSON, which may be one file of all rows."""


class GatherJob(BaseModel):
    """Everything that may change a row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["gather"] = "gather"
    layout: LayoutName
    images: str
    thermal: str = ""
    """T-FAKE alone: the folder of its thermal pictures, by default `images`."""
    size: int = Field(128, ge=32, le=1024)
    """Side of the rows' pictures in pixels."""
    crop: Literal["whole", "face"] = "whole"
    """Whole pictures padded to squares, or squares of twice the extent of the landmarks."""
    condition: str = ""
    """What the rows' condition is where the data set does not say (warm or cold)."""
    protocol: str = ""
    """Of `mcxface`: the folder of the protocol's lists, where there are several."""
    columns: Patterns = Patterns()
    unit: Unit | Literal["grey"] = "centikelvin"
    """Of `plain`'s thermal pictures, by name or by numbers. grey: levels of each picture's own scale, no temperatures."""
    standard: Standard = 70
    """Of `plain`'s landmarks. 70 takes files of 68 points, too: the pupils are then not known."""
    encoding: Encoding = Encoding()
    partition: int = Field(64, gt=0)
    limit: int | None = Field(None, ge=1)
    rows_per_person: int | None = Field(None, ge=1)
    """At most so many of each person in each split, from all sessions and both cameras."""

    @model_validator(mode="after")
    def _check_layout(self) -> "GatherJob":
        if self.thermal and self.layout != "tfake":
            raise ValueError("thermal is T-FAKE's folder; the other layouts have all files below images")
        if self.protocol and self.layout != "mcxface":
            raise ValueError("protocol is for the layout mcxface; the splits of the others are in their files")
        own = {
            "columns": self.columns != Patterns(),
            "unit": self.unit != "centikelvin",
            "standard": self.standard != 70,
        }
        if self.layout != "plain" and any(own.values()):
            name = next(name for name, given in own.items() if given)
            raise ValueError(f"{name} is for the layout plain; {self.layout} says it itself")
        return self
