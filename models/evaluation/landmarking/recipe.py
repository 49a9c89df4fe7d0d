"""The recipe of `thermapair evaluate landmarks`: what landmarkers are trained on, and by what training."""

from collections.abc import Container, Iterator, Sequence
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from models.evaluation.sources import AUGMENTED, GENERATED, LAB, RENDERS, SourcesRecipe

WHY = {
    LAB: "annotated thermal frames of lab people alone",
    GENERATED: "pictures of `--generated` and the thermal ones that were made of them, beside lab frames where there are some",
    AUGMENTED: "the same visible pictures alone: in grey, inverted and blurred in the place of thermal ones",
    RENDERS: "pictures of `--renders` with their true temperature, in the place of generated ones",
}
"""Source of the pictures -> what it says, in the order of the tables."""
TABLES = ("grid", "sources")


class Cell(NamedTuple):
    """One line of the ledger: a landmarker that was trained on lab frames and on as many pictures of a source."""

    source: str
    frames: int
    pairs: int
    seed: int
    table: str = "landmarks"


class Recipe(SourcesRecipe):
    """The job. Every landmarker is trained by the same values, for as many steps; a pair is a picture with its thermal one."""

    EXTENT: ClassVar = frozenset({"frames", "pairs", "equal", "seeds", "failed"})

    kind: Literal["evaluate-landmarks"] = "evaluate-landmarks"
    frames: tuple[int, ...] = Field((0, 50, 500), min_length=1, description="annotated lab frames, person by person")
    thermal: float = Field(
        0.5, gt=0, le=1, description="share of a batch that is shown in thermal, the others in colour"
    )
    steps: int = Field(400, ge=1, description="of every training")
    batch: int = Field(32, ge=2)
    lr: float = Field(2e-3, gt=0)
    size: int = Field(96, ge=32, description="side of the network's input")
    width: float = Field(0.5, gt=0)
    tested: int = Field(2000, ge=2, description="pictures of a test set at most")
    failed: float = Field(0.1, gt=0, description='a face whose "NME W/H" is larger counts as failed')

    def cells(self, tables: Sequence[str], there: Container[str]) -> Iterator[Cell]:
        """Yield the cells of tables in order, of the sources that are there."""
        frames = tuple(count for count in self.frames if not count or LAB in there)
        # Lab frames and generated pictures, of every seed.
        for seed in self.seeds if "grid" in tables else ():
            yield from (Cell(*one, seed) for one in self.grid(frames, there))
        # The sources at equal pictures, of the first seed.
        for source in (GENERATED, AUGMENTED, RENDERS) if "sources" in tables else ():
            if source in there:
                yield from (Cell(source, count, self.equal, self.seeds[0]) for count in frames)
