"""The recipe of `thermapair evaluate hfr`: whose pairs a recogniser is adapted with, how many, and by what training."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from models.config import check, digest_of
from models.tasks.hfr.task import Config

LAB, GENERATED, RENDERS, TRANSLATED, AUGMENTED, RAW = (
    "lab alone", "generated", "renders", "translated", "augmentation", "unadapted",
)  # fmt: skip
WHY = {
    RAW: "the recogniser as it is: nothing is trained",
    LAB: "pairs of lab people alone",
    GENERATED: "pairs of `--generated`, beside those of lab people where there are some",
    AUGMENTED: "visible pictures of `--generated` in grey, inverted and blurred, in the place of thermal ones",
    RENDERS: "pairs of `--renders`, in the place of generated ones",
    TRANSLATED: "pairs of `--translated`: thermal pictures beside visible ones that a translator made of them",
}
"""Source of the pairs -> what it says, in the order of the tables."""
TABLES = ("grid", "sources", "identities")
EXTENT = ("people", "pairs", "identities", "seeds")
"""What only says how much is run: more of it goes on from what is there."""


class Cell(NamedTuple):
    """One line of the ledger: a recogniser that was adapted. identities: of the pairs; 0: as many as they happen to be of."""

    source: str
    people: int
    pairs: int
    identities: int
    seed: int
    table: str = "hfr"


class Recipe(BaseModel):
    """The job. Every recogniser is trained by the same values, for as many steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["evaluate-hfr"] = "evaluate-hfr"
    people: tuple[int, ...] = Field((0, 10, 50), min_length=1, description="lab people, each with all their pairs")
    pairs: tuple[int, ...] = Field((0, 1000, 10_000), min_length=1, description="generated pairs beside them")
    equal: int = Field(1000, ge=2, description="pairs of each other source, and of each number of identities")
    identities: tuple[int, ...] = Field((10, 50, 100, 200, 500, 1000), description="that `equal` pairs are of")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="of the grid; the others have the first alone")
    share: float = Field(
        0.5, gt=0, lt=1, description="of a batch that is of lab people, where there are other pairs, too"
    )
    steps: int = Field(600, ge=1, description="of every training")
    batch: int = Field(128, ge=2)
    lr: float = Field(3e-4, gt=0)
    training: dict[str, Any] = Field({}, description="further values of `train hfr`, the same for all")
    recogniser: str = Field(
        "models/starter/faces/arcface_starter.onnx", description="that is adapted, as of `train hfr`"
    )
    gallery: int = Field(1000, ge=2, description="people of a test set at most, the first")
    rows: int = Field(50_000, ge=2, description="rows that are read of a source at most")

    def digest(self, *rows: str) -> str:
        """Return what tells one recipe's numbers from another's; rows: what identifies weights, training and test rows."""
        return digest_of(self.model_dump(mode="json", exclude={*EXTENT, "equal"}), *rows)

    def config(self, seed: int) -> Config:
        """Return the config of a training. Raises UserError for wrong values."""
        own = {"steps": self.steps, "batch": self.batch, "lr": self.lr, "recogniser": self.recogniser, "seed": seed}
        return check(Config, {**self.training, **own}, "evaluate hfr: training")

    def cells(self, tables: Sequence[str], there: Mapping[str, bool]) -> Iterator[Cell]:
        """Yield the cells of tables in order, of the sources that are there."""
        first = self.seeds[0]
        yield Cell(RAW, 0, 0, 0, 0)
        for seed in self.seeds if "grid" in tables else ():
            yield from (cell for cell in self._grid(seed, self._people(there)) if there.get(cell.source))
        if "sources" in tables:
            for source in (GENERATED, AUGMENTED, RENDERS, TRANSLATED):
                if there.get(source):
                    yield from (Cell(source, count, self.equal, 0, first) for count in self._people(there))
        if "identities" in tables and there.get(GENERATED):
            yield from (Cell(GENERATED, 0, self.equal, count, first) for count in self.identities)

    def _people(self, there: Mapping[str, bool]) -> tuple[int, ...]:
        return tuple(count for count in self.people if not count or there.get(LAB))

    def _grid(self, seed: int, people: Sequence[int]) -> Iterator[Cell]:
        for count in people:
            for pairs in self.pairs:
                if count or pairs:
                    yield Cell(GENERATED if pairs else LAB, count, pairs, 0, seed)
