"""The plan of a thermalize job: every picture of a folder or of Parquet files with its id, cut into partitions.

_plan/run.json          what this output is: digest, job, bundle, sizes (written last: with it the plan is whole)
_plan/samples.parquet   one row group per partition: id, picture, its mask, its place in a Parquet file
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.config import digest_of
from models.errors import EnvironmentFault, UserError
from models.weights.bundle import Bundle, weights_digest
from pipelines.config.job import Encoding
from pipelines.pictures.open import FORMATS, BadPicture, open_classes, open_photo
from pipelines.pictures.square import squared
from pipelines.plan.samples import RUN, SAMPLES, differences, read_run
from pipelines.storage import Storage, own_reason

SEGMENTS = "_seg.png"
"""FaceSynthetics' name of the class picture beside `ID.png`."""
PICTURES = ("visible", "image", "picture")
"""Columns of a Parquet file that are looked at, in this order."""
RAW_BYTES = 256 * 2**20


class ThermalizeJob(BaseModel):
    """Visible pictures in, the same faces in thermal out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["thermalize"] = "thermalize"
    name: str = "thermalize"
    images: str
    masks: str = ""
    """Folder of class pictures; without one the bundle's parser finds the classes (a Parquet brings its own `classes`)."""
    conditions: list[str] = ["warm", "cold"]
    size: int = Field(ge=32, le=2048, multiple_of=32)
    """Side of the thermal picture in pixels."""
    layout: Literal["record", "tfake"] = "record"
    encoding: Encoding = Encoding()
    partition_samples: int = Field(default=64, ge=1)
    limit: int | None = Field(default=None, ge=1)

    @field_validator("conditions")
    @classmethod
    def _distinct(cls, value: list[str]) -> list[str]:
        if not value or len(set(value)) != len(value):
            raise ValueError("name one or more different conditions, as in warm,cold")
        return value


class PhotoPlan:
    """A plan that lies whole in `out`. Picklable and small: workers read their partition, and its pictures, themselves."""

    def __init__(self, out: Storage, job: ThermalizeJob, bundle: Bundle, digest: str, partitions: int) -> None:
        self.out, self.job, self.bundle, self.digest, self.partitions = out, job, bundle, digest, partitions

    def __getstate__(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("out", "job", "bundle", "digest", "partitions")}

    @cached_property
    def _samples(self) -> pq.ParquetFile:
        return pq.ParquetFile(self.out.path(SAMPLES), filesystem=self.out.arrow)

    @property
    def samples(self) -> int:
        """Number of pictures in all partitions."""
        return self._samples.metadata.num_rows

    @property
    def masked(self) -> bool:
        """Whether every picture's classes are given, so that no parser is needed."""
        return bool(self.sample_table(0)["mask"][0].as_py())

    def sample_table(self, partition: int) -> pa.Table:
        """Return sample_id, picture, name, mask, row of `partition`."""
        return self._samples.read_row_group(partition)

    def partition(self, partition: int) -> dict[str, np.ndarray]:
        """Return the pictures of `partition` as the columns that stages take; a picture that is not taken has its reason."""
        samples = self.sample_table(partition).to_pylist()
        with ThreadPoolExecutor(4, "open") as pool:
            found = list(pool.map(self._opened, samples))
        side, count = self.job.size, len(samples)
        columns: dict[str, Any] = {
            "sample_id": [row["sample_id"] for row in samples],
            "identity_id": [row["picture"] for row in samples],
            "name": [row["name"] for row in samples],
            "noise_id": [row["sample_id"] for row in samples],
            "reject": [reason for _, _, reason in found],
            "reached": ["" if reason else "visible,classes" if self.masked else "visible" for _, _, reason in found],
            **{name: [""] * count for name in ("caption", "caption_source", "marks")},
            **{name: ["{}"] * count for name in ("attributes", "given", "estimated", "seconds")},
        }
        numbers = {name: np.zeros(count, np.int32) for name in ("view", "draw", "seed", "attempt")}
        blank = np.zeros((side, side, 3), np.uint8)
        pixels = {"visible": np.stack([blank if picture is None else picture for picture, _, _ in found])}
        if self.masked:
            pixels["classes"] = np.stack([blank[..., 0] if classes is None else classes for _, classes, _ in found])
        return {
            **{name: np.array(values, object) for name, values in columns.items()},
            **numbers,
            **pixels,
            "partition": np.full(count, partition, np.int32),
            "final": np.ones(count, bool),
        }

    def _opened(self, sample: dict[str, Any]) -> tuple[np.ndarray | None, np.ndarray | None, str]:
        """Return (picture uint8 [S, S, 3], classes uint8 [S, S] if given, reason); a picture without a reason is whole."""
        try:
            data, mask, name = self._bytes(sample)
            picture = open_photo(data, name)
            height, width = picture.shape[:2]
            if self.job.layout == "tfake" and height != width:
                raise BadPicture(f"not square: {width} x {height} px, and T-FAKE pairs pixel by pixel; crop it first")
            classes = None if mask is None else open_classes(mask, picture.shape[:2])
        except BadPicture as error:
            return None, None, str(error)
        except (OSError, EnvironmentFault) as error:
            return None, None, own_reason(error)
        except pa.ArrowException as error:
            return None, None, f"cannot be read: {error}"
        side = self.job.size
        return squared(picture, side)[0], None if classes is None else squared(classes, side)[0], ""

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


MISSING = "-"
"""In place of a mask that a picture lacks though others have one."""


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
        "mask": pa.string(),
        "group": pa.int32(),
        "row": pa.int32(),
    }
)
"""`picture`: path below the images, or FILE#ROW. `name`: what T-FAKE's layout calls it. `row`: in row group, -1 for files."""


def write_photo_plan(job: ThermalizeJob, bundle: Bundle, out: Storage) -> PhotoPlan:
    """Return the plan that lies in `out`, written now if there is none.

    Raises:
        UserError: no picture is there, or `out` holds another run; the message says what differs.
    """
    rows, facts = _listed(job)
    rows = rows[: job.limit]
    parts = [bundle.thermal] if rows[0]["mask"] else [bundle.parser, bundle.thermal]
    weights = [weights_digest(part, bundle) for part in parts]
    digest = digest_of(job.model_dump(), [part.model_dump() for part in parts], weights, facts)
    size = max(1, min(job.partition_samples, RAW_BYTES // (job.size**2 * (4 + 2 * len(job.conditions)))))
    groups = (rows[start : start + size] for start in range(0, len(rows), size))
    run = {"digest": digest, "job": job.model_dump(), "bundle": bundle.model_dump(), "bundle_folder": bundle._folder}
    before = claim_plan(out, run, groups, SCHEMA)
    return PhotoPlan(out, job, bundle, digest, before["partitions"])


def claim_plan(
    out: Storage, run: dict[str, Any], groups: Iterable[list[dict[str, Any]]], schema: pa.Schema
) -> dict[str, Any]:
    """Return what `_plan/run.json` of `out` says; if there is none, write the plan: `groups`, a partition each, then `run`.

    `run` has the keys digest, job and, for a job with models, bundle.

    Raises:
        UserError: `out` holds another run, or files that are not ours; the message says what differs.
    """
    if not out.exists(RUN):
        occupied = [name for name in out.list() if not name.startswith(("_plan/", "_lease/"))]
        if occupied:
            raise UserError(f"{out.uri} is not empty ({occupied[0]}, ...) and no output of ours; choose another --out.")
        sink, partitions, samples = pa.BufferOutputStream(), 0, 0
        with pq.ParquetWriter(sink, schema) as writer:
            for group in groups:
                writer.write_table(pa.Table.from_pylist(group, schema=schema), row_group_size=len(group))
                partitions, samples = partitions + 1, samples + len(group)
        out.write(SAMPLES, sink.getvalue().to_pybytes())
        counts = {"partitions": partitions, "samples": samples}
        out.create(RUN, (json.dumps({**run, **counts}, indent=1) + "\n").encode())
    before = read_run(out)
    if before["digest"] != run["digest"]:
        old, new = ({key: content.get(key) for key in ("job", "bundle")} for content in (before, run))
        told = ", ".join(differences(old, json.loads(json.dumps(new)))) or "the pictures or the weights"
        raise UserError(
            f"{out.uri} belongs to another run ({before['digest']}, this is {run['digest']}); what differs: {told}. "
            "Choose another --out, or run as before."
        )
    return before


def _listed(job: ThermalizeJob) -> tuple[list[dict[str, Any]], list[Any]]:
    """Return the rows of the plan, and what identifies the files they come from: names and sizes."""
    images = Storage(job.images)
    if not images.exists():
        raise UserError(f"{images.uri} does not exist (--images names a folder of pictures or of Parquet files).")
    files = sizes(images)
    tables = [name for name in files if name.endswith(".parquet") and not name.startswith(("rejects/", "_"))]
    if tables:
        if job.masks:
            raise UserError("--masks: pictures in Parquet bring theirs as the column `classes`")
        return list(_table_rows(images, tables)), [[name, files[name]] for name in tables]
    names = [name for name in files if PurePath(name).suffix.lower() in FORMATS and not name.endswith(SEGMENTS)]
    if not names:
        raise UserError(f"{images.uri} holds no picture; extensions looked for: {', '.join(FORMATS)}, .parquet.")
    masks = sizes(Storage(job.masks)) if job.masks else {}
    rows = [_file_row(name, _mask_of(name, masks, job)) for name in names]
    if job.masks and all(row["mask"] == MISSING for row in rows):
        looked = f"{PurePath(names[0]).stem}{SEGMENTS} or {PurePath(names[0]).stem}.png"
        raise UserError(f"{Storage(job.masks).uri} has no mask for any picture; looked for names like {looked}")
    if job.layout == "tfake":
        name, count = Counter(row["name"] for row in rows).most_common(1)[0]
        if count > 1:
            raise UserError(
                f"{images.uri}: {name} comes with {count} extensions; T-FAKE's layout takes one picture a name"
            )
    return rows, [[name, files[name]] for name in names] + [[name, masks[name]] for name in sorted(masks)]


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


def _file_row(name: str, mask: str) -> dict[str, Any]:
    stem = str(PurePath(name).with_suffix(""))
    return {"sample_id": _id(name), "picture": name, "name": stem, "mask": mask, "group": 0, "row": -1}


def _table_rows(images: Storage, tables: list[str]) -> Iterator[dict[str, Any]]:
    """Yield a row for every row of Parquet files; they must agree on whether classes are given."""
    number, masked = 0, None
    for name in tables:
        with images.arrow.open_input_file(images.path(name)) as source:
            try:
                file = pq.ParquetFile(source)
            except pa.ArrowException as error:
                raise UserError(f"{images.path(name)} cannot be read: {error}") from None
            own = "classes" in file.schema_arrow.names
            picture_column(file, name)  # refuses a file without one
            if masked not in (None, own):
                raise UserError(
                    f"{images.uri}: some files have the column `classes`, {name} {'has' if own else 'has not'}"
                )
            masked = own
            for group in range(file.num_row_groups):
                for row in range(file.metadata.row_group(group).num_rows):
                    picture = f"{name}#{number}"
                    mask = "classes" if own else ""
                    yield {"sample_id": _id(picture), "picture": picture, "name": f"{number:06d}", "mask": mask} | {
                        "group": group,
                        "row": row,
                    }
                    number += 1


def file_name(data: bytes) -> str:
    """Return a name with the extension that the first bytes call for: cells have none of their own."""
    starts = {b"\x89PNG": "png", b"\xff\xd8": "jpg", b"RIFF": "webp", b"BM": "bmp", b"GIF8": "gif"}
    return f"cell.{next((end for start, end in starts.items() if data.startswith(start)), 'tiff')}"


def _id(name: str) -> str:
    return hashlib.sha256(f"picture\x1f{name}".encode()).hexdigest()[:20]
