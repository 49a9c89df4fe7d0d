"""The fixed, reduced recipe of `thermapair evaluate tfake`: small pictures, small networks, equal steps for every row."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from models.config import digest_of
from models.synthworld.sampling.domain import digest as domain_digest
from models.synthworld.sampling.domain import load_domain
from models.thermal.losses import LossConfig

DOMAINS = ("fake", "lab", "field", "outdoor")
SELECTION_SEED = 0
"""The weight of the patch term is chosen on one seed, whatever seeds the tables have."""


class Pool(NamedTuple):
    """Pictures that are rendered once: `people` of a split from the `first` on, `views` of each, in turn warm and cold."""

    domain: str
    split: Literal["generator", "validation", "test"]
    first: int
    people: int
    views: int
    detailed: bool = False
    """Rendered at `frame` pixels, to look for faces in; else at `size`."""


POOLS = {
    "lab": Pool("lab", "generator", 0, 100, 3),
    "faces": Pool("fake", "generator", 1000, 400, 1),
    "target": Pool("field", "generator", 2000, 10, 6),
    "chooser": Pool("field", "validation", 0, 10, 6),
    "calibration": Pool("lab", "validation", 100, 30, 1),
    "checker": Pool("fake", "validation", 1000, 80, 1),
    "lab_test": Pool("lab", "test", 200, 30, 2),
    "field": Pool("field", "test", 0, 10, 10),
    "outdoor": Pool("outdoor", "test", 100, 40, 2),
    "frames": Pool("field", "test", 0, 10, 12, detailed=True),
}
"""lab: the pairs. faces: visible pictures without temperature. target: frames of the field camera, of training people, for
the patch term. chooser: validation people on whom the weight of the patch term is chosen. calibration: lab people to whom
grey levels are calibrated. checker: validation of landmarkers. The others are test people."""

TEST_POOLS = ("lab_test", "field", "outdoor")
"""Pools of test people on which a thermalizer is measured."""

ROOMLESS = ("faces", "checker", "frames")
"""Pools of which all pictures are used, whatever the recipe's conditions: their temperature teaches and measures no
thermalizer."""


class Recipe(BaseModel):
    """The job. `seeds`, `few_seeds`, `gaps`, `generated` only say how much of it is run: the digest is without them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["evaluate"] = "evaluate"
    size: int = Field(64, ge=32, multiple_of=32, description="side of the pictures that networks learn from")
    frame: int = Field(128, ge=32, description="largest side of the frames that faces are looked for in")
    conditions: tuple[Literal["warm", "cold"], ...] = Field(
        ("warm",), min_length=1, description="rooms that a thermalizer learns and is measured in; one network each"
    )
    people: float = Field(1.0, gt=0, le=1, description="share of the people of every pool")
    views: int | None = Field(None, ge=2, description="at most so many pictures of a person in every pool")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    few_seeds: tuple[int, ...] = Field((0, 1), min_length=1, description="of the min-max pairs and the NME reached")
    gaps: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5)
    generated: tuple[Annotated[int, Field(ge=2, le=8)], ...] = Field(
        (),
        description="factors of `size` at which the thermalizers of the loss table, and the baselines beside them, are "
        "also measured on the test pools; T-FAKE trains at 256 px and generates at 512, factor 2",
    )

    steps: int = Field(400, gt=0, description="of every thermalizer")
    batch: int = Field(8, gt=0)
    width: int = Field(8, ge=8)
    lr: float = Field(3e-3, gt=0)
    prior: float = Field(1.0, gt=0, description="weight of the prior; the paper's")
    weights: tuple[float, ...] = Field(
        (0.01, 0.03, 0.1),
        min_length=1,
        description="weights of the patch term to choose from; the paper's is 0.01",
    )
    patches: int = Field(128, ge=2, description="patches drawn a size and side")
    sizes: tuple[int, ...] = Field((64, 32, 16), description="sides at which the patch term is trained")
    unseen: tuple[int, ...] = Field((48, 24), description="sides at which patches are compared, never trained")

    landmark_steps: int = Field(400, gt=0, description="of every landmarker")
    landmark_batch: int = Field(32, gt=0)
    landmark_width: float = Field(0.5, gt=0)
    landmark_lr: float = Field(2e-3, gt=0)
    high_px: float = Field(40.0, gt=0, description="High: faces at least so many pixels tall in the frame; else Low")
    side_deg: float = Field(45.0, gt=0, description="Side: yaw of at least so many degrees; else Front")

    field: str = Field("", description="URI of shards that stand in for the rendered test people of `field`")
    field_split: str = Field("", description="split of those that are read; all of them without one")

    def digest(self) -> str:
        """Return what tells one recipe's numbers from another's, worlds included."""
        worlds = [domain_digest(load_domain(name)) for name in DOMAINS]
        pools = {name: list(pool) for name, pool in POOLS.items()}
        extent = {"seeds", "few_seeds", "gaps", "generated", *(["views"] if self.views is None else [])}
        extent |= set() if self.field_split else {"field_split"}
        return digest_of(self.model_dump(mode="json", exclude=extent), pools, worlds)

    def pool(self, name: str) -> Pool:
        """Return a pool with this recipe's share of its people, and no more of their views than it says."""
        pool = POOLS[name]
        views = min(pool.views, self.views or pool.views)
        return pool._replace(people=max(2, round(pool.people * self.people)), views=views)

    def loss(self, **values: Any) -> LossConfig:
        """Return the loss with this recipe's patches and the exact solver."""
        return LossConfig(solver="exact", count=self.patches, sizes=self.sizes, **values)
