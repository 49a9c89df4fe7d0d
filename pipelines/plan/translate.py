"""The plan of a translate job: thermal pictures of a folder or of Parquet files, opened partition by partition.

A planned item is a picture; each of its pages gives as many rows as translations are asked for, with names of their own.
"""

import itertools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import numpy as np

from models.columns import Columns
from models.errors import EnvironmentFault, UserError
from models.radiometry import is_inverted
from models.temperature import fill, from_grey, to_centikelvin
from models.weights.bundle import Bundle
from pipelines.config.translate import TranslateJob, chain_for, recipe_for
from pipelines.pictures.codecs import decode
from pipelines.pictures.open import BadPicture
from pipelines.pictures.square import Box, make_square
from pipelines.pictures.thermal import EXTENSIONS, open_frames
from pipelines.plan.chains import read_chain
from pipelines.plan.claim import claim, read_recipe, read_run
from pipelines.plan.listing import ListDigest, extend_by_rows, new_rows
from pipelines.plan.photos import FACTS, PHOTO_SCHEMA, Looked, file_name, find_damage, list_photos, picture_column
from pipelines.plan.pieces import read_pieces, read_whole_pieces
from pipelines.plan.stored import ChainPlan
from pipelines.plan.thermalize import UNREADABLE, frame_columns, reason_of
from pipelines.rows.ids import draw_id, noise_id, page_id
from pipelines.storage.tables import open_table, read_group
from pipelines.storage.uri import Storage

THERMAL = Looked(tuple(EXTENSIONS), ("thermal", "image", "picture"))


class Frame(NamedTuple):
    """A thermal picture as the chain takes it, or the `reason` why it is not taken.

    thermal: uint16 [S, S] centikelvin; of grey levels what they are taken for. box: what of the square is no padding.
    """

    reason: str
    thermal: np.ndarray | None = None
    kind: str = ""
    box: Box = (0, 0, 0, 0)


class TranslatePlan(ChainPlan[TranslateJob]):
    """The pictures of a translate job; workers open those of their partition themselves."""

    @property
    def title(self) -> str:
        """What the run is called."""
        return self.job.name

    @property
    def split(self) -> str:
        """The one split of all rows where nobody says who is shown; empty where it is by person."""
        return "" if self.recipe.source["person"] else "train"

    def partition(self, partition: int) -> Columns:
        """Return the translations to be made of `partition` as the columns that stages take; what is not taken has a reason.

        Where faces are cut out, the actor that finds them opens the frames: then they come as `frame_columns`.
        """
        planned = self.sample_table(partition).to_pylist()
        if self.job.faces:
            with ThreadPoolExecutor(4, "read") as pool:
                return frame_columns(planned, list(pool.map(self._read, planned)), partition)
        with ThreadPoolExecutor(4, "open") as pool:
            opened = list(pool.map(self._open, planned))
        # A row for every translation of every page; one that is not taken keeps a single row.
        rows, frames = list[dict[str, Any]](), list[Frame]()
        for row, found in zip(planned, opened, strict=True):
            for page, frame in enumerate(found):
                for draw in range(1 if frame.reason else self.job.samples):
                    rows.append(row_of(row, page, draw))
                    frames.append(frame)
        return columns_of(rows, frames, self.job.size, partition)

    def _open(self, sample: dict[str, Any]) -> list[Frame]:
        """Return the pages of a picture as squares; one that is not taken has a reason in their place."""
        try:
            data, name = self._bytes(sample)
            frames = open_frames(data, name, self.job.unit)
            low, high = self.recipe.source["grey"]
            return [square_frame(frame, self.job, (low, high)) for frame in frames]
        except UNREADABLE as error:
            return [Frame(reason_of(error))]

    def _read(self, sample: dict[str, Any]) -> tuple[str, bytes, str]:
        """Return (reason, encoded frame, its file name); one that cannot be read has a reason."""
        try:
            return "", *self._bytes(sample)
        except UNREADABLE as error:
            return reason_of(error), b"", ""

    def _bytes(self, sample: Mapping[str, Any]) -> tuple[bytes, str]:
        """Return an encoded picture and a file name of it."""
        images, picture = Storage(self.job.images), sample["picture"]
        if self.recipe.source["person"] and not sample["person"]:
            raise BadPicture(f"no person: {self.recipe.source['person']} does not say who {picture} shows")
        if sample["row"] < 0:
            if picture.endswith(".parquet"):
                damage = find_damage(self.job, picture, THERMAL)
                raise BadPicture(f"not Parquet: {damage or 'it was damaged when the run was planned'}")
            return images.read(picture), picture
        # A cell of a Parquet file: bytes, or a struct that holds them.
        name = picture.rpartition("#")[0]
        with open_table(images, name) as file:
            column = picture_column(file, name, THERMAL)
            cell = read_group(file, sample["group"], [column]).column(column)[sample["row"]].as_py()
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise BadPicture("empty: a cell of the row holds no encoded picture")
        return content, file_name(content)

    def find_truth(self, sample: Mapping[str, Any]) -> np.ndarray | None:
        """Return the visible picture uint8 [H, W, 3] that lies beside a planned thermal one in its Parquet row, if one does.

        One that was made of a thermal picture is no truth.
        """
        if sample["row"] < 0:
            return None
        name = sample["picture"].rpartition("#")[0]
        try:
            with open_table(Storage(self.job.images), name) as file:
                here = [column for column in ("visible", "visible_kind") if column in file.schema_arrow.names]
                (row,) = read_group(file, sample["group"], here).slice(sample["row"], 1).to_pylist()
            cell = row.get("visible") if row.get("visible_kind") != "translated" else None
            return decode(cell["bytes"]) if isinstance(cell, dict) and cell.get("bytes") else None
        except (UserError, OSError, EnvironmentFault):  # moved away since: a report goes without
            return None


def to_degrees(
    frame: np.ndarray, palette: Literal["white-hot", "any"], grey: tuple[float, float]
) -> tuple[np.ndarray, str]:
    """Return a frame, degrees Celsius float32 or grey levels uint8 [H, W], in degrees without gaps, and its `thermal_kind`.

    grey: degrees for which grey levels 0 and 255 are taken. Raises BadPicture for an inverted palette.
    """
    kind = "measured"
    if frame.dtype == np.uint8:
        kind = "agc"
        if palette == "white-hot" and is_inverted(frame):
            raise BadPicture(
                "inverted: the middle is darker than the border, as where black is hot; invert the grey levels "
                "(255 - value), or set palette to any if the surroundings are warmer than skin"
            )
        frame = from_grey(frame, grey)
    return fill(frame), kind  # without a reading is the mean


def square_frame(frame: np.ndarray, job: TranslateJob, grey: tuple[float, float]) -> Frame:
    """Return a frame as the square that is translated. Raises as `to_degrees`."""
    celsius, kind = to_degrees(frame, job.palette, grey)
    # Padding is as cold as the coldest pixel. Three channels, for one would be ids.
    coldest = float(celsius.min())
    square, box = make_square((celsius - coldest)[..., None].repeat(3, axis=2), job.size)
    return Frame("", to_centikelvin(square[..., 0] + coldest), kind, box)


def row_of(sample: Mapping[str, Any], page: int, draw: int) -> dict[str, Any]:
    """Return who and what a translation is of: the first of the first page has the picture's id."""
    own = sample["sample_id"] if not page else page_id(sample["sample_id"], page)
    name = sample["name"] if not page else f"{sample['name']}-page{page}"
    return {**sample, "sample_id": own if not draw else draw_id(own, draw), "name": name, "draw": draw}


def columns_of(rows: list[dict[str, Any]], frames: list[Frame], side: int, partition: int) -> Columns:
    """Return translations as the columns that stages take, attempt 0; where no picture is, its pixels have no reading."""
    texts: dict[str, list[Any]] = {
        "sample_id": [row["sample_id"] for row in rows],
        "identity_id": [row["person"] or row["picture"] for row in rows],
        "name": [row["name"] for row in rows],
        "noise_id": [noise_id(row["sample_id"], 0) for row in rows],
        "thermal_kind": [frame.kind for frame in frames],
        "reject": [frame.reason for frame in frames],
    }
    blank, count = np.zeros((side, side), np.uint16), len(rows)
    return {
        **{name: np.array([*values, None], object)[:-1] for name, values in texts.items()},
        **{name: np.zeros(count, np.int32) for name in ("view", "attempt")},
        "draw": np.array([row["draw"] for row in rows], np.int32),
        "seed": np.zeros(count, np.int64),
        "thermal": np.stack([blank if one.thermal is None else one.thermal for one in frames])[:, None],
        "content_box": np.array([one.box for one in frames], np.int32),
        "partition": np.full(count, partition, np.int32),
    }


def write_translate_plan(job: TranslateJob, bundle: Bundle, out: Storage) -> TranslatePlan:
    """Return the plan that lies in `out`, written now if there is none, and extended by pictures that were added.

    Raises:
        UserError: no picture is there, `out` holds another run (what differs is named), or planned pictures have changed.
    """
    photos, chain = list_photos(job, THERMAL), chain_for(job, bundle)
    if job.faces > 1 and photos.person:
        raise UserError(
            f"{photos.person} says who a picture shows, and --faces {job.faces} cuts several people out of it: use --faces 1"
        )
    recipe = recipe_for(job, chain, photos.person)
    claim(out, recipe, bundle, job.model_dump(mode="json"))
    # What is planned stays; pictures that are new come after it.
    pieces, facts = read_pieces(out), ListDigest()
    rows = new_rows(pieces, photos.rows, ["picture"], FACTS)
    left = None if job.limit is None else max(0, job.limit - pieces.samples)
    pieces = extend_by_rows(
        pieces,
        itertools.islice(rows, left),
        PHOTO_SCHEMA,
        recipe.partition,
        note=lambda new: facts.add([row[key] for key in FACTS] for row in new),
        digest=facts.hexdigest,
        extent={"name": job.name, "limit": job.limit},
    )
    return TranslatePlan(out, job, bundle, recipe, chain, pieces)


def read_translate_plan(out: Storage) -> TranslatePlan:
    """Return the plan in `out`, with the recipe that it was made from. Raises what `read_chain` raises."""
    recipe, bundle = read_recipe(out)
    job = TranslateJob.model_validate(read_run(out)["job"])
    return TranslatePlan(out, job, bundle, recipe, read_chain(out), read_whole_pieces(out))
