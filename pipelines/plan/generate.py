"""The plan of a generate job: every sample with its person and its caption, cut into partitions."""

import numpy as np
import pyarrow as pa

from models.columns import Columns
from models.errors import UserError
from pipelines.config.generate import source_columns
from pipelines.config.job import GenerateJob
from pipelines.config.recipe import chain_of
from pipelines.plan.captions import CaptionedPlan
from pipelines.plan.claim import read_recipe, read_run
from pipelines.plan.pieces import read_whole_pieces
from pipelines.rows.ids import noise_id
from pipelines.storage.uri import Storage

IDENTITIES = "identities"
"""The table of people beside that of samples."""


class GeneratePlan(CaptionedPlan):
    """The samples of a generate job."""

    @property
    def title(self) -> str:
        """What the run is called."""
        return self.job.name

    def identity_table(self, partition: int) -> pa.Table:
        """Return identity_id, embedding of the people of `partition`."""
        return self.pieces.table(partition, IDENTITIES)

    def partition(self, partition: int) -> Columns:
        """Return the samples of `partition` as the columns that stages take, attempt 0, nothing rejected."""
        tables = self.sample_table(partition), self.identity_table(partition), self.captions(partition)
        return columns_of(*tables, partition)


def columns_of(samples: pa.Table, people: pa.Table, captions: pa.Table, partition: int) -> Columns:
    """Return samples as the columns that stages take, attempt 0, nothing rejected.

    The tables are those that `GeneratePlan` keeps of a partition: `sample_table`, `identity_table` and `captions`. Columns of
    the captions go before those of the samples: invented attributes stand there.
    """
    # The embedding of each sample's person.
    embeddings = np.asarray(people["embedding"].combine_chunks().flatten(), np.float32).reshape(len(people), -1)
    order = {name: row for row, name in enumerate(people["identity_id"].to_pylist())}
    rows = np.array([order[name] for name in samples["identity_id"].to_pylist()])
    return {
        **{name: _numpy(samples[name]) for name in samples.column_names},
        **{name: _numpy(captions[name]) for name in captions.column_names},
        "embedding": embeddings[rows],
        "partition": np.full(len(rows), partition, np.int32),
        "attempt": np.zeros(len(rows), np.int32),
        "noise_id": _strings([noise_id(name, 0) for name in samples["sample_id"].to_pylist()]),
        "reject": _strings([""] * len(rows)),
    }


def read_generate_plan(out: Storage) -> GeneratePlan:
    """Return the plan in `out`, with the recipe that it was made from.

    Raises:
        UserError: there is none, or it is another job's or another version's.
    """
    run = read_run(out)
    if run["job"]["kind"] != "generate":
        raise UserError(f"{out.uri} is the output of `thermapair {run['job']['kind']}`, not of generate.")
    recipe, bundle = read_recipe(out)
    job = GenerateJob.model_validate(run["job"])
    chain = chain_of(recipe, bundle, source_columns(job.views))
    return GeneratePlan(out, job, bundle, recipe, chain, read_whole_pieces(out))


def _strings(values: list[str]) -> np.ndarray:
    return np.array(values, dtype=object)


def _numpy(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column as an array, texts as objects, lists of a fixed size below each other."""
    if pa.types.is_string(column.type):
        return _strings(column.to_pylist())
    if pa.types.is_fixed_size_list(column.type):
        return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size)
    return column.to_numpy()
