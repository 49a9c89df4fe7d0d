"""The recipe of `thermapair evaluate faceclip`: what U-Nets are trained on, whose pictures they draw, and who reads them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.config import digest_of
from models.evaluation.faceclip.ways import WAYS, Way
from models.evaluation.lapig.recipe import Recipe as PairsRecipe
from models.synthworld.sampling.domain import digest as domain_digest
from models.synthworld.sampling.domain import load_domain

EXTENT = ("people", "retrieved", "seeds", "ways")
"""What only says how much is run: more of it goes on from what is there."""


class Recipe(BaseModel):
    """The job. The encoder and the towers are folders that `train faceclip` and `train faceclip_clip` wrote."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["evaluate-faceclip"] = "evaluate-faceclip"
    domain: str = "portrait"
    split: Literal["test", "validation"] = Field("test", description="whose people of the world are asked for")
    people: int = Field(100, ge=2, description="who are drawn, the first of the split")
    views: int = Field(2, ge=1, description="pictures drawn of each, each beside the true one of the same caption")
    retrieved: int = Field(250, ge=2, description="people whose true pictures are looked for by face, text and both")
    captions: int = Field(4, ge=2, description="true pictures of each, one more shows who is asked for")
    together: int = Field(10, ge=2, description="people of a line of the ledger")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="of the trainings")
    ways: tuple[Way, ...] = Field(WAYS, min_length=1, description="of telling the U-Net face and text")
    steps: int = Field(1200, ge=1, description="of every training")
    batch: int = Field(32, ge=1)
    training: dict[str, Any] = Field({}, description="further values of `train faceclip_visible`, the same for all")
    limit: int = Field(0, ge=0, description="rows that are trained on; 0: all that there are")
    sampling_steps: int = Field(20, ge=1)
    guidance: float = Field(2.0, ge=0)
    judge: str = Field("models/starter-judge", description="folder of the judges")

    @model_validator(mode="after")
    def _check_people(self) -> "Recipe":
        for name in ("people", "retrieved"):
            if (count := getattr(self, name)) % self.together:
                raise ValueError(f"{name}: {count} do not fill lines of {self.together} (together)")
        if self.views >= self.captions:
            raise ValueError(
                f"views: of {self.captions} captions {self.views} leave no true picture to be looked up among"
            )
        return self

    def digest(self, *models: str) -> str:
        """Return what tells one recipe's numbers from another's; models: what identifies encoder, towers, rows and bundle."""
        content = self.model_dump(mode="json", exclude=set(EXTENT))
        return digest_of(content, *models, domain_digest(load_domain(self.domain)))

    @property
    def renders(self) -> PairsRecipe:
        """What is rendered of people: a picture that shows who is asked for, and one of each caption."""
        most = max(self.people, self.retrieved)
        return PairsRecipe(
            domain=self.domain, split=self.split, people=most, gallery=most, known=1, views=self.captions,
            conditions=("warm",), together=self.together,
        )  # fmt: skip
