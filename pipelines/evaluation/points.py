"""`thermapair measure points`: the landmarks of any landmarker, in files, by the protocol that ours are measured by."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import get_args

import numpy as np

from models.columns import Columns
from models.errors import UserError
from models.evaluation.tfake.points import Faces, Figures, measure_faces
from models.evaluation.tfake.recipe import Recipe
from models.evaluation.tfake.subsets import SUBSETS
from models.faces.align import five_points
from models.landmarks.settings import Standard
from pipelines.evaluation.lapig.pages import tabulate
from pipelines.evaluation.shards import OWN, face_heights, poses
from pipelines.pictures.open import BadPicture
from pipelines.readers.points import read_points
from pipelines.rows.shards import Shards
from pipelines.storage.uri import Storage

TEXTS, NUMBERS = ("pair_id", "name", "identity_id"), ("size", *OWN)
"""Columns that hold no lists."""
OPTIONAL = ("name", "identity_id", "pose", *OWN)
LABELS = "landmarks_72"
SKIPPED = "skipped.json"
"""What `landmarks find` writes beside points: pictures that it could not take."""


def measure_points(
    test: str, predictions: str, standard: int, *, high_px: float | None = None, side_deg: float | None = None
) -> Figures:
    """Return the figures of `models.evaluation.tfake.points` of landmarks in the files of the folder `predictions`.

    A file is one row's of `test`, named by its `pair_id` or `name`, in any format that `gather` reads, in pixels of the row's
    square picture; folders in a row's name are folders of files, and others are not looked at. Rows without a file are missed
    faces, those without points to compare with are left out. high_px, side_deg: the limits of T-FAKE's subsets, the recipe's by
    default; heights and poses are those of `evaluate tfake`.

    True points are the rows' own in the predictions' standard (of 72: of faces that give all of them); the 72 labels are compared
    with what an adapter makes of the predictions, learnt without the face's subject.

    Raises a UserError for files that are no row's, of which two are one row's, that cannot be read, hold other than `standard`
    points, or lack one that the row has; for rows without points; and for labels of one person alone, without true points.
    """
    if standard not in get_args(Standard):
        known = ", ".join(map(str, get_args(Standard)))
        raise UserError(f"{standard} points are no standard that is known: give files of {known} points")
    source = Storage(predictions)
    listed = [file for file in source.list("") if file != SKIPPED]
    if not listed:
        raise UserError(f"{predictions} holds no file of landmarks")
    # Points that predictions are compared with, and the predictions of those rows.
    rows = _read_rows(test, standard)
    truth, labels = _truth(rows, standard), rows[LABELS]
    given = np.isfinite(np.concatenate([truth, labels], axis=1)).any(axis=(1, 2))
    if not given.any():
        names = " or ".join(_columns(standard))
        raise UserError(f"{test} has no points to compare with: no row gives {names}")
    rows, truth, labels = {name: values[given] for name, values in rows.items()}, truth[given], labels[given]
    found = _read_predictions(source, listed, rows, truth, test)
    # By the protocol of T-FAKE's tables.
    recipe = Recipe()
    yaw = poses(rows)[:, 0] if "pose" in rows else np.full(len(found), np.nan)
    faces = Faces(found, truth, labels, face_heights(rows), yaw, rows["size"], _people(rows))
    figures = measure_faces(faces, high_px or recipe.high_px, side_deg or recipe.side_deg)
    if not figures.estimates:
        raise UserError(
            f"{test} gives 72 labels alone, which are read through an adapter that leaves each subject out: its faces must be "
            "of two people at least (column identity_id)."
        )
    return figures


def render_figures(found: Figures) -> str:
    """Return the figures as a table of Markdown: a line each, a column for each subset that has faces."""
    rows = [{"row": name, **values} for name, values in found.counts.items()]
    rows += [
        {"row": name, **{subset: each._asdict() for subset, each in values.items()}}
        for name, values in found.estimates.items()
    ]
    there = [subset for subset in SUBSETS if any(values[subset] for values in found.counts.values())]
    table = tabulate(rows, {subset: subset for subset in there})
    assert table is not None
    # Padded, so that it is read in a terminal.
    lines = [table["head"], *table["rows"]]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def _read_rows(test: str, standard: int) -> Columns:
    """Return what predictions are compared with of all rows; no picture is opened."""
    points = _columns(standard)
    columns = ("pair_id", "size", "bbox", *points, *OPTIONAL)
    shards = Shards(test, columns, optional=OPTIONAL, found=points, memory=0, reader="measure points")
    rows = {name: shards.values(name) for name in shards.columns if name in (*TEXTS, *NUMBERS)}
    rows |= {name: shards.lists(name) for name in shards.columns if name not in rows}
    return rows | {name: rows[name].reshape(len(rows["pair_id"]), -1, 2) for name in points}


def _columns(standard: int) -> tuple[str, ...]:
    """Return the columns of points that those of a standard are compared with: its own and the labels."""
    return tuple(dict.fromkeys((f"landmarks_{standard if standard in (72, 478) else 70}", LABELS)))


def _truth(rows: Columns, standard: int) -> np.ndarray:
    """Return the true points of rows, float [N, standard, 2] px, NaN where there are none."""
    points = rows[_columns(standard)[0]]
    if standard == 72:  # those of a profile are others
        return np.where(np.isfinite(points).all(axis=(1, 2), keepdims=True), points, np.nan)
    return five_points(points) if standard == 5 else points[:, :standard]


def _people(rows: Columns) -> np.ndarray:
    """Return who each row shows, text [N]; where one does not say it nobody is known, and all are one."""
    people = rows.get("identity_id", np.full(len(rows["pair_id"]), "")).astype(str)
    return people if (people != "").all() else np.full(len(people), "")


def _read_predictions(
    source: Storage, listed: Sequence[str], rows: Columns, truth: np.ndarray, test: str
) -> np.ndarray:
    """Return the points of each row's file, float [N, standard, 2], NaN where it has none.

    Raises a UserError for a file that is left: its name is wrong, and its face would count as missed.
    """
    files, used = _by_name(listed), set[str]()
    found = np.full(truth.shape, np.nan)
    for k in range(len(found)):
        names = [str(rows[name][k]) for name in ("pair_id", "name") if name in rows]
        file = _file_of(names, files, source.uri)
        if file is not None:
            used.add(file)
            found[k] = _read(source, file, truth[k], rows[LABELS][k], int(rows["size"][k]))
    if left := [file for file in listed if file not in used]:
        raise UserError(
            f"{source.uri}: {len(left)} files are of no row of {test} that has points to compare with, the first {left[0]}: "
            "name them by the rows' pair_id or name."
        )
    return found


def _by_name(files: Sequence[str]) -> dict[str, list[str]]:
    """Return the files of each name, which is a file's with its folders, and without them; neither has the suffix."""
    found = dict[str, list[str]]()
    for file in files:
        path = PurePosixPath(file)
        for name in {path.stem, str(path.with_suffix(""))}:
            found.setdefault(name, []).append(file)
    return found


def _file_of(names: Sequence[str], files: Mapping[str, Sequence[str]], predictions: str) -> str | None:
    """Return the file of the row of these names, None where it has none. Raises a UserError where it has two."""
    found = next((files[name] for name in names if name in files), [])
    if len(found) > 1:
        raise UserError(f"{predictions}: {' and '.join(found[:2])} are both of row {names[0]}: leave one.")
    return found[0] if found else None


def _read(source: Storage, file: str, truth: np.ndarray, labels: np.ndarray, size: int) -> np.ndarray:
    """Return the points of a file; those that truth [L, 2] lacks may be NaN where no adapter has to convert them."""
    try:
        points = read_points(source.read(file), file, len(truth), size=(size, size))
    except BadPicture as error:
        raise UserError(f"{source.uri}/{file}: {error}") from None
    needed = np.isfinite(truth).all(axis=1) | np.isfinite(labels).any()
    lacking = np.flatnonzero(needed & ~np.isfinite(points).all(axis=1))
    if len(lacking):
        raise UserError(f"{source.uri}/{file}: point {lacking[0]} is not given, and the row is compared by it")
    return points
