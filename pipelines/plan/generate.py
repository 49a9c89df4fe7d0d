"""The plan of a generate job: every sample with its person and its caption, cut into partitions."""

import numpy as np
import pyarrow as pa

from models.columns import Columns
from models.errors import UserError
from models.visible.faceclip.config import CROP_SIDE
from models.visible.smirk import SMIRK
from pipelines.config.generate import TERMS, over_source, source_columns
from pipelines.config.job import GenerateJob
from pipelines.config.recipe import chain_of
from pipelines.pictures.open import BadPicture, open_photo
from pipelines.pictures.square import make_square
from pipelines.plan.captions import CaptionedPlan
from pipelines.plan.claim import read_recipe, read_run
from pipelines.plan.pieces import read_whole_pieces
from pipelines.rows.ids import noise_id
from pipelines.storage.uri import Storage

REFERENCE, CROP = "reference", "crop"
IDENTITIES = "identities"
"""The table of people beside that of samples."""


class GeneratePlan(CaptionedPlan):
    """The samples of a generate job."""

    @property
    def title(self) -> str:
        """What the run is called."""
        return self.job.name

    def identity_table(self, partition: int) -> pa.Table:
        """Return identity_id, embedding of the people of `partition`, and what else they came with (`people_table`)."""
        return self.pieces.table(partition, IDENTITIES)

    def partition(self, partition: int) -> Columns:
        """Return the samples of `partition` as the columns that stages take, attempt 0, nothing rejected."""
        people = self.identity_table(partition)
        if REFERENCE not in self.chain.given and REFERENCE in people.column_names:  # it was for captions alone
            people = people.drop_columns([REFERENCE])
        return columns_of(self.sample_table(partition), people, self.captions(partition), partition, self.bundle.size)


def columns_of(samples: pa.Table, people: pa.Table, captions: pa.Table, partition: int, size: int) -> Columns:
    """Return samples as the columns that stages take, attempt 0; those whose reference or crop is no picture are rejected.

    The tables are those that `GeneratePlan` keeps of a partition: `sample_table`, `identity_table` and `captions`. Columns of
    the captions go before those of the samples: invented attributes stand there. size: side of references in pixels.
    """
    # The embedding of each sample's person.
    embeddings = np.asarray(people["embedding"].combine_chunks().flatten(), np.float32).reshape(len(people), -1)
    order = {name: row for row, name in enumerate(people["identity_id"].to_pylist())}
    rows = np.array([order[name] for name in samples["identity_id"].to_pylist()])
    shown, reasons = _open_references(people, size)
    crops, refused = _open_crops(people)
    reasons = [one or other for one, other in zip(reasons, refused, strict=True)]
    return {
        **{name: _numpy(samples[name]) for name in samples.column_names},
        **{name: _numpy(captions[name]) for name in captions.column_names},
        "embedding": embeddings[rows],
        **{name: values[rows] for name, values in (shown | crops | _read_smirk(people)).items()},
        **{name: _numpy(people[name])[rows] for name in TERMS if name in people.column_names},
        "partition": np.full(len(rows), partition, np.int32),
        "attempt": np.zeros(len(rows), np.int32),
        "noise_id": _strings([noise_id(name, 0) for name in samples["sample_id"].to_pylist()]),
        "reject": _strings([reasons[row] for row in rows]),
    }


def _open_references(people: pa.Table, size: int) -> tuple[Columns, list[str]]:
    """Return `reference` uint8 [P, size, size, 3], zeros of people without one, where the table has the column; and of each
    person why theirs cannot be opened, empty where it can."""
    reasons = [""] * len(people)
    if REFERENCE not in people.column_names:
        return {}, reasons
    pictures = np.zeros((len(people), size, size, 3), np.uint8)
    for row, data in enumerate(people[REFERENCE].to_pylist()):
        try:
            if data:
                pictures[row] = make_square(open_photo(data), size)[0]
        except BadPicture as error:
            reasons[row] = f"reference: {error}"
    return {REFERENCE: pictures}, reasons


def _open_crops(people: pa.Table) -> tuple[Columns, list[str]]:
    """Return `crop` uint8 [P, 448, 448, 3], zeros of people without one, where the table has the column; and of each person why
    theirs cannot be taken, empty where it can: it is no picture, or of another size."""
    reasons = [""] * len(people)
    if CROP not in people.column_names:
        return {}, reasons
    crops = np.zeros((len(people), CROP_SIDE, CROP_SIDE, 3), np.uint8)
    for row, data in enumerate(people[CROP].to_pylist()):
        try:
            picture = open_photo(data) if data else crops[row]
        except BadPicture as error:
            reasons[row] = f"{CROP}: {error}"
            continue
        height, width = picture.shape[:2]
        if (height, width) == (CROP_SIDE, CROP_SIDE):
            crops[row] = picture
        else:
            wanted = f"an aligned crop has {CROP_SIDE} x {CROP_SIDE}; give the photograph as {REFERENCE} instead"
            reasons[row] = f"{CROP}: {width} x {height} pixels, and {wanted}"
    return {CROP: crops}, reasons


def _read_smirk(people: pa.Table) -> Columns:
    """Return `smirk` float32 [P, 55], NaN of people without an expression, where the table has the column."""
    if "smirk" not in people.column_names:
        return {}
    return {"smirk": np.array([one or [np.nan] * SMIRK for one in people["smirk"].to_pylist()], np.float32)}


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
    chain = over_source(chain_of(recipe, bundle, source_columns(job.views)), job.views)
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
