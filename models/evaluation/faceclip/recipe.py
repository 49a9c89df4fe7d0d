"""The recipe of `thermapair evaluate faceclip`: what U-Nets are trained on, whose pictures they draw, and who reads them."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from models.evaluation.faceclip.ways import WAYS, Way
from models.evaluation.lapig.recipe import PeopleRecipe
from models.evaluation.lapig.recipe import Recipe as PairsRecipe


class Recipe(PeopleRecipe):
    """The job. The encoder and the towers are folders that `train faceclip` and `train faceclip_clip` wrote."""

    EXTENT: ClassVar = frozenset({"people", "retrieved", "seeds", "ways"})

    kind: Literal["evaluate-faceclip"] = "evaluate-faceclip"
    views: int = Field(2, ge=1, description="pictures drawn of each, each beside the true one of the same caption")
    retrieved: int = Field(250, ge=2, description="people whose true pictures are looked for by face, text and both")
    captions: int = Field(4, ge=2, description="true pictures of each, one more shows who is asked for")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="of the trainings")
    ways: tuple[Way, ...] = Field(WAYS, min_length=1, description="of telling the U-Net face and text")
    steps: int = Field(1200, ge=0, description="of every training; 0: the U-Net of `training.init` as it is")
    batch: int = Field(32, ge=1)
    training: dict[str, Any] = Field({}, description="further values of `train faceclip_visible`, the same for all")
    limit: int = Field(0, ge=0, description="rows that are trained on; 0: all that there are")
    sampling_steps: int = Field(20, ge=1)
    guidance: float = Field(2.0, ge=0)

    @model_validator(mode="after")
    def _check_people(self) -> "Recipe":
        for name in ("people", "retrieved"):
            self.check_lines(name)
        if not self.steps and not self.training.get("init"):
            raise ValueError("steps: 0 draws with a U-Net as it is; name its folder: --set training.init=DIR")
        if self.views >= self.captions:
            raise ValueError(
                f"views: of {self.captions} captions {self.views} leave no true picture to be looked up among"
            )
        return self

    @property
    def renders(self) -> PairsRecipe:
        """What is rendered of people: a picture that shows who is asked for, and one of each caption."""
        most = max(self.people, self.retrieved)
        return PairsRecipe(
            domain=self.domain, split=self.split, people=most, gallery=most, known=1, views=self.captions,
            conditions=("warm",), together=self.together,
        )  # fmt: skip
