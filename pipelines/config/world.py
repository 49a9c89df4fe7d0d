"""A world job: what to render of the synthetic world, and which row is which person."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models.errors import UserError
from models.synthworld.sampling import splits
from models.synthworld.sampling.domain import load_domain


class WorldJob(BaseModel):
    """What to render. Row k is a function of these values and k alone: asking for more keeps what is there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["world"] = "world"
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
    def person_rows(self) -> int:
        """Rows of one person in a row."""
        return self.views * len(self.conditions)

    @property
    def partition_rows(self) -> int:
        """Rows of a full partition: whole people."""
        return max(1, round(self.partition / self.person_rows)) * self.person_rows

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return -(-self.count // self.partition_rows)

    def rows_of(self, partition: int) -> range:
        """Return the rows of `partition`; the last one may have fewer."""
        first = partition * self.partition_rows
        return range(first, min(first + self.partition_rows, self.count))

    def picture(self, row: int) -> tuple[int, int, str]:
        """Return (identity, view, condition) of a row: a person's views are neighbours, and so are a view's conditions.

        A domain of few people (`people.count`) is walked through again with further views.
        """
        people = choose_identities(self)
        turn, inside = divmod(row, self.person_rows)
        again, place = divmod(turn, len(people))
        view, condition = divmod(inside, len(self.conditions))
        return people[place], again * self.views + view, self.conditions[condition]


def choose_identities(job: WorldJob) -> range:
    """Return the people that a job draws."""
    everyone = splits.identities(job.split)[job.first :]
    if not everyone:
        raise UserError(f"split {job.split} has no person {job.first}")
    return everyone[: load_domain(job.domain, job.gap).people.count or None]
