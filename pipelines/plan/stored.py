"""What the plans of jobs have in common: they lie in pieces, and some are made by a chain of stages."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import pyarrow as pa
from pydantic import BaseModel

from models.columns import Columns
from models.weights.bundle import Bundle
from pipelines.config.chain import ChainSpec
from pipelines.config.recipe import Recipe
from pipelines.plan.pieces import Pieces
from pipelines.rows.record import RecordSpec
from pipelines.storage.uri import Storage

JobT = TypeVar("JobT", bound=BaseModel)


class StoredPlan(ABC, Generic[JobT]):
    """A plan that lies whole in `out`, in pieces. Picklable and small: workers read their partition from storage."""

    def __init__(self, out: Storage, job: JobT, recipe: Recipe, pieces: Pieces) -> None:
        self.out, self.job, self.recipe, self.pieces = out, job, recipe, pieces

    @property
    @abstractmethod
    def title(self) -> str:
        """What the run is called."""

    @property
    def digest(self) -> str:
        """The run's identity, 16 hex digits."""
        return self.recipe.digest

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return self.pieces.partitions

    @property
    def samples(self) -> int:
        """Number of samples in all partitions: rows of the plan's table, whatever the job calls them."""
        return self.pieces.samples

    def rows(self, partition: int) -> int:
        """Return the number of samples of `partition`."""
        return self.pieces.rows(partition)

    def sample_table(self, partition: int) -> pa.Table:
        """Return the samples of `partition` as they are planned."""
        return self.pieces.table(partition)


class ChainPlan(StoredPlan[JobT]):
    """The plan of a job that a chain of stages makes rows of the record for, on the weights of `bundle`."""

    def __init__(
        self, out: Storage, job: JobT, bundle: Bundle, recipe: Recipe, chain: ChainSpec, pieces: Pieces
    ) -> None:
        super().__init__(out, job, recipe, pieces)
        self.bundle, self.chain = bundle, chain

    @property
    def split(self) -> str:
        """The one split of all rows; empty where the split is by person."""
        return ""

    @property
    def record(self) -> RecordSpec:
        """What rows of the record need to know of this run."""
        visible = str(self.recipe.encoding["visible"])
        low, high = self.recipe.source.get("grey", (0.0, 0.0))
        return RecordSpec(
            self.digest, self.recipe.layers, self.recipe.licence, self.chain, visible, self.split, (low, high)
        )

    @abstractmethod
    def partition(self, partition: int) -> Columns:
        """Return the samples of `partition` as the columns that stages take, attempt 0."""
