"""What to render of the world, and which row is which person."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models.config import digest_of
from models.errors import UserError
from models.synthworld import splits
from models.synthworld.domain import digest as domain_digest
from models.synthworld.domain import load_domain
from pipelines.rows.schema import WORLD


class WorldJob(BaseModel):
    """What to render. Row k is a function of these values and k alone: asking for more keeps what is there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    domain: str
    split: str
    count: int = Field(gt=0, description="pictures")
    size: int = Field(128, ge=32, le=1024)
    views: int = Field(4, gt=0, description="views of a person")
    conditions: tuple[Literal["warm", "cold"], ...] = ("warm",)
    gap: float = Field(1.0, ge=0, le=1.5, description="scale of the domain's differences from the common reference")
    first: int = Field(0, ge=0, description="people of the split that are left out before the first")
    partition: int = Field(64, gt=0, description="rows of a shard, rounded to whole people")
    layout: Literal["record", "facesynthetics", "tfake", "sejong", "charlotte"] = Field(
        "record", description="shards with all ground truth, or files as the data set of this name has them"
    )
    render_batch: int = Field(16, gt=0, description="pictures of 128 x 128 that are marched together")

    @property
    def person(self) -> int:
        """Rows of one person in a row."""
        return self.views * len(self.conditions)

    @property
    def rows(self) -> int:
        """Rows of a full partition: whole people."""
        return max(1, round(self.partition / self.person)) * self.person

    @property
    def partitions(self) -> int:
        return -(-self.count // self.rows)

    def rows_of(self, part: int) -> range:
        return range(part * self.rows, min((part + 1) * self.rows, self.count))

    def picture(self, row: int) -> tuple[int, int, str]:
        """Return (identity, view, condition) of a row: a person's views are neighbours, and so are a view's conditions.

        A domain of few people (`people.count`) is walked through again with further views.
        """
        people = identities(self)
        turn, inside = divmod(row, self.person)
        again, place = divmod(turn, len(people))
        view, condition = divmod(inside, len(self.conditions))
        return people[place], again * self.views + view, self.conditions[condition]

    def digest(self) -> str:
        """Return the digest of what decides a row, its columns among it; `count` does not."""
        domain = domain_digest(load_domain(self.domain, self.gap))
        facts = self.model_dump(mode="json", exclude={"count", "render_batch"})
        if self.layout == "record":
            del facts["layout"]  # shards made before there were layouts are the same
        return digest_of(facts, domain, WORLD)


def identities(job: WorldJob) -> range:
    """Return the people that a job draws."""
    everyone = splits.identities(job.split)[job.first :]
    if not everyone:
        raise UserError(f"split {job.split} has no person {job.first}")
    return everyone[: load_domain(job.domain, job.gap).people.count or None]
