"""Test people of the `field` domain from shards instead of the world: what a user's own annotated data are read with."""

import numpy as np
import pyarrow.parquet as pq

from models.errors import UserError
from models.evaluation.recipe import Recipe
from models.evaluation.world import fitted_frame
from models.tasks import Rows
from pipelines.commits import committed
from pipelines.shards import Shards
from pipelines.storage import Storage

PAIRS = ("visible", "classes", "condition", "valid")
FRAMES = ("apparent", "identity", "pose", "bbox")
POINTS = ("landmarks_70", "landmarks_72")
MOST = 2000
"""Rows that are read of a data set."""


def has_pairs(uri: str) -> bool:
    """Return whether the shards hold visible pictures with classes, which a thermalizer is read on."""
    return set(PAIRS) <= _columns(uri)


def field_rows(uri: str, recipe: Recipe, *, frames: bool) -> Rows:
    """Return rows as `rendered` does, of shards with the columns of `FRAMES`, and of `PAIRS` unless `frames`.

    frames: pictures at most `recipe.frame` px wide, with `points` (column landmarks_70; NaN without) and `labels`
    (landmarks_72; NaN without) on them. `annotated` says that the 72 are a data set's own. The shards' temperature is the
    truth and the frame at once: no camera stands between.

    Raises a UserError for shards without points or without people to resample, and for pictures that do not fit.
    """
    points = tuple(name for name in POINTS if name in _columns(uri))
    if not points:
        raise UserError(f"{uri} has no points to compare with: none of the columns {', '.join(POINTS)}")
    shards = Shards(uri, (*FRAMES, *points, *(() if frames else PAIRS)), memory=0, limit=MOST)
    rows = shards.rows(np.arange(len(shards)))
    size = rows["apparent"].shape[1]
    if len(np.unique(rows["identity"])) < 2:
        raise UserError(f"{uri}: intervals are over people, and it holds fewer than two (column identity)")
    if not frames:
        if size % 32:
            raise UserError(f"{uri}: pictures of {size} px; the thermalizer takes multiples of 32")
        return rows | {"condition": rows["condition"].astype(str)}
    side = min(size, recipe.frame)

    def placed(name: str) -> np.ndarray:
        count = int(name.rpartition("_")[2])
        if name not in points:
            return np.full((len(shards), count, 2), np.nan, np.float32)
        return rows[name].reshape(-1, count, 2) * np.float32(side / size)

    return {
        "identity": rows["identity"],
        "pose": rows["pose"],
        "frame": np.stack([fitted_frame(picture, side) for picture in rows["apparent"]]),
        "side": np.full(len(shards), side),
        "height": (rows["bbox"][:, 3] - rows["bbox"][:, 1]) * (side / size),
        "points": placed("landmarks_70"),
        "labels": placed("landmarks_72"),
        "annotated": np.full(len(shards), "landmarks_72" in points),
    }


def _columns(uri: str) -> set[str]:
    storage = Storage(uri)
    for commit in committed(storage).values():
        with storage.arrow.open_input_file(storage.path(commit.file)) as source:
            return set(pq.ParquetFile(source).schema_arrow.names)
    raise UserError(f"{uri} holds no committed shard; make them with `thermapair world --out {uri}`")
