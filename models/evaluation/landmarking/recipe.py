"""The recipe of `thermapair evaluate landmarks`: what landmarkers are trained on, and by what training."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from models.config import digest_of

LAB, GENERATED, RENDERS, AUGMENTED = "lab alone", "generated", "renders", "augmentation"
WHY = {
    LAB: "annotated thermal frames of lab people alone",
    GENERATED: "pictures of `--generated` and the thermal ones that were made of them, beside lab frames where there are some",
    AUGMENTED: "the same visible pictures alone: in grey, inverted and blurred in the place of thermal ones",
    RENDERS: "pictures of `--renders` with their true temperature, in the place of generated ones",
}
"""Source of the pictures -> what it says, in the order of the tables."""
TABLES = ("grid", "sources")
EXTENT = ("frames", "pairs", "equal", "seeds")
"""What only says how much is run: more of it goes on from what is there."""


class Cell(NamedTuple):
    """One line of the ledger: a landmarker that was trained on lab frames and on as many pictures of a source."""

    source: str
    frames: int
    pairs: int
    seed: int
    table: str = "landmarks"


class Recipe(BaseModel):
    """The job. Every landmarker is trained by the same values, for as many steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["evaluate-landmarks"] = "evaluate-landmarks"
    frames: tuple[int, ...] = Field((0, 50, 500), min_length=1, description="annotated lab frames, person by person")
    pairs: tuple[int, ...] = Field((0, 1000, 10_000), min_length=1, description="generated pictures beside them")
    equal: int = Field(1000, ge=2, description="pictures of each other source")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="of the grid; the others have the first alone")
    share: float = Field(
        0.5, gt=0, lt=1, description="of a batch that is lab frames, where there are other pictures, too"
    )
    thermal: float = Field(
        0.5, gt=0, le=1, description="share of a batch that is shown in thermal, the others in colour"
    )
    steps: int = Field(400, ge=1, description="of every training")
    batch: int = Field(32, ge=2)
    lr: float = Field(2e-3, gt=0)
    size: int = Field(96, ge=32, description="side of the network's input")
    width: float = Field(0.5, gt=0)
    rows: int = Field(50_000, ge=2, description="rows that are read of a source at most")
    tested: int = Field(2000, ge=2, description="pictures of a test set at most")
    failed: float = Field(0.1, gt=0, description='a face whose "NME W/H" is larger counts as failed')

    def digest(self, *rows: str) -> str:
        """Return what tells one recipe's numbers from another's; rows: what identifies training and test rows."""
        return digest_of(self.model_dump(mode="json", exclude={*EXTENT, "failed"}), *rows)

    def cells(self, tables: Sequence[str], there: Mapping[str, Any]) -> Iterator[Cell]:
        """Yield the cells of tables in order, of the sources that are there."""
        frames = tuple(count for count in self.frames if not count or LAB in there)
        for seed in self.seeds if "grid" in tables else ():
            for count in frames:
                for pairs in self.pairs:
                    if (count or pairs) and (not pairs or GENERATED in there):
                        yield Cell(GENERATED if pairs else LAB, count, pairs, seed)
        for source in (GENERATED, AUGMENTED, RENDERS) if "sources" in tables else ():
            if source in there:
                yield from (Cell(source, count, self.equal, self.seeds[0]) for count in frames)
