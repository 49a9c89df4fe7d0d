"""Shapes of FaceCLIP's encoder (arXiv 2504.14202); the defaults are the published ones."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Shape = TypeVar("Shape", bound=BaseModel)

IMAGE, PATCH = 112, 9
"""Side of the picture that the face ViT reads, and of its patches, in pixels."""
CROP_SIDE = 448
"""Side in pixels of an aligned crop as the published examples have it, four times ArcFace's; it is resized to `IMAGE`."""
GRID = IMAGE // PATCH
"""Patches of a row and of a column: 12; the last 4 rows and columns of pixels are in none."""
LENGTH = 77
"""Tokens of a text, start and end among them."""
VOCABULARY = 49_408
ID_TOKEN = 1014
"""The word `id`, in whose place the face's vector goes."""
PREFIX_LENGTH = 7
"""Positions in which that word stands for the face: start and words of the prefix."""


def check_heads(shape: Shape, width: int, heads: int) -> Shape:
    """Return `shape`. Raises ValueError where `heads` heads do not share `width` evenly."""
    if width % heads:
        raise ValueError(f"{width} channels do not divide among {heads} heads")
    return shape


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VitConfig(_Shape):
    """The face ViT: insightface's ViT-L at its published width."""

    width: int = Field(768, gt=0)
    depth: int = Field(24, gt=0)
    heads: int = Field(8, gt=0)
    out: int = Field(512, gt=0, description="of the identity vector")

    @model_validator(mode="after")
    def _check(self) -> "VitConfig":
        return check_heads(self, self.width, self.heads)


class TextConfig(_Shape):
    """A CLIP text tower."""

    width: int = Field(gt=0)
    heads: int = Field(gt=0)
    layers: int = Field(gt=0)
    quick_gelu: bool = Field(description="x sigmoid(1.702 x) in place of the exact GELU")

    @model_validator(mode="after")
    def _check(self) -> "TextConfig":
        return check_heads(self, self.width, self.heads)


class FuserConfig(_Shape):
    """The fuser. Its face layers have `nhead` heads and `dim_feedforward` hidden units, text and fusion layers half of both."""

    layers: int = Field(6, gt=0)
    dim_feedforward: int = Field(2048, gt=0, multiple_of=2)
    nhead: int = Field(8, gt=0, multiple_of=2)
    points: int = Field(4, gt=0, description="that a head of a face layer samples around each patch")
    dropout: float = Field(0.1, ge=0, lt=1, description="of text and fusion layers, in training only")

    @model_validator(mode="after")
    def _check(self) -> "FuserConfig":
        return check_heads(self, self.dim_feedforward, self.nhead)


class FaceClipConfig(_Shape):
    """Both branches, which have a face ViT of one shape each."""

    vit: VitConfig = VitConfig()
    l: TextConfig = TextConfig(width=768, heads=12, layers=12, quick_gelu=True)  # noqa: E741 (the branch's name)
    g: TextConfig = TextConfig(width=1280, heads=20, layers=32, quick_gelu=False)
    fuser: FuserConfig = FuserConfig()

    @model_validator(mode="after")
    def _check(self) -> "FaceClipConfig":
        for branch in (self.l, self.g):
            check_heads(self, branch.width, self.fuser.nhead)
        return self
