"""The plan of a gather job: every item of a data set, listed by its layout."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from models.errors import UserError
from models.weights.bundle import Bundle, licence_of
from pipelines.config.chain import Link, chain_spec, resolve_chain
from pipelines.config.gather import GatherJob
from pipelines.config.recipe import Recipe, stage_recipes
from pipelines.pictures.open import BadPicture
from pipelines.plan.claim import claim
from pipelines.plan.listing import extend_by_rows, new_rows
from pipelines.plan.pieces import Pieces, read_pieces
from pipelines.plan.stored import StoredPlan
from pipelines.readers import list_files, list_items, read_rows
from pipelines.readers.item import ITEM_SCHEMA, Item
from pipelines.readers.known import with_likely
from pipelines.storage.listing import list_sizes
from pipelines.storage.uri import Storage

FIRST = 16
"""When none of the first so many rows can be taken, the folder or the options are wrong: nothing is written."""
BYTES = "bytes"
"""Beside the columns of an item: the size of its files together, by which a changed one is noticed."""


class GatherPlan(StoredPlan[GatherJob]):
    """The items of a data set; workers read the files of their partition themselves. bundle: of the parser, if any.
    left: what `spread_rows` leaves out of the listing."""

    def __init__(
        self, out: Storage, job: GatherJob, bundle: Bundle | None, recipe: Recipe, pieces: Pieces, left: Counter[str]
    ) -> None:
        super().__init__(out, job, recipe, pieces)
        self.bundle, self.left = bundle, left

    @property
    def title(self) -> str:
        """What the run is called."""
        return f"gather {self.job.layout}"

    def items(self, partition: int) -> list[Item]:
        """Return the items of a partition."""
        table = self.sample_table(partition).drop_columns([BYTES])
        return [Item(**row) for row in table.to_pylist()]


def write_gather_plan(job: GatherJob, bundle: Bundle | None, out: Storage) -> GatherPlan:
    """Return the plan that lies in `out`, written now if there is none, and extended by rows that the folder has gained.

    Raises:
        UserError: the folder is not of the layout, none of its first rows can be taken, `out` holds another run, or rows that
            are planned have changed or gone.
    """
    # The files that rows are made of.
    if Storage(job.images).uri == out.uri:
        raise UserError(f"--out {out.uri} is the folder of the data set itself: give another")
    files = list_files(job)
    beside = list_sizes(Storage(job.thermal)) if job.thermal else {}
    # What decides a row.
    parser = parser_link(bundle) if bundle else None
    recipe = Recipe(
        kind="gather",
        source=job.model_dump(mode="json", exclude={"limit", "rows_per_person", "encoding", "partition", "size"}),
        size=job.size,
        layers=(),
        stages=stage_recipes(chain_spec([parser], ("visible",))) if parser else (),
        encoding=job.encoding.model_dump(mode="json"),
        partition=job.partition,
        licence=licence_of([parser.part]) if parser else "",
    )
    # A new run has to show that a row can be taken at all, before anything is written.
    left = Counter[str]()
    found, pieces = list_items(job, files, out, left), read_pieces(out)
    if not pieces.found:
        found = _check_first(found, job, out, files)
    claim(out, recipe, bundle, job.model_dump(mode="json"))
    # New rows come in a new piece, planned as they are listed.
    new = new_rows(pieces, _plan_rows(found, files | beside), ("name", "condition", "thermal"))
    content = hashlib.sha256()
    pieces = extend_by_rows(
        pieces,
        new,
        ITEM_SCHEMA.append(pa.field(BYTES, pa.int64())),
        job.partition,
        note=lambda rows: content.update(json.dumps(rows, sort_keys=True).encode()),
        digest=content.hexdigest,
        extent={"limit": job.limit, "rows_per_person": job.rows_per_person},
    )
    return GatherPlan(out, job, bundle, recipe, pieces, left)


def _plan_rows(found: Iterable[Item], files: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Yield items as the plan keeps them."""
    for item in found:
        size = sum(files.get(name, 0) for name in (item.visible, item.thermal, item.mask, item.points))
        yield {**vars(item), BYTES: size}


def _check_first(found: Iterator[Item], job: GatherJob, out: Storage, files: Mapping[str, int]) -> Iterator[Item]:
    """Return all of `found` once one of the first `FIRST` that have all their files was taken.

    Raises:
        UserError: the folder is of another layout, which is named, or no row was taken; then the message has the first and the
            last reasons.
    """
    # Those that the listing refuses already say nothing of the folder or the options.
    first, openable = list[Item](), 0
    try:
        while openable < FIRST and (item := next(found, None)):
            first.append(item)
            openable += not item.reason
    except UserError as error:
        raise error if job.layout == "plain" else with_likely(error, job, files) from None
    # One that can be taken is enough.
    reasons = list[str]()
    for item in first:
        try:
            read_rows(item, job, out)
            return itertools.chain(first, found)
        except BadPicture as error:
            reasons.append(f"  {item.name}: {error}")
    why = "\n".join(dict.fromkeys(reasons[:4] + reasons[-2:]))
    look = (
        ""
        if job.layout == "plain"
        else f"\n`thermapair data check {job.images}` says what there is and what is missing."
    )
    raise UserError(f"none of the first {len(first)} rows of {job.images} can be taken as {job.layout}:\n{why}{look}")


def parser_link(bundle: Bundle) -> Link:
    """Return the stage that finds the classes of pictures without a mask."""
    return resolve_chain(bundle, given=("visible",), wanted=("classes",)).link("parser")
