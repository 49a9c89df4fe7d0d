"""What the tests of the layouts share: jobs of a layout, rows read from it, and files that are spoilt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from pipelines.config.gather import GatherJob
from pipelines.pictures.open import BadPicture
from pipelines.readers import list_files, list_items
from pipelines.readers import read_rows as read_item_rows
from pipelines.storage.uri import Storage

SIZE = 64


def job(layout: str, images: Path, **values: Any) -> GatherJob:
    return GatherJob(**{"layout": layout, "images": str(images), "size": SIZE} | values)


def plain(images: Path, **columns: str) -> GatherJob:
    unit = columns.pop("unit", "centikelvin")
    return job("plain", images, columns=columns, unit=unit)


def read_rows(wanted: GatherJob, out: Storage | None = None) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the rows of a job, and the reasons of those that were refused."""
    found, reasons = list[dict[str, Any]](), dict[str, str]()
    for item in list_items(wanted, list_files(wanted), out):
        try:
            found += read_item_rows(item, wanted, out)
        except BadPicture as error:
            reasons[item.name] = str(error)
    return found, reasons


def points(block: pa.Table, row: int, standard: int = 70) -> np.ndarray:
    return np.array(block.column(f"landmarks_{standard}")[row].as_py(), np.float32).reshape(standard, 2)


def check_spoilt(layout: str, folder: Callable[[str], Path], spoil: Callable[[Path], object], words: str) -> None:
    """Assert that one spoilt file costs one row, whose reason holds `words`."""
    where = folder(layout)
    before, reasons = read_rows(job(layout, where))
    assert not reasons
    spoil(where)
    found, reasons = read_rows(job(layout, where))
    assert len(reasons) == 1 and len(found) == len(before) - 1
    (reason,) = reasons.values()
    assert words in reason


def png(path: Path, values: np.ndarray) -> None:
    assert path.exists() and cv2.imwrite(str(path), values)


def room(low: int, high: int) -> np.ndarray:
    """A square of a face before a wall, uint16."""
    values = np.full((SIZE, SIZE), low, np.uint16)
    values[20:50, 20:50] = high
    return values


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
