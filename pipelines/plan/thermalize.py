"""The plan of a thermalize job: the pictures of a folder or of Parquet files, opened partition by partition."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from models.columns import Columns
from models.errors import EnvironmentFault, UserError
from models.weights.bundle import Bundle
from pipelines.config.thermalize import ThermalizeJob, chain_for, recipe_for
from pipelines.pictures.open import BadPicture, keep_bytes, open_classes, open_pages
from pipelines.pictures.square import Box, make_square
from pipelines.plan.chains import read_chain
from pipelines.plan.claim import claim, read_recipe, read_run
from pipelines.plan.listing import ListDigest, Row, extend_by_rows, new_rows
from pipelines.plan.photos import FACTS, MISSING, PHOTO_SCHEMA, file_name, find_damage, list_photos, picture_column
from pipelines.plan.pieces import read_pieces, read_whole_pieces
from pipelines.plan.stored import ChainPlan
from pipelines.rows.encode import VISIBLE_BYTES
from pipelines.rows.ids import noise_id, page_id
from pipelines.storage.errors import own_reason
from pipelines.storage.tables import BadTableError, open_table, read_group
from pipelines.storage.uri import Storage

UNREADABLE = (BadPicture, BadTableError, OSError, EnvironmentFault)
"""What is the matter with one picture, and ends no run."""


def reason_of(error: Exception) -> str:
    """Return why a picture is not taken."""
    if isinstance(error, BadPicture):
        return str(error)
    return own_reason(error) if isinstance(error, OSError | EnvironmentFault) else f"cannot be read: {error}"


class ThermalizePlan(ChainPlan[ThermalizeJob]):
    """The pictures of a thermalize job; workers open those of their partition themselves."""

    @property
    def title(self) -> str:
        """What the run is called."""
        return self.job.name

    @property
    def has_classes(self) -> bool:
        """Whether every picture's classes are given, so that no parser is needed."""
        return "classes" in self.chain.given

    @property
    def by_person(self) -> bool:
        """Whether something says who is shown, so that the split is by person."""
        return bool(self.recipe.source["person"])

    @property
    def split(self) -> str:
        """The one split of all rows where nobody says who is shown; empty where it is by person."""
        return "" if self.by_person else "train"

    def partition(self, partition: int) -> Columns:
        """Return the pictures of `partition` as the columns that stages take; a picture that is not taken has its reason.

        Where faces are cut out, the actor that finds them opens the pictures: then they come as `frame_columns`.
        """
        planned = self.sample_table(partition).to_pylist()
        if self.job.faces:
            with ThreadPoolExecutor(4, "read") as pool:
                return frame_columns(planned, list(pool.map(self._read_frame, planned)), partition)
        with ThreadPoolExecutor(4, "open") as pool:
            found = list(pool.map(self._open, planned))
        # A row for every page: the first has the file's name and id, the others' say which they are.
        pages = [(page_of(row, k), one) for row, opened in zip(planned, found) for k, one in enumerate(opened)]
        return columns_of(
            [row for row, _ in pages], [one for _, one in pages], self.job.size, self.has_classes, partition
        )

    def _read_frame(self, sample: dict[str, Any]) -> tuple[str, bytes, str]:
        """Return (reason, encoded picture, its file name); a picture that cannot be read has a reason."""
        try:
            self._check_row(sample)
            data, _, name = self._bytes(sample)
            return "", data, name
        except UNREADABLE as error:
            return reason_of(error), b"", ""

    def _check_row(self, sample: Mapping[str, Any]) -> None:
        """Raise BadPicture for a Parquet file that cannot be read, and for nobody in a job that says who is shown."""
        if sample["row"] < 0 and sample["picture"].endswith(".parquet"):
            damage = find_damage(self.job, sample["picture"])
            raise BadPicture(f"not Parquet: {damage or 'it was damaged when the run was planned'}")
        if self.by_person and not sample["person"]:
            raise BadPicture(f"no person: {self.recipe.source['person']} does not say who {sample['picture']} shows")

    def _open(self, sample: dict[str, Any]) -> "list[Photo]":
        """Return the pages of a picture and their classes as squares; one that is not taken has a reason in their place."""
        # A picture has a person where people are said, and its mask where masks are given.
        try:
            self._check_row(sample)
            data, mask, name = self._bytes(sample)
            pictures = open_pages(data, name)
            for height, width, _ in (picture.shape for picture in pictures):
                if self.job.layout == "tfake" and height != width:
                    raise BadPicture(
                        f"not square: {width} x {height} px, and T-FAKE pairs pixel by pixel; crop it first"
                    )
            if mask is not None and len(pictures) > 1:
                raise BadPicture(f"mask: one beside {len(pictures)} pages; split the file")
            classes = None if mask is None else open_classes(mask, pictures[0].shape[:2])
        except UNREADABLE as error:
            return [Photo(reason_of(error))]
        # All become squares in the same way; the file itself is kept where it fits as it is.
        square_classes = None if classes is None else make_square(classes, self.job.size)[0]
        came = (keep_bytes(data, self.job.size) if len(pictures) == 1 else None) or b""
        return [
            Photo("", square, square_classes, box, came)
            for square, box in (make_square(p, self.job.size) for p in pictures)
        ]

    def _bytes(self, sample: dict[str, Any]) -> tuple[bytes, bytes | None, str]:
        """Return the encoded picture, its mask where masks are given, and a file name of the picture."""
        # A file and the mask beside it.
        images, picture, mask = Storage(self.job.images), sample["picture"], sample["mask"]
        if sample["row"] < 0:
            if mask == MISSING:
                raise BadPicture(f"no mask: {self.job.masks} has none for it")
            return images.read(picture), Storage(self.job.masks).read(mask) if mask else None, picture
        # Or the cells of a row of a Parquet file: bytes, or a struct that holds them.
        table = _read_row_group(images, picture.rpartition("#")[0], sample["group"], bool(mask))
        cells = [table.column(name)[sample["row"]].as_py() for name in table.column_names]
        content: list[Any] = [cell.get("bytes") if isinstance(cell, dict) else cell for cell in cells]
        if not all(isinstance(data, bytes) for data in content):
            raise BadPicture("empty: a cell of the row holds no encoded picture")
        return content[0], content[1] if mask else None, file_name(content[0])


def page_of(sample: Mapping[str, Any], page: int) -> dict[str, Any]:
    """Return the row of a page of a planned picture: the first page's is the picture's."""
    if not page:
        return dict(sample)
    return {**sample, "sample_id": page_id(sample["sample_id"], page), "name": f"{sample['name']}-page{page}"}


class Photo(NamedTuple):
    """A picture as the chain takes it, or the `reason` why it is not taken.

    picture: uint8 [S, S, 3]. classes: uint8 [S, S], where they are given. box: what of the square is no padding. came: the
    encoded picture where it can be stored as it came.
    """

    reason: str
    picture: np.ndarray | None = None
    classes: np.ndarray | None = None
    box: Box = (0, 0, 0, 0)
    came: bytes = b""


def columns_of(
    samples: Sequence[Mapping[str, Any]], found: Sequence[Photo], side: int, has_classes: bool, partition: int
) -> Columns:
    """Return pictures as the columns that stages take, attempt 0.

    samples: `sample_id`, `picture`, `name` and `person` of each, as in `PHOTO_SCHEMA`. has_classes: `found` has their classes.
    """
    count = len(samples)
    # Who and what they are, and why some are not taken.
    texts: dict[str, list[Any]] = {
        "sample_id": [row["sample_id"] for row in samples],
        "identity_id": [row["person"] or row["picture"] for row in samples],
        "name": [row["name"] for row in samples],
        "noise_id": [noise_id(row["sample_id"], 0) for row in samples],
        "reject": [opened.reason for opened in found],
        VISIBLE_BYTES: [opened.came for opened in found],
    }
    # Their pixels, black where there are none.
    blank = np.zeros((side, side, 3), np.uint8)
    pixels = {"visible": np.stack([blank if one.picture is None else one.picture for one in found])}
    if has_classes:
        pixels["classes"] = np.stack([blank[..., 0] if one.classes is None else one.classes for one in found])
    return {
        **{name: np.array([*values, None], object)[:-1] for name, values in texts.items()},
        **{name: np.zeros(count, np.int32) for name in ("view", "draw", "attempt")},
        "seed": np.zeros(count, np.int64),
        **pixels,
        "content_box": np.array([one.box for one in found], np.int32),
        "partition": np.full(count, partition, np.int32),
    }


def frame_columns(
    samples: Sequence[Mapping[str, Any]], read: Sequence[tuple[str, bytes, str]], partition: int
) -> Columns:
    """Return encoded pictures as the columns that faces are cut from: those of `PHOTO_SCHEMA` that name them, and `read`.

    read: of each the reason why it is not taken (empty for a good one), the encoded picture, and its file name.
    """
    names = ("sample_id", "picture", "name", "person")
    texts: dict[str, list[Any]] = {name: [row[name] for row in samples] for name in names}
    texts |= dict(zip(("reject", "frame", "frame_name"), map(list, zip(*read, strict=True)), strict=True))
    columns = {name: np.array([*values, None], object)[:-1] for name, values in texts.items()}
    return {**columns, "partition": np.full(len(samples), partition, np.int32)}


@lru_cache(4)
def _read_row_group(storage: Storage, name: str, group: int, has_classes: bool) -> pa.Table:
    with open_table(storage, name) as file:
        return read_group(file, group, [picture_column(file, name), *(["classes"] if has_classes else [])])


def write_thermalize_plan(job: ThermalizeJob, bundle: Bundle, out: Storage) -> ThermalizePlan:
    """Return the plan that lies in `out`, written now if there is none, and extended by pictures that were added.

    Raises:
        UserError: no picture is there, `out` holds another run (what differs is named), or pictures that are planned have
            changed or gone.
    """
    # The listing says which stages are needed, and these what the run is.
    photos = list_photos(job)
    chain = chain_for(job, bundle, photos.has_classes)
    if job.faces > 1 and photos.person:
        raise UserError(
            f"{photos.person} says who a picture shows, and --faces {job.faces} cuts several people out of it: use --faces 1"
        )
    recipe = recipe_for(job, chain, photos.person)
    claim(out, recipe, bundle, job.model_dump(mode="json"))
    pieces = read_pieces(out)
    if job.limit is not None and job.limit < pieces.samples:
        raise UserError(
            f"{out.uri} is planned for {pieces.samples} pictures, and {job.limit} are asked for: a run can grow, not shrink. "
            "Choose another --out for fewer."
        )
    # New pictures come in a new piece, planned as they are listed.
    facts = ListDigest()
    pieces = extend_by_rows(
        pieces,
        _take(new_rows(pieces, photos.rows, ["picture"], FACTS), job.limit and job.limit - pieces.samples),
        PHOTO_SCHEMA,
        recipe.partition,
        note=lambda rows: facts.add([row[key] for key in FACTS] for row in rows),
        digest=facts.hexdigest,
        extent={"name": job.name, "limit": job.limit},
    )
    return ThermalizePlan(out, job, bundle, recipe, chain, pieces)


def _take(rows: Iterator[Row], count: int | None) -> Iterator[Row]:
    """Yield the first `count` rows, all by default; the others are only looked at, for planned ones that have changed or gone."""
    yield from itertools.islice(rows, count)
    for _ in rows:
        pass


def read_thermalize_plan(out: Storage) -> ThermalizePlan:
    """Return the plan in `out`, with the recipe that it was made from. Raises what `read_chain` raises."""
    recipe, bundle = read_recipe(out)
    job = ThermalizeJob.model_validate(read_run(out)["job"])
    return ThermalizePlan(out, job, bundle, recipe, read_chain(out), read_whole_pieces(out))
