"""What may be chosen of scans and of the blocks that hold them, quick to import: no torch."""

from typing import Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

KernelName = Literal["torch", "vllm", "mamba_ssm"]
"""Code of Mamba-2's scan (`models.ssm.kernels`)."""
KernelOption = Literal["auto", "torch", "vllm", "mamba_ssm"]
AUTO: Final = "auto"
"""Whichever a probe finds to be the fastest that is right."""
Directions = Literal[1, 2, 4]
"""Rows; rows and rows reversed; rows and columns, each also reversed (VMamba, arXiv 2401.10166, section 4.2)."""
Mixing = Literal["attention", "scan", "interleaved", "none"]


class ScanShape(NamedTuple):
    """Of a scan of Mamba-2: heads of `head` channels, groups of heads that share what is written and read, and states."""

    heads: int
    groups: int
    head: int
    state: int


class BlockConfig(BaseModel):
    """What mixes a block's tokens: `mixing` over the whole picture, and attention inside windows beside it.

    attention: as published, every token with every other. scan: Mamba-2 over the picture. interleaved: the same over one
    sequence in which each token is followed by the condition's at its place. none: nothing.
    window: side of the windows in cells, 0 for no windowed branch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mixing: Mixing = "scan"
    window: int = Field(8, ge=0)
    directions: Directions = 2
    expand: int = Field(1, ge=1)
    state: int = Field(16, ge=1)
    head: int = Field(32, ge=1)

    @property
    def scans(self) -> bool:
        """Whether tokens are mixed by a scan."""
        return self.mixing in ("scan", "interleaved")

    def head_of(self, width: int) -> int:
        """Return the channels of a head in a block of `width` channels."""
        return min(self.head, width * self.expand)

    def scan_of(self, width: int) -> ScanShape:
        """Return the shape of the scan in a block of `width` channels; directions are further heads and groups."""
        head = self.head_of(width)
        return ScanShape(self.directions * (width * self.expand // head), self.directions, head, self.state)
