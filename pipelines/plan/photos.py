"""The plan of a thermalize job: every picture of a folder or of Parquet files with its id, cut into partitions."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.columns import Columns
from models.config import digest_of
from models.errors import EnvironmentFault, UserError
from models.weights.bundle import Bundle, licence_of
from pipelines.config.chain import ChainSpec
from pipelines.config.persons import COLUMN, parse_person, person_of
from pipelines.config.recipe import Recipe, stage_recipes
from pipelines.config.thermalize import ThermalizeJob, chain_for
from pipelines.pictures.open import FORMATS, BadPicture, keep_bytes, open_classes, open_photo
from pipelines.pictures.square import Box, squared
from pipelines.plan.pieces import Pieces, claim, new_rows, read_pieces
from pipelines.rows.encode import VISIBLE_BYTES
from pipelines.rows.ids import hashed, noise_id
from pipelines.rows.record import RecordSpec
from pipelines.storage.uri import Storage, own_reason

SEGMENTS = "_seg.png"
"""FaceSynthetics' name of the class picture beside `ID.png`."""
PICTURES = ("visible", "image", "picture")
"""Columns of a Parquet file that are looked at, in this order."""
RAW_BYTES = 256 * 2**20
MISSING = "-"
"""In place of a mask that a picture lacks though others have one."""


def recipe_for(job: ThermalizeJob, chain: ChainSpec, person: str = "") -> Recipe:
    """Return everything that may change a byte of what the job makes. person: what says who is shown."""
    return Recipe(
        kind="thermalize",
        source={"images": job.images, "masks": job.masks, "person": person, "layout": job.layout},
        size=job.size,
        layers=job.layers,
        stages=stage_recipes(chain),
        encoding=job.encoding.model_dump(mode="json"),
        partition=max(1, min(job.partition_samples, RAW_BYTES // (job.size**2 * (4 + 2 * len(job.layers))))),
        licence=licence_of(link.part for link in chain.links),
    )


class PhotoPlan:
    """A plan that lies whole in `out`. Picklable and small: workers read their partition, and its pictures, themselves."""

    def __init__(
        self, out: Storage, job: ThermalizeJob, bundle: Bundle, recipe: Recipe, chain: ChainSpec, pieces: Pieces
    ) -> None:
        self.out, self.job, self.bundle = out, job, bundle
        self.recipe, self.chain, self.pieces, self.digest = recipe, chain, pieces, recipe.digest

    @property
    def title(self) -> str:
        """What the run is called."""
        return self.job.name

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return self.pieces.partitions

    @property
    def samples(self) -> int:
        """Number of pictures in all partitions."""
        return self.pieces.samples

    @property
    def masked(self) -> bool:
        """Whether every picture's classes are given, so that no parser is needed."""
        return "classes" in self.chain.given

    @property
    def known(self) -> bool:
        """Whether something says who is shown, so that the split is by person."""
        return bool(self.recipe.source["person"])

    @property
    def record(self) -> RecordSpec:
        """What rows of the record need to know of this run."""
        split, visible = "" if self.known else "train", str(self.recipe.encoding["visible"])
        return RecordSpec(self.digest, self.recipe.layers, self.recipe.licence, self.chain, visible, split)

    def rows(self, partition: int) -> int:
        """Number of pictures of `partition`."""
        return self.pieces.rows(partition)

    def sample_table(self, partition: int) -> pa.Table:
        """Return the rows of `SCHEMA` of `partition`."""
        return self.pieces.table(partition)

    def partition(self, partition: int) -> Columns:
        """Return the pictures of `partition` as the columns that stages take; a picture that is not taken has its reason."""
        samples = self.sample_table(partition).to_pylist()
        with ThreadPoolExecutor(4, "open") as pool:
            found = list(pool.map(self._opened, samples))
        return columns_of(samples, found, self.job.size, self.masked, partition)

    def _opened(self, sample: dict[str, Any]) -> "Opened":
        """Return a picture and its classes as squares; a picture that is not taken has a reason in their place."""
        try:
            if self.known and not sample["person"]:
                raise BadPicture(
                    f"no person: {self.recipe.source['person']} does not say who {sample['picture']} shows"
                )
            data, mask, name = self._bytes(sample)
            picture = open_photo(data, name)
            height, width = picture.shape[:2]
            if self.job.layout == "tfake" and height != width:
                raise BadPicture(f"not square: {width} x {height} px, and T-FAKE pairs pixel by pixel; crop it first")
            classes = None if mask is None else open_classes(mask, picture.shape[:2])
        except BadPicture as error:
            return Opened(str(error))
        except (OSError, EnvironmentFault) as error:
            return Opened(own_reason(error))
        except pa.ArrowException as error:
            return Opened(f"cannot be read: {error}")
        square, box = squared(picture, self.job.size)
        own = None if classes is None else squared(classes, self.job.size)[0]
        return Opened("", square, own, box, keep_bytes(data, self.job.size) or b"")

    def _bytes(self, sample: dict[str, Any]) -> tuple[bytes, bytes | None, str]:
        """Return the encoded picture, its mask where masks are given, and a file name of the picture."""
        images, picture, mask = Storage(self.job.images), sample["picture"], sample["mask"]
        if sample["row"] < 0:
            if mask == MISSING:
                raise BadPicture(f"no mask: {self.job.masks} has none for it")
            return images.read(picture), Storage(self.job.masks).read(mask) if mask else None, picture
        table = _row_group(images, picture.rpartition("#")[0], sample["group"], bool(mask))
        cells = [table.column(name)[sample["row"]].as_py() for name in table.column_names]
        content: list[Any] = [cell.get("bytes") if isinstance(cell, dict) else cell for cell in cells]
        if not all(isinstance(data, bytes) for data in content):
            raise BadPicture("empty: a cell of the row holds no encoded picture")
        return content[0], content[1] if mask else None, file_name(content[0])


class Opened(NamedTuple):
    """A picture as the chain takes it: uint8 [S, S, 3], classes uint8 [S, S], what is not padding, its bytes where they fit."""

    reason: str
    picture: np.ndarray | None = None
    classes: np.ndarray | None = None
    box: Box = (0, 0, 0, 0)
    came: bytes = b""


def columns_of(
    samples: Sequence[Mapping[str, Any]], found: Sequence[Opened], side: int, masked: bool, partition: int
) -> Columns:
    """Return pictures as the columns that stages take, attempt 0.

    samples: `sample_id`, `picture`, `name` and `person` of each, as in `SCHEMA`. masked: `found` has their classes.
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
    if masked:
        pixels["classes"] = np.stack([blank[..., 0] if one.classes is None else one.classes for one in found])
    return {
        **{name: np.array([*values, None], object)[:-1] for name, values in texts.items()},
        **{name: np.zeros(count, np.int32) for name in ("view", "draw", "attempt")},
        "seed": np.zeros(count, np.int64),
        **pixels,
        "content_box": np.array([one.box for one in found], np.int32),
        "partition": np.full(count, partition, np.int32),
    }


@lru_cache(4)
def _row_group(storage: Storage, name: str, group: int, masked: bool) -> pa.Table:
    with storage.arrow.open_input_file(storage.path(name)) as source:
        file = pq.ParquetFile(source)
        return file.read_row_group(group, columns=[picture_column(file, name), *(["classes"] if masked else [])])


def picture_column(file: pq.ParquetFile, name: str) -> str:
    """Return the column that holds the pictures of a Parquet file."""
    found = [column for column in PICTURES if column in file.schema_arrow.names]
    if not found:
        raise UserError(f"{name} has no column {', '.join(PICTURES)}; it has: {', '.join(file.schema_arrow.names)}")
    return found[0]


SCHEMA = pa.schema(
    {
        "sample_id": pa.string(),
        "picture": pa.string(),
        "name": pa.string(),
        "person": pa.string(),
        "mask": pa.string(),
        "group": pa.int32(),
        "row": pa.int32(),
        "bytes": pa.int64(),
        "mask_bytes": pa.int64(),
    }
)
"""`picture`: path below the images, or FILE#ROW. `name`: what T-FAKE's layout calls it. `row`: in row group, -1 for files.
`bytes`, `mask_bytes`: sizes of the files, or of the row group, that they come from, by which a changed one is noticed:
a Parquet file may grow by further row groups."""


def write_photo_plan(job: ThermalizeJob, bundle: Bundle, out: Storage) -> PhotoPlan:
    """Return the plan that lies in `out`, written now if there is none, and extended by pictures that were added.

    Raises:
        UserError: no picture is there, `out` holds another run (what differs is named), or pictures that are planned have
            changed or gone.
    """
    rows = _listed(job)
    masked = bool(rows[0]["mask"])
    chain = chain_for(job, bundle, masked)
    recipe = recipe_for(job, chain, _told(job, rows))
    claim(out, recipe, bundle, job.model_dump(mode="json"))
    pieces = read_pieces(out)
    new = list(new_rows(pieces, rows, ["picture"], FACTS))
    if job.limit is not None and job.limit < pieces.samples:
        raise UserError(
            f"{out.uri} is planned for {pieces.samples} pictures, and {job.limit} are asked for: a run can grow, not shrink. "
            "Choose another --out for fewer."
        )
    new = new if job.limit is None else new[: max(0, job.limit - pieces.samples)]
    if new:
        groups = [new[start : start + recipe.partition] for start in range(0, len(new), recipe.partition)]
        pieces = pieces.extended(
            {"samples": (pa.Table.from_pylist(group, schema=SCHEMA) for group in groups)},
            start=pieces.items,
            stop=pieces.items + len(new),
            digest=digest_of([[row[key] for key in FACTS] for row in new]),
            extent={"name": job.name, "limit": job.limit},
        )
    return PhotoPlan(out, job, bundle, recipe, chain, pieces)


FACTS = ("picture", "person", "mask", "bytes", "mask_bytes")


def _told(job: ThermalizeJob, rows: Sequence[dict[str, Any]]) -> str:
    """Return what says who is shown, empty for nothing."""
    return job.person or (f"column:{COLUMN}" if any(row["person"] for row in rows) else "")


def _listed(job: ThermalizeJob) -> list[dict[str, Any]]:
    """Return the pictures of a job as rows of `SCHEMA`."""
    images = Storage(job.images)
    if not images.exists():
        raise UserError(f"{images.uri} does not exist (--images names a folder of pictures or of Parquet files).")
    files = sizes(images)
    tables = [name for name in files if name.endswith(".parquet") and not name.startswith(("rejects/", "_"))]
    if tables:
        if job.masks:
            raise UserError("--masks: pictures in Parquet bring theirs as the column `classes`")
        rows = list(_table_rows(images, tables, job))
        if not rows:
            raise UserError(f"{images.uri} holds no picture: its Parquet files have no row.")
        return rows
    if parse_person(job.person)[0] == "column":
        raise UserError(
            f"--person {job.person}: a folder of pictures has no columns; say folder:LEVEL or pattern:REGEX."
        )
    names = [name for name in files if PurePath(name).suffix.lower() in FORMATS and not name.endswith(SEGMENTS)]
    if not names:
        raise UserError(f"{images.uri} holds no picture; extensions looked for: {', '.join(FORMATS)}, .parquet.")
    masks = sizes(Storage(job.masks)) if job.masks else {}
    rows = [_file_row(name, files[name], _mask_of(name, masks, job), masks, job) for name in names]
    if job.masks and all(row["mask"] == MISSING for row in rows):
        looked = f"{PurePath(names[0]).stem}{SEGMENTS} or {PurePath(names[0]).stem}.png"
        raise UserError(f"{Storage(job.masks).uri} has no mask for any picture; looked for names like {looked}")
    if job.layout == "tfake":
        name, count = Counter(row["name"] for row in rows).most_common(1)[0]
        if count > 1:
            raise UserError(
                f"{images.uri}: {name} comes with {count} extensions; T-FAKE's layout takes one picture a name"
            )
    return rows


def sizes(storage: Storage) -> dict[str, int]:
    """Return the size of every file below a folder by its name, sorted."""
    found = storage.fsspec.find(storage.path(), detail=True)
    return {name.removeprefix(storage.path()).lstrip("/"): int(found[name]["size"]) for name in sorted(found)}


def _mask_of(name: str, masks: dict[str, int], job: ThermalizeJob) -> str:
    if not job.masks:
        return ""
    stem = str(PurePath(name).with_suffix(""))
    own = [] if Storage(job.masks).uri == Storage(job.images).uri else [f"{stem}.png"]
    return next((mask for mask in (f"{stem}{SEGMENTS}", *own) if mask in masks), MISSING)


def _file_row(name: str, size: int, mask: str, masks: dict[str, int], job: ThermalizeJob) -> dict[str, Any]:
    return {
        "sample_id": hashed("picture", name),
        "picture": name,
        "name": str(PurePath(name).with_suffix("")),
        "person": person_of(job.person, name) or "",
        "mask": mask,
        "group": 0,
        "row": -1,
        "bytes": size,
        "mask_bytes": masks.get(mask, 0),
    }


def _table_rows(images: Storage, tables: list[str], job: ThermalizeJob) -> Iterator[dict[str, Any]]:
    """Yield a row for every row of Parquet files; they must agree on whether classes are given."""
    kind, column = parse_person(job.person)
    masked = None
    for name in tables:
        with images.arrow.open_input_file(images.path(name)) as source:
            try:
                file = pq.ParquetFile(source)
            except pa.ArrowException as error:
                raise UserError(f"{images.path(name)} cannot be read: {error}") from None
            have = file.schema_arrow.names
            own = "classes" in have
            picture_column(file, name)  # refuses a file without one
            if masked not in (None, own):
                raise UserError(
                    f"{images.uri}: some files have the column `classes`, {name} {'has' if own else 'has not'}"
                )
            masked = own
            if kind == "column" and column not in have:
                raise UserError(f"{name} has no column {column!r} (--person); it has: {', '.join(have)}")
            who = column if kind == "column" else COLUMN if not kind and COLUMN in have else ""
            number = 0
            for group in range(file.num_row_groups):
                people = file.read_row_group(group, columns=[who])[who].to_pylist() if who else []
                for row in range(file.metadata.row_group(group).num_rows):
                    picture = f"{name}#{number}"
                    person = people[row] if who else person_of(job.person, picture)
                    yield {
                        "sample_id": hashed("picture", picture),
                        "picture": picture,
                        "name": f"{PurePath(name).with_suffix('')}-{number:06d}",
                        "person": "" if person is None else str(person),
                        "mask": "classes" if own else "",
                        "group": group,
                        "row": row,
                        "bytes": file.metadata.row_group(group).total_byte_size,
                        "mask_bytes": 0,
                    }
                    number += 1


def file_name(data: bytes) -> str:
    """Return a name with the extension that the first bytes call for: cells have none of their own."""
    starts = {b"\x89PNG": "png", b"\xff\xd8": "jpg", b"RIFF": "webp", b"BM": "bmp", b"GIF8": "gif"}
    return f"cell.{next((end for start, end in starts.items() if data.startswith(start)), 'tiff')}"
