"""The plan of an embed job: the pictures of a folder."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from models.errors import UserError
from models.faces.settings import THERMAL
from models.faces.space import check_space
from models.temperature import Unit
from models.weights.bundle import MAIN, Bundle, fetch, licence_of
from pipelines.config.chain import Link, faces_link, landmarks_link
from pipelines.config.persons import parse_person
from pipelines.config.recipe import Recipe, stage_recipe
from pipelines.pictures.open import FORMATS, UNREAD
from pipelines.pictures.thermal import EXTENSIONS
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
    modality: Literal["visible", "thermal"] = "visible"
    """What the pictures show; thermal ones are embedded by the recogniser that was adapted to them."""
    unit: Unit | None = None
    """Of thermal pictures of more than 8 bits; without it they give contrast alone."""
    reference: bool = False
    """Whether each face is also written as a picture of the bundle's size, cut as FFHQ's, for a reference adapter."""
    crop: bool = False
    """Whether each face is also written as ArcFace's aligned crop of 448 pixels, for FaceCLIP, with `consent` and `licence`."""
    consent: str = ""
    """What the people who are shown agreed to."""
    licence: str = ""
    """Of the pictures."""

    @field_validator("person")
    @classmethod
    def _check_person(cls, value: str) -> str:
        if parse_person(value)[0] == "column":
            raise ValueError("a folder of pictures has no columns; say folder:LEVEL or pattern:REGEX")
        return value

    @model_validator(mode="after")
    def _check_modality(self) -> "EmbedJob":
        for name in ("reference", "crop"):
            if self.modality == "thermal" and getattr(self, name):
                raise ValueError(f"{name} cuts out a visible face: leave it out for thermal pictures")
        if self.modality == "visible" and self.unit is not None:
            raise ValueError("unit is of thermal pictures: add --modality thermal")
        for name in ("consent", "licence"):
            if getattr(self, name) and not self.crop:
                raise ValueError(f"{name} is written beside the crops of faces, and none are asked for: add --crop")
        return self

    @property
    def kept(self) -> dict[str, object]:
        """What is written of faces beside their embeddings, as far as it is asked for."""
        told = {name: getattr(self, name) for name in ("crop", "consent", "licence")}
        return {name: value for name, value in told.items() if value}


class EmbedPlan(StoredPlan[EmbedJob]):
    """The pictures of a folder, a partition of `BATCH` at a time; a run can be extended by pictures that are added."""

    def __init__(self, out: Storage, job: EmbedJob, links: Sequence[Link], recipe: Recipe, pieces: Pieces) -> None:
        super().__init__(out, job, recipe, pieces)
        self.link = links[0]
        """Of the faces."""
        self.finder = links[1] if len(links) > 1 else None
        """Of the landmarks, by which faces are found in thermal pictures."""

    @property
    def title(self) -> str:
        """What the run is called."""
        return self.job.name


def embed_links(job: EmbedJob, bundle: Bundle) -> list[Link]:
    """Return what embeds the job's pictures: the faces' part, and for thermal ones the landmarks' that finds faces.

    Raises UserError for thermal pictures where the bundle has no recogniser for them.
    """
    return [faces_link(bundle)] if job.modality == "visible" else thermal_links(bundle)


def thermal_links(bundle: Bundle) -> list[Link]:
    """Return what embeds thermal faces: the faces' part and the landmarks'. Raises UserError where the bundle has it not."""
    link = faces_link(bundle)
    if THERMAL not in link.part.weights:
        raise UserError(
            f"bundle {bundle.name} has no recogniser for thermal faces: train hfr, then --set faces.weights.thermal=OUT/export"
        )
    return [link, landmarks_link(bundle)]


def write_embed_plan(job: EmbedJob, bundle: Bundle, out: Storage) -> EmbedPlan:
    """Return the plan that lies in `out`, written now if there is none, and extended by pictures that were added.

    Raises:
        UserError: the folder is missing or holds no picture, `out` is another run's, or planned pictures have changed or gone.
    """
    # What there is to embed, and by what; a missing pack is said before anything starts.
    links = embed_links(job, bundle)
    names, _ = list_pictures(Storage(job.images), job.modality)
    files = list_sizes(Storage(job.images))
    for link in links:
        there = fetch(link.part, link.folder)
        if job.modality == "thermal" and THERMAL in there:
            check_space(there[MAIN], there[THERMAL])
    recipe = Recipe(
        kind="embed",
        source={"images": job.images}
        | ({"person": job.person} if job.person else {})
        | (job.model_dump(mode="json", include={"modality", "unit"}) if job.modality == "thermal" else {})
        | job.kept,
        size=bundle.size if job.reference else 0,
        layers=(),
        stages=tuple(stage_recipe(link) for link in links),
        encoding={},
        partition=BATCH,
        licence=licence_of([link.part for link in links]),
    )
    claim(out, recipe, bundle, job.model_dump(mode="json"))
    pieces = read_pieces(out)
    # New pictures come in a new piece.
    rows = ({"picture": name, "bytes": files[name]} for name in names)
    facts = ListDigest()
    pieces = extend_by_rows(
        pieces, new_rows(pieces, rows, ["picture"]), PICTURE_SCHEMA, BATCH, note=facts.add, digest=facts.hexdigest
    )
    return EmbedPlan(out, job, links, recipe, pieces)


def list_pictures(source: Storage, modality: str = "visible") -> tuple[list[str], int]:
    """Return the pictures below a folder (by extension, sorted) and how many other files there are."""
    if not source.exists():
        raise UserError(f"{source.uri} does not exist (--images names a folder of pictures).")
    files = list_sizes(source)
    formats = FORMATS if modality == "visible" else EXTENSIONS
    names = [name for name in files if PurePath(name).suffix.lower() in (*formats, *UNREAD)]
    if not names:
        raise UserError(f"{source.uri} holds no picture; extensions looked for: {', '.join(formats)}.")
    return names, len(files) - len(names)
