"""Test people of the `field` domain from shards instead of the world: what a user's own annotated data are read with."""

import numpy as np

from models.classes import IGNORE
from models.columns import Columns
from models.errors import UserError
from models.evaluation.tfake.pools import fit_frame
from models.evaluation.tfake.recipe import Recipe
from pipelines.readers.sets.charlotte import PROFILE, SLOTS
from pipelines.rows.shards import Shards
from pipelines.storage.commits import read_commits
from pipelines.storage.tables import open_table
from pipelines.storage.uri import Storage

PAIRS = ("visible", "classes", "condition", "valid")
FRAMES = ("thermal", "identity_id", "pose", "bbox")
POINTS = ("landmarks_70", "landmarks_72")
KINDS = {"visible_kind": ("rgb",), "thermal_kind": ("apparent", "measured")}
"""What pairs of a thermalizer show: colours beside degrees that no network made up."""
OWN = ("points_given", "face_height")
"""What gathered rows say of their faces."""
READER = "evaluate tfake"
MOST = 2000
"""Rows that are read of a data set."""


def has_pairs(uri: str, recipe: Recipe) -> bool:
    """Return whether the shards hold pairs that a thermalizer is read on; see `_find_pairs`."""
    have = _columns(uri)
    if not set(PAIRS) <= have:
        return False
    return bool(
        _find_pairs(
            _rows(uri, ("classes", "condition", *(name for name in KINDS if name in have)), recipe), recipe
        ).any()
    )


def _find_pairs(rows: Columns, recipe: Recipe) -> np.ndarray:
    """Return bool [N]: visible pictures in colour, with classes, beside degrees in one of the recipe's conditions."""
    known = np.isin(rows["condition"].astype(str), recipe.conditions) & (rows["classes"] != IGNORE).any(axis=(1, 2))
    for name, kinds in KINDS.items():
        if name in rows:
            known &= np.isin(rows[name].astype(str), kinds)
    return known


def field_rows(uri: str, recipe: Recipe, *, frames: bool) -> Columns:
    """Return rows as `render_pool` does, of shards with the columns of `FRAMES`, and of `PAIRS` unless `frames`.

    frames: pictures at most `recipe.frame` px wide, with `points` (column landmarks_70; NaN without) and `labels`
    (landmarks_72; NaN without) on them; those of grey levels are uint8. `annotated` says that the 72 are a data set's own. The
    shards' temperature is the truth and the frame at once: no camera stands between. Else pairs alone (`_find_pairs`).

    Raises a UserError for what `check_field` refuses, and for pictures that do not fit.
    """
    # What there is: points to compare with, and of pairs everything that they are made of.
    have, points = _columns(uri), check_field(uri, recipe)
    rows = _rows(
        uri, (*FRAMES, *points, *(name for name in (OWN if frames else (*PAIRS, *KINDS)) if name in have)), recipe
    )
    size = rows["thermal"].shape[1]
    # Frames that are searched, or pairs that a thermalizer is read on.
    if frames:
        return _frames(rows, points, min(size, recipe.frame), size)
    if size % 32:
        raise UserError(f"{uri}: pictures of {size} px; the thermalizer takes multiples of 32")
    rows |= {"condition": rows["condition"].astype(str)}
    chosen = _find_pairs(rows, recipe)
    return {name: values[chosen] for name, values in rows.items()}


def check_field(uri: str, recipe: Recipe) -> tuple[str, ...]:
    """Return the columns of points that the shards have. No picture is opened.

    Raises a UserError for shards without points to compare with or without two people to resample.
    """
    points = tuple(name for name in POINTS if name in _columns(uri))
    shards = Shards(
        uri, ("thermal", "identity_id", *points), split=recipe.field_split or None, memory=0, limit=MOST, reader=READER
    )
    if not any(np.isfinite(shards.lists(name)).any() for name in points):
        raise UserError(
            f"{uri} has no points to compare with: no row gives {' or '.join(POINTS)}. Of the published sets tfake, sf-tl54, "
            "aachen and charlotte do; `thermapair landmarks find` finds points, which are no truth."
        )
    if len(np.unique(shards.values("identity_id"))) < 2:
        raise UserError(f"{uri}: intervals are over people, and it holds fewer than two (column identity_id)")
    return points


def _frames(rows: Columns, points: tuple[str, ...], side: int, size: int) -> Columns:
    """Return rows of pictures of `size` px as frames of `side` px."""
    # Points and boxes shrink with the picture; points that the shards have not are NaN.
    count = len(rows["identity_id"])

    def scale_points(name: str) -> np.ndarray:
        length = int(name.rpartition("_")[2])
        if name not in points:
            return np.full((count, length, 2), np.nan, np.float32)
        return rows[name].reshape(-1, length, 2) * np.float32(side / size)

    return {
        "identity_id": rows["identity_id"],
        "pose": poses(rows),
        "frame": np.stack([_fit(picture, side) for picture in rows["thermal"]]),
        "side": np.full(count, side),
        "height": face_heights(rows, side / size),
        "points": scale_points("landmarks_70"),
        "labels": scale_points("landmarks_72"),
        "annotated": np.full(count, "landmarks_72" in points and bool(np.isfinite(rows["landmarks_72"]).any())),
    }


def _fit(picture: np.ndarray, side: int) -> np.ndarray:
    """Return a picture as a frame of `side` px: degrees float32, or grey levels uint8 as they came."""
    if picture.dtype != np.uint8:
        return fit_frame(picture, side)
    return np.rint(fit_frame(picture.astype(np.float32), side)).clip(0, 255).astype(np.uint8)


def face_heights(rows: Columns, scale: float = 1.0) -> np.ndarray:
    """Return how tall faces are, float [N] px: of gathered rows in the picture as it came, of others in theirs times `scale`."""
    return rows["face_height"] if "face_height" in rows else (rows["bbox"][:, 3] - rows["bbox"][:, 1]) * scale


def poses(rows: Columns) -> np.ndarray:
    """Return yaw, pitch and roll, float32 [N, 3] degrees; where points tell none, a yaw of 90 for a profile's 43 and 0 for a
    front's 72 (NaN for any others)."""
    pose = np.array(rows["pose"], np.float32)
    unknown = np.isnan(pose[:, 0])
    if "points_given" in rows:
        pose[unknown & (rows["points_given"] == SLOTS)] = 0
        pose[unknown & (rows["points_given"] == PROFILE)] = (90, 0, 0)
    return pose


def _rows(uri: str, columns: tuple[str, ...], recipe: Recipe) -> Columns:
    shards = Shards(uri, columns, split=recipe.field_split or None, memory=0, limit=MOST, reader=READER)
    return shards.rows(np.arange(len(shards)))


def _columns(uri: str) -> set[str]:
    storage = Storage(uri)
    for commit in read_commits(storage).values():
        with open_table(storage, commit.file) as file:
            return set(file.schema_arrow.names)
    raise UserError(f"{uri} holds no committed shard: give what `thermapair gather` or `world` wrote, as its --out")
