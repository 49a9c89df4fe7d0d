"""What to render of the world, and which row is which person."""

import contextlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models.errors import UserError
from models.synthworld.sampling import splits
from models.synthworld.sampling.domain import digest as domain_digest
from models.synthworld.sampling.domain import load_domain
from models.weights.bundle import LICENCES
from pipelines.config.recipe import Recipe
from pipelines.plan.claim import read_run
from pipelines.rows.schema import WORLD
from pipelines.storage.commits import MANIFEST
from pipelines.storage.uri import Storage


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
        people = choose_identities(self)
        turn, inside = divmod(row, self.person)
        again, place = divmod(turn, len(people))
        view, condition = divmod(inside, len(self.conditions))
        return people[place], again * self.views + view, self.conditions[condition]

    def recipe(self) -> Recipe:
        """Return what decides a row: the job, its domain's file, and the columns; `count` does not."""
        source = self.model_dump(mode="json", exclude={"count", "render_batch", "partition", "size"})
        source |= {"domain_file": domain_digest(load_domain(self.domain, self.gap)), "columns": list(WORLD)}
        return Recipe(
            kind="world", source=source, size=self.size, layers=(), stages=(), encoding={}, partition=self.rows,
            licence=LICENCES[0],
        )  # fmt: skip


def choose_identities(job: WorldJob) -> range:
    """Return the people that a job draws."""
    everyone = splits.identities(job.split)[job.first :]
    if not everyone:
        raise UserError(f"split {job.split} has no person {job.first}")
    return everyone[: load_domain(job.domain, job.gap).people.count or None]


def world_of(out: Storage) -> tuple[WorldJob, str] | None:
    """Return (job, digest) of the rendered rows in `out`, None for rows of another kind."""
    try:
        run = read_run(out)
    except UserError:
        return None
    if run["job"]["kind"] != "world":
        return None
    with contextlib.suppress(FileNotFoundError):  # a finished run may have grown since it was claimed
        return WorldJob.model_validate(json.loads(out.read(MANIFEST))["job"]), str(run["digest"])
    return WorldJob.model_validate(run["job"]), str(run["digest"])
