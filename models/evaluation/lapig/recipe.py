"""The recipe of `thermapair evaluate lapig`: whose pairs are made, how many, and who reads them."""

from typing import ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from models.config import digest_of
from models.synthworld.sampling.domain import digest as domain_digest
from models.synthworld.sampling.domain import load_domain
from models.tasks import Place, Placed
from models.visible.cache import from_root
from models.weights.store import contents_digest

FOLDERS = frozenset({"judge", "unet"})
"""Fields that name folders: what is in them identifies numbers, wherever they lie."""


class PeopleRecipe(Placed):
    """People of the world who are asked for, and who reads pictures of them. EXTENT: fields that only say how much is run: more
    of it goes on from what is there."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    EXTENT: ClassVar[frozenset[str]]

    domain: str = "portrait"
    split: Literal["test", "validation"] = Field("test", description="whose people of the world are asked for")
    people: int = Field(100, ge=2, description="who are asked for, the first of the split")
    together: int = Field(10, ge=2, description="people of a line of the ledger")
    judge: Place = Field("models/starter-judge", description="folder of the judges")

    def digest(self, *models: str) -> str:
        """Return what tells one recipe's numbers from another's, world and judges included; models: what identifies models and
        rows. Raises UserError where there are no judges."""
        content = self.model_dump(mode="json", exclude={*self.EXTENT, *FOLDERS})
        judges = contents_digest(from_root(self.judge))
        return digest_of(content, *models, judges, domain_digest(load_domain(self.domain)))

    def check_lines(self, name: str) -> None:
        """Raise ValueError where the people whom a field counts do not fill lines of the ledger."""
        if (count := getattr(self, name)) % self.together:
            raise ValueError(f"{name}: {count} do not fill lines of {self.together} (together)")


class Recipe(PeopleRecipe):
    """The job."""

    EXTENT: ClassVar = frozenset({"people"})

    kind: Literal["evaluate-lapig"] = "evaluate-lapig"
    gallery: int = Field(1000, ge=2, description="people among whom they are looked up, these first")
    known: int = Field(3, ge=1, description="true pictures of a person that the embedding asked for is the mean of")
    views: int = Field(2, ge=2, description="pictures made of each, each beside the true one of the same view")
    conditions: tuple[Literal["warm", "cold"], ...] = Field(("warm", "cold"), min_length=1)
    fitted: int = Field(
        48, ge=2, description="people of the generator's split whom the tables of temperature are fitted to"
    )
    draws: int = Field(8, ge=1, le=64, description="of a thermalizer that draws")
    sampled: int = Field(100, ge=2, description="people of each way of sampling identities")
    minimum_angle: float = Field(50.0, ge=0, le=90, description="degrees between any two of them")
    trained: int = Field(300, ge=0, description="people of the generator's split whom sampled ones are held against")
    far: float = Field(1e-3, gt=0, lt=1, description="share of strangers at the judge's threshold")
    unet: Place = Field("models/starter/thermal", description="thermalizer that takes the place of a latent diffusion")

    @model_validator(mode="after")
    def _check_people(self) -> "Recipe":
        self.check_lines("people")
        if self.people > self.gallery:
            raise ValueError(f"gallery: {self.gallery} people do not hold the {self.people} who are asked for")
        return self

    @property
    def galleries(self) -> tuple[int, ...]:
        """Sizes of the galleries that people are looked up in."""
        return tuple(dict.fromkeys([min(100, self.gallery), self.gallery]))


class GivenRecipe(Placed):
    """Pairs that are there already: at most `limit` pictures, `together` in a line of the ledger, and who reads them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["evaluate-lapig-given"] = "evaluate-lapig-given"
    limit: int = Field(2000, ge=2)
    together: int = Field(64, ge=1)
    judge: Place = Field("models/starter-judge", description="folder of the judges")

    def digest(self, bundle: str, data: str) -> str:
        """Return what tells one recipe's numbers from another's, judges included; bundle, data: what identifies the models and
        the rows. Raises UserError where there are no judges."""
        content = self.model_dump(mode="json", exclude=set(FOLDERS))
        return digest_of(content, bundle, data, contents_digest(from_root(self.judge)))
