"""The plan of an embed job: the pictures of a folder."""

from pathlib import PurePath
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, field_validator

from models.errors import UserError
from models.weights.bundle import Bundle, fetch, licence_of
from pipelines.config.chain import Link, chain_spec
from pipelines.config.persons import parse_person
from pipelines.config.recipe import Recipe, stage_recipes
from pipelines.pictures.open import FORMATS, UNREAD
from pipelines.plan.claim import claim
from pipelines.plan.listing import ListDigest, extend_by_rows, new_rows
from pipelines.plan.pieces import Pieces, read_pieces
from pipelines.plan.stored import StoredPlan
from pipelines.storage.listing import list_sizes
from pipelines.storage.uri import Storage

BATCH = 32
"""Pictures of a partition."""
PICTURE_SCHEMA = pa.schema({"picture": pa.string(), "bytes": pa.int64()})
"""The plan: names, and sizes by which a changed picture is noticed."""


class EmbedJob(BaseModel):
    """Pictures in, identities out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["embed"] = "embed"
    name: str = "embed"
    images: str
    person: str = ""
    """Who is shown: `folder:LEVEL` or `pattern:REGEX` on the path; each picture is one by default."""
    reference: bool = False
    """Whether each face is also written as a picture of the bundle's size, cut as FFHQ's, for a reference adapter."""

    @field_validator("person")
    @classmethod
    def _check_person(cls, value: str) -> str:
        if parse_person(value)[0] == "column":
            raise ValueError("a folder of pictures has no columns; say folder:LEVEL or pattern:REGEX")
        return value


class EmbedPlan(StoredPlan[EmbedJob]):
    """The pictures of a folder, a partition of `BATCH` at a time; a run can be extended by pictures that are added."""

    def __init__(self, out: Storage, job: EmbedJob, link: Link, recipe: Recipe, pieces: Pieces) -> None:
        super().__init__(out, job, recipe, pieces)
        self.link = link

    @property
    def title(self) -> str:
        """What the run is called."""
        return self.job.name


def write_embed_plan(job: EmbedJob, bundle: Bundle, link: Link, out: Storage) -> EmbedPlan:
    """Return the plan that lies in `out`, written now if there is none, and extended by pictures that were added.

    Raises:
        UserError: the folder is missing or holds no picture, `out` is another run's, or planned pictures have changed or gone.
    """
    # What there is to embed, and by what; a missing pack is said before anything starts.
    names, _ = list_pictures(Storage(job.images))
    files = list_sizes(Storage(job.images))
    fetch(link.part, link.folder)
    recipe = Recipe(
        kind="embed",
        source={"images": job.images} | ({"person": job.person} if job.person else {}),
        size=bundle.size if job.reference else 0,
        layers=(),
        stages=stage_recipes(chain_spec([link], ("visible",))),
        encoding={},
        partition=BATCH,
        licence=licence_of([link.part]),
    )
    claim(out, recipe, bundle, job.model_dump(mode="json"))
    pieces = read_pieces(out)
    # New pictures come in a new piece.
    rows = ({"picture": name, "bytes": files[name]} for name in names)
    facts = ListDigest()
    pieces = extend_by_rows(
        pieces, new_rows(pieces, rows, ["picture"]), PICTURE_SCHEMA, BATCH, note=facts.add, digest=facts.hexdigest
    )
    return EmbedPlan(out, job, link, recipe, pieces)


def list_pictures(source: Storage) -> tuple[list[str], int]:
    """Return the pictures below a folder (by extension, sorted) and how many other files there are."""
    if not source.exists():
        raise UserError(f"{source.uri} does not exist (--images names a folder of pictures).")
    files = list_sizes(source)
    names = [name for name in files if PurePath(name).suffix.lower() in (*FORMATS, *UNREAD)]
    if not names:
        raise UserError(f"{source.uri} holds no picture; extensions looked for: {', '.join(FORMATS)}.")
    return names, len(files) - len(names)
