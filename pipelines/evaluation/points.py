"""`thermapair measure points`: the landmarks of any landmarker, in files, by the protocol that ours are measured by."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from models.columns import Columns
from models.errors import UserError
from models.evaluation.landmarks import YAWS
from models.faces.align import five_points
from models.landmarks.metrics import errors, nme
from pipelines.evaluation.bundle import batches
from pipelines.pictures.open import BadPicture
from pipelines.readers.points import read_points
from pipelines.rows.shards import Shards
from pipelines.storage.uri import Storage

FAILED = 0.1
"""A face whose "NME W/H" is larger counts as failed, and so does one without a file."""
STANDARDS = (5, 68, 70, 72, 478)


def measure_points(test: str, predictions: str, standard: int) -> dict[str, float]:
    """Return the errors of landmarks in the files of the folder `predictions`, one a row of `test`, named by its `pair_id` or
    `name`, in any format that `gather` reads; folders in a row's name are folders of files, and others are not looked at.

    `nme` (W/H), `nme_box` (root of the box's area), `nme_image` (the picture's diagonal) and, of 68 and 70 points,
    `nme_eyes` (outer corners) over the faces that have a file; `nme` by |yaw|; `missed`, the share of faces without one;
    `failed`, the share that is missed or off by more than a tenth; `auc`, the area under the share of faces below each error
    up to a tenth, missed ones never below (300-W's protocol).

    Raises a UserError for files that are no row's, of which two are one row's, that cannot be read, or hold other than
    `standard` points.
    """
    source = Storage(predictions)
    listed = source.list("")
    if not listed:
        raise UserError(f"{predictions} holds no file of landmarks")
    files, used = _by_name(listed), set[str | None]()
    # The file of each row that has points; NaN where there is none.
    found, truth, yaws, sizes = [], [], [], []
    for rows in _rows(test, standard):
        points = _truth(rows, standard)
        for k in np.flatnonzero(np.isfinite(points).any(axis=(1, 2))):
            names = [str(rows[name][k]) for name in ("pair_id", "name") if name in rows]
            file = _file_of(names, files, predictions)
            used.add(file)
            size = rows["visible"].shape[1]
            found.append(np.full((standard, 2), np.nan) if file is None else _read(source, file, standard, size))
            truth.append(points[k])
            yaws.append(abs(float(rows["pose"][k, 0])) if "pose" in rows else 0.0)
            sizes.append(size)
    # A file that is left is of no row: its name is wrong, and its face would count as missed.
    if left := [file for file in listed if file not in used]:
        raise UserError(
            f"{predictions}: {len(left)} files are of no row of {test} with {standard} points, the first {left[0]}: "
            "name them by the rows' pair_id or name."
        )
    return _figures(np.array(found), np.array(truth), np.array(yaws), np.array(sizes))


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


def _rows(test: str, standard: int) -> Iterator[Columns]:
    column = f"landmarks_{standard if standard in (72, 478) else 70}"
    return batches(Shards(test, ("pair_id", "visible", column), optional=("name", "pose"), memory=0))


def _truth(rows: Columns, standard: int) -> np.ndarray:
    """Return the true points of rows, float [B, standard, 2] px."""
    if standard in (72, 478):
        return np.asarray(rows[f"landmarks_{standard}"])
    points = np.asarray(rows["landmarks_70"])
    return five_points(points) if standard == 5 else points[:, :standard]


def _read(source: Storage, file: str, standard: int, size: int) -> np.ndarray:
    try:
        return read_points(source.read(file), file, standard, size=(size, size))
    except BadPicture as error:
        raise UserError(f"{source.uri}/{file}: {error}") from None


def _figures(found: np.ndarray, truth: np.ndarray, yaws: np.ndarray, sizes: np.ndarray) -> dict[str, float]:
    there = np.isfinite(found).any(axis=(1, 2))
    if not there.any():
        raise UserError("no row has both true points and a file")
    each = np.where(there, nme(np.nan_to_num(found), truth), np.inf)
    some, known = found[there], truth[there]
    metrics = {
        "nme": float(each[there].mean()),
        "nme_box": float(np.nanmean(errors(some, known, "box-size"))),
        "nme_image": float(np.mean([
            np.nanmean(errors(one[None], true[None], "image", (int(size), int(size))))
            for one, true, size in zip(some, known, sizes[there], strict=True)
        ])),
    }  # fmt: skip
    if truth.shape[1] in (68, 70):
        metrics["nme_eyes"] = float(np.nanmean(errors(some, known, "inter-ocular")))
    for name, (low, high) in YAWS.items():
        inside = there & (yaws >= low) & (yaws < high)
        if inside.any():
            metrics[f"nme_{name}"] = float(each[inside].mean())
    # The share of faces below each error, up to a tenth.
    steps = np.linspace(0, FAILED, 1001)
    below = (each[None] <= steps[:, None]).mean(axis=1)
    return metrics | {
        "missed": float(1 - there.mean()),
        "failed": float((each > FAILED).mean()),
        "auc": float(np.trapezoid(below, steps) / FAILED),
        "faces": float(len(each)),
    }
