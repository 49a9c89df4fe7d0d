"""The recipe of `thermapair evaluate hfr`: whose pairs a recogniser is adapted with, how many, and by what training."""

from collections.abc import Container, Iterator, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from models.evaluation.recipe import check_training
from models.evaluation.sources import AUGMENTED, GENERATED, LAB, RENDERS, SourcesRecipe
from models.tasks.hfr.task import Config

TRANSLATED, RAW = "translated", "unadapted"
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


class Cell(NamedTuple):
    """One line of the ledger: a recogniser that was adapted. identities: of the pairs; 0: as many as they happen to be of."""

    source: str
    people: int
    pairs: int
    identities: int
    seed: int
    table: str = "hfr"


class Recipe(SourcesRecipe):
    """The job. Every recogniser is trained by the same values, for as many steps."""

    EXTENT: ClassVar = frozenset({"people", "pairs", "identities", "seeds", "equal"})

    kind: Literal["evaluate-hfr"] = "evaluate-hfr"
    people: tuple[int, ...] = Field((0, 10, 50), min_length=1, description="lab people, each with all their pairs")
    equal: int = Field(1000, ge=2, description="pairs of each other source, and of each number of identities")
    identities: tuple[int, ...] = Field((10, 50, 100, 200, 500, 1000), description="that `equal` pairs are of")
    steps: int = Field(600, ge=1, description="of every training")
    batch: int = Field(128, ge=2)
    lr: float = Field(3e-4, gt=0)
    training: dict[str, Any] = Field({}, description="further values of `train hfr`, the same for all")
    recogniser: str = Field(
        "models/starter/faces/arcface_starter.onnx", description="that is adapted, as of `train hfr`"
    )
    gallery: int = Field(1000, ge=2, description="people of a test set at most, the first")

    def config(self, seed: int) -> Config:
        """Return the config of a training. Raises UserError for wrong values."""
        own = {"steps": self.steps, "batch": self.batch, "lr": self.lr, "recogniser": self.recogniser, "seed": seed}
        return check_training(Config, self.training, own, "hfr")

    def cells(self, tables: Sequence[str], there: Container[str]) -> Iterator[Cell]:
        """Yield the cells of tables in order, of the sources that are there."""
        first = self.seeds[0]
        people = tuple(count for count in self.people if not count or LAB in there)
        yield Cell(RAW, 0, 0, 0, 0)
        # Lab people and generated pairs, of every seed.
        for seed in self.seeds if "grid" in tables else ():
            yield from (Cell(*one, 0, seed) for one in self.grid(people, there))
        # The sources at equal pairs, and equal pairs of ever more identities: of the first seed.
        if "sources" in tables:
            for source in (GENERATED, AUGMENTED, RENDERS, TRANSLATED):
                if source in there:
                    yield from (Cell(source, count, self.equal, 0, first) for count in people)
        if "identities" in tables and GENERATED in there:
            yield from (Cell(GENERATED, 0, self.equal, count, first) for count in self.identities)
