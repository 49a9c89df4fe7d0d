"""Sources of pairs that networks are trained on to say what pairs are worth, and what the recipes of those trainings share."""

from collections.abc import Container, Iterator, Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from models.config import digest_of

LAB, GENERATED, RENDERS, AUGMENTED = "lab alone", "generated", "renders", "augmentation"


def rows_of(source: str) -> str:
    """Return the source whose rows a source is made of: augmentation changes generated ones."""
    return GENERATED if source == AUGMENTED else source


class SourcesRecipe(BaseModel):
    """What is trained on, by equal trainings. EXTENT: fields that only say how much is run: more goes on from what is there."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    EXTENT: ClassVar[frozenset[str]]

    pairs: tuple[int, ...] = Field(
        (0, 1000, 10_000), min_length=1, description="generated pairs beside those of the lab"
    )
    equal: int = Field(1000, ge=2, description="pairs of each other source")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="of the grid; the others have the first alone")
    share: float = Field(0.5, gt=0, lt=1, description="of a batch that is of the lab, where there are other pairs, too")
    rows: int = Field(50_000, ge=2, description="rows that are read of a source at most")

    def digest(self, *rows: str) -> str:
        """Return what tells one recipe's numbers from another's; rows: what identifies weights, training and test rows."""
        return digest_of(self.model_dump(mode="json", exclude=set(self.EXTENT)), *rows)

    def shares(self, sources: int) -> list[float]:
        """Return the share of a batch of each of one source, or of two: the lab's, and the other's."""
        return [self.share, 1 - self.share] if sources == 2 else [1.0]

    def grid(self, counts: Sequence[int], there: Container[str]) -> Iterator[tuple[str, int, int]]:
        """Yield (source, count of the lab, generated pairs) of those that can be trained on; there: the sources with rows."""
        for count in counts:
            for pairs in self.pairs:
                source = GENERATED if pairs else LAB
                if (count or pairs) and source in there:
                    yield source, count, pairs
